"""Several steps of decoding at once: their inputs are guessed, and those that were guessed right count.

As every place owns its random numbers, what is drawn is what one step after the other would draw.
"""

import torch
from torch import Tensor

from cogstyle.sampling.decode_plan import Plan


class LookAhead:
    """Proposes the next steps of a plan and accepts those that count; with `plan.ahead` 1 one step at a time."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.guessed = 0  # places whose token is there: drawn, or guessed
        self.right = 2  # steps that counted the last time

    def propose(self, tokens_BP: Tensor, step: int) -> list[int]:
        """Where the steps that are tried now start and the last one ends, in the plan's order.

        Tokens that no step has drawn yet are guessed in `tokens_BP`: like the frame before.
        """
        plan = self.plan
        tries = min(plan.ahead, 2 * self.right)  # twice as many as were right the last time
        ends = plan.ends[step : step + tries + 1]
        if self.guessed < ends[-1] and plan.ahead > 1:
            new = slice(self.guessed, ends[-1])
            tokens_BP[:, plan.places_P[new]] = tokens_BP[:, plan.draft_place_P[new]]
            self.guessed = ends[-1]
        return ends

    def accept(self, tokens_BP: Tensor, drawn_BP: Tensor, ends: list[int]) -> int:
        """How many of the proposed steps count; all draws are kept, the wrong ones as the next guesses."""
        places_P, self.right = self.plan.places_P[ends[0] : ends[-1]], len(ends) - 1
        if self.right > 1:
            self.right = guessed_right(drawn_BP == tokens_BP[:, places_P], [end - ends[0] for end in ends])
        tokens_BP[:, places_P] = drawn_BP
        return self.right


def guessed_right(same_BP: Tensor, ends: list[int]) -> int:
    """Steps that count: the first one, and every further one as long as all draws before it equal their guesses.

    Args:
        same_BP: whether a place's draw equals what the step after it took for granted.
        ends: of the steps, starting with 0.
    """
    wrong_P = (~same_BP).any(0)
    first_wrong = int(torch.cat([wrong_P, wrong_P.new_ones(1)]).int().argmax())
    return 1 + sum(end <= first_wrong for end in ends[1:-1])
