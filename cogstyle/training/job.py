"""What a training step and a run of them are, free of any engine: learning rate, share of a batch, optimiser."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor, nn

from cogstyle.config import require
from cogstyle.errors import BundleError
from cogstyle.schema import Count
from cogstyle.training.optim import Muon, decay_groups

OPTIMIZERS = ("adamw", "muon")
Beta = Annotated[float, Interval(ge=0.0, lt=1.0)]


@dataclass(frozen=True)
class OptimConfig:
    """AdamW or Muon with linear warm-up and cosine decay to zero."""

    steps: Count  # optimiser steps of the whole run
    batch: Annotated[int, Interval(ge=0, le=2**20)] = 0  # samples a step; 0 where [mix] tokens says how many
    optimizer: str = "adamw"  # or "muon"
    lr: Annotated[float, Interval(gt=0.0, le=1e3)] = 1e-3  # highest learning rate
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    weight_decay: Annotated[float, Interval(ge=0.0, le=1e3)] = 0.01  # of matrices and embeddings alone
    clip: Annotated[float, Interval(gt=0.0, le=1e9)] = 1.0  # largest norm of the gradient
    warmup: Annotated[int, Interval(ge=0, le=10**9)] = 100  # steps until `lr` is reached

    def __post_init__(self) -> None:
        require(self.steps > 0 and self.batch >= 0, f"steps {self.steps} and batch {self.batch} must be positive")
        require(self.optimizer in OPTIMIZERS, f"optimizer {self.optimizer!r} must be one of {', '.join(OPTIMIZERS)}")
        require(0 <= self.warmup < self.steps, f"warmup {self.warmup} must be below steps {self.steps}")
        require(self.lr > 0 and self.clip > 0, f"lr {self.lr} and clip {self.clip} must be positive")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step (the first is 0)."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * (step - self.warmup) / (self.steps - self.warmup)))


@dataclass(frozen=True)
class LoopConfig:
    """How often the loop writes things down, and what it does about trouble."""

    checkpoint_minutes: Annotated[float, Interval(ge=0.0, le=1e6)] = 3.0
    keep: Count = 2  # checkpoints: older ones are removed
    log_every: Count = 10  # steps averaged into one row of log.jsonl
    sample_every: Count = 500  # steps between validation rows and sample pictures
    # decay of a running mean of the trained weights, which is then what is exported; 0: none
    ema: Annotated[float, Interval(ge=0.0, lt=1.0)] = 0.0
    # a loss over so many times the usual one is skipped; 0: none is
    spike: Annotated[float, Interval(ge=0.0, le=1e9)] = 5.0
    skips: Count = 20  # steps skipped in a row that end the run
    tensorboard: bool = False  # write TensorBoard files too

    def __post_init__(self) -> None:
        require(self.spike == 0.0 or self.spike > 1.0, f"spike {self.spike} must be above 1, or 0 for none")


@dataclass(frozen=True)
class DrawingLoopConfig(LoopConfig):
    """Of a task that can draw a prompt."""

    prompts: tuple[str, ...] = ()  # draw these at every validation, always with the same seeds


Rows = TypeVar("Rows", list[Any], np.ndarray, Tensor)


@dataclass(frozen=True)
class Share:
    """One of the equal parts of a step's batch. Each process, and each of its accumulated passes, takes another."""

    index: int = 0
    count: int = 1

    def of(self, batch: Rows) -> Rows:
        """This part of the whole batch's rows.

        Raises:
            ConfigError: if the batch does not divide.
        """
        size, rest = divmod(len(batch), self.count)
        require(rest == 0 and size > 0, f"a batch of {len(batch)} does not divide into {self.count} parts")
        return batch[self.index * size : (self.index + 1) * size]


WHOLE = Share()


class Job(Protocol):
    """What a training task brings to the loop."""

    module: nn.Module  # what is saved and resumed: trained parameters and buffers
    base: nn.Module | None  # what the loss uses beside it, frozen
    device: torch.device  # where the loss is computed: set by the engine, which moves the modules there

    def trained(self) -> Iterable[nn.Parameter]:
        """The parameters that the optimiser changes."""

    def loss(self, step: int, share: Share = WHOLE) -> tuple[Tensor, dict[str, float]]:
        """Mean loss of a share of the step's own batch, and figures to log (`tokens`: how many the share has)."""

    def preview(self) -> np.ndarray:
        """uint8 [height, width, 3]: what the first batch shows."""

    def validate(self) -> dict[str, float]:
        """Figures on validation seeds."""

    def picture(self) -> np.ndarray:
        """uint8 [height, width, 3]: what the weights make now."""

    def export(self) -> None:
        """Write the weights where users find them."""


def make_optimizer(job: Job, optim: OptimConfig) -> torch.optim.Optimizer:
    """The recipe's optimiser over what `job` trains."""
    if optim.optimizer == "muon":
        return Muon(job.module, job.trained(), lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay)
    return torch.optim.AdamW(decay_groups(job.trained(), optim.weight_decay), lr=optim.lr, betas=optim.betas)


def load_weights(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy trained weights into a module.

    Raises:
        BundleError: if they are of another architecture.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise BundleError(f"the weights to start from are of another architecture: {reason}") from None


def seed_step(seed: int, step: int) -> None:
    """Make every global draw of this step its own."""
    torch.manual_seed(seed * 1_000_003 + step)
