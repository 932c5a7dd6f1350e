"""The one training loop: every weight that cogstyle ships goes through it.

A step is a pure function of (seed, step number): data, dropout and every other draw are seeded from
both, so a run that resumes from a checkpoint continues bit for bit.
"""

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from cogstyle.errors import BundleError
from cogstyle.files import read_tensors, write_tensors
from cogstyle.training.curves import draw_curves
from cogstyle.training.step import Job, OptimConfig, make_optimizer, seed_step, train_step


@dataclass(frozen=True)
class LoopConfig:
    """How often the loop writes things down."""

    checkpoint_minutes: float = 3.0
    log_every: int = 10  # steps averaged into one row of log.jsonl
    sample_every: int = 500  # steps between validation rows and sample pictures


def save_checkpoint(path: Path, job: Job, optimizer: torch.optim.Optimizer, step: int, seconds: float) -> None:
    """Write weights, optimiser state and progress in one file, atomically."""
    tensors = {f"module.{name}": value for name, value in job.module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optim.{index}.{name}": value for name, value in state.items()}
    write_tensors(path, tensors, {"step": str(step), "seconds": str(seconds)})


def load_checkpoint(path: Path, job: Job, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Restore what save_checkpoint wrote; returns (next step, seconds trained so far)."""
    tensors, meta = read_tensors(path)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optim."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    weights = {name.removeprefix("module."): value for name, value in tensors.items() if name.startswith("module.")}
    try:
        job.module.load_state_dict(weights)
    except RuntimeError as error:
        raise BundleError(f"{path} belongs to another recipe: {str(error).splitlines()[-1].strip()}") from None
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return int(meta["step"]), float(meta["seconds"])


def read_log(path: Path, before: int) -> list[dict[str, float]]:
    """Rows of log.jsonl whose step lies before `before`."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return [row for row in rows if row["step"] < before]


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM, so that a stop waits for the end of the step and its checkpoint."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda caught_number, _: caught.append(caught_number))
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(job: Job, optim: OptimConfig, loop: LoopConfig, *, seed: int, folder: Path, quiet: bool = False) -> None:
    """Train `job` to its last step, resuming from `folder` if a checkpoint is there, then export it."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, log = folder / "checkpoint.safetensors", folder / "log.jsonl"
    optimizer = make_optimizer(job, optim)
    start, seconds = load_checkpoint(checkpoint, job, optimizer) if checkpoint.exists() else (0, 0.0)
    rows = read_log(log, start)
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    began = saved = time.monotonic()
    pending: list[dict[str, float]] = []
    bar = tqdm(range(start, optim.steps), initial=start, total=optim.steps, disable=quiet, mininterval=2)

    def save(step: int) -> None:
        save_checkpoint(checkpoint, job, optimizer, step, seconds + time.monotonic() - began)

    with stop_signals() as stopped:
        for step in bar:
            seed_step(seed, step)
            pending.append(train_step(job, optimizer, optim, step))
            done, last = step + 1, step + 1 == optim.steps
            row: dict[str, float] = {}
            if done % loop.log_every == 0 or last:
                names = dict.fromkeys(name for figures in pending for name in figures)  # steps differ in their tasks
                row = {name: float(np.mean([r[name] for r in pending if name in r])) for name in names}
                bar.set_postfix(loss=f"{row['loss']:.4f}")
                pending.clear()
            if done % loop.sample_every == 0 or last:
                row |= job.validate()
                Image.fromarray(job.picture()).save(folder / f"sample-{done:06d}.png")
            if row:
                rows.append({"step": step, "seconds": seconds + time.monotonic() - began, **row})
                with log.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
            if done % loop.sample_every == 0 or last:
                Image.fromarray(draw_curves(rows)).save(folder / "curves.png")
            if last or stopped or time.monotonic() - saved > 60 * loop.checkpoint_minutes:
                save(done)
                saved = time.monotonic()
            if stopped and not last:
                raise KeyboardInterrupt
    job.export()
