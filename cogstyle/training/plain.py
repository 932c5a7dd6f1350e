"""The engine without DeepSpeed: each process holds everything, gradients are averaged over the processes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cogstyle.model.transformer import Block
from cogstyle.training.job import WHOLE, Job, OptimConfig, Share, make_optimizer
from cogstyle.training.processes import Processes

T = TypeVar("T")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FIRST_SCALE, GROW_AFTER = 2.0**16, 1000  # of a float16 loss, so that small gradients do not vanish; steps


def share_of(processes: Processes, accumulate: int, part: int) -> Share:
    """The share of a batch that this process computes in one of its passes."""
    count = processes.size * accumulate
    return WHOLE if count == 1 else Share(processes.rank * accumulate + part, count)


def mean_figures(processes: Processes, parts: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over the passes that have it, of all processes; `tokens` are added up."""
    every = [part for found in processes.gather(parts) for part in found]
    values = {
        name: [part[name] for part in every if name in part] for name in dict.fromkeys(n for p in every for n in p)
    }
    return {name: sum(found) / (1 if name == "tokens" else len(found)) for name, found in values.items()}


def freeze_the_rest(job: Job, dtype: torch.dtype) -> list[nn.Parameter]:
    """What trains; everything else of the module gets no gradient and is rounded to `dtype` for good."""
    params = list(job.trained())
    trained = set(params)
    for param in job.module.parameters():
        param.requires_grad_(param in trained)
        if param not in trained:
            param.data = param.data.to(dtype)
    return params


def compute_layers_again(*modules: nn.Module | None) -> None:
    """Keep the input of each transformer layer only, and compute the layer again in the backward pass."""
    for module in modules:
        for block in module.modules() if module is not None else ():
            if isinstance(block, Block):
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]


class MeanWeights:
    """A running mean of the weights, kept as one more state of the optimiser: it is saved and shared out like those.

    Early steps weigh less: after step t (the first is 0) the decay is at most t / (10 + t).
    """

    def __init__(self, optimizer: torch.optim.Optimizer, decay: float) -> None:
        self.step = 0
        self.decay = decay
        if decay:
            optimizer.register_step_post_hook(self._follow)

    @torch.no_grad()
    def _follow(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        share = 1.0 - min(self.decay, self.step / (10.0 + self.step))
        for group in optimizer.param_groups:
            for param in group["params"]:
                if not (state := optimizer.state[param]):
                    continue  # no gradient so far, and AdamW wants to find nothing here
                state["ema"] = state["ema"].lerp_(param, share) if "ema" in state else param.detach().clone()


class PlainEngine:
    """Forward, backward and update in torch.

    In half precision the module holds float32 weights between the steps and rounded ones while it computes; a frozen
    base is rounded once and has no float32 copy.

    Args:
        precision: of the forward and backward pass.
        accumulate: passes a step, each over an equal share of the batch.
        ema: decay of the running mean of the weights, 0 for none.
    """

    def __init__(
        self,
        job: Job,
        optim: OptimConfig,
        processes: Processes,
        *,
        precision: str = "fp32",
        accumulate: int = 1,
        ema: float = 0.0,
    ) -> None:
        self.job, self.optim, self.processes, self.accumulate = job, optim, processes, accumulate
        dtype, job.device = PRECISIONS[precision], processes.device
        job.module.to(processes.device)
        if job.base is not None:
            job.base.to(processes.device, dtype)
        self.params = freeze_the_rest(job, dtype)
        self.names = {param: name for name, param in job.module.named_parameters()}
        self.rounded = [] if dtype is torch.float32 else [(p, p.data, p.data.to(dtype)) for p in self.params]
        self.scaling = precision == "fp16"
        self.scale, self.good_steps = (FIRST_SCALE if self.scaling else 1.0), 0
        self.optimizer = make_optimizer(job, optim)
        self.mean_weights = MeanWeights(self.optimizer, ema)
        self.gradients: list[Tensor | None] = []

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """The weights in the precision of the forward pass."""
        for param, exact, rounded in self.rounded:
            param.data = rounded.copy_(exact)
        try:
            yield
        finally:
            for param, exact, _ in self.rounded:
                param.grad, param.data = None, exact

    def call(self, do: Callable[[], T]) -> T:
        """Run something that needs all the weights."""
        with self._computing():
            return do()

    def backward(self, step: int) -> dict[str, float]:
        """Find the gradients of a step's batch; returns `loss` and the job's figures, for the whole batch."""
        self.gradients, parts = [None] * len(self.params), []
        with self._computing():
            for part in range(self.accumulate):
                loss, figures = self.job.loss(step, share_of(self.processes, self.accumulate, part))
                (loss * (self.scale / self.accumulate)).backward()
                parts.append({"loss": loss.item(), **figures})
                for index, (param, before) in enumerate(zip(self.params, self.gradients, strict=True)):
                    if param.grad is not None:
                        gradient, param.grad = param.grad.float(), None
                        self.gradients[index] = gradient if before is None else before.add_(gradient)
        return mean_figures(self.processes, parts)

    def update(self, step: int, *, skip: bool) -> float:
        """Change the weights, unless `skip`; returns the norm of the gradient, and with a NaN there changes nothing."""
        self._average()
        for param, gradient in zip(self.params, self.gradients, strict=True):
            param.grad = gradient
        norm = nn.utils.clip_grad_norm_(self.params, self.optim.clip).item()
        finite = norm < float("inf")
        if finite and not skip:
            for group in self.optimizer.param_groups:
                group["lr"] = self.optim.lr_at(step)
            self.mean_weights.step = step
            self.optimizer.step()
        if self.scaling:
            self._rescale(finite)
        self.optimizer.zero_grad(set_to_none=True)
        self.gradients = []
        return norm

    def _average(self) -> None:
        """Gradients without the scale of the loss, their mean over the processes."""
        found = [gradient for gradient in self.gradients if gradient is not None]
        if self.processes.size > 1:
            together = torch.cat([gradient.flatten() for gradient in found])
            dist.all_reduce(together)
            for gradient, mean in zip(found, together.split([g.numel() for g in found]), strict=True):
                gradient.copy_(mean.view_as(gradient) / self.processes.size)
        if self.scaling:
            torch._foreach_div_(found, self.scale)

    def _rescale(self, finite: bool) -> None:
        self.good_steps = self.good_steps + 1 if finite else 0
        if not finite:
            self.scale /= 2.0
        elif self.good_steps % GROW_AFTER == 0:
            self.scale *= 2.0

    def state(self) -> dict[str, Tensor]:
        """Everything that a later run resumes from: `module.NAME`, `optim.NAME.KEY`, `engine.scale`."""
        tensors = {f"module.{name}": value for name, value in self.job.module.state_dict().items()}
        for param, values in self.optimizer.state.items():
            tensors |= {f"optim.{self.names[cast(nn.Parameter, param)]}.{key}": value for key, value in values.items()}
        if self.scaling:
            tensors["engine.scale"] = torch.tensor([self.scale, self.good_steps], dtype=torch.float64)
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` gave, also of another engine or number of processes.

        Raises:
            RuntimeError: if the names or shapes are not those of the job's module.
        """
        self.job.module.load_state_dict(with_prefix(tensors, "module."))
        order = [self.names[param] for group in self.optimizer.param_groups for param in group["params"]]
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in with_prefix(tensors, "optim.").items():
            param, key = name.rsplit(".", 1)
            states.setdefault(order.index(param), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        if self.scaling and "engine.scale" in tensors:
            self.scale, good_steps = tensors["engine.scale"].tolist()
            self.good_steps = int(good_steps)


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
