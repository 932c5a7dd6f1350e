"""In which order places are filled: a list of steps, each the places that are filled side by side."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from cogstyle.layout import FrameLayout, Window


@dataclass(frozen=True)
class Schedule:
    """Steps of image places (memory index, the frames after one another)."""

    steps: list[Tensor]
    tokens: int  # places of a frame

    def frames_in_flight(self, ahead: int = 1) -> int:
        """How many frames are being filled at one time, if `ahead` steps are tried at once."""
        step_P = torch.cat([torch.full((len(places),), number) for number, places in enumerate(self.steps)])
        step_P = step_P[torch.cat(self.steps).argsort()]
        begins, ends = step_P[:: self.tokens].tolist(), step_P[self.tokens - 1 :: self.tokens].tolist()
        counts = range(1, len(begins) + 1)
        return next(n for n in counts if all(b - e >= ahead for b, e in zip(begins[n:], ends, strict=False)))


def sequential(layout: FrameLayout) -> Schedule:
    """One place a step, frame after frame, in raster order."""
    first = layout.known * layout.tokens
    return Schedule([torch.tensor([place]) for place in range(first, layout.frames * layout.tokens)], layout.tokens)


@lru_cache(maxsize=64)
def quickest(layout: FrameLayout, windows: frozenset[Window | None]) -> Schedule:
    """The wavefront where every layer has a window, else the sequential order: nothing is gained there."""
    return sequential(layout) if not windows or None in windows else wavefront(layout, windows)


def wavefront(layout: FrameLayout, windows: Iterable[Window | None]) -> Schedule:
    """Every place as early as what it sees allows: windowed attention lets a frame start before the last is done.

    A place needs the token before it in its own frame, drawn in an earlier step, and the keys of all places
    that it sees, which may be written in the same step.

    Args:
        windows: the windows of all layers; a place sees the union of theirs.
    """
    first, length = layout.known * layout.tokens, layout.tokens
    sees_PP = torch.stack([layout.temporal_visible(window) for window in windows]).any(0)
    step_P = torch.full((layout.frames * length,), -1, dtype=torch.long)  # known places: before the first step
    for place in range(first, len(step_P)):
        seen = step_P[:place][sees_PP[place, :place]]
        earliest = int(step_P[place - 1]) + 1 if place % length else 0
        step_P[place] = max(earliest, int(seen.max()) if len(seen) else 0)
    order = step_P[first:].argsort(stable=True) + first
    return Schedule(list(order.split(step_P[first:].bincount().tolist())), length)
