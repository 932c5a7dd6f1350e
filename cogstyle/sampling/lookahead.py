"""Several steps of decoding at once: their inputs are guessed, and those that were guessed right count.

As every place owns its random numbers, what is drawn is what one step after the other would draw. So each sample of a
batch may go as far as its own guesses hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cogstyle.sampling.decode_plan import Plan


@dataclass(frozen=True)
class Tries:
    """Places that are tried now: of each sample that is not finished those of its next steps."""

    ends: dict[int, list[int]]  # of a sample: where its steps start and the last one ends, in the plan's order
    samples_N: Tensor  # [N] which sample
    order_N: Tensor  # [N] which place, in the plan's order

    @classmethod
    def of(cls, ends: dict[int, list[int]], device: torch.device) -> "Tries":
        pairs = [(sample, place) for sample, steps in ends.items() for place in range(steps[0], steps[-1])]
        samples_N, order_N = torch.tensor(pairs, device=device).T
        return cls(ends, samples_N, order_N)


class LookAhead:
    """Proposes the next steps of a plan and accepts those that count; with `plan.ahead` 1 one step at a time.

    Args:
        together: all samples go as far as the slowest.
    """

    def __init__(self, plan: Plan, batch: int, *, together: bool) -> None:
        self.plan, self.together = plan, together
        self.steps = [0] * batch  # that each sample has done
        self.guessed = [0] * batch  # places whose token is there: drawn, or guessed
        self.right = [2] * batch  # steps that counted the last time

    @property
    def step(self) -> int:
        """Steps that all samples have done."""
        return min(self.steps)

    def propose(self, tokens_BP: Tensor) -> Tries:
        """What is tried now; tokens that no step has drawn yet are guessed in `tokens_BP`: like the frame before."""
        plan, ends = self.plan, {}
        for sample, step in enumerate(self.steps):
            if step == plan.steps:
                continue
            tries = min(plan.ahead, 2 * self.right[sample])  # twice as many as were right the last time
            ends[sample] = plan.ends[step : step + tries + 1]
            if (guessed := self.guessed[sample]) < ends[sample][-1] and plan.ahead > 1:
                new = slice(guessed, ends[sample][-1])
                tokens_BP[sample, plan.places_P[new]] = tokens_BP[sample, plan.draft_place_P[new]]
                self.guessed[sample] = ends[sample][-1]
        return Tries.of(ends, tokens_BP.device)

    def accept(self, tokens_BP: Tensor, drawn_N: Tensor, tries: Tries) -> None:
        """Go on by the steps that count; all draws are kept, the wrong ones as the next guesses."""
        where = tries.samples_N, self.plan.places_P[tries.order_N]
        same = (drawn_N == tokens_BP[where]).tolist() if self.plan.ahead > 1 else []
        tokens_BP[where] = drawn_N
        for sample, ends in tries.ends.items():
            starts = [end - ends[0] for end in ends]
            self.right[sample] = guessed_right(same[: starts[-1]], starts)
            same = same[starts[-1] :]
        if self.together:
            self.right = [min(self.right)] * len(self.right)
        for sample in tries.ends:
            self.steps[sample] += self.right[sample]


def guessed_right(same: Sequence[bool], ends: list[int]) -> int:
    """Steps of a sample that count: the first one, and every further one as long as all draws before it were guessed.

    Args:
        same: whether a place's draw equals what the step after it took for granted.
        ends: of the steps, starting with 0.
    """
    first_wrong = next((place for place, right in enumerate(same) if not right), len(same))
    return 1 + sum(end <= first_wrong for end in ends[1:-1])
