"""Preference without annotation: the keyframe adapter learns from draws of its own that a reward tells apart.

GRPO (DeepSeekMath, arXiv 2402.03300) grades a group of draws of one prompt against their mean, and draws anew at every
update; what it starts from stays beside it, frozen, as the reference. pairs.py has the other methods.

Suffixes as in policy.py, and N groups of G draws.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cogstyle.bundle import Bundle
from cogstyle.errors import TrainingError
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.training.export import Target
from cogstyle.training.figures import strip
from cogstyle.training.job import WHOLE, Share, load_weights
from cogstyle.training.loss import VideoModel
from cogstyle.training.policy import TOGETHER, Asked, Policy, advantages, divergence, entropy, picked
from cogstyle.training.preference_recipe import PreferenceConfig
from cogstyle.training.prompts import Prompts
from cogstyle.training.rewards import Reward

LARGEST_SEED = 2**62


@dataclass(frozen=True)
class Asking:
    """What a run asks for, and who says how good it is.

    Args:
        prompts: to train on, and those that are held back.
    """

    prompts: tuple[Prompts, Prompts]
    reward: Reward
    kept: Path | None = None  # folder for draws that are made once; None: they are not kept


class Kept(nn.Module):
    """What is in a checkpoint beside the weights: drawings in a row that taught nothing, and the last rollouts."""

    idle: Tensor
    step: Tensor
    tokens: Tensor
    chances: Tensor
    weights: Tensor
    advantages: Tensor
    rewards: Tensor

    def __init__(self, clips: int, frames: int, length: int) -> None:
        super().__init__()
        places = (frames - 1) * length
        self.register_buffer("idle", torch.zeros((), dtype=torch.long))
        self.register_buffer("step", torch.full((), -1))  # that they were drawn at
        self.register_buffer("tokens", torch.zeros(clips, frames, length, dtype=torch.int32))
        self.register_buffer("chances", torch.zeros(clips, places))  # log shares of the tokens as they were drawn
        self.register_buffer("weights", torch.zeros(clips, places))  # 1 where a token decides
        self.register_buffer("advantages", torch.zeros(clips))
        self.register_buffer("rewards", torch.zeros(clips, dtype=torch.float64))


class PreferenceJob:
    """What the methods share: an adapter beside its frozen reference, prompts, draws, rewards.

    Args:
        source: the bundle whose image model and keyframe adapter are the beginning and the reference.
        asking: None: an export alone.
        target: where the new adapter goes.
    """

    def __init__(
        self,
        source: Bundle,
        settings: PreferenceConfig,
        asking: Asking | None,
        target: Target,
        *,
        batch: int,
        seed: int,
    ) -> None:
        self.settings, self.batch, self.seed, self.target = settings, batch, seed, target
        self.transformer, self.reference = source.image_model(), source.adapter("keyframes")
        self.adapter: TemporalAdapter = deepcopy(self.reference).requires_grad_()
        self.policy, self.usual_rate = Policy(source, self.transformer), source.frame_rate
        config = self.transformer.config
        self.kept = Kept(batch if settings.method == "grpo" else 0, config.frames, config.tokens)
        self.module: nn.Module = nn.ModuleDict({"adapter": self.adapter, "kept": self.kept})
        self.base: nn.Module | None = nn.ModuleDict({"image": self.transformer, "reference": self.reference})
        self.device = torch.device("cpu")
        if asking is not None:
            (self.prompts, self.held_back), self.reward, self.folder = asking.prompts, asking.reward, asking.kept
            span = (config.frames - 1) / (settings.frame_rate or self.usual_rate)
            for caption in (*self.prompts.own, *self.held_back.own):
                _ = self.policy.text.video_text(caption, span)  # raises where one is too long

    def load_initial_weights(self, tensors: dict[str, Tensor]) -> None:
        """Start from trained weights of this task: those of the reference."""
        load_weights(self.adapter, tensors)

    def trained(self) -> list[nn.Parameter]:
        return list(self.adapter.parameters())

    def loss(self, step: int, share: Share = WHOLE) -> tuple[Tensor, dict[str, float]]:
        raise NotImplementedError

    def ask(self, prompts: Prompts, numbers: Sequence[int], draws: int, *key: int) -> list[Asked]:
        """`draws` of each of these prompts, from a first frame that they share."""
        found = []
        for number in numbers:
            caption, rate = prompts.at(number)
            first, *seeds = np.random.default_rng([self.seed, *key, number]).integers(LARGEST_SEED, size=draws + 1)
            rate = self.settings.frame_rate or rate or self.usual_rate
            found += [Asked(caption, rate, int(first), int(seed)) for seed in seeds]
        return found

    def judge(self, asked: Sequence[Asked], tokens_BFL: Tensor) -> np.ndarray:
        """Rewards [B].

        Raises:
            TrainingError: see `Reward`.
        """
        return np.array([self.reward(clip) for clip in self.policy.clips(asked, tokens_BFL)])

    def taught(self, anything: bool, step: int, rewards: np.ndarray) -> None:
        """Count drawings in a row that teach nothing.

        Raises:
            TrainingError: if it is one too many.
        """
        self.kept.idle.copy_(torch.tensor(0) if anything else self.kept.idle + 1)
        if self.kept.idle >= self.settings.patience:
            raise TrainingError(
                f"step {step + 1}: for {self.settings.patience} drawings in a row nothing told the draws of a prompt "
                f"apart (rewards from {rewards.min():g} to {rewards.max():g}); ask for other prompts, take larger "
                "groups or another reward; the last checkpoint is good"
            )

    def nothing(self) -> Tensor:
        """A loss without a gradient."""
        return sum((parameter.sum() for parameter in self.trained()), torch.zeros((), device=self.device)) * 0.0

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The reward of prompts that are held back, always drawn with the same seeds."""
        asked = self.ask(self.held_back, range(self.held_back.count), 2)
        rewards = self.judge(asked, self.policy.draw(self.adapter, asked, self.device))
        return {"validation_reward": float(rewards.mean())}

    def picture(self) -> np.ndarray:
        """Draws of the first prompts that are held back."""
        asked = self.ask(self.held_back, range(min(8, self.held_back.count)), 2)
        tokens_BFL = self.policy.draw(self.adapter, asked, self.device)
        return np.concatenate([strip(self.policy.vqvae, tokens_FL) for tokens_FL in tokens_BFL.long()])

    preview = picture

    def export(self) -> None:
        self.target.write(VideoModel(self.transformer, self.adapter, self.policy.text, self.policy.vqvae), ())


class GroupJob(PreferenceJob):
    """GRPO: groups drawn by the adapter as it is, graded against their mean."""

    def asked(self, step: int) -> list[Asked]:
        """What the rollouts of a step ask for."""
        count = self.batch // self.settings.group
        numbers = np.random.default_rng([self.seed, step]).choice(self.prompts.count, count, count > self.prompts.count)
        return self.ask(self.prompts, numbers.tolist(), self.settings.group, 1, step)

    @torch.no_grad()
    def roll_out(self, step: int) -> None:
        """Draw and grade; what is kept depends on (seed, step, weights) alone."""
        asked, kept = self.asked(step), self.kept
        tokens_BFL = self.policy.draw(self.adapter, asked, self.device)
        rewards = self.judge(asked, tokens_BFL)
        gain_B = torch.from_numpy(advantages(rewards.reshape(-1, self.settings.group)).flatten())
        self.taught(bool(gain_B.any()), step, rewards)
        for first in range(0, self.batch, TOGETHER):
            part = slice(first, first + TOGETHER)
            log_BPV = self.policy.log_shares(self.adapter, asked[part], tokens_BFL[part])
            kept.chances[part] = picked(log_BPV, tokens_BFL[part])
            mixed_B1 = (gain_B[part, None] != 0.0).to(self.device)
            kept.weights[part] = ((entropy(log_BPV) > self.settings.entropy) & mixed_B1).float()
        kept.tokens.copy_(tokens_BFL)
        kept.advantages.copy_(gain_B)
        kept.rewards.copy_(torch.from_numpy(rewards))
        kept.step.fill_(step)

    def loss(self, step: int, share: Share = WHOLE) -> tuple[Tensor, dict[str, float]]:
        first, kept = step - step % self.settings.updates, self.kept
        if int(kept.step) != first:
            self.roll_out(first)
        figures = self._figures()
        rows = [row for row in share.of(list(range(self.batch))) if bool(kept.weights[row].any())]
        if not rows:
            return self.nothing(), figures
        asked, rows_B = self.asked(first), torch.tensor(rows, device=self.device)
        tokens_BFL, weights_BP, some = kept.tokens[rows_B], kept.weights[rows_B], [asked[row] for row in rows]
        with torch.no_grad():
            reference_BPV = self.policy.log_shares(self.reference, some, tokens_BFL)
        log_BPV = self.policy.log_shares(self.adapter, some, tokens_BFL)
        ratio_BP = (picked(log_BPV, tokens_BFL) - kept.chances[rows_B]).exp()
        gain_B1, low, high = kept.advantages[rows_B, None], 1.0 - self.settings.clip, 1.0 + self.settings.clip
        kl_BP = divergence(log_BPV, reference_BPV)
        gained_BP = torch.minimum(ratio_BP * gain_B1, ratio_BP.clamp(low, high) * gain_B1)
        each_BP = weights_BP * (gained_BP - self.settings.strength * kl_BP)
        loss = -each_BP.sum() / kept.weights.sum() * share.count
        ratio_BP = ratio_BP.detach()
        figures |= {
            "tokens": float(tokens_BFL.numel()),
            "kl": kl_BP.mean().item(),
            "ratio_spread": ((ratio_BP - 1.0).abs() * weights_BP).max().item(),
            "clipped": (((ratio_BP < low) | (ratio_BP > high)) & (weights_BP > 0)).float().mean().item(),
        }
        self._check_kl(step, figures["kl"])
        return loss, figures

    def _figures(self) -> dict[str, float]:
        rewards_NG = self.kept.rewards.view(-1, self.settings.group)
        mixed_N = self.kept.advantages.view(-1, self.settings.group).any(1)
        return {
            "reward": rewards_NG.mean().item(),
            "reward_best": rewards_NG.amax(1).mean().item(),
            "equal_groups": 1.0 - mixed_N.double().mean().item(),
            "deciding": self.kept.weights.mean().item(),
        }

    def _check_kl(self, step: int, found: float) -> None:
        most = self.settings.most_kl
        if most and found > most:
            raise TrainingError(
                f"step {step + 1}: the adapter is {found:.3f} nats a token from its reference, most_kl is {most:g}; "
                "take a larger beta or a lower lr, or `cogstyle export checkpoint`: the last one is good"
            )
