"""Frames <-> files: mp4 (H.264), gif, webp, or a folder of PNG frames; and what needs nothing but frames."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from cogstyle.errors import MediaError

SUFFIXES = (".mp4", ".gif", ".webp")
CLOCK = 1e-3  # seconds: Matroska rounds its times to these
NEAR, FAR = 2.0, 12.0  # seconds to seek further back, where a file has no good index
DISORDER = 4  # frames that may come after a later one
UNSPECIFIED, BT709, BT601, HD = 2, 1, 5, 720  # colour matrices; files that name none are BT.709 from HD height on


@dataclass(frozen=True)
class Video:
    """uint8 frames [F, height, width, 3], frames a second, how they were made, and coarse tokens [F, L] if known."""

    frames: np.ndarray
    fps: float
    info: dict[str, Any] = field(default_factory=dict)
    tokens: np.ndarray | None = None

    def save(self, path: str | Path) -> Path:
        """Write a .mp4, .gif or .webp file, or (no suffix) a folder 0000.png, 0001.png, ...; whole or not at all.

        Raises:
            MediaError: for another suffix, or if the place cannot be written.
        """
        path = check_suffix(Path(path))
        scratch = path.with_name(f".{path.name}.part{path.suffix}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.suffix:
                _save_folder(self.frames, scratch)
                if path.is_dir():
                    shutil.rmtree(path)
            elif path.suffix == ".mp4":
                _save_mp4(self.frames, self.fps, scratch)
            else:
                _save_animation(self.frames, self.fps, scratch)
            os.replace(scratch, path)
        except OSError as error:
            raise MediaError(f"cannot write {path}: {error}") from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True) if scratch.is_dir() else scratch.unlink(missing_ok=True)
        return path

    def contact_sheet(self, columns: int = 9, *, scale: int = 2) -> np.ndarray:
        """All frames side by side in rows, uint8 [height, width, 3]."""
        frames = self.frames.repeat(scale, 1).repeat(scale, 2)
        columns = min(columns, len(frames))
        missing = -len(frames) % columns
        frames = np.concatenate([frames, np.full((missing, *frames.shape[1:]), 255, np.uint8)])
        framed = np.pad(frames, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
        rows = framed.reshape(-1, columns, *framed.shape[1:]).transpose(0, 2, 1, 3, 4)
        return rows.reshape(-1, columns * framed.shape[2], 3)


def check_suffix(path: Path) -> Path:
    """Return `path` if Video.save can write it.

    Raises:
        MediaError: naming the suffixes that work.
    """
    if path.suffix not in ("", *SUFFIXES):
        raise MediaError(f"cannot write {path}: the suffix must be {', '.join(SUFFIXES)}, or none for a folder of PNG")
    return path


def _save_folder(frames: np.ndarray, folder: Path) -> None:
    folder.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:04d}.png")


def _save_mp4(frames: np.ndarray, fps: float, path: Path) -> None:
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:  # yuv420p halves the colour planes
        frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": "12"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def _save_animation(frames: np.ndarray, fps: float, path: Path) -> None:
    images = [Image.fromarray(frame) for frame in frames]
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {"disposal": 1}
    milliseconds = round(1000 / fps)
    images[0].save(path, save_all=True, append_images=images[1:], duration=milliseconds, loop=0, **options)


def read_image(path: Path, size: int) -> np.ndarray:
    """An image file as uint8 [size, size, 3]: the largest centred square, resized.

    Raises:
        MediaError: if it cannot be read.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise MediaError(f"cannot read image {path}: {error}") from None
    return square(pixels, size)


def square(pixels: np.ndarray, size: int, *, pixel_aspect: float = 1.0) -> np.ndarray:
    """uint8 [height, width, 3] -> [size, size, 3]: the largest centred square, resized.

    Args:
        pixel_aspect: width of a pixel over its height; video for television has other than square ones.
    """
    height, width = pixels.shape[:2]
    side = min(height, width * pixel_aspect)
    rows, columns = round(side), round(side / pixel_aspect)
    top, left = (height - rows) // 2, (width - columns) // 2
    middle = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
    return cv2.resize(middle, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)


class VideoReader:
    """A video file read by presentation time, as a viewer sees it: seconds from its first frame.

    Moments are found by seeking, so a long file costs no more than a short one. A context manager.

    Raises:
        MediaError: here and from every method, if the file cannot be read or holds no video.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()

    def _open(self) -> None:
        with self._naming_the_file():
            self.container = av.open(str(self.path))
        stream = self.container.streams.best("video")
        if stream is None:
            self.container.close()
            raise MediaError(f"cannot read video {self.path}: it has no video stream")
        self.stream: Any = stream
        self.stream.codec_context.thread_count = 1  # whoever reads many files uses a process a core

    def _reopen(self) -> None:
        self.container.close()
        self._open()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise MediaError(f"cannot read video {self.path}: {reason}") from None

    def _seek(self, time: float) -> None:
        """Go where decoding can begin at or before `time` (of the file's clock), as far as its index knows."""
        self.container.seek(int(max(time, 0.0) / self.stream.time_base), stream=self.stream)

    @cached_property
    def start(self) -> float:
        """The first frame's time on the file's own clock."""
        return float((self.stream.start_time or 0) * self.stream.time_base)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """When the last frame is shown, and when it goes, on the file's clock; headers are only a hint."""
        with self._naming_the_file():
            if self.stream.duration is not None:
                guess = float(self.stream.duration * self.stream.time_base)
            else:
                guess = (self.container.duration or 0) / av.time_base
            ends: list[tuple[float, float]] = []
            with suppress(av.FFmpegError):
                self._seek(self.start + guess - NEAR)
                ends = self._packet_ends()
            if not ends:  # it cannot be sought, or its header promises more than there is
                self._reopen()
                ends = self._packet_ends()
        if not ends:
            raise MediaError(f"cannot read video {self.path}: it has no frames with times")
        return max(shown for shown, _ in ends), max(gone for _, gone in ends)

    def _packet_ends(self) -> list[tuple[float, float]]:
        """Begin and end of every frame from here on, from the packets alone."""
        base, rate = float(self.stream.time_base), float(self.stream.average_rate or 0)
        ends = []
        for packet in self.container.demux(self.stream):
            time = packet.dts if packet.pts is None else packet.pts
            if time is not None and packet.size and not packet.is_discard:
                length = packet.duration * base if packet.duration else (1 / rate if rate else 0.0)
                ends.append((time * base, time * base + length))
        return ends

    @property
    def last(self) -> float:
        """Seconds from the first frame to the last."""
        return self._ends[0] - self.start

    @property
    def duration(self) -> float:
        """Seconds from the first frame until the last one goes."""
        return self._ends[1] - self.start

    def frames_at(self, times: Sequence[float], size: int) -> np.ndarray:
        """What is shown at ascending `times` (seconds from the first frame), uint8 [F, size, size, 3], upright."""
        moments = [self.start + time + CLOCK for time in times]
        with self._naming_the_file():
            for early in (0.0, NEAR, FAR):
                with suppress(av.FFmpegError):
                    self._seek(moments[0] - early)
                    shown = self._shown(moments)
                    if shown and shown[0].time <= moments[0]:
                        break
            else:  # the index sends us wrong
                self._reopen()
                shown = self._shown(moments)
            if not shown:
                raise MediaError(f"cannot read video {self.path}: it has no frames that can be decoded")
            return np.stack([self._upright(frame, size) for frame in shown])

    def _shown(self, moments: list[float]) -> list[Any]:
        """Decode from here: for each moment the last frame that begins before it, else the first; [] without frames."""
        shown: list[Any] = []
        late = 0
        for frame in self.container.decode(self.stream):
            if (time := frame.time) is None:
                raise MediaError(f"cannot read video {self.path}: its frames carry no times")
            shown = shown or [frame] * len(moments)
            for k, (moment, best) in enumerate(zip(moments, shown, strict=True)):
                if time < best.time if best.time > moment else best.time < time <= moment:
                    shown[k] = frame
            late += time > moments[-1]
            if late > DISORDER:
                break
        return shown

    def _upright(self, frame: av.VideoFrame, size: int) -> np.ndarray:
        unsaid = frame.colorspace == UNSPECIFIED
        pixels = frame.to_ndarray(
            format="rgb24", src_colorspace=(BT709 if frame.height >= HD else BT601) if unsaid else None
        )
        aspect = float(self.stream.sample_aspect_ratio or 1)
        return np.rot90(square(pixels, size, pixel_aspect=aspect), frame.rotation // 90)


def read_last_frames(path: Path, count: int, *, frame_rate: float, size: int) -> np.ndarray:
    """The end of a video as uint8 [1..count, size, size, 3], `frame_rate` frames a second; fewer if it is shorter.

    Raises:
        MediaError: if it cannot be read.
    """
    with VideoReader(path) as video:
        times = video.last - np.arange(count - 1, -1, -1) / frame_rate
        half = 0.5 / frame_rate  # a wanted moment shortly before the start still means the first frame
        return video.frames_at([max(time, 0.0) for time in times.tolist() if time > -half], size)


def enlarge(frames: np.ndarray, size: int) -> np.ndarray:
    """uint8 [F, height, width, 3] -> [F, size, size, 3], bicubic."""
    return np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_CUBIC) for frame in frames])


def psnr(frames: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of uint8 frames, from the squared error over all of them."""
    error = np.square(frames.astype(np.float32) - truth).mean()
    return float(10 * np.log10(255.0**2 / max(float(error), 1e-9)))
