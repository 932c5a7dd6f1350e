"""Preference from pairs: the best and the worst of a group, drawn once by the adapter that training starts from.

DPO (arXiv 2305.18290) compares the two, weighted by their gap (VideoDPO); `best` trains on the best alone.

Suffixes as in policy.py, and N groups of G draws, 2 = best and worst.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cogstyle.files import read_tensors, write_tensors
from cogstyle.training.job import WHOLE, Share
from cogstyle.training.policy import Asked, entropy, picked
from cogstyle.training.preference import PreferenceJob

PART = 16  # prompts whose draws lie in one file


class PairJob(PreferenceJob):
    """DPO, or training on the best draw: groups drawn once by the reference, and kept in files."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.parts: dict[int, tuple[Tensor, Tensor]] = {}

    def _asked(self, number: int, draws: int) -> list[Asked]:
        return self.ask(self.prompts, [number % self.prompts.count], draws, 3, number)

    @torch.no_grad()
    def _part(self, part: int) -> tuple[Tensor, Tensor]:
        """Best and worst draws of PART prompts: tokens [N, 2, F, L] and rewards [N, 2]; made unless they are there."""
        if part in self.parts:
            return self.parts[part]
        path = None if self.folder is None else self.folder / f"pairs-{part:05d}.safetensors"
        if path is not None and path.exists():
            found = read_tensors(path)[0]
            self.parts[part] = found["tokens"], found["rewards"]
            return self.parts[part]
        group, numbers = self.settings.group, range(part * PART, min(self.settings.pairs, (part + 1) * PART))
        asked = [one for number in numbers for one in self._asked(number, group)]
        tokens_BFL = self.policy.draw(self.reference, asked, self.device).cpu()
        rewards_NG = torch.from_numpy(self.judge(asked, tokens_BFL)).view(-1, group)
        ends_N2 = torch.stack([rewards_NG.argmax(1), rewards_NG.argmin(1)], 1)
        tokens = tokens_BFL.unflatten(0, (-1, group))[torch.arange(len(ends_N2))[:, None], ends_N2].int()
        self.parts[part] = tokens, rewards_NG.gather(1, ends_N2)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(path, {"tokens": tokens, "rewards": self.parts[part][1]}, {})
        return self.parts[part]

    def loss(self, step: int, share: Share = WHOLE) -> tuple[Tensor, dict[str, float]]:
        numbers = [(step * self.batch + k) % self.settings.pairs for k in range(self.batch)]
        rewards_B2 = torch.stack([self._part(number // PART)[1][number % PART] for number in numbers])
        use_B = self._use(rewards_B2)
        if share.index == 0:
            self.taught(bool(use_B.any()), step, rewards_B2.numpy())
        figures = {"reward": rewards_B2[:, 0].mean().item(), "gap": (rewards_B2[:, 0] - rewards_B2[:, 1]).mean().item()}
        rows = [row for row in share.of(list(range(self.batch))) if use_B[row] > 0]
        if not rows:
            return self.nothing(), figures
        asked = [self._asked(numbers[row], 1)[0] for row in rows]
        tokens = [self._part(numbers[row] // PART)[0][numbers[row] % PART] for row in rows]
        tokens_B2FL = torch.stack(tokens).to(self.device)
        if self.settings.method == "best":
            each_B, tokens_B2FL = self._supervised(asked, tokens_B2FL[:, 0]), tokens_B2FL[:, :1]
        else:
            each_B, more = self._compared(asked, tokens_B2FL)
            figures |= more
        part_B = (use_B[torch.tensor(rows)] / use_B.sum() * share.count).float().to(self.device)
        return (part_B * each_B).sum(), figures | {"tokens": float(tokens_B2FL.numel())}

    def _use(self, rewards_B2: Tensor) -> Tensor:
        """How much each pair counts: its gap; of the best alone, whether it is good enough."""
        if self.settings.method == "dpo":
            return rewards_B2[:, 0] - rewards_B2[:, 1]
        least = self.settings.least
        return torch.ones(len(rewards_B2)) if least is None else (rewards_B2[:, 0] >= least).float()

    def _supervised(self, asked: Sequence[Asked], tokens_BFL: Tensor) -> Tensor:
        return -picked(self.policy.log_shares(self.adapter, asked, tokens_BFL), tokens_BFL).mean(1)

    def _compared(self, asked: Sequence[Asked], tokens_B2FL: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Loss of each pair."""
        both, tokens_BFL = [one for one in asked for _ in range(2)], tokens_B2FL.flatten(0, 1)
        with torch.no_grad():
            log_BPV = self.policy.log_shares(self.reference, both, tokens_BFL)
            weights_BP = (entropy(log_BPV) > self.settings.entropy).float()
            reference_BP = picked(log_BPV, tokens_BFL)
        chances_BP = picked(self.policy.log_shares(self.adapter, both, tokens_BFL), tokens_BFL)
        further_B2 = (weights_BP * (chances_BP - reference_BP)).sum(1).view(-1, 2)
        margin_B = self.settings.strength * (further_B2[:, 0] - further_B2[:, 1])
        better_BP = chances_BP.unflatten(0, (-1, 2))[:, 0]
        figures = {"margin": margin_B.mean().item(), "preferred": (margin_B > 0).float().mean().item()}
        figures |= {"deciding": weights_BP.mean().item(), "better": further_B2[:, 0].mean().item()}
        return -F.logsigmoid(margin_B) - self.settings.supervised * better_BP.mean(1), figures
