"""Small videos that tests make: every frame is as bright as its time says."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BRIGHTNESS = 40  # a second, so six seconds at most


def write_clock(
    path: Path,
    times: Sequence[float],
    *,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    audio: bool = False,
    aspect: Fraction | None = None,
    gop: int = 12,
    picture: np.ndarray | None = None,
    index_first: bool = False,
    brightness: float = BRIGHTNESS,
) -> Path:
    """A video with frames at `times` (seconds), each BRIGHTNESS * time bright, or all of them `picture`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"} if index_first else {}) as container:
        stream = container.add_stream(codec, rate=8)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.gop_size = gop
        stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        sound = container.add_stream("aac", rate=8000, layout="mono") if audio else None
        for time in times:
            level = np.full((size[1], size[0], 3), brightness * time, np.uint8)
            frame = av.VideoFrame.from_ndarray(level if picture is None else picture, format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 4), np.int16), format="s16", layout="mono")
            silence.sample_rate = 8000
            container.mux([*sound.encode(silence), *sound.encode()])
    return path


def clock(frames: np.ndarray) -> list[float]:
    """The time that each frame of such a video shows."""
    return (frames.mean((1, 2, 3)) / BRIGHTNESS).tolist()


def turn(path: Path) -> Path:
    """Make an mp4 say that it is to be shown turned clockwise by a quarter, as phones do."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 36  # the first track's: version 0 and 36 bytes of fields lie before it
    one, none, minus = b"\0\1\0\0", b"\0\0\0\0", b"\xff\xff\0\0"
    assert data[matrix : matrix + 4] == one
    data[matrix : matrix + 20] = none + one + none + minus + none
    path.write_bytes(data)
    return path
