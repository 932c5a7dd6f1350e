"""What a run would do, before it does it: parameters, memory, tokens, the first batch."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from cogstyle.bundle import Bundle
from cogstyle.data import shards
from cogstyle.data.encode import Encoding as VideoEncoding
from cogstyle.data.manifest import Manifest
from cogstyle.data.shards import Index, read_captions
from cogstyle.data.workers import cores
from cogstyle.rows import Row
from cogstyle.tokenizers.image import ImageTokenizer
from cogstyle.training.encoding import is_encoded
from cogstyle.training.engine import EngineConfig, ProcessConfig
from cogstyle.training.job import Job, OptimConfig, make_optimizer
from cogstyle.training.plain import PRECISIONS, compute_layers_again, freeze_the_rest, share_of
from cogstyle.training.processes import Processes

FEW = 64  # rows of each kind that a plan is made from
FEW_VIDEOS = 20


@dataclass(frozen=True)
class DryRun:
    """A run in numbers. `memory` is bytes of one process, part by part; `host` those that offload keeps off the GPU."""

    steps: int
    processes: int
    trained: int  # parameters
    frozen: int  # parameters
    tokens: int | None  # a step, all processes together
    memory: dict[str, int]
    host: dict[str, int]
    rows: int = 0  # to encode before the first step
    encoding_seconds: float = 0.0  # that takes, about
    row_bytes: int = 0  # of those rows on disk
    stages: tuple[str, ...] = ()  # of a curriculum


class FirstRows:
    """Stands in for `shards.encode`: what is encoded already, else the first few rows, which are not kept.

    It counts the rows that are `missing`, and the `seconds` that encoding them would take.
    """

    def __init__(self) -> None:
        self.missing, self.seconds, self.bytes = 0, 0.0, 0
        self.scratch = Path()  # a folder for rows of videos

    @classmethod
    @contextmanager
    def kept_nowhere(cls) -> Iterator["FirstRows"]:
        """Rows that are gone after the block."""
        rows = cls()
        with TemporaryDirectory() as folder:
            rows.scratch = Path(folder)
            yield rows

    def encode(
        self,
        make_row: Callable[[int], Row],
        count: int,
        folder: Path,
        *,
        vqvae: ImageTokenizer,
        tokenizer_sha256: str,
        quiet: bool = False,
    ) -> shards.Shards:
        """As `shards.encode`."""
        missing = shards.rows_missing(folder, count)
        if not missing:
            return shards.load(folder, count, tokenizer_sha256=tokenizer_sha256)
        few, began = min(count, FEW), time.monotonic()
        rows = shards.encode_few(vqvae, [make_row(number) for number in range(few)])
        self.missing += missing
        self.seconds += missing * (time.monotonic() - began) / few
        return rows

    def encode_videos(self, manifest: Manifest, folder: Path, index: Index, bundle: Bundle, *, quiet: bool) -> Path:
        """As the real one."""
        if is_encoded(folder, index):
            return folder
        few, began = manifest.entries[:: -(-len(manifest.entries) // FEW_VIDEOS)], time.monotonic()
        part = replace(manifest, entries=few)
        small = replace(index, entries=len(few), entries_per_part=len(few), contents=("first",))
        scratch = self.scratch / folder.name
        VideoEncoding(part, scratch, small, bundle).run(workers=0, quiet=True)
        rows, seconds = len(read_captions(scratch)), time.monotonic() - began
        self.missing += rows * len(manifest.entries) // len(few)
        size = sum(path.stat().st_size for path in scratch.glob("part-*"))
        self.bytes += size * len(manifest.entries) // len(few)
        self.seconds += seconds * len(manifest.entries) / len(few) / cores()
        return scratch


def state_memory(
    trained: int, frozen: int, moments: int, engine: ProcessConfig, processes: Processes, *, ema: bool
) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of one process that stay from step to step, and those of them that offload keeps in host memory.

    Args:
        trained, frozen: parameters.
        moments: numbers that the optimiser keeps.
    """
    width = torch.empty(0, dtype=PRECISIONS[engine.precision_on(processes.device)]).element_size()

    def cut(size: int, stage: int) -> int:
        return -(-size // processes.size) if engine.zero >= stage else size

    masters = trained if engine.zero or width < 4 else 0  # plain torch computes with the float32 weights themselves
    memory = {
        "frozen weights": cut(frozen, 3) * width,
        "trained weights": cut(trained, 3) * width,
        "gradients": cut(trained, 2) * (width if engine.zero else 4),
        "float32 copies": cut(masters, 1) * 4,
        "optimiser": cut(moments, 1) * 4,
        "running mean": cut(trained, 1) * 4 if ema else 0,
    }
    away = {"none": (), "optimizer": ("float32 copies", "optimiser", "running mean")}.get(engine.offload)
    host = {name: memory.pop(name) for name in list(memory) if away is None or name in away}
    return memory, host


def activation_memory(job: Job, parts: int) -> tuple[int, dict[str, float]]:
    """Bytes that one pass over a share of the first batch keeps for its backward pass, in float32; its figures too."""
    weights = {p.untyped_storage().data_ptr() for m in (job.module, job.base) if m is not None for p in m.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, figures = job.loss(0, share_of(Processes(size=parts), 1, 0))
    del loss
    return sum(kept.values()), figures


def estimate(job: Job, optim: OptimConfig, engine: ProcessConfig, processes: Processes, *, ema: bool) -> DryRun:
    """Estimate what `job` needs in each process; computes one forward pass on the CPU."""
    if isinstance(engine, EngineConfig) and engine.activation_checkpointing:
        compute_layers_again(job.module, job.base)
    trained = sum(p.numel() for p in freeze_the_rest(job, torch.float32))
    modules = [module for module in (job.module, job.base) if module is not None]
    frozen = sum(p.numel() for module in modules for p in module.parameters()) - trained
    groups: list[dict[str, Any]] = make_optimizer(job, optim).param_groups
    moments = sum((1 if group.get("matrices") else 2) * p.numel() for group in groups for p in group["params"])
    memory, host = state_memory(trained, frozen, moments, engine, processes, ema=ema)
    parts = processes.size * engine.accumulate
    activations, figures = activation_memory(job, parts)
    width = torch.empty(0, dtype=PRECISIONS[engine.precision_on(processes.device)]).element_size()
    memory["activations"] = activations * width // 4
    tokens = int(figures["tokens"] * parts) if "tokens" in figures else None
    return DryRun(optim.steps, processes.size, trained, frozen, tokens, memory, host)
