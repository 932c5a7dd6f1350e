"""The keyframe adapter as a policy: clips that it draws, and how likely it finds them.

Suffixes: B clips, F frames, L tokens of a frame, P generated places, S text, V image ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cogstyle.bundle import Bundle
from cogstyle.config import SamplingConfig
from cogstyle.layout import keyframe_layout
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.decode import finish
from cogstyle.sampling.keyframes import TextConditions, first_frames, keyframes
from cogstyle.sampling.stage import Stage
from cogstyle.training.rewards import Clip

TOGETHER = 32  # clips drawn or graded side by side
AS_GRADED = SamplingConfig(guidance=1.0, temperature=1.0, top_p=1.0)  # draws from the very shares that are graded


class Asked(NamedTuple):
    """A clip to draw; those of one caption and first seed share a first frame."""

    caption: str
    rate: float  # keyframes a second
    first_seed: int
    seed: int


@dataclass
class Policy:
    """What draws and grades: a frozen image model, with any adapter of its size beside it."""

    bundle: Bundle
    transformer: Transformer

    def __post_init__(self) -> None:
        self.text, self.vqvae = self.bundle.text(), self.bundle.vqvae()
        self.labels_V, self.image = self.bundle.cluster_labels(), self.bundle.sampling("image")

    @property
    def frames(self) -> int:
        return self.transformer.config.frames

    def draw(self, adapter: TemporalAdapter, asked: Sequence[Asked], device: torch.device) -> Tensor:
        """Keyframes [B, F, L] of each, a function of what is asked and the weights; equal first seeds share a frame."""
        firsts = {(one.caption, one.first_seed): one for one in asked}
        drawn = dict(zip(firsts, self._first_frames(list(firsts.values()), device), strict=True))
        found: dict[int, Tensor] = {}
        for rate in sorted({one.rate for one in asked}):
            places = [place for place, one in enumerate(asked) if one.rate == rate]
            for start in range(0, len(places), TOGETHER):
                part = places[start : start + TOGETHER]
                some = [asked[place] for place in part]
                known_BFL = torch.stack([drawn[one.caption, one.first_seed] for one in some])
                stage = Stage(self.transformer, adapter, AS_GRADED)
                conditions = TextConditions([o.caption for o in some], [o.seed for o in some], self.text, device)
                tokens_BFL = finish(keyframes(stage, known_BFL, conditions, frame_rate=rate))
                found |= zip(part, tokens_BFL.clone(), strict=True)
        return torch.stack([found[place] for place in range(len(asked))])

    def _first_frames(self, asked: Sequence[Asked], device: torch.device) -> Tensor:
        labels_V = None if self.labels_V is None else self.labels_V.to(device)
        parts = []
        for start in range(0, len(asked), TOGETHER):
            part = asked[start : start + TOGETHER]
            conditions = TextConditions([o.caption for o in part], [o.first_seed for o in part], self.text, device)
            parts.append(first_frames(Stage(self.transformer, None, self.image, labels_V), conditions))
        return torch.cat(parts).clone()

    def clips(self, asked: Sequence[Asked], tokens_BFL: Tensor) -> list[Clip]:
        """The drawn clips as a reward sees them."""
        clips = []
        for one, tokens_FL in zip(asked, tokens_BFL.cpu().long(), strict=True):
            frames = self.vqvae.decode(tokens_FL).permute(0, 2, 3, 1).numpy()
            clips.append(Clip(frames, [k / one.rate for k in range(len(frames))], one.caption))
        return clips

    def log_shares(self, adapter: TemporalAdapter, asked: Sequence[Asked], tokens_BFL: Tensor) -> Tensor:
        """Logarithm of the share of every id at the places after the first frame, float32 [B, P, V]."""
        seconds = [(self.frames - 1) / one.rate for one in asked]
        texts = [self.text.video_text(one.caption, span) for one, span in zip(asked, seconds, strict=True)]
        text_BS = self.text.pad(texts).to(tokens_BFL.device)
        layout = keyframe_layout(self.transformer.config, text_BS.shape[1])
        h_BPD = self.transformer(text_BS, tokens_BFL.long(), layout, adapter)
        return self.transformer.logits(h_BPD[:, layout.tokens :]).float().log_softmax(-1)


def picked(log_BPV: Tensor, tokens_BFL: Tensor) -> Tensor:
    """Of every drawn token, [B, P]."""
    return log_BPV.gather(-1, tokens_BFL[:, 1:].flatten(1).long()[..., None]).squeeze(-1)


def entropy(log_BPV: Tensor) -> Tensor:
    """In nats, [B, P]."""
    return -(log_BPV.exp() * log_BPV).sum(-1)


def divergence(log_BPV: Tensor, other_BPV: Tensor) -> Tensor:
    """KL from the other to this one, over all ids, [B, P]."""
    return (log_BPV.exp() * (log_BPV - other_BPV)).sum(-1)


def advantages(rewards_BG: np.ndarray) -> np.ndarray:
    """How much better than its group each draw is, [prompts, G]; 0 in groups whose rewards are equal."""
    spread = rewards_BG - rewards_BG.mean(1, keepdims=True)
    mixed = np.ptp(rewards_BG, 1, keepdims=True) > 1e-9
    return np.where(mixed, spread / (rewards_BG.std(1, keepdims=True) + 1e-4), 0.0)
