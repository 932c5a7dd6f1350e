"""A run's folder: its log, its pictures, its checkpoints, and the best of them. Only the first process writes."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from cogstyle.config import require
from cogstyle.errors import BundleError, FileError, TrainingError
from cogstyle.files import one_writer, read_text, whole_file
from cogstyle.pictures import write_png
from cogstyle.training.board import Board
from cogstyle.training.checkpoint import (
    Checkpoint,
    newest_checkpoint,
    read_checkpoint,
    save_checkpoint,
    set_aside,
    write_checkpoint,
)
from cogstyle.training.curves import family
from cogstyle.training.engine import Engine
from cogstyle.training.guard import Guard
from cogstyle.training.identity import Identity
from cogstyle.training.processes import Processes
from cogstyle.video import Video

BEST, LOG = "best.safetensors", "log.jsonl"
RISE = 0.01  # share of the best score by which validation rises before that is said
RESERVED = ("", ".", "..", "data")  # no names of runs: encoded data lies beside them


def run_folder(runs: Path, name: str) -> Path:
    """
    Raises:
        ConfigError: for a name that is none of a folder.
    """
    fits = name not in RESERVED and Path(name).name == name and len(os.fsencode(name)) <= 200 and name.isprintable()
    require(
        fits, f"{name[:80]!r} cannot name a run: it must be the name of a folder, at most 200 bytes, and not 'data'"
    )
    return runs / name


def make_folder(folder: Path) -> None:
    """
    Raises:
        FileError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {folder}: {error.strerror or error}") from None


@contextmanager
def claimed(folder: Path, processes: Processes) -> Iterator[None]:
    """Make a run's folder, and hold it for this run alone while the block lasts.

    Raises:
        FileError: if it cannot be made, or another process is training in it.
    """
    if not processes.first:
        yield
        return
    make_folder(folder)
    with one_writer(folder):
        yield


def score(figures: dict[str, Any]) -> float | None:
    """How good weights are by their validation figures, lower is better: loss (mean over tasks), -PSNR or -reward."""
    parts = [value for name, value in figures.items() if name.startswith("validation_loss") and "_frame_" not in name]
    if parts:
        return float(np.mean(parts))
    best = figures.get("psnr", figures.get("validation_reward"))
    return None if best is None else -best


class Run:
    """One run in its folder.

    Args:
        identity: what it trains, so that it resumes from its own checkpoints only.
        keep_best: keep the best weights by validation beside the last ones.
        quiet: no progress bar, and nothing said about skipped steps and validation but in the log.
    """

    def __init__(
        self,
        folder: Path,
        processes: Processes | None = None,
        *,
        identity: Identity | None = None,
        keep_best: bool = True,
        quiet: bool = False,
    ) -> None:
        self.folder, self.processes, self.identity = folder, processes or Processes(), identity or Identity()
        self.guard, self.keep_best = Guard(0.0, 1), keep_best  # the loop brings the guard
        self.quiet, self.warned = quiet, False
        self.rows: list[dict[str, Any]] = []
        self.pending: list[dict[str, float]] = []  # figures of the steps since the last row
        self.best: tuple[float, int] | None = None  # score, steps done
        self.board: Board | None = None
        self.seconds, self.began = 0.0, time.monotonic()
        make_folder(folder)

    @property
    def trained_seconds(self) -> float:
        """Of this run and those it resumes."""
        return self.seconds + time.monotonic() - self.began

    def say(self, text: str, *, always: bool = False) -> None:
        """One line above the progress bar."""
        if self.processes.first and (always or not self.quiet):
            tqdm.write(text, file=sys.stderr)

    def resume(self, engine: Engine, *, steps: int, tensorboard: bool) -> int:
        """Resume from the newest checkpoint that is whole, if there is one; returns the next step.

        Raises:
            ConfigError: if it belongs to another recipe.
            BundleError: if all are damaged, or the weights do not fit.
            TrainingError: if the processes do not see the same files.
        """
        first, changes, found = 0, "", newest_checkpoint(self.folder)
        names = self.processes.gather(None if found is None else found.path.name)
        if len(set(names)) > 1:
            raise TrainingError(f"the processes see different checkpoints in {self.folder}: is it on a shared disk?")
        if found is not None:
            changes = self.identity.check(self.folder, found.meta, steps)
            first = self._resume_from(found, engine)
        self.rows = read_log(self.folder / LOG, first)
        if self.processes.first:
            if found is not None and found.damaged:
                set_aside(self.folder, found.path)
            self._find_best(keep=found is not None and not changes)
            with whole_file(self.folder / LOG) as file:
                file.write("".join(json.dumps(row) + "\n" for row in self.rows).encode())
            self.board = Board(self.folder, first) if tensorboard else None
        self.best = self.processes.gather(self.best)[0]
        if changes:
            self.say(f"going on after step {first} with another recipe: {changes}", always=True)
            self.log(first - 1, {"recipe": changes})
            self.save(engine, first, keep=10**9)
        return first

    def _resume_from(self, found: Checkpoint, engine: Engine) -> int:
        for reason in found.damaged:
            self.say(f"{reason}; going on from {found.path.name}", always=True)
        try:
            engine.load(found.tensors)
        except (RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise BundleError(f"{found.path} has weights of another shape than this recipe's: {reason}") from None
        state = json.loads(found.meta["state"])
        self.seconds, self.pending = state["seconds"], state["pending"]
        self.guard = replace(self.guard, **state["guard"])
        return found.step

    def _find_best(self, *, keep: bool) -> None:
        """The best weights so far, if the run is resumed; those of a run begun anew do not count."""
        path = self.folder / BEST
        if not path.exists():
            return
        try:
            meta = read_checkpoint(path).meta
        except FileError as error:
            self.say(f"{error}; looking for the best anew", always=True)
            keep, meta = False, {}
        if keep and self.keep_best and not self.identity.changes(meta):
            self.best = float(meta["score"]), int(meta["step"])
        else:
            path.unlink()

    def save(self, engine: Engine, step: int, *, keep: int) -> None:
        """Write a checkpoint: `step` is the next one. Every process must call this."""
        tensors = engine.state()
        if self.processes.first:
            guard = {name: value for name, value in asdict(self.guard).items() if name not in ("spike", "limit")}
            state = {"seconds": self.trained_seconds, "guard": guard, "pending": self.pending}
            meta = {"step": str(step), "state": json.dumps(state)} | self.identity.meta()
            save_checkpoint(self.folder, tensors, meta, keep=keep)

    def validated(self, engine: Engine, done: int, figures: dict[str, Any]) -> None:
        """Say the figures, and keep the weights if none before were better. Every process must call this."""
        shown = {name: value for name, value in figures.items() if family(name)[0] == name}
        self.say(f"step {done}: " + ", ".join(f"{name} {value:.4f}" for name, value in shown.items()))
        found = self.processes.gather(score(figures))[0]
        if found is not None and self.best is not None:
            self._warn(found, done)
        if not self.keep_best or found is None or not (self.best is None or found <= self.best[0]):
            return
        self.best = found, done
        tensors = engine.state()
        if self.processes.first:
            meta = {"step": str(done), "score": repr(found)} | self.identity.meta()
            write_checkpoint(self.folder / BEST, weights_alone(tensors), meta)

    def _warn(self, found: float, done: int) -> None:
        """Say once when validation has got worse twice in a row: from there on the rows are learned by heart."""
        assert self.best is not None
        best, at = self.best
        since = [value for row in self.rows if row["step"] >= at and (value := score(row)) is not None]
        if not self.warned and since and min(found, since[-1]) > best + RISE * abs(best):
            self.warned = True
            kept = "its weights are kept" if self.keep_best else "the last weights are exported, as the recipe says"
            said = f"validation was best at step {at} ({abs(best):.4f}) and has got worse since ({abs(found):.4f})"
            self.say(f"step {done}: {said}: the training rows are learned by heart (overfitting); {kept}", always=True)
        self.warned = self.warned and found > best

    def log(self, step: int, row: dict[str, Any]) -> None:
        """Add a row to log.jsonl and to TensorBoard."""
        self.rows.append({"step": step, "seconds": self.trained_seconds, **row})
        if not self.processes.first:
            return
        try:
            with (self.folder / LOG).open("a") as file:
                file.write(json.dumps(self.rows[-1]) + "\n")
        except OSError as error:
            raise FileError(f"cannot write {self.folder / LOG}: {error.strerror or error}") from None
        if self.board is not None and not any(isinstance(value, str) for value in row.values()):  # words have no curve
            self.board.row(self.rows[-1])

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Write NAME-STEP.png."""
        if self.processes.first:
            write_png(self.folder / f"{name}-{step:06d}.png", picture_HWC)
            if self.board is not None:
                self.board.picture(name, picture_HWC, step)

    def drawn(self, video: Video, step: int) -> None:
        """Write grid-STEP.png, the frames side by side, and where there are several grid-STEP.gif."""
        self.picture("grid", np.concatenate(list(video.frames), 1), step)
        if self.processes.first and len(video.frames) > 1:
            video.save(self.folder / f"grid-{step:06d}.gif")

    def skip(self, step: int, reason: str) -> None:
        """Say and log that a step was skipped."""
        self.say(f"step {step + 1} skipped: {reason}")
        self.log(step, {"skipped": reason})
        self.guard.skipped(step, reason)


def weights_alone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint without the optimiser's state: the weights, and their running mean where there is one."""
    return {name: value for name, value in tensors.items() if name.startswith("module.") or name.endswith(".ema")}


def read_log(path: Path, before: int) -> list[dict[str, Any]]:
    """Rows of log.jsonl whose step lies before `before`; lines that a kill or a full disk cut off are left out."""
    rows = []
    for line in read_text(path).splitlines() if path.exists() else ():
        with suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict) and row.get("step", before) < before]
