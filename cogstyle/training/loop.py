"""The one training loop: every weight that cogstyle ships goes through it.

A step is a pure function of (seed, step number): data, dropout and every other draw are seeded from
both, so a run that resumes from a checkpoint continues bit for bit (in one process; in several, to rounding).
"""

import math
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Interval
from tqdm import tqdm

from cogstyle.config import require
from cogstyle.pictures import write_png
from cogstyle.schema import Count
from cogstyle.training.checkpoint import checkpoints, expect_room
from cogstyle.training.curves import draw_curves
from cogstyle.training.engine import Engine, EngineConfig, start
from cogstyle.training.export import choose, export
from cogstyle.training.guard import Guard
from cogstyle.training.identity import Identity
from cogstyle.training.job import Job, OptimConfig, seed_step
from cogstyle.training.processes import Processes
from cogstyle.training.run_folder import Run
from cogstyle.video import Video

Grid = Callable[[], Video]  # what fixed prompts give now


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
    prompts: tuple[str, ...] = ()  # image, keyframes: draw these at every validation, always with the same seeds

    def __post_init__(self) -> None:
        require(self.spike == 0.0 or self.spike > 1.0, f"spike {self.spike} must be above 1, or 0 for none")


def run(
    job: Job,
    optim: OptimConfig,
    loop: LoopConfig,
    *,
    seed: int,
    folder: Path,
    engine: EngineConfig | None = None,
    processes: Processes | None = None,
    identity: Identity | None = None,
    grid: Grid | None = None,
    keep_best: bool = True,
    quiet: bool = False,
) -> str:
    """Train `job` to its last step, resuming from `folder` if a checkpoint is there, then export it; says what.

    Args:
        folder: of this run; `claimed` keeps others out of it.
        identity: what the checkpoints belong to.
        grid: draws fixed prompts, whenever the loop validates.
        keep_best: export the best weights by validation, not the last ones.

    Raises:
        TrainingError: after too many skipped steps.
        ConfigError: if the folder holds the run of another recipe.
        FileError: if it cannot be written.
        KeyboardInterrupt: after SIGINT or SIGTERM, once the step is saved.
    """
    processes = processes or Processes()
    guard = Guard(loop.spike, loop.skips)
    this = Run(folder, guard, processes, identity=identity or Identity(), keep_best=keep_best, quiet=quiet)
    trained = 4 * sum(parameter.numel() for parameter in job.trained())
    coming = max(1, loop.keep + 1 - len(checkpoints(folder)))
    expect_room(folder, trained * (coming * (4 if loop.ema else 3) + keep_best * (2 if loop.ema else 1)))
    going = start(engine or EngineConfig(), job, optim, processes, ema=loop.ema)
    first = this.resume(going, steps=optim.steps, tensorboard=loop.tensorboard)
    silent = quiet or not processes.first
    bar = tqdm(range(first, optim.steps), initial=first, total=optim.steps, disable=silent, mininterval=2)
    saved = time.monotonic()
    with stop_signals() as stopped:
        for step in bar:
            done, last = step + 1, step + 1 == optim.steps
            figures, reason = train_step(going, optim, this.guard, seed=seed, step=step)
            if reason:
                this.skip(step, reason)
            else:
                this.pending.append(figures)
            row: dict[str, float] = {}
            if this.pending and (done % loop.log_every == 0 or last):
                row = mean_row(this.pending, processes.device)
                bar.set_postfix(loss=f"{row['loss']:.4f}")
                this.pending.clear()
            if done % loop.sample_every == 0 or last:
                row |= validate(this, going, job, done, grid)
            if row:
                this.log(step, row)
            if processes.first and (done % loop.sample_every == 0 or last):
                write_png(folder / "curves.png", draw_curves(this.rows))
            stop, due = processes.any(
                bool(stopped), processes.first and time.monotonic() - saved > 60 * loop.checkpoint_minutes
            )
            if last or stop or due:
                this.save(going, done, keep=loop.keep)
                saved = time.monotonic()
            if stop and not last:
                raise KeyboardInterrupt(f"stopped after step {done} of {optim.steps}, which is saved in {folder}")
    if this.board is not None:
        this.board.close()
    tensors, said = going.state(), ""
    if processes.first:
        tensors, said = choose(folder, tensors, optim.steps, keep_best=keep_best)
        export(job, tensors)
    processes.wait()
    return said


def validate(this: Run, engine: Engine, job: Job, done: int, grid: Grid | None) -> dict[str, float]:
    """Figures on validation rows, said and written down with pictures of what the weights make."""
    figures = engine.call(job.validate)
    this.validated(engine, done, figures)
    this.picture("sample", engine.call(job.picture), done)
    if grid is not None:
        this.drawn(engine.call(grid), done)
    return figures


def train_step(
    engine: Engine, optim: OptimConfig, guard: Guard, *, seed: int, step: int
) -> tuple[dict[str, float], str]:
    """One step, skipped if its loss or gradient is not fit to train; returns its figures and why it was skipped."""
    began = time.monotonic()
    seed_step(seed, step)
    figures = engine.backward(step)
    reason = guard.refuses(figures["loss"])
    norm = engine.update(step, skip=bool(reason))
    if not reason and not math.isfinite(norm):
        reason = f"the gradient's norm is {norm}"
    if not reason:
        guard.accepted(figures["loss"])
    return {**figures, "grad_norm": norm, "lr": optim.lr_at(step), "step_seconds": time.monotonic() - began}, reason


def mean_row(pending: list[dict[str, float]], device: torch.device) -> dict[str, float]:
    """The mean of each figure over the steps that have it; tokens and seconds become tokens a second."""
    names = dict.fromkeys(name for figures in pending for name in figures)
    row = {name: float(np.mean([figures[name] for figures in pending if name in figures])) for name in names}
    seconds, tokens = row.pop("step_seconds"), row.pop("tokens", None)
    if tokens is not None:
        row["tokens_per_second"] = tokens / seconds
    row["memory_gb"] = peak_memory(device) / 1e9
    return row


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has held, on its GPU if it has one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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
