"""How well a clip shows its caption, as one number: the reward `shapes`, by the reader."""

from collections.abc import Sequence

import numpy as np

from cogstyle.shapes_world.alignment import ATTRIBUTES, judge_reading
from cogstyle.shapes_world.captions import parse
from cogstyle.shapes_world.colours import off_palette
from cogstyle.shapes_world.reader import read_clip

OFF_PALETTE = 0.5  # what the share of the actors' pixels costs that no colour of the palette explains


def reward(frames_FHWC: np.ndarray, times_F: Sequence[float], caption: str) -> float:
    """Share of the attributes that hold, 1 more if all do, less half the off-palette share; -0.5 to 2.

    The first of several frames does not count: it is given.

    Raises:
        ConfigError: for a text that is no caption of the shapes world.
        MediaError: see `read_clip`.
    """
    first = min(1, len(frames_FHWC) - 1)
    frames_FHWC, times_F = frames_FHWC[first:], times_F[first:]
    verdict = judge_reading(read_clip(frames_FHWC, times_F), times_F, parse(caption))
    held = float(np.mean([getattr(verdict, name) for name in ATTRIBUTES]))
    return held + verdict.all - OFF_PALETTE * off_palette(frames_FHWC)
