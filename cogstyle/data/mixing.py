"""Which task a step trains, and how many samples of it.

Tasks whose sequences have one length, one mask and one loss span, that is one layout, form a group. A step
trains one group, so its batch is padded nowhere but in the texts, and holds as many samples as the token budget
allows. Every choice is a function of (seed, step) alone: all processes agree, and a resumed run is exact.

Source: alternating gradient descent as in VideoPoet (arXiv 2312.14125).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from cogstyle.config import ModelConfig, require
from cogstyle.data.shards import Shards, shuffled
from cogstyle.layout import FrameLayout, image_layout, interpolation_layout, keyframe_layout
from cogstyle.schema import Share, Weight

FIRST_PHASE = 0.25  # share of the steps that `images` calls the first phase
FAMILIES = {  # the tasks that one adapter can train together
    "keyframes": ("keyframes", "image_to_video", "continuation"),
    "interpolation": ("interpolation",),
}


@dataclass(frozen=True)
class MixConfig:
    """Tasks by weight, and a token budget in place of a batch size."""

    tokens: Annotated[int, Interval(ge=1, le=10**10)]  # image tokens a step, over all processes
    tasks: dict[str, Weight]  # weights: "keyframes", or "keyframes@2" for the rows of one frame rate
    images: tuple[Share, Share] | None = None  # share of image steps in the first quarter of the steps, and after it

    def __post_init__(self) -> None:
        require(self.tokens > 0, f"[mix] tokens {self.tokens} must be positive")
        table = isinstance(self.tasks, dict) and len(self.tasks) > 0
        require(table, "[mix] tasks must be a table of tasks and their weights, such as { keyframes = 1 }")
        for name, weight in self.tasks.items():
            number = isinstance(weight, int | float) and 0 < weight < math.inf
            require(number, f"[mix] weight {weight} of {name!r} must be a number above 0")
        if self.images is not None:
            fits = len(self.images) == 2 and all(0 <= share < 1 for share in self.images)
            require(fits, f"[mix] images {list(self.images)} must be two shares, each at least 0 and below 1")


def check_mix(mix: MixConfig, task: str, *, train_all: bool) -> None:
    """Raise ConfigError unless the adapter of `task` can learn everything in the mix."""
    for name in mix.tasks:
        known = ", ".join(FAMILIES[task])
        require(name.partition("@")[0] in FAMILIES[task], f"[mix] {task} cannot train {name!r}; known are {known}")
    require(
        mix.images is None or train_all,
        "[mix] images would train nothing: the image model is frozen, and images do not pass the adapter; "
        'set train = "all", or leave images out',
    )


@dataclass(frozen=True)
class Task:
    """One way to read rows.

    Continuation is known frames 1..k of a clip that starts anywhere in the action, image to video a clip from
    its start without a caption.
    """

    name: str  # as a recipe says it; continuation with the frames that are known
    rows: str  # the rows it reads
    layout: FrameLayout  # without text
    weight: float = 1.0
    captioned: bool = True
    rate: float | None = None  # of its rows, frames a second; None: any


def make_tasks(name: str, config: ModelConfig, *, weight: float = 1.0) -> list[Task]:
    """The tasks behind a name of a recipe; continuation is one task for each number of known frames.

    Raises:
        ConfigError: for a rate that is no number.
    """
    kind, _, rate_text = name.partition("@")
    try:
        rate = float(rate_text) if "@" in name else None
    except ValueError:
        rate = math.nan
    require(rate is None or rate > 0, f"task {name!r}: {rate_text!r} is no frame rate")
    if kind == "image":
        return [Task(name, "image", image_layout(config, 0), weight, rate=rate)]
    if kind == "interpolation":
        return [Task(name, kind, interpolation_layout(config, 0), weight, rate=rate)]
    if kind == "continuation":
        numbers, at = range(2, config.frames), name[len(kind) :]
        share = weight / len(numbers)
        return [Task(f"{kind}_{k}{at}", kind, keyframe_layout(config, 0, known=k), share, rate=rate) for k in numbers]
    return [Task(name, "keyframes", keyframe_layout(config, 0), weight, kind == "keyframes", rate)]


@dataclass(frozen=True)
class Group:
    """Tasks of one layout, which share a batch."""

    tasks: tuple[Task, ...]
    samples: int  # of a batch
    bucket: str = ""  # of a curriculum
    resized: bool = False  # frames or grid are other ones than the model's

    @property
    def layout(self) -> FrameLayout:
        return self.tasks[0].layout

    @property
    def rows(self) -> str:
        """A name for the rows that it reads: their kind, and their size where that is not the model's."""
        kind, (rows, columns) = self.tasks[0].rows, self.layout.grid
        return f"{kind} {self.layout.frames}@{rows}x{columns}" if self.resized else kind

    @property
    def name(self) -> str:
        return self.bucket or self.tasks[0].name.partition("@")[0]

    @property
    def weight(self) -> float:
        return sum(task.weight for task in self.tasks)


def make_groups(mix: MixConfig, config: ModelConfig) -> list[Group]:
    """The groups of a mix: one of images if there are any, then those of the videos.

    Raises:
        ConfigError: for an unknown task, or a budget below one sample.
    """
    names = {**({"image": 1.0} if mix.images is not None else {}), **mix.tasks}
    tasks = [task for name, weight in names.items() for task in make_tasks(name, config, weight=weight)]
    groups = []
    for layout in dict.fromkeys(task.layout for task in tasks):
        members = tuple(task for task in tasks if task.layout == layout)
        length = layout.frames * layout.tokens
        fits = f"[mix] tokens {mix.tokens} hold no sample of {members[0].name!r}, which has {length}"
        require(mix.tokens >= length, fits)
        groups.append(Group(members, mix.tokens // length))
    return groups


def shares(groups: Sequence[Group], step: int, *, steps: int, images: tuple[float, float] | None) -> np.ndarray:
    """Probability of each group at a step of a run of `steps`: images by phase, the rest by weight."""
    weights_G = np.array([group.weight for group in groups])
    weights_G = weights_G / weights_G.sum()
    if images is not None:
        still_G = np.array([group.layout.frames == 1 for group in groups])
        share = images[0] if step < FIRST_PHASE * steps else images[1]
        weights_G = np.where(still_G, share, (1 - share) * weights_G / weights_G[~still_G].sum())
    return weights_G


def draw_group(shares_G: np.ndarray, step: int, seed: int) -> int:
    """Number of the group that a step trains."""
    return int(np.random.default_rng([seed, step, 2]).choice(len(shares_G), p=shares_G))


def rows_at(data: Shards, task: Task) -> np.ndarray:
    """Numbers of the rows that a task reads.

    Raises:
        ConfigError: if none has its rate.
    """
    if task.rate is None:
        return np.arange(len(data))
    gaps = task.layout.frames - 1
    rates_R = np.array([gaps / seconds if seconds else 0.0 for seconds in data.seconds])
    found = np.flatnonzero(np.isclose(rates_R, task.rate))
    there = ", ".join(f"{rate:g}" for rate in np.unique(rates_R.round(6)))
    require(len(found) > 0, f"task {task.name!r}: no rows of {task.rate:g} frames a second; there are rows of {there}")
    return found


def draw_rows(group: Group, pools: Sequence[np.ndarray], step: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch of a group: the task (its place in the group) and the row of every sample.

    Every pool is walked in epochs, each in its own order; no row comes twice within one.
    """
    weights_K = np.array([task.weight for task in group.tasks])
    rng = np.random.default_rng([seed, step, 3])
    tasks_B = rng.choice(len(group.tasks), size=group.samples, p=weights_K / weights_K.sum())
    picks_KB = np.stack([pool[shuffled(len(pool), group.samples, step, seed)] for pool in pools])
    return tasks_B, picks_KB[tasks_B, np.arange(group.samples)]
