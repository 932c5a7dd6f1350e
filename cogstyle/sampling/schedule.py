"""In which order places are filled: a list of steps, each the places that are filled side by side."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cogstyle.layout import FrameLayout


@dataclass(frozen=True)
class Schedule:
    """Steps of image places (memory index); `in_flight` is how many frames a step can touch."""

    steps: list[Tensor]
    in_flight: int


def sequential(layout: FrameLayout) -> Schedule:
    """One place a step, frame after frame, in raster order."""
    first = layout.known * layout.tokens
    return Schedule([torch.tensor([place]) for place in range(first, layout.frames * layout.tokens)], in_flight=1)
