"""The engine of a run: plain torch, or DeepSpeed, behind five methods. Nothing else knows DeepSpeed.

    engine = start(config, job, optim, processes)
    figures = engine.backward(step)         # gradients of the whole batch, loss and figures
    norm = engine.update(step, skip=False)  # the update; a gradient that is no number changes nothing
    engine.call(job.validate)               # anything that needs all the weights
    tensors = engine.state()                # by name: any engine and any number of processes can
    engine.load(tensors)                    # resume from it

Every process calls the same methods in the same order.
"""

import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar
from unittest.mock import patch

import torch
from annotated_types import Interval
from torch import Tensor, nn

from cogstyle.config import require
from cogstyle.training.job import Job, OptimConfig, make_optimizer
from cogstyle.training.plain import (
    PRECISIONS,
    MeanWeights,
    PlainEngine,
    compute_layers_again,
    freeze_the_rest,
    mean_figures,
    share_of,
    with_prefix,
)
from cogstyle.training.processes import Processes

T = TypeVar("T")
DEVICES = ("auto", "cpu", "cuda")
OFFLOADS = ("none", "optimizer", "parameters")
STATES = ("exp_avg", "exp_avg_sq", "ema")  # of AdamW, and the mean of the weights


@dataclass(frozen=True)
class DeviceConfig:
    """Where a step is computed."""

    device: str = "auto"  # "cpu", "cuda", or "auto": a GPU where there is one

    def __post_init__(self) -> None:
        require(self.device in DEVICES, f"device {self.device!r} must be one of {', '.join(DEVICES)}")


@dataclass(frozen=True)
class ProcessConfig(DeviceConfig):
    """How a step is computed, and what the processes share out."""

    zero: int = 0  # 0: plain torch; DeepSpeed shares out 1: the optimiser, 2: gradients too, 3: weights too
    offload: str = "none"  # keep the "optimizer" in host memory, or (ZeRO 3) the "parameters" too
    precision: str = "auto"  # of forward and backward: "fp32", "bf16", "fp16"; "auto": bf16 on a GPU, else fp32
    accumulate: Annotated[int, Interval(ge=1, le=10**6)] = 1  # passes a step, each over an equal share of the batch

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.accumulate > 0, f"accumulate {self.accumulate} must be 1 or more")
        require(self.zero in range(4), f"zero {self.zero} must be 0, 1, 2 or 3")
        require(self.offload in OFFLOADS, f"offload {self.offload!r} must be one of {', '.join(OFFLOADS)}")
        need = {"none": 0, "optimizer": 1, "parameters": 3}[self.offload]
        require(self.zero >= need, f"offload {self.offload!r} has no effect with zero {self.zero}: it needs {need}")
        known = ("auto", *PRECISIONS)
        require(self.precision in known, f"precision {self.precision!r} must be one of {', '.join(known)}")

    def precision_on(self, device: torch.device) -> str:
        """The precision on a device: half precision is slow on a CPU."""
        if self.precision == "auto":
            return "bf16" if device.type == "cuda" else "fp32"
        return self.precision

    def check(self, optim: OptimConfig, processes: int, device: torch.device) -> None:
        """What can be known before anything is loaded.

        Raises:
            ConfigError: for a batch that does not divide, an optimiser that ZeRO cannot share out, a precision that
                DeepSpeed does not have on a CPU, no DeepSpeed.
        """
        parts = processes * self.accumulate
        require(
            optim.batch % parts == 0,
            f"batch {optim.batch} does not divide among {processes} processes x accumulate {self.accumulate}",
        )
        if self.zero:
            require(
                optim.optimizer == "adamw",
                f"optimizer {optim.optimizer!r} needs whole matrices, zero {self.zero} cuts them: use adamw or zero 0",
            )
            half = self.precision == "fp16" and device.type == "cpu"
            require(not half, f"precision 'fp16' with zero {self.zero} needs a GPU: use bf16, or zero 0")
            found = importlib.util.find_spec("deepspeed") is not None
            require(found, f"zero {self.zero} needs DeepSpeed: pip install 'cogstyle[train]'")


@dataclass(frozen=True)
class EngineConfig(ProcessConfig):
    """Of what has transformer layers to compute again."""

    activation_checkpointing: bool = False  # keep the input of each layer only, compute the rest again


class Engine(Protocol):
    """See the top of this file."""

    def backward(self, step: int) -> dict[str, float]: ...
    def update(self, step: int, *, skip: bool) -> float: ...
    def call(self, do: Callable[[], T]) -> T: ...
    def state(self) -> dict[str, Tensor]: ...
    def load(self, tensors: dict[str, Tensor]) -> None: ...


def start(config: ProcessConfig, job: Job, optim: OptimConfig, processes: Processes, *, ema: float = 0.0) -> Engine:
    """The engine of a recipe, with the job's modules on its device.

    Args:
        ema: decay of a running mean of the trained weights, 0 for none.
    """
    if isinstance(config, EngineConfig) and config.activation_checkpointing:
        compute_layers_again(job.module, job.base)
    if config.zero:
        return DeepSpeedEngine(job, optim, config, processes, ema=ema)
    precision = config.precision_on(processes.device)
    return PlainEngine(job, optim, processes, precision=precision, accumulate=config.accumulate, ema=ema)


class Calls(nn.Module):
    """The job's modules as one, whose forward is any call: DeepSpeed gathers the weights that it touches."""

    def __init__(self, module: nn.Module, base: nn.Module | None) -> None:
        super().__init__()
        self.module, self.base = module, base

    def forward(self, call: Callable[[], Tensor | None]) -> Tensor | None:
        return call()


def deepspeed_config(config: ProcessConfig, optim: OptimConfig, processes: Processes, trained: int) -> dict[str, Any]:
    """DeepSpeed's own options.

    Args:
        trained: parameters that train: buffers need not be larger.
    """
    zero: dict[str, Any] = {"stage": config.zero, "reduce_bucket_size": min(trained, 500_000_000)}
    if config.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": processes.device.type == "cuda"}
    if config.offload == "parameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": processes.device.type == "cuda"}
    precision = config.precision_on(processes.device)
    return {
        "train_micro_batch_size_per_gpu": 1,  # it only counts with it
        "gradient_accumulation_steps": config.accumulate,
        "gradient_clipping": optim.clip,
        "zero_optimization": zero,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16", "initial_scale_power": 16},
        "zero_force_ds_cpu_optimizer": False,  # torch's AdamW does as well, and need not be compiled
    }


class DeepSpeedEngine:
    """ZeRO 1 to 3. Master weights, optimiser state and the running mean are float32 shares of what trains."""

    def __init__(
        self, job: Job, optim: OptimConfig, config: ProcessConfig, processes: Processes, *, ema: float
    ) -> None:
        import deepspeed

        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        self.job, self.optim, self.processes = job, optim, processes
        self.accumulate, self.stage, precision = config.accumulate, config.zero, config.precision_on(processes.device)
        job.device, self.scaling = processes.device, precision == "fp16"
        params = freeze_the_rest(job, PRECISIONS[precision])
        trained = set(params)
        self.names = {name: param for name, param in job.module.named_parameters() if param in trained}
        self.basic = make_optimizer(job, optim)
        self.mean_weights, self.skipping = MeanWeights(self.basic, ema), False
        self._let_steps_be_skipped()
        options = deepspeed_config(config, optim, processes, sum(param.numel() for param in params))
        with _no_compiling() if processes.device.type == "cpu" else nullcontext():
            self.ds, *_ = deepspeed.initialize(
                model=Calls(job.module, job.base), optimizer=self.basic, config=options, dist_init_required=False
            )
        self.keys = STATES if ema else STATES[:2]
        self._make_states()

    def _let_steps_be_skipped(self) -> None:
        """DeepSpeed's bookkeeping stays as it is; its innermost update may do nothing."""
        update = self.basic.step

        def step(closure: None = None) -> None:
            if not self.skipping:
                update()

        self.basic.step = step  # type: ignore[method-assign,assignment]

    def _shares(self) -> list[Tensor]:
        """The float32 weights of this process: flat pieces, as DeepSpeed cut them."""
        flat = getattr(self.ds.optimizer, "fp32_partitioned_groups_flat", None)  # ZeRO 3 takes them out of the groups
        return list(flat or (param for group in self.basic.param_groups for param in group["params"]))

    def _make_states(self) -> None:
        """AdamW's state before its first step, so that it can be saved and loaded at any time."""
        for share in self._shares():
            state: dict[str, Tensor] = {"step": torch.zeros(())}
            state |= {key: share.detach().clone() if key == "ema" else torch.zeros_like(share) for key in self.keys}
            self.basic.state[share] = state
        if self.stage < 3:
            self.ds.optimizer._lazy_init_hp_params_optimizer_state()

    def call(self, do: Callable[[], T]) -> T:
        """Run something that needs all the weights."""
        results: list[T] = []
        self.ds.eval()
        with torch.no_grad():
            self.ds(lambda: results.append(do()))
        self.ds.train()
        return results[0]

    def backward(self, step: int) -> dict[str, float]:
        """As PlainEngine's."""
        parts: list[dict[str, float]] = []

        def loss_of(part: int) -> Tensor:
            loss, figures = self.job.loss(step, share_of(self.processes, self.accumulate, part))
            parts.append({"loss": loss.item(), **figures})
            return loss

        for part in range(self.accumulate):
            self.ds.backward(self.ds(lambda part=part: loss_of(part)))
            if part + 1 < self.accumulate:
                self.ds.step()  # counts the pass; the last one is `update`
        return mean_figures(self.processes, parts)

    def update(self, step: int, *, skip: bool) -> float:
        """As PlainEngine's."""
        for group in self.basic.param_groups:
            group["lr"] = self.optim.lr_at(step)
        self.mean_weights.step, self.skipping = step, skip
        self.ds.step()
        return float(self.ds.get_global_grad_norm())

    def state(self) -> dict[str, Tensor]:
        """As PlainEngine's, the same names: pieces are put together, tensor by tensor."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        tensors = {f"module.{name}": value for name, value in self._untrained().items()}
        steps = self.basic.state[self._shares()[0]]["step"]
        for name, param in self.names.items():
            whole = {f"module.{name}": safe_get_full_fp32_param(param)}
            whole |= {f"optim.{name}.{key}": safe_get_full_optimizer_state(param, key) for key in self.keys}
            if self.processes.first:
                tensors |= {key: value.cpu() for key, value in whole.items()}
                tensors[f"optim.{name}.step"] = steps.clone()
        if self.scaling:
            tensors["engine.scale"] = torch.tensor([self.ds.optimizer.loss_scaler.cur_scale, 0.0], dtype=torch.float64)
        return tensors

    def _untrained(self) -> dict[str, Tensor]:
        """Buffers and frozen parameters of the job's module."""
        rest = {name: p for name, p in self.job.module.named_parameters() if name not in self.names}
        with self._gathered(list(rest.values())):
            found = {name: value.detach().cpu().clone() for name, value in rest.items()}
        return found | {name: value.cpu() for name, value in self.job.module.named_buffers()}

    def _gathered(self, params: list[nn.Parameter], writer: int | None = None) -> Any:
        import deepspeed

        return deepspeed.zero.GatheredParameters(params, modifier_rank=writer, enabled=self.stage == 3)

    def load(self, tensors: dict[str, Tensor]) -> None:
        """As PlainEngine's."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        weights, states = with_prefix(tensors, "module."), with_prefix(tensors, "optim.")
        if missing := self.names.keys() - weights.keys():
            raise RuntimeError(f"missing {', '.join(sorted(missing))}")
        with torch.no_grad():
            for name, param in self.names.items():
                exact = weights[name].float().to(self.processes.device)
                with self._gathered([param], 0):
                    param.data.copy_(exact)
                safe_set_full_fp32_param(param, exact)
                for key in self.keys:
                    value = states.get(f"{name}.{key}", exact if key == "ema" else torch.zeros_like(exact))
                    safe_set_full_optimizer_state(param, value.to(self.processes.device), key)
            for name, buffer in self.job.module.named_buffers():
                buffer.copy_(weights[name])
        steps = max((value for name, value in states.items() if name.endswith(".step")), default=torch.zeros(()))
        for share in self._shares():
            self.basic.state[share]["step"].copy_(steps)
        if self.scaling and "engine.scale" in tensors:
            self.ds.optimizer.loss_scaler.cur_scale = tensors["engine.scale"][0].item()


@contextmanager
def _no_compiling() -> Iterator[None]:
    """Without a GPU DeepSpeed would compile a faster all-reduce for a minute."""
    with patch("deepspeed.comm.torch.build_shm_op", lambda: None):
        yield
