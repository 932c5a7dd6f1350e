"""Which losses may change the weights: no NaN, no sudden spike."""

import math
from dataclasses import dataclass

from cogstyle.errors import TrainingError

SETTLED = 50  # accepted steps before a loss can be called unusual
FOLLOW = 0.05  # share of each accepted loss in the usual one


@dataclass
class Guard:
    """Judges one loss a step, the same in every process.

    Args:
        spike: a loss over so many times the usual one is refused; 0 never does.
        limit: refused steps in a row that end the run.
        usual, seen: a running mean of the accepted losses and their number, saved with a checkpoint.
    """

    spike: float
    limit: int
    usual: float = 0.0
    seen: int = 0
    in_a_row: int = 0

    def refuses(self, loss: float) -> str:
        """Why this loss must not train, or nothing."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if self.spike and self.seen >= SETTLED and loss > self.spike * self.usual:
            return f"the loss {loss:.4g} is over {self.spike:g} times the usual {self.usual:.4g}"
        return ""

    def accepted(self, loss: float) -> None:
        """Take note of a step that trained."""
        self.usual += (loss - self.usual) * max(FOLLOW, 1.0 / (self.seen + 1))
        self.seen, self.in_a_row = self.seen + 1, 0

    def skipped(self, step: int, reason: str) -> None:
        """Take note of a step that did not.

        Raises:
            TrainingError: if it is one too many.
        """
        self.in_a_row += 1
        if self.in_a_row >= self.limit:
            raise TrainingError(
                f"step {step + 1}: {self.in_a_row} steps in a row were skipped, this one because {reason}; "
                "the last checkpoint is good: lower lr, or look at the data of these steps"
            )
