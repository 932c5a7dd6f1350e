"""Stages of buckets: images, then short clips, then longer ones, then finer grids; one bucket a step.

A bucket is frames @ grid, and if you like a frame rate: "1@8x8", "5@8x8", "9@8x8@2". A step holds as many of its
samples as the token budget does, so steps cost about the same. Which bucket a step trains is a function of
(seed, step) alone: all processes agree, and a resumed run is exact.

Source: ContentV (arXiv 2506.05343), images and short clips before long and fine ones.
"""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, NamedTuple

import numpy as np
from annotated_types import Interval

from cogstyle.config import ModelConfig, require
from cogstyle.data.mixing import Group, make_tasks
from cogstyle.model.resized import sized
from cogstyle.schema import Count, Share

BUCKET = re.compile(r"(\d{1,4})\s*@\s*(\d{1,4})x(\d{1,4})(?:\s*[@,]\s*(\d+(?:\.\d+)?))?")
LARGEST = 2**14  # pixels along the side of a frame


class Bucket(NamedTuple):
    """What the samples of a step have in common."""

    frames: int
    grid: tuple[int, int]  # rows, columns of a frame
    rate: float | None = None  # frames a second; None: any

    @property
    def name(self) -> str:
        rate = "" if self.rate is None else f"@{self.rate:g}"
        return f"{self.frames}@{self.grid[0]}x{self.grid[1]}{rate}"


def parse_bucket(text: str) -> Bucket:
    """ "9@8x8@2" -> 9 frames of 8 x 8 tokens, 2 a second.

    Raises:
        ConfigError: for what is no bucket.
    """
    found = BUCKET.fullmatch(text.strip())
    require(found is not None, f"bucket {text!r:.60} must be FRAMES@ROWSxCOLUMNS or that and @RATE, such as 5@8x8")
    assert found is not None
    frames, rows, columns = (int(number) for number in found.groups()[:3])
    rate = None if found[4] is None else float(found[4])
    positive = frames > 0 and rows > 0 and columns > 0 and rate != 0.0
    require(positive, f"bucket {text!r:.60}: frames, rows, columns and rate must be above 0")
    return Bucket(frames, (rows, columns), rate)


@dataclass(frozen=True)
class StageConfig:
    """One stage of a curriculum."""

    until: Count  # the step that ends it
    buckets: dict[str, Share]  # share of the steps that each has; together 1

    def __post_init__(self) -> None:
        for name in self.buckets:
            parse_bucket(name)
        whole = sum(self.buckets.values())
        require(abs(whole - 1.0) < 1e-6, f"shares of the buckets {', '.join(self.buckets)} sum to {whole:g}, not to 1")


@dataclass(frozen=True)
class CurriculumConfig:
    """Stages that follow each other, and a token budget in place of a batch size."""

    tokens: Annotated[int, Interval(ge=1, le=10**10)]  # image tokens a step, over all processes
    stages: tuple[StageConfig, ...]

    @cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        """Every bucket of any stage, once."""
        return tuple(dict.fromkeys(parse_bucket(name) for stage in self.stages for name in stage.buckets))

    def check(self, task: str, *, steps: int, train_all: bool) -> None:
        """Raise ConfigError unless the stages fill a run of `steps`, and `task` can train their buckets."""
        require(bool(self.stages), "[curriculum] needs at least one stage")
        begin = 0
        for number, stage in enumerate(self.stages, 1):
            said = f"[curriculum] stage {number} until {stage.until:,}"
            require(stage.until > begin, f"{said} has no steps: the stage before it ends at {begin:,}")
            require(stage.until <= steps, f"{said} never ends: the run has {steps:,} steps")
            begin = stage.until
        require(begin == steps, f"[curriculum] the last stage ends at {begin:,}, the run has {steps:,} steps")
        for bucket in self.buckets:
            said = f"[curriculum] bucket {bucket.name!r}"
            if task == "image":
                require(bucket.frames == 1, f"{said}: an image model trains on one frame, such as 1@8x8")
                continue
            still = f'{said} would train nothing: images pass the image model alone, which is frozen; set train = "all"'
            require(bucket.frames > 1 or train_all, still)
            odd = task != "interpolation" or bucket.frames == 1 or bucket.frames % 2 == 1
            require(odd, f"{said}: interpolation has an odd number of frames, the given ones at both ends")

    def check_grids(self, task: str, config: ModelConfig, rate: int) -> None:
        """Raise ConfigError for a bucket whose frames a tokenizer of `rate` pixels a token cannot give."""
        for bucket in self.buckets:
            said, (rows, columns) = f"[curriculum] bucket {bucket.name!r}", bucket.grid
            gives = f"the tokenizer gives squares of at most {LARGEST // rate} tokens a side ({rate} px each)"
            require(rows == columns and rows * rate <= LARGEST, f"{said}: {gives}, not {rows} x {columns}")
            windowed = task == "interpolation" and config.window > 0 and bucket.frames > 1
            divides = not windowed or rows % config.window == 0
            require(divides, f"{said}: windows of {config.window} tokens a side do not divide a grid of {rows}")
            length = bucket.frames * rows * columns
            require(
                self.tokens >= length, f"[curriculum] tokens {self.tokens} hold no sample of {length}: {bucket.name}"
            )

    def groups(self, task: str, config: ModelConfig) -> list[Group]:
        """A group for each of `buckets`."""
        found = []
        for bucket in self.buckets:
            kind = "image" if bucket.frames == 1 else task
            rate = "" if bucket.rate is None or bucket.frames == 1 else f"@{bucket.rate:g}"
            size = sized(config, bucket.frames, bucket.grid)
            tasks = tuple(replace(one, name=bucket.name) for one in make_tasks(f"{kind}{rate}", size))
            found.append(Group(tasks, self.tokens // (bucket.frames * size.tokens), bucket.name, size != config))
        return found

    def shares(self, step: int) -> np.ndarray:
        """Probability of each of `buckets` at a step."""
        stage = next((stage for stage in self.stages if step < stage.until), self.stages[-1])
        share = {parse_bucket(name): value for name, value in stage.buckets.items()}
        found = np.array([share.get(bucket, 0.0) for bucket in self.buckets])
        return found / found.sum()

    def plan(self) -> list[str]:
        """A line a stage: its steps, and how often each bucket comes with how many samples."""
        lines, begin = [], 0
        for stage in self.stages:
            parts = []
            for name, share in stage.buckets.items():
                frames, (rows, columns), _ = parse_bucket(name)
                parts.append(f"{name} {100 * share:.0f} % ({self.tokens // (frames * rows * columns)} samples)")
            lines.append(f"steps {begin:,} to {stage.until - 1:,}: {', '.join(parts)}")
            begin = stage.until
        return lines
