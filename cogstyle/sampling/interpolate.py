"""Recursive interpolation: 5 -> 9 -> 17 -> 33 frames, every group of a level in one batch."""

import torch
from torch import Tensor

from cogstyle.errors import LayoutError
from cogstyle.layout import interpolation_layout
from cogstyle.sampling.decode import Stage
from cogstyle.sampling.keyframes import INTERPOLATION_STAGE, Conditions


def refine(stage: Stage, coarse_BFL: Tensor, conditions: Conditions, *, frame_rate: float) -> Tensor:
    """One level: [B, K, L] -> [B, 2 K - 1, L], the known frames kept and one new frame in every gap.

    Args:
        frame_rate: frames a second of the result.

    Raises:
        LayoutError: if K is not 1 plus a multiple of the gaps that a group fills.
    """
    frames = stage.model.config.frames
    given = frames // 2 + 1  # known frames of a group: 0, 2, 4
    batch, count, length = coarse_BFL.shape
    groups, rest = divmod(count - 1, given - 1)
    if rest or not groups:
        raise LayoutError(f"{count} frames cannot be interpolated: need 1 + a multiple of {given - 1}")
    known = coarse_BFL.unfold(1, given, given - 1).transpose(2, 3)  # [B, groups, given, L]
    blank = known.new_zeros(batch, groups, frames - given, length)
    texts = conditions.texts((frames - 1) / frame_rate, copies=groups)
    layout = interpolation_layout(stage.model.config, texts[0].shape[1])
    seeds = [(INTERPOLATION_STAGE, seed, count, group) for seed in conditions.seeds for group in range(groups)]
    filled = stage.fill(torch.cat([known, blank], 2).flatten(0, 1), layout, texts, seeds)
    fine_BFL = coarse_BFL.new_zeros(batch, 2 * count - 1, length)
    fine_BFL[:, ::2] = coarse_BFL
    fine_BFL[:, 1::2] = filled[:, given:].reshape(batch, count - 1, length)
    return fine_BFL
