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

import numpy as np
import torch
from tqdm import tqdm

from cogstyle.pictures import write_png
from cogstyle.training.checkpoint import checkpoints, expect_room
from cogstyle.training.curves import draw_curves
from cogstyle.training.engine import Engine, EngineConfig, ProcessConfig, start
from cogstyle.training.export import choose, export
from cogstyle.training.guard import Guard
from cogstyle.training.job import Job, LoopConfig, OptimConfig, seed_step
from cogstyle.training.run_folder import Run
from cogstyle.video import Video

Grid = Callable[[], Video]  # what fixed prompts give now


def run(
    job: Job,
    optim: OptimConfig,
    loop: LoopConfig,
    this: Run,
    *,
    seed: int,
    engine: ProcessConfig | None = None,
    grid: Grid | None = None,
) -> str:
    """Train `job` to its last step, resuming what the run's folder holds, then export it; says what.

    Args:
        this: the run, in a folder that `claimed` keeps others out of.
        grid: draws fixed prompts, whenever the loop validates.

    Raises:
        TrainingError: after too many skipped steps.
        ConfigError: if the folder holds the run of another recipe.
        FileError: if it cannot be written.
        KeyboardInterrupt: after SIGINT or SIGTERM, once the step is saved.
    """
    going, first = begin(job, optim, loop, this, engine or EngineConfig())
    silent = this.quiet or not this.processes.first
    bar = tqdm(range(first, optim.steps), initial=first, total=optim.steps, disable=silent, mininterval=2)
    saved = time.monotonic()
    with stop_signals() as stopped:
        for step in bar:
            done, last = step + 1, step + 1 == optim.steps
            figures, reason = train_step(going, optim, this.guard, seed=seed, step=step)
            this.skip(step, reason) if reason else this.pending.append(figures)
            row: dict[str, float] = {}
            if this.pending and (done % loop.log_every == 0 or last):
                row = mean_row(this.pending, this.processes.device)
                bar.set_postfix(loss=f"{row['loss']:.4f}")
                this.pending.clear()
            if judged := done % loop.sample_every == 0 or last:
                row |= validate(this, going, job, done, grid)
            if row:
                this.log(step, row)
            if judged and this.processes.first:
                write_png(this.folder / "curves.png", draw_curves(this.rows))
            late = time.monotonic() - saved > 60 * loop.checkpoint_minutes
            stop, due = this.processes.any(bool(stopped), this.processes.first and late)
            if last or stop or due:
                this.save(going, done, keep=loop.keep)
                saved = time.monotonic()
            if stop and not last:
                raise KeyboardInterrupt(f"stopped after step {done} of {optim.steps}, which is saved in {this.folder}")
    return finish(this, going, job, optim.steps)


def begin(job: Job, optim: OptimConfig, loop: LoopConfig, this: Run, engine: ProcessConfig) -> tuple[Engine, int]:
    """The engine, resumed from the newest checkpoint if there is one, and the next step."""
    this.guard = Guard(loop.spike, loop.skips)
    trained = 4 * sum(parameter.numel() for parameter in job.trained())
    coming = max(1, loop.keep + 1 - len(checkpoints(this.folder)))
    copies = coming * (4 if loop.ema else 3) + this.keep_best * (2 if loop.ema else 1)
    expect_room(this.folder, trained * copies)
    going = start(engine, job, optim, this.processes, ema=loop.ema)
    return going, this.resume(going, steps=optim.steps, tensorboard=loop.tensorboard)


def finish(this: Run, engine: Engine, job: Job, steps: int) -> str:
    """Export the best or the last weights; says which."""
    if this.board is not None:
        this.board.close()
    tensors, said = engine.state(), ""
    if this.processes.first:
        tensors, said = choose(this.folder, tensors, steps, keep_best=this.keep_best)
        export(job, tensors)
    this.processes.wait()
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
