"""Muon: momentum made orthogonal for the matrices of linear layers and convolutions, AdamW for everything else."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

ITERATIONS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz polynomial a x + b x^3 + c x^5
UPDATE_RMS = 0.2  # size of an update relative to the learning rate, as AdamW's are: both share one rate
MOMENTUM = 0.95


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices, roughly: every singular value is moved to about 1.

    Args:
        matrices: [..., rows, columns].
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide else x.mT


def decay_groups(params: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices, convolutions and embeddings decay; gates, gains and biases (vectors) do not.

    A vector has no size to keep in check, and one that decays is pulled to a value that means something: a gate to
    the middle, a norm's gain to zero.
    """
    params = list(params)
    groups = [
        {"params": [param for param in params if param.dim() > 1], "weight_decay": weight_decay},
        {"params": [param for param in params if param.dim() <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class Muon(torch.optim.Optimizer):
    """One optimiser for a whole module.

    The fused projection of queries, keys and values counts as three matrices; a convolution as one of
    [out, in x height x width].
    Source: Muon is Scalable for LLM Training (arXiv 2502.16982).

    Args:
        module: its linear layers' and convolutions' weights are the matrices.
        weight_decay: see `decay_groups`.
        params: what to train; the rest of `module` stays.
    """

    def __init__(
        self,
        module: nn.Module,
        params: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.01,
        eps: float = 1e-8,
    ) -> None:
        linear = {layer.weight for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
        self.betas, self.eps = betas, eps
        params = list(params)
        rest = decay_groups([p for p in params if p not in linear], weight_decay)
        groups = [{"params": [p for p in params if p in linear]}, *rest]
        for number, group in enumerate(groups):
            group["matrices"] = number == 0
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            update = self._muon if group["matrices"] else self._adam
            for param in group["params"]:
                if param.grad is not None:
                    param.mul_(1.0 - group["lr"] * group["weight_decay"])
                    param.sub_(group["lr"] * update(param.grad, self.state[param]))

    def _muon(self, grad: Tensor, state: dict[str, Tensor]) -> Tensor:
        mean = state.setdefault("mean", torch.zeros_like(grad)).lerp_(grad, 1.0 - MOMENTUM)
        ahead = grad.lerp(mean, MOMENTUM).flatten(1)
        rows, columns = ahead.shape
        fused = grad.dim() == 2 and rows == 3 * columns
        parts = ahead.unflatten(0, (3, columns)) if fused else ahead[None]
        return (UPDATE_RMS * max(parts.shape[1:]) ** 0.5 * orthogonal(parts).flatten(0, 1)).view_as(grad)

    def _adam(self, grad: Tensor, state: dict[str, Tensor]) -> Tensor:
        steps = state.setdefault("step", torch.zeros(())).add_(1.0)
        mean = state.setdefault("mean", torch.zeros_like(grad)).lerp_(grad, 1.0 - self.betas[0])
        square = state.setdefault("square", torch.zeros_like(grad)).lerp_(grad.square(), 1.0 - self.betas[1])
        scale = (1.0 - self.betas[1] ** steps).sqrt() / (1.0 - self.betas[0] ** steps)
        return scale * mean / (square.sqrt() + self.eps * scale)
