"""How decoded frames look: their colours, what is transparent, fields, which side is up."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData

BT709, UNSAID, BT601 = 1, 2, 6  # numbers of colour matrices in H.264, Matroska and FFmpeg
ACCURATE = 0x2 | 0x2000 | 0x40000  # libswscale: bilinear, a colour for every pixel, rounded and not cut off


def matrix(width: int, height: int) -> int:
    """The matrix of a file that names none: BT.709 for more than television had, BT.601 else, as mpv has it."""
    return BT709 if width >= 1280 or height > 576 else BT601


def deinterlaced(frames: Iterable[Any], stream: Any) -> Iterator[Any]:
    """Frames of which none shows two moments."""
    graph = av.filter.Graph()
    bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    graph.link_nodes(graph.add_buffer(template=stream), bwdif, graph.add("buffersink")).configure()
    for frame in chain(frames, [None]):
        graph.push(frame)
        with suppress(av.BlockingIOError, av.EOFError):
            while True:
                yield graph.pull()


def pixels_of(frame: Any) -> np.ndarray:
    """A decoded frame as uint8 [height, width, 3], transparent parts white."""
    clear = any(component.is_alpha for component in frame.format.components) or frame.format.has_palette
    said = None if frame.colorspace != UNSAID else matrix(frame.width, frame.height)
    pixels = frame.to_ndarray(format="rgba" if clear else "rgb24", src_colorspace=said, interpolation=ACCURATE)
    if not clear:
        return np.asarray(pixels)
    alpha = pixels[..., 3:].astype(np.uint16)
    return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def upright(frame: Any, pixels: np.ndarray) -> np.ndarray:
    """Turned and mirrored as the frame's display matrix says: (column, row) -> (a column + c row, b column + d row)."""
    data = frame.side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return pixels
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
