"""The one training loop: every weight that cogstyle ships goes through it.

A step is a pure function of (seed, step number): data, dropout and every other draw are seeded from
both, so a run that resumes from a checkpoint continues bit for bit (in one process; in several, to rounding).
"""

import json
import math
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Interval
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from cogstyle.config import require
from cogstyle.errors import BundleError, TrainingError
from cogstyle.files import whole_file
from cogstyle.schema import Count
from cogstyle.training.board import Board
from cogstyle.training.checkpoint import checkpoints, expect_room, newest_checkpoint, save_checkpoint
from cogstyle.training.curves import draw_curves
from cogstyle.training.engine import Engine, EngineConfig, start
from cogstyle.training.guard import Guard
from cogstyle.training.processes import World
from cogstyle.training.step import Job, OptimConfig, seed_step
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


class Run:
    """One run in its folder: its log, its pictures, its checkpoints. Only the first process writes.

    Args:
        marks: what a checkpoint must belong to (`base_sha256`, ...), so that no other is gone on from.
        quiet: no progress bar, and nothing said about skipped steps but in the log.
    """

    def __init__(self, folder: Path, loop: LoopConfig, world: World, *, marks: dict[str, str], quiet: bool) -> None:
        self.folder, self.loop, self.world, self.marks = folder, loop, world, marks
        self.guard = Guard(loop.spike, loop.skips)
        self.say: Callable[[str], Any] = (lambda text: None) if quiet or not world.first else tqdm.write
        self.rows: list[dict[str, Any]] = []
        self.board: Board | None = None
        self.seconds, self.began = 0.0, time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def trained_seconds(self) -> float:
        """Of this run and those it goes on from."""
        return self.seconds + time.monotonic() - self.began

    def resume(self, engine: Engine) -> int:
        """Go on from the newest checkpoint that can be read, if there is one; returns the next step.

        Raises:
            BundleError: if it belongs to another recipe or another image model.
            TrainingError: if the processes do not see the same files.
        """
        first, found = 0, newest_checkpoint(self.folder)
        names = self.world.gather(None if found is None else found[0].name)
        if len(set(names)) > 1:
            raise TrainingError(f"the processes see different checkpoints in {self.folder}: is it on a shared disk?")
        if found is not None:
            path, tensors, meta = found
            for name, wanted in self.marks.items():
                if meta.get(name, wanted) != wanted:
                    raise BundleError(f"{path} belongs to another {name.split('_')[0]} ({name} {meta[name][:12]}...)")
            try:
                engine.load(tensors)
            except (RuntimeError, KeyError) as error:
                raise BundleError(f"{path} belongs to another recipe: {str(error).splitlines()[-1].strip()}") from None
            first, self.seconds = int(meta["step"]), float(meta["seconds"])
            self.guard.usual, self.guard.seen = float(meta.get("usual", 0.0)), int(meta.get("seen", 0))
        self.rows = read_log(self.folder / "log.jsonl", first)
        if self.world.first:
            for scratch in self.folder.glob("*.part"):
                scratch.unlink()
            with whole_file(self.folder / "log.jsonl") as file:
                file.write("".join(json.dumps(row) + "\n" for row in self.rows).encode())
            self.board = Board(self.folder, first) if self.loop.tensorboard else None
        return first

    def save(self, engine: Engine, step: int) -> None:
        """Write a checkpoint: `step` is the next one. Every process must call this."""
        tensors = engine.state()
        if self.world.first:
            meta = {"step": str(step), "seconds": str(self.trained_seconds)} | self.marks
            meta |= {"usual": repr(self.guard.usual), "seen": str(self.guard.seen)}
            save_checkpoint(self.folder, tensors, meta, keep=self.loop.keep)

    def log(self, step: int, row: dict[str, Any]) -> None:
        """Add a row to log.jsonl and to TensorBoard."""
        self.rows.append({"step": step, "seconds": self.trained_seconds, **row})
        if not self.world.first:
            return
        try:
            with (self.folder / "log.jsonl").open("a") as file:
                file.write(json.dumps(self.rows[-1]) + "\n")
        except OSError as error:
            raise BundleError(f"cannot write {self.folder / 'log.jsonl'}: {error}") from None
        if self.board is not None and "skipped" not in row:
            self.board.row(self.rows[-1])

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Write NAME-STEP.png."""
        if self.world.first:
            write_picture(self.folder / f"{name}-{step:06d}.png", picture_HWC)
            if self.board is not None:
                self.board.picture(name, picture_HWC, step)

    def drawn(self, video: Video, step: int) -> None:
        """Write grid-STEP.png, the frames side by side, and where there are several grid-STEP.gif."""
        self.picture("grid", np.concatenate(list(video.frames), 1), step)
        if self.world.first and len(video.frames) > 1:
            video.save(self.folder / f"grid-{step:06d}.gif")

    def skip(self, step: int, reason: str) -> None:
        """Say and log that a step was skipped."""
        self.say(f"step {step + 1} skipped: {reason}")
        self.log(step, {"skipped": reason})
        self.guard.skipped(step, reason)


def run(
    job: Job,
    optim: OptimConfig,
    loop: LoopConfig,
    *,
    seed: int,
    folder: Path,
    engine: EngineConfig | None = None,
    world: World | None = None,
    marks: dict[str, str] | None = None,
    grid: Grid | None = None,
    quiet: bool = False,
) -> None:
    """Train `job` to its last step, resuming from `folder` if a checkpoint is there, then export it.

    Args:
        marks: what the checkpoints belong to, see `Run`.
        grid: draws fixed prompts, whenever the loop validates.

    Raises:
        TrainingError: after too many skipped steps.
        BundleError: if the folder holds another run, or cannot be written.
        KeyboardInterrupt: after SIGINT or SIGTERM, once the step is saved.
    """
    world = world or World()
    this = Run(folder, loop, world, marks=marks or {}, quiet=quiet)
    trained = sum(parameter.numel() for parameter in job.trained())
    coming = max(1, loop.keep + 1 - len(checkpoints(folder)))
    expect_room(folder, coming * 4 * trained * (4 if loop.ema else 3))
    going = start(engine or EngineConfig(), job, optim, world, ema=loop.ema)
    first = this.resume(going)
    silent = quiet or not world.first
    bar = tqdm(range(first, optim.steps), initial=first, total=optim.steps, disable=silent, mininterval=2)
    pending: list[dict[str, float]] = []
    saved = time.monotonic()
    with stop_signals() as stopped:
        for step in bar:
            done, last = step + 1, step + 1 == optim.steps
            figures, reason = train_step(going, optim, this.guard, seed=seed, step=step)
            if reason:
                this.skip(step, reason)
            else:
                pending.append(figures)
            row: dict[str, float] = {}
            if pending and (done % loop.log_every == 0 or last):
                row = mean_row(pending, world.device)
                bar.set_postfix(loss=f"{row['loss']:.4f}")
                pending.clear()
            if done % loop.sample_every == 0 or last:
                row |= going.call(job.validate)
                this.picture("sample", going.call(job.picture), done)
                if grid is not None:
                    this.drawn(going.call(grid), done)
            if row:
                this.log(step, row)
            if world.first and (done % loop.sample_every == 0 or last):
                write_picture(folder / "curves.png", draw_curves(this.rows))
            stop, due = world.any(
                bool(stopped), world.first and time.monotonic() - saved > 60 * loop.checkpoint_minutes
            )
            if last or stop or due:
                this.save(going, done)
                saved = time.monotonic()
            if stop and not last:
                raise KeyboardInterrupt
    if this.board is not None:
        this.board.close()
    export(job, going, world)


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


def export(job: Job, engine: Engine, world: World) -> None:
    """Export the trained weights, or their running mean where there is one."""
    tensors = engine.state()
    if world.first:
        for name, parameter in job.module.named_parameters():
            weight: Tensor = tensors.get(f"optim.{name}.ema", tensors[f"module.{name}"])
            parameter.data = weight.float().cpu()
        job.export()
    world.wait()


def write_picture(path: Path, picture_HWC: np.ndarray) -> None:
    """A PNG, whole or not at all."""
    with whole_file(path) as file:
        Image.fromarray(picture_HWC).save(file, "PNG")


def read_log(path: Path, before: int) -> list[dict[str, Any]]:
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
