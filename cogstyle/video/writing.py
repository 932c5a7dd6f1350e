"""Frames -> files: mp4 (H.264), gif, webp, or a folder of PNG frames; whole or not at all."""

import base64
import html
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import av
import numpy as np
from PIL import Image

from cogstyle.errors import FileError, MediaError
from cogstyle.files import whole_folder, write_bytes
from cogstyle.pictures import marker_path, read_marker, write_png
from cogstyle.video.appearance import BT709, matrix

SUFFIXES = (".mp4", ".gif", ".webp")
LONGEST = 255 - len(".tokens.safetensors")  # bytes of a name: what is written beside a video has longer ones
FASTEST_GIF = 50.0  # frames a second: viewers show a shorter delay than 2/100 s as 10/100 s
FRAME = re.compile(r"\d{4,}\.png")  # the only names in a folder of ours
SRGB, LIMITED = 13, 1  # transfer and range, as H.264 numbers them; primaries are those of BT.709


@dataclass(frozen=True, repr=False)
class Video:
    """uint8 frames [F, height, width, 3], frames a second, how they were made, and coarse tokens [F, L] if known."""

    frames: np.ndarray
    fps: float
    info: dict[str, Any] = field(default_factory=dict)
    tokens: np.ndarray | None = None

    def save(self, path: str | Path) -> Path:
        """Write a .mp4, .gif or .webp file, or (no suffix) a folder 0000.png, 0001.png, ... with FOLDER.json beside it.

        Equal frames give equal bytes. A folder is replaced only if it is one of ours (see `check_output`).

        Raises:
            MediaError: for another suffix, or if the place cannot be written.
        """
        path = check_output(Path(path), self.fps)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.suffix:
                _save_folder(self.frames, self.fps, path)
            else:
                write_bytes(path, self.encoded(path.suffix))
        except FileError as error:
            raise MediaError(str(error)) from None
        except (OSError, av.FFmpegError) as error:
            raise MediaError(f"cannot write {path}: {error.strerror or error}") from None
        return path

    def encoded(self, suffix: str) -> bytes:
        """What `save` writes into a .mp4, .gif or .webp file."""
        file = io.BytesIO()
        (_write_mp4 if suffix == ".mp4" else _write_animation)(self.frames, self.fps, file, suffix)
        return file.getvalue()

    def to_pil(self) -> list[Image.Image]:
        """The frames as pictures."""
        return [Image.fromarray(frame) for frame in self.frames]

    def __repr__(self) -> str:
        count, height, width = self.frames.shape[:3]
        said = f", {self.info['prompt']!r}" if "prompt" in self.info else ""
        return f"Video({count} frames of {width} x {height}, {self.fps:g} a second{said})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the video, playing."""
        data = base64.b64encode(self.encoded(".mp4")).decode()
        width = max(256, self.frames.shape[2])
        return (
            f'<video width="{width}" autoplay loop muted controls src="data:video/mp4;base64,{data}"></video>'
            f"<br>{html.escape(repr(self))}"
        )

    def contact_sheet(self, columns: int = 9, *, scale: int = 2) -> np.ndarray:
        """All frames side by side in rows, uint8 [height, width, 3]."""
        frames = self.frames.repeat(scale, 1).repeat(scale, 2)
        columns = min(columns, len(frames))
        missing = -len(frames) % columns
        frames = np.concatenate([frames, np.full((missing, *frames.shape[1:]), 255, np.uint8)])
        framed = np.pad(frames, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
        rows = framed.reshape(-1, columns, *framed.shape[1:]).transpose(0, 2, 1, 3, 4)
        return rows.reshape(-1, columns * framed.shape[2], 3)


def check_output(path: Path, fps: float | None = None) -> Path:
    """Return `path` if `Video.save` can write it, so that this is known before a video is made.

    A folder that is there is replaced only if it is empty, or holds nothing but 0000.png, 0001.png, ... and FOLDER.json
    beside it says that they are a video of ours.

    Args:
        fps: frames a second, if known by now.

    Raises:
        MediaError: saying what is in the way, or which suffixes and rates work.
    """
    if path.suffix not in ("", *SUFFIXES):
        _refuse(path, f"the suffix must be {', '.join(SUFFIXES)}, or none for a folder of PNG")
    if path.suffix == ".gif" and fps is not None and fps > FASTEST_GIF:
        _refuse(path, f"a GIF shows at most {FASTEST_GIF:g} frames a second, not {fps:g}; .webp and .mp4 do")
    return check_place(path, folder=not path.suffix)


def check_place(path: Path, *, folder: bool = False) -> Path:
    """Return `path` if a file (or a folder of PNG frames) can be written there.

    Raises:
        MediaError: saying what is in the way.
    """
    try:
        reason = _obstacle(path, folder)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    return _refuse(path, reason) if reason else path


def _refuse(path: Path, reason: str) -> NoReturn:
    raise MediaError(f"cannot write {path}: {reason}")


def _obstacle(path: Path, folder: bool) -> str | None:
    if "\0" in str(path):
        return "its name holds a null character"
    if any(re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:", part) for part in path.parts[:-1]):
        return "it is an address, not a file"
    if path.name in ("", ".."):
        return "it must name a file, or a folder of its own"
    for part, most in ((path.name, LONGEST), *((part, 255) for part in path.parts)):
        if (length := len(os.fsencode(part))) > most:
            return f"a name in it has {length} bytes, at most {most}"
    if folder and (reason := _not_ours(path)):
        return reason
    if not folder and os.path.lexists(path) and not path.is_file():
        return "a folder, pipe or device of that name is there"
    parent = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not parent.is_dir():
        return f"{parent} is not a folder"
    return None if os.access(parent, os.W_OK | os.X_OK) else f"{parent} is not writable"


def _not_ours(folder: Path) -> str | None:
    """Why a folder must not be replaced; None if it may be."""
    marker = marker_path(folder)
    if os.path.lexists(marker) and not read_marker(folder):
        return f"{marker} is there, and says nothing of a video"
    if not os.path.lexists(folder):
        return None
    if folder.is_symlink() or not folder.is_dir():
        return "a file or link of that name is there"
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    for entry in entries:
        if not (FRAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)):
            return f"the folder is there, and holds {entry.name}"
    if entries and not marker.exists():
        return f"the folder is there, and no {marker} says that its pictures are a video of ours"
    return None


def _save_folder(frames: np.ndarray, fps: float, path: Path) -> None:
    with whole_folder(path, remove=_remove_frames) as scratch:
        for number, frame in enumerate(frames):
            write_png(scratch / f"{number:04d}.png", frame)
        write_bytes(marker_path(path), json.dumps({"fps": fps, "frames": len(frames)}).encode())


def _remove_frames(folder: Path) -> None:
    """Remove a folder of ours; with anything else in it, it stays."""
    with suppress(FileNotFoundError):
        for entry in list(os.scandir(folder)):
            if FRAME.fullmatch(entry.name):
                os.unlink(entry.path)
        folder.rmdir()


def _write_mp4(frames: np.ndarray, fps: float, file: BinaryIO, _: str) -> None:
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:  # yuv420p halves the colour planes
        frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    height, width = frames.shape[1:3]
    rate = Fraction(fps).limit_denominator(1001)
    options = {"crf": "6", "x264-params": "mbtree=0:threads=1"}  # else the bytes depend on the machine, and on chance
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        codec: Any = stream.codec_context
        codec.colorspace, codec.color_primaries = matrix(width, height), BT709
        codec.color_trc, codec.color_range = SRGB, LIMITED
        for frame in _to_yuv(frames, rate):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _to_yuv(frames: np.ndarray, rate: Fraction) -> Iterator[Any]:
    """Frames in yuv420p, by the matrix that the file names."""
    height, width = frames.shape[1:3]
    name = "bt709" if matrix(width, height) == BT709 else "smpte170m"
    flags = "bicubic+accurate_rnd+full_chroma_inp+full_chroma_int"
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=1 / rate)
    scale = graph.add("scale", f"out_color_matrix={name}:out_range=limited:flags={flags}")
    graph.link_nodes(source, scale, graph.add("format", "yuv420p"), graph.add("buffersink")).configure()
    for number, pixels in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = number, 1 / rate
        graph.push(frame)
        yield graph.pull()


def _write_animation(frames: np.ndarray, fps: float, file: BinaryIO, suffix: str) -> None:
    """GIF or WebP with every frame, also those that equal the one before; the rounding of delays is spread."""
    kind, codec, ticks, pix_fmt = {
        ".gif": ("gif", "gif", 100, "pal8"),
        ".webp": ("webp", "libwebp", 1000, "bgra"),
    }[suffix]
    times = [round(ticks * number / fps) for number in range(len(frames) + 1)]
    options = {"lossless": "1"} if suffix == ".webp" else {}
    with av.open(file, "w", format=kind, options={"loop": "0"}) as container:
        stream: Any = container.add_stream(codec, rate=ticks, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        stream.codec_context.time_base = Fraction(1, ticks)
        for pixels, begin, end in zip(frames, times[:-1], times[1:], strict=True):
            frame = _palette_frame(pixels) if suffix == ".gif" else av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = begin, Fraction(1, ticks)
            _mux(container, stream.encode(frame), end - begin)
        _mux(container, stream.encode(), times[-1] - times[-2])


def _mux(container: Any, packets: Sequence[Any], duration: int) -> None:
    for packet in packets:
        packet.duration = duration  # of the last one nothing else says how long it is shown
        container.mux(packet)


def _palette_frame(pixels: np.ndarray) -> Any:
    """The 256 colours that suit a frame best."""
    image = Image.fromarray(pixels).quantize(256)
    colours = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 4), np.uint8)  # alpha, red, green, blue
    palette[:, 0], palette[: len(colours), 1:] = 255, colours
    picture: Any = (np.asarray(image), palette)
    return av.VideoFrame.from_ndarray(picture, format="pal8")
