"""Which rows a step trains on: a function of (seed, step) alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cogstyle.config import ModelConfig
from cogstyle.data.curriculum import CurriculumConfig
from cogstyle.data.mixing import Group, MixConfig, Task, draw_group, draw_rows, make_groups, make_tasks, rows_at, shares
from cogstyle.data.shards import Shards
from cogstyle.layout import keyframe_layout
from cogstyle.sampling.keyframes import OVERLAP
from cogstyle.tokenizers.text import TextTokenizer
from cogstyle.training.encoding import RowSize
from cogstyle.training.job import WHOLE, Share
from cogstyle.training.sources import Rows


def groups_of(
    task: str,
    config: ModelConfig,
    batch: int,
    mix: MixConfig | None,
    curriculum: CurriculumConfig | None = None,
    *,
    continuation: float = 0.0,
) -> list[Group]:
    """What takes turns: the buckets of a curriculum, the tasks of a mix, or one alone in batches of `batch`.

    Args:
        continuation: share of the steps that go on from the last frames of another video, as sampling does.
    """
    if curriculum is not None:
        return curriculum.groups(task, config)
    if mix is not None:
        return make_groups(mix, config)
    groups = [Group(tuple(make_tasks(task, config, weight=1.0 - continuation)), batch)]
    if continuation:
        layout = keyframe_layout(config, 0, known=OVERLAP)
        groups.append(Group((Task("continuation", "join", layout, continuation),), batch))
    return groups


def kinds_of(groups: Sequence[Group]) -> tuple[str, ...]:
    """The names of the rows that groups read."""
    return tuple(dict.fromkeys(group.rows for group in groups))


def sizes_of(groups: Sequence[Group], pixels: int) -> dict[str, RowSize]:
    """What the rows are that have not the model's own size, where a token has `pixels` of a side."""
    return {
        group.rows: RowSize(group.tasks[0].rows, group.layout.frames, group.layout.grid[0] * pixels)
        for group in groups
        if group.resized
    }


class Resampling:
    """A share of the tokens that the model sees gives way to another of its cluster, as its own draws do.

    Args:
        labels_V: cluster of every image id.
    """

    def __init__(self, share: float, labels_V: Tensor) -> None:
        self.share, self.labels_V = share, labels_V
        self.members, self.count = labels_V.argsort(stable=True), labels_V.bincount()
        self.start = self.count.cumsum(0) - self.count

    def __call__(self, tokens_BFL: Tensor, draws_2BFL: Tensor) -> Tensor:
        """`draws_2BFL` from 0 to 1: the first say where, the second what."""
        cluster_BFL = self.labels_V[tokens_BFL]
        of_it = (draws_2BFL[1] * self.count[cluster_BFL]).long()
        other_BFL = self.members[self.start[cluster_BFL] + of_it]
        return torch.where(draws_2BFL[0] < self.share, other_BFL, tokens_BFL)


@dataclass(frozen=True)
class Batch:
    """Rows of one group: their numbers, those without caption, and the task of each (its place in the group)."""

    group: Group
    data: Shards
    picks: np.ndarray
    dropped: np.ndarray
    tasks: np.ndarray
    deaf: np.ndarray | None = None  # those that hear no language model
    draws: np.ndarray | None = None  # 0 to 1: which of two prompts is left out
    resampling: Resampling | None = None
    places: np.ndarray | None = None  # [B, 2, F, L], 0 to 1: what `resampling` draws by

    def tokens(self) -> Tensor:
        """Int64 [B, F, L] in memory order."""
        return self.data.tokens[torch.from_numpy(self.picks)][:, list(self.group.layout.times)].long()

    def seen(self, tokens_BFL: Tensor) -> Tensor:
        """What the model sees of the tokens that it shall predict."""
        if self.resampling is None or self.places is None:
            return tokens_BFL
        return self.resampling(tokens_BFL, torch.from_numpy(self.places).transpose(0, 1))

    def texts(self, text: TextTokenizer) -> Tensor:
        """Ids [B, S], or states."""
        image, found = self.group.layout.frames == 1, []
        for pick, drop in zip(self.picks, self.dropped.tolist(), strict=True):
            seconds = () if image else (self.data.seconds[pick],)
            make = text.image_text if image else text.video_text
            found.append(make(self.data.captions[pick], *seconds, unconditional=drop))
        return text.pad(found)


class Batches:
    """Batches of the groups that take turns.

    Args:
        rows: to train and to validate on, by kind.
        caption_dropout: share of the samples without caption, so that guidance has its unconditional half.
        alone: share of the samples without caption that hear the language model, and of those with it that do not.
        mix, curriculum: what `groups` came from, if several take turns; `steps` is the length of the run.
    """

    resampling: Resampling | None = None  # of what the model sees in training

    def __init__(
        self,
        groups: Sequence[Group],
        rows: Mapping[str, Rows],
        *,
        seed: int,
        caption_dropout: float,
        alone: float = 0.0,
        mix: MixConfig | None = None,
        steps: int = 1,
        curriculum: CurriculumConfig | None = None,
    ) -> None:
        self.groups, self.rows, self.seed, self.dropout = groups, rows, seed, caption_dropout
        self.alone = alone
        self.mixed = mix is not None or curriculum is not None or len(groups) > 1
        self.images, self.steps, self.curriculum = None if mix is None else mix.images, steps, curriculum
        self.shown = next((group for group in groups if group.layout.frames > 1), groups[0])  # in pictures
        if curriculum is not None:
            self.shown = groups[int(curriculum.shares(steps).argmax())]
        self.pools = [[rows_at(rows[group.rows][0], member) for member in group.tasks] for group in groups]

    def group(self, step: int) -> int:
        """Number of the group that a step trains, the same in every process."""
        if self.curriculum is not None:
            return draw_group(self.curriculum.shares(step), step, self.seed)
        return draw_group(shares(self.groups, step, steps=self.steps, images=self.images), step, self.seed)

    def at(self, step: int, share: Share = WHOLE) -> Batch:
        """A share of a step's batch."""
        number = self.group(step)
        group = self.groups[number]
        tasks_B, picks = draw_rows(group, self.pools[number], step, self.seed)
        dropped = np.random.default_rng([self.seed, step, 1]).random(group.samples) < self.dropout
        dropped |= np.array([not task.captioned for task in group.tasks])[tasks_B]
        both, draws_2B = dropped, np.random.default_rng([self.seed, step, 3]).random((2, group.samples))
        dropped, deaf = both | (draws_2B[0] < self.alone), both | (draws_2B[0] > 1.0 - self.alone)
        rest = group.samples % share.count if self.mixed else 0  # a token budget leaves out what does not divide
        whole = slice(group.samples - rest)
        parts = [picks, dropped, tasks_B, deaf, draws_2B[1]]
        batch = Batch(group, self.rows[group.rows][0], *(share.of(part[whole]) for part in parts))
        if self.resampling is None:
            return batch
        shape = group.samples, 2, group.layout.frames, group.layout.tokens
        places = np.random.default_rng([self.seed, step, 4]).random(shape, np.float32)
        return replace(batch, resampling=self.resampling, places=share.of(places[whole]))

    def validation(self, group: Group, most: int | None = None) -> Iterator[Batch]:
        """The validation rows of a group in batches; or one batch of the first `most`."""
        data = self.rows[group.rows][1]
        numbers = np.arange(len(data))
        parts = np.array_split(numbers, -(-len(data) // group.samples)) if most is None else [numbers[:most]]
        for picks in parts:
            yield Batch(group, data, picks, np.zeros(len(picks), bool), np.zeros(len(picks), int))

    def trained_rates(self) -> list[float]:
        """Frames a second of the clips that steps can draw."""
        found = {
            round((group.layout.frames - 1) / self.rows[group.rows][0].seconds[row], 4)
            for group, pools in zip(self.groups, self.pools, strict=True)
            for row in np.concatenate(pools).tolist()
            if group.layout.frames > 1
        }
        return sorted(found)

    @property
    def train(self) -> Shards:
        """The training rows of the group that pictures show."""
        return self.rows[self.shown.rows][0]

    @property
    def held_back(self) -> Shards:
        """The validation rows of the group that pictures show."""
        return self.rows[self.shown.rows][1]
