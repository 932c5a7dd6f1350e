"""Small videos that tests make: every frame is as bright as its time says."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BRIGHTNESS = 40  # a second, so six seconds at most
EVERY = [k / 8 for k in range(33)]  # 4 s
RISING = [np.full((32, 32, 3), 5 * k, np.uint8) for k in range(33)]  # as bright as `clock` reads at 8 a second


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


def write_frames(path, pictures, *, codec="libx264", rate=8, pix_fmt="yuv420p", options=None, b_frames=2, form="rgb24"):
    """A video of these pictures, as they are."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.gop_size = pix_fmt, 12
        stream.codec_context.max_b_frames = b_frames
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=form)))
        container.mux(stream.encode())
    return path


def clock(frames: np.ndarray) -> list[float]:
    """The time that each frame of such a video shows."""
    return (frames.mean((1, 2, 3)) / BRIGHTNESS).tolist()


def turn(path: Path, matrix: tuple[int, int, int, int] = (0, 1, -1, 0)) -> Path:
    """Make an mp4 say how it is to be shown: (column, row) -> (a column + c row, b column + d row) for a, b, c, d.

    The default turns it clockwise by a quarter, as phones do.
    """
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 4 + 36  # the first track's: version 0 and 36 bytes of fields lie before it
    assert data[place : place + 4] == b"\0\1\0\0"
    a, b, c, d = matrix
    data[place : place + 20] = struct.pack(">5i", *(value << 16 for value in (a, b, 0, c, d)))
    path.write_bytes(data)
    return path


def refer(path: Path, target: Path) -> Path:
    """Make an mp4 say that its pictures lie in another file, as reference movies of QuickTime do."""
    data = bytearray(path.read_bytes())
    name = str(target).replace("/", ":").encode()
    name += b"\0" * (len(name) % 2)
    alias = bytes(4 + 10) + bytes(28) + bytes(12) + bytes(64) + bytes(16) + struct.pack(">hh", 0, 1) + bytes(16)
    alias += struct.pack(">HH", 2, len(name)) + name + struct.pack(">HH", 0xFFFF, 0)
    entry = struct.pack(">I4s", 8 + len(alias), b"alis") + alias
    place = data.index(b"dref") + 12  # version, flags, count
    more = len(entry) - int.from_bytes(data[place : place + 4], "big")
    data[place : place + int.from_bytes(data[place : place + 4], "big")] = entry
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = data.index(box) - 4
        data[start : start + 4] = (int.from_bytes(data[start : start + 4], "big") + more).to_bytes(4, "big")
    path.write_bytes(data)
    return path
