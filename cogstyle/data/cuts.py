"""Long videos in pieces: where a cut shows another scene, and where a piece has lasted long enough."""

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise

import cv2
import numpy as np
import torch

from cogstyle.video import PictureReader, VideoReader
from cogstyle.video.transnet import HEIGHT, WIDTH, TransNet

RATE, SIDE, BLOCK = 8.0, 16, 64  # moments a second that are looked at, pixels of their sides, moments read at once
JUMP, TIMES = 24.0, 3.0  # mean difference (of 255) of moments beside a cut, and how many times those around it
WINDOW, FASTEST = 100, 25.0  # frames that TransNetV2 is shown at a time, and the most a second
SHORTEST = 0.5  # seconds of a piece that is worth a row


def find_cuts(video: VideoReader | PictureReader, start: float, end: float) -> list[float]:
    """Seconds between `start` and `end` from which another scene is shown.

    A cut changes much more of the picture than the moments before and after it do: motion and fades are none.
    """
    shown = jumps(_moments(video, start, end, rate=RATE, side=SIDE, letterbox=True))
    return [start + k / RATE for k in shown]


def jumps(moments: Iterable[np.ndarray]) -> list[int]:
    """Numbers of the moments (RATE a second, [SIDE, SIDE, 3]) from which another scene is shown."""
    steps = np.array([np.abs(b - a).mean() for a, b in pairwise(m.astype(np.float32) for m in moments)])
    around = np.array([max((*steps[max(k - 2, 0) : k], *steps[k + 1 : k + 3]), default=0.0) for k in range(len(steps))])
    return [int(k) + 1 for k in np.flatnonzero((steps > JUMP) & (steps > TIMES * around))]


def network_cuts(network: TransNet, video: VideoReader | PictureReader, start: float, end: float) -> list[float]:
    """As `find_cuts`, but as TransNetV2 sees it: it is looked at frame by frame, and also fades end a scene.

    A fade is cut out: the scene before it ends where it begins, the next one begins where it ends.
    """
    rate = min(video.rate or FASTEST, FASTEST)
    shown = [
        cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        for frame in _moments(video, start, end, rate=rate, side=WIDTH, letterbox=False)
    ]
    edge, count = WINDOW // 4, len(shown)
    frames = np.stack([*shown[:1] * edge, *shown, *shown[-1:] * WINDOW])
    cut = np.zeros(count + 2 * WINDOW, bool)
    for first in range(0, count, WINDOW // 2):  # of each window the middle half
        _, logits_BF = network(torch.from_numpy(frames[None, first : first + WINDOW]))
        cut[first + 1 : first + 1 + WINDOW // 2] = logits_BF[0, edge:-edge].numpy() > 0
    turns = np.flatnonzero(cut[1:] != cut[:-1])  # where cuts begin and end; one at frame k is between k and k + 1
    places = sorted({int(k) + 1 if cut[k + 1] else int(k) for k in turns})
    return [start + k / rate for k in places if 0 < k < count]


def _moments(
    video: VideoReader | PictureReader, start: float, end: float, *, rate: float, side: int, letterbox: bool
) -> Iterator[np.ndarray]:
    times = np.arange(start, end, 1 / rate)
    for part in np.array_split(times, max(1, math.ceil(len(times) / BLOCK))):
        yield from video.frames_at(part.tolist(), side, letterbox=letterbox)


def pieces(start: float, end: float, cuts: list[float], longest: float) -> list[tuple[float, float]]:
    """Beginnings and ends of equal pieces between the cuts, at most `longest` seconds each; scraps are left out."""
    found = []
    for first, last in pairwise([start, *cuts, end]):
        count = max(1, math.ceil((last - first) / longest - 1e-6))
        edges = np.linspace(first, last, count + 1).tolist()
        found += [(a, b) for a, b in pairwise(edges) if b - a >= SHORTEST]
    return found
