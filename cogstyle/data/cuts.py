"""Long videos in pieces: where a cut shows another scene, and where a piece has lasted long enough."""

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from cogstyle.video import PictureReader, VideoReader

RATE, SIDE, BLOCK = 8.0, 16, 64  # moments a second that are looked at, pixels of their sides, moments read at once
JUMP, TIMES = 24.0, 3.0  # mean difference (of 255) of moments beside a cut, and how many times those around it
SHORTEST = 0.5  # seconds of a piece that is worth a row


def find_cuts(video: VideoReader | PictureReader, start: float, end: float) -> list[float]:
    """Seconds between `start` and `end` from which another scene is shown.

    A cut changes much more of the picture than the moments before and after it do: motion and fades are none.
    """
    steps = np.array([np.abs(b - a).mean() for a, b in pairwise(_moments(video, start, end))])
    around = np.array([max((*steps[max(k - 2, 0) : k], *steps[k + 1 : k + 3]), default=0.0) for k in range(len(steps))])
    found = np.flatnonzero((steps > JUMP) & (steps > TIMES * around))
    return [start + (int(k) + 1) / RATE for k in found]


def _moments(video: VideoReader | PictureReader, start: float, end: float) -> Iterator[np.ndarray]:
    times = np.arange(start, end, 1 / RATE)
    for part in np.array_split(times, max(1, math.ceil(len(times) / BLOCK))):
        yield from video.frames_at(part.tolist(), SIDE, letterbox=True).astype(np.float32)


def pieces(start: float, end: float, cuts: list[float], longest: float) -> list[tuple[float, float]]:
    """Beginnings and ends of equal pieces between the cuts, at most `longest` seconds each; scraps are left out."""
    found = []
    for first, last in pairwise([start, *cuts, end]):
        count = max(1, math.ceil((last - first) / longest - 1e-6))
        edges = np.linspace(first, last, count + 1).tolist()
        found += [(a, b) for a, b in pairwise(edges) if b - a >= SHORTEST]
    return found
