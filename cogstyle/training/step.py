"""One training step, free of any engine: learning rate, forward, backward, update."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cogstyle.config import require
from cogstyle.training.optim import Muon

OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class OptimConfig:
    """AdamW or Muon with linear warm-up and cosine decay to zero."""

    steps: int  # optimiser steps of the whole run
    batch: int  # samples a step
    optimizer: str = "adamw"  # or "muon"
    lr: float = 1e-3  # highest learning rate
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of the gradient
    warmup: int = 100  # steps until `lr` is reached

    def __post_init__(self) -> None:
        require(self.steps > 0 and self.batch > 0, f"steps {self.steps} and batch {self.batch} must be positive")
        require(self.optimizer in OPTIMIZERS, f"optimizer {self.optimizer!r} must be one of {', '.join(OPTIMIZERS)}")
        require(0 <= self.warmup < self.steps, f"warmup {self.warmup} must be below steps {self.steps}")
        require(self.lr > 0 and self.clip > 0, f"lr {self.lr} and clip {self.clip} must be positive")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step (the first is 0)."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * (step - self.warmup) / (self.steps - self.warmup)))


class Job(Protocol):
    """What a training task brings to the loop."""

    module: nn.Module  # what is saved and resumed: trained parameters and buffers

    def trained(self) -> Iterable[nn.Parameter]:
        """The parameters that the optimiser changes."""

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Scalar loss of the step's own batch, and figures to log."""

    def validate(self) -> dict[str, float]:
        """Figures on validation seeds."""

    def picture(self) -> np.ndarray:
        """uint8 [height, width, 3]: what the weights make now."""

    def export(self) -> None:
        """Write the weights where users find them."""


def make_optimizer(job: Job, optim: OptimConfig) -> torch.optim.Optimizer:
    """The recipe's optimiser over what `job` trains."""
    options = {"lr": optim.lr, "betas": optim.betas, "weight_decay": optim.weight_decay}
    if optim.optimizer == "muon":
        return Muon(job.module, job.trained(), **options)  # type: ignore[arg-type]
    return torch.optim.AdamW(job.trained(), **options)  # type: ignore[arg-type]


def seed_step(seed: int, step: int) -> None:
    """Make every global draw of this step its own."""
    torch.manual_seed(seed * 1_000_003 + step)


def train_step(job: Job, optimizer: torch.optim.Optimizer, optim: OptimConfig, step: int) -> dict[str, float]:
    """One forward, backward and update; returns the figures of the step."""
    for group in optimizer.param_groups:
        group["lr"] = optim.lr_at(step)
    loss, figures = job.loss(step)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(list(job.trained()), optim.clip)
    optimizer.step()
    return {"loss": loss.item(), **figures, "grad_norm": norm.item(), "lr": optim.lr_at(step)}
