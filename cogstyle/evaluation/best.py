"""The best of several draws of one prompt, as a judge sees them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from cogstyle.config import require
from cogstyle.evaluation.judges import Asked, Judge, Verdict
from cogstyle.sampling import partial_video
from cogstyle.sampling.options import Options
from cogstyle.sampling.partial_video import PartialVideo
from cogstyle.sampling.pipeline import Pipeline
from cogstyle.sampling.request import Request, begin, identify
from cogstyle.video import Video

MOST = 1000  # draws of one prompt


@dataclass(frozen=True)
class Draw:
    """One draw: its seed, its video, and what the judge says of it."""

    seed: int
    video: Video
    verdict: Verdict

    @property
    def rank(self) -> tuple[float, float]:
        """Higher is better: all at once first, then the mean of the attributes."""
        return self.verdict.all, float(np.mean([*self.verdict.holds.values()]))


def draw(
    pipe: Pipeline,
    asked: Asked,
    options: Options,
    judge: Judge,
    count: int,
    *,
    batch: int = 8,
    start: PartialVideo | None = None,
    progress: Callable[[int], object] = lambda clips: None,
) -> list[Draw]:
    """Draw `asked["prompt"]` with the seeds from `options.seed` on, and judge each.

    Args:
        batch: videos sampled side by side; changes nothing.
        start: what is given of the video.
        progress: called with the number of draws that are finished.
    """
    require(1 <= count <= MOST, f"best-of {count} must be 1 to {MOST}")
    seeds, found = range(options.seed, options.seed + count), []
    for first in range(0, count, batch):
        some = list(seeds[first : first + batch])
        starts = None if start is None else partial_video.together([start] * len(some))
        videos = pipe.sample([asked["prompt"]] * len(some), some, options, start=starts)
        found += [Draw(seed, video, judge(video, asked)) for seed, video in zip(some, videos, strict=True)]
        progress(len(some))
    return found


def best(draws: list[Draw]) -> Draw:
    """The draw that the judge likes best; of equals the first."""
    return max(draws, key=lambda draw: draw.rank)


def best_request(
    pipe: Pipeline,
    request: Request,
    judge: Judge,
    count: int,
    *,
    progress: Callable[[int], object] = lambda clips: None,
) -> tuple[Request, PartialVideo]:
    """The request with the seed of its best draw, identified, and that draw's tokens.

    Its identity says how it was chosen.
    """
    request = identify(pipe, request)
    start = begin(pipe, request).start
    draws = draw(pipe, {"prompt": request.prompt}, request.options, judge, count, start=start, progress=progress)
    chosen = best(draws)
    assert chosen.video.tokens is not None
    asked = identify(pipe, replace(request, options=replace(request.options, seed=chosen.seed)))
    how: dict[str, Any] = {
        "draws": count,
        "first_seed": request.options.seed,
        "judge": judge.name,
        "right": sum(one.verdict.all == 1.0 for one in draws),
        "holds": dict(chosen.verdict.holds),
    }
    tokens_BFL = torch.from_numpy(chosen.video.tokens)[None]
    part = PartialVideo(tokens_BFL, request.options.levels, whole=True)
    return replace(asked, identity={**asked.identity, "best_of": how}), part
