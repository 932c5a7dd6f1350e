"""Recursive interpolation: 5 -> 9 -> 17 -> 33 frames, or from any two on; the groups of a level in one batch.

Frames that are given at uneven times lie on the frames of the finished video, and the gaps between them are halved in
rounds, the longest first, until none is left: even times are the case in which every round halves every gap.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

import torch
from torch import Tensor

from cogstyle.config import require
from cogstyle.errors import LayoutError
from cogstyle.layout import interpolation_layout
from cogstyle.sampling.keyframes import INTERPOLATION_STAGE, TextConditions
from cogstyle.sampling.options import LEVEL_RATES
from cogstyle.sampling.partial_video import PartialVideo
from cogstyle.sampling.stage import Stage

MOST_FRAMES = 20_000  # of a video that is filled between given frames
Run = tuple[int, ...]  # numbers of known frames at equal distances; each gap gets a frame in its middle


def frame_numbers(times: Sequence[float], fps: float) -> tuple[int, ...]:
    """The frames of a video at which given images lie; a time between two frames takes the nearer one.

    Raises:
        ConfigError: if two are the same frame, or the video would be too long.
    """
    numbers = tuple(round(time * fps) for time in times)
    require(numbers[-1] < MOST_FRAMES, f"{times[-1]:g} s are {numbers[-1] + 1:,} frames, at most {MOST_FRAMES:,}")
    for (a, b), (first, second) in zip(pairwise(numbers), pairwise(times), strict=True):
        require(a < b, f"times {first:g} and {second:g} are one frame at {fps:g} frames a second; raise levels or rate")
    return numbers


def rounds(numbers: Sequence[int]) -> Iterator[list[Run]]:
    """What each round fills: every gap that is longer than half of the longest one."""
    known = list(numbers)
    while (longest := max(b - a for a, b in pairwise(known))) > 1:
        found: list[Run] = []
        for gap, pairs in groupby(pairwise(known), key=lambda pair: pair[1] - pair[0]):
            starts, ends = zip(*pairs, strict=True)
            if gap > 1 and 2 * gap > longest:
                found.append((*starts, ends[-1]))
        yield found
        known = sorted([*known, *(number for run in found for number in middles(run))])


def middles(run: Run) -> list[int]:
    """The frames that a run gets."""
    return [(a + b) // 2 for a, b in pairwise(run)]


def told_rate(run: Run, fps: float) -> float:
    """Frames a second that the model is told when it fills a run: the nearest one that a prompt can say."""
    wanted = 2 * fps / (run[1] - run[0])
    return min(LEVEL_RATES, key=lambda rate: abs(math.log2(rate / wanted)))


def fill_between(stage: Stage, part: PartialVideo, conditions: TextConditions, *, fps: float) -> Iterator[PartialVideo]:
    """Given frames at `part.numbers` -> every frame from the first to the last, yielded round by round.

    Args:
        part: the given frames, or what a round left.
        fps: frames a second of the result.
    """
    assert part.numbers is not None
    known = list(part.numbers)
    for level, runs in enumerate(rounds(part.numbers), 1):
        new = {number for run in runs for number in middles(run)}
        if level > part.level:
            frames = dict(zip(known, part.tokens_BFL.unbind(1), strict=True))
            for run in runs:
                coarse_BFL = torch.stack([frames[number] for number in run], 1)
                fine_BFL = refine(stage, coarse_BFL, conditions, frame_rate=told_rate(run, fps), place=run[0])
                frames |= dict(zip(middles(run), fine_BFL[:, 1::2].unbind(1), strict=True))
            tokens_BFL = torch.stack([frames[number] for number in sorted(frames)], 1)
            part = PartialVideo(tokens_BFL, level, True, part.numbers)
            yield part
        known = sorted([*known, *new])


def refine(
    stage: Stage, coarse_BFL: Tensor, conditions: TextConditions, *, frame_rate: float, place: int = 0
) -> Tensor:
    """One level: [B, K, L] -> [B, 2 K - 1, L], the known frames kept and one new frame in every gap.

    Args:
        frame_rate: frames a second of the result.
        place: number of the first frame, where several runs of frames are filled apart: each has its own chance.

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
            known_BFL, where = coarse_BFL[:, first : last + 1], (first, place)
            fine_BFL[:, 2 * first + 1 : 2 * last : 2] = _fill(stage, known_BFL, conditions, size, where, frame_rate)
    return fine_BFL


def _fill(
    stage: Stage, known_BFL: Tensor, conditions: TextConditions, gaps: int, where: tuple[int, int], frame_rate: float
) -> Tensor:
    """The new frames of every gap, [B, K - 1, L]; groups of `gaps` gaps are filled side by side."""
    config, batch, (first, place) = stage.model.config, len(known_BFL), where
    known = known_BFL.unfold(1, gaps + 1, gaps).transpose(2, 3)  # [B, groups, gaps + 1, L]
    groups = known.shape[1]
    blank = known.new_zeros(batch, groups, gaps, config.tokens)
    texts = conditions.texts((config.frames - 1) / frame_rate, copies=groups)
    layout = interpolation_layout(config, texts[0].shape[1], gaps=gaps)
    numbers = range(first // gaps, first // gaps + groups)
    count = known_BFL.shape[1] + first  # the level has its own random numbers
    own = (place,) if place else ()
    seeds = [(INTERPOLATION_STAGE, seed, count, group, *own) for seed in conditions.seeds for group in numbers]
    filled = stage.fill(torch.cat([known, blank], 2).flatten(0, 1), layout, texts, seeds)
    return filled[:, gaps + 1 :].reshape(batch, groups * gaps, config.tokens)
