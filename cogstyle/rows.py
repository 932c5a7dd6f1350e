"""A row: one training sample before it is tokenised."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Row:
    """Frames uint8 [F, size, size, 3], the caption, and the seconds they span (0 for an image).

    `fine` are the same moments at a larger size, for super-resolution.
    """

    frames: np.ndarray
    caption: str
    seconds: float
    fine: np.ndarray | None = None
