"""Recursive interpolation: 5 -> 9 -> 17 -> 33 frames, or from any two on; the groups of a level in one batch."""

import torch
from torch import Tensor

from cogstyle.errors import LayoutError
from cogstyle.layout import interpolation_layout
from cogstyle.sampling.keyframes import INTERPOLATION_STAGE, TextConditions
from cogstyle.sampling.stage import Stage


def refine(stage: Stage, coarse_BFL: Tensor, conditions: TextConditions, *, frame_rate: float) -> Tensor:
    """One level: [B, K, L] -> [B, 2 K - 1, L], the known frames kept and one new frame in every gap.

    Args:
        frame_rate: frames a second of the result.

    Raises:
        LayoutError: if K is below 2.
    """
    batch, count, length = coarse_BFL.shape
    if count < 2:
        raise LayoutError(f"{count} frame cannot be interpolated: need 2 or more")
    gaps = stage.model.config.frames // 2  # of a whole group; what is left over makes a shorter one
    whole = (count - 1) // gaps * gaps
    fine_BFL = coarse_BFL.new_zeros(batch, 2 * count - 1, length)
    fine_BFL[:, ::2] = coarse_BFL
    for first, last, size in ((0, whole, gaps), (whole, count - 1, count - 1 - whole)):
        if last > first:
            known_BFL = coarse_BFL[:, first : last + 1]
            fine_BFL[:, 2 * first + 1 : 2 * last : 2] = _fill(stage, known_BFL, conditions, size, first, frame_rate)
    return fine_BFL


def _fill(
    stage: Stage, known_BFL: Tensor, conditions: TextConditions, gaps: int, first: int, frame_rate: float
) -> Tensor:
    """The new frames of every gap, [B, K - 1, L]; groups of `gaps` gaps are filled side by side."""
    config, batch = stage.model.config, len(known_BFL)
    known = known_BFL.unfold(1, gaps + 1, gaps).transpose(2, 3)  # [B, groups, gaps + 1, L]
    groups = known.shape[1]
    blank = known.new_zeros(batch, groups, gaps, config.tokens)
    texts = conditions.texts((config.frames - 1) / frame_rate, copies=groups)
    layout = interpolation_layout(config, texts[0].shape[1], gaps=gaps)
    numbers = range(first // gaps, first // gaps + groups)
    count = known_BFL.shape[1] + first  # the level has its own random numbers
    seeds = [(INTERPOLATION_STAGE, seed, count, group) for seed in conditions.seeds for group in numbers]
    filled = stage.fill(torch.cat([known, blank], 2).flatten(0, 1), layout, texts, seeds)
    return filled[:, gaps + 1 :].reshape(batch, groups * gaps, config.tokens)
