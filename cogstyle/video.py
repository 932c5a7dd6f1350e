"""Frames <-> files: mp4 (H.264), gif, webp, or a folder of PNG frames; and what needs nothing but frames."""

import os
import shutil
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from cogstyle.errors import MediaError

SUFFIXES = (".mp4", ".gif", ".webp")


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
    import av

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


def square(pixels: np.ndarray, size: int) -> np.ndarray:
    """uint8 [height, width, 3] -> [size, size, 3]: the largest centred square, resized."""
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    middle = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    return cv2.resize(middle, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)


def read_last_frames(path: Path, count: int, *, frame_rate: float, size: int) -> np.ndarray:
    """The end of a video as uint8 [1..count, size, size, 3], `frame_rate` frames a second; fewer if it is shorter.

    Raises:
        MediaError: if it cannot be read.
    """
    import av

    try:
        with av.open(str(path)) as container:
            frames = [
                (float(f.time or 0.0), square(f.to_ndarray(format="rgb24"), size)) for f in container.decode(video=0)
            ]
    except (OSError, ValueError, IndexError) as error:
        raise MediaError(f"cannot read video {path}: {error}") from None
    if not frames:
        raise MediaError(f"cannot read video {path}: it has no frames")
    times = np.array([time for time, _ in frames])
    wanted = times[-1] - np.arange(count - 1, -1, -1) / frame_rate
    half = 0.5 / frame_rate  # a wanted moment shortly before the start still means the first frame
    return np.stack([frames[int(np.abs(times - t).argmin())][1] for t in wanted if t > times[0] - half])


def enlarge(frames: np.ndarray, size: int) -> np.ndarray:
    """uint8 [F, height, width, 3] -> [F, size, size, 3], bicubic."""
    return np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_CUBIC) for frame in frames])


def psnr(frames: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of uint8 frames, from the squared error over all of them."""
    error = np.square(frames.astype(np.float32) - truth).mean()
    return float(10 * np.log10(255.0**2 / max(float(error), 1e-9)))
