"""The queue on disk: one row of SQLite and one folder a video; both survive whatever stops the server."""

import json
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cogstyle.errors import CogstyleError, FileError
from cogstyle.files import fingerprint
from cogstyle.pictures import write_png
from cogstyle.sampling.options import Options
from cogstyle.schema import from_dict

FORMAT = 1  # of the table
TRIES = 5  # starts without a new part: more would stop the server for ever
TABLE = """
CREATE TABLE IF NOT EXISTS videos (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, kind TEXT NOT NULL, model TEXT NOT NULL,
    prompt TEXT NOT NULL, options TEXT NOT NULL, pictures INTEGER NOT NULL, seconds REAL NOT NULL, size TEXT NOT NULL,
    frames INTEGER NOT NULL, notes TEXT NOT NULL, status TEXT NOT NULL, created_at REAL NOT NULL, completed_at REAL,
    error TEXT, progress INTEGER NOT NULL DEFAULT 0, spent REAL NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0,
    alone INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS by_status ON videos (status, number);
"""
COLUMNS = (
    "id, model, prompt, options, pictures, seconds, size, frames, notes, status, created_at, completed_at, error, "
)
COLUMNS += "progress, spent, tries, alone"
WAITING, RUNNING, DONE, FAILED = "queued", "in_progress", "completed", "failed"
UNFINISHED = (WAITING, RUNNING)


class QueueFullError(CogstyleError):
    """More videos wait than the server was told to hold."""


@dataclass(frozen=True)
class Job:
    """A video that was asked for: what of, how, and how far it is."""

    model: str
    prompt: str
    options: Options
    pictures: int  # given: 1 is the first frame, more are all keyframes
    seconds: float
    size: str  # "WIDTHxHEIGHT"
    frames: int
    notes: tuple[str, ...] = ()  # what the weights were not trained for
    id: str = ""
    status: str = WAITING
    created_at: float = 0.0
    completed_at: float | None = None
    error: str | None = None
    progress: int = 0  # per cent
    spent: float = 0.0  # seconds of drawing before the server was stopped
    tries: int = 0  # starts since the last part
    alone: bool = False  # a batch with it failed: it is drawn by itself

    @property
    def finished(self) -> bool:
        return self.status in (DONE, FAILED)

    @property
    def kind(self) -> str:
        """Jobs of one kind can be drawn side by side."""
        return fingerprint(self.model, replace(self.options, seed=0), self.pictures)

    @classmethod
    def of(cls, row: sqlite3.Row) -> "Job":
        values: dict[str, Any] = dict(row)
        values["options"] = from_dict(Options, json.loads(values["options"]), "options")
        return cls(**{**values, "notes": tuple(json.loads(values["notes"])), "alone": bool(values["alone"])})


class Jobs:
    """All jobs of a data folder; any thread may call it.

    Raises:
        FileError: if the folder or its queue cannot be opened, or another release wrote it.
    """

    def __init__(self, data: Path, *, longest: int = 256) -> None:
        self.data, self.longest = data, longest
        self._lock, self.news = threading.RLock(), threading.Event()
        path = data / "queue.sqlite"
        try:
            (data / "videos").mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            found = self._db.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, FORMAT):
                raise FileError(f"{path} has format {found}, this release reads {FORMAT}: name another --data folder")
            self._db.executescript(f"{TABLE} PRAGMA user_version = {FORMAT};")
        except (OSError, sqlite3.Error) as error:
            raise FileError(f"cannot use {path}: {getattr(error, 'strerror', None) or error}") from None
        self.sweep()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _read(self, where: str, *values: object) -> list[Job]:
        with self._lock:
            rows = self._db.execute(f"SELECT {COLUMNS} FROM videos WHERE {where}", values).fetchall()
        return [Job.of(row) for row in rows]

    def _change(self, ids: Sequence[str], what: str, *values: object) -> None:
        with self._lock:
            marks = ", ".join("?" * len(ids))
            self._db.execute(f"UPDATE videos SET {what} WHERE id IN ({marks})", (*values, *ids))

    # ---------------------------------------------------------------- for clients

    def add(self, job: Job, pictures: Sequence[np.ndarray]) -> Job:
        """Queue a job with the pictures that it is given; once this returns it is not lost.

        Raises:
            QueueFullError: if as many wait as the queue holds.
        """
        job = replace(job, id=f"video_{secrets.token_hex(16)}", created_at=time.time())
        folder = self.folder(job.id)
        values = asdict(job) | {"options": json.dumps(asdict(job.options)), "notes": json.dumps(job.notes)}
        names = ", ".join(["kind", *values])
        with self._lock:
            waiting = self._db.execute("SELECT count(*) FROM videos WHERE status = ?", (WAITING,)).fetchone()[0]
            if waiting >= self.longest:
                raise QueueFullError(f"{waiting} videos wait, and the queue holds {self.longest}: try again later")
            folder.mkdir()
            for number, picture in enumerate(pictures):
                write_png(folder / f"picture-{number}.png", picture)
            marks = ", ".join("?" * (len(values) + 1))
            self._db.execute(f"INSERT INTO videos ({names}) VALUES ({marks})", (job.kind, *values.values()))
        self.news.set()
        return job

    def get(self, identity: str) -> Job | None:
        """The job of this id, None if there is none."""
        return next(iter(self._read("id = ?", identity)), None)

    def page(self, *, after: str | None, limit: int, newest_first: bool) -> tuple[list[Job], bool] | None:
        """Jobs in the order of their making after the one with the id `after`, and whether there are more.

        Returns:
            None if there is no job of that id.
        """
        sign, order = ("<", "DESC") if newest_first else (">", "ASC")
        where, values = "1", []
        if after is not None:
            if self.get(after) is None:
                return None
            where, values = f"number {sign} (SELECT number FROM videos WHERE id = ?)", [after]
        found = self._read(f"{where} ORDER BY number {order} LIMIT ?", *values, limit + 1)
        return found[:limit], len(found) > limit

    def remove(self, identity: str) -> bool:
        """Forget a job and its files; False if there is none. One that is being drawn is left off at its next step."""
        with self._lock:
            gone = self._db.execute("DELETE FROM videos WHERE id = ?", (identity,)).rowcount
        if gone:
            shutil.rmtree(self.folder(identity), ignore_errors=True)
        return bool(gone)

    def folder(self, identity: str) -> Path:
        """Where a job's files are. Ids come from this queue alone, never from a request."""
        return self.data / "videos" / identity

    def video(self, identity: str) -> Path:
        """The file of a video; its json and what else is beside it are named after it."""
        return self.folder(identity) / "video.mp4"

    def given(self, job: Job) -> list[Path]:
        """The pictures that a job was given."""
        return [self.folder(job.id) / f"picture-{number}.png" for number in range(job.pictures)]

    # ---------------------------------------------------------------- for the worker

    def claim(self, most: int) -> list[Job]:
        """The oldest job that is not done, and those that can be drawn beside it; what was begun before comes first.

        A job that was started TRIES times without getting any further has failed.
        """
        with self._lock:
            self._db.execute(
                "UPDATE videos SET status = ?, error = ?, completed_at = ? WHERE status = ? AND tries >= ?",
                (FAILED, f"it was begun {TRIES} times, and stopped the server each time", time.time(), RUNNING, TRIES),
            )
            first = self._read("status IN (?, ?) ORDER BY status, number LIMIT 1", *UNFINISHED)  # in_progress < queued
            if not first:
                return []
            found = first
            if not first[0].alone:
                where = "kind = ? AND NOT alone AND status IN (?, ?) ORDER BY status, number LIMIT ?"
                found = self._read(where, first[0].kind, *UNFINISHED, most)
            self._change([job.id for job in found], "status = ?, tries = tries + 1", RUNNING)
        return found

    def join(self, kind: str, most: int) -> list[Job]:
        """The oldest jobs of a kind that were not begun; now they are."""
        with self._lock:
            found = self._read("kind = ? AND NOT alone AND status = ? ORDER BY number LIMIT ?", kind, WAITING, most)
            self._change([job.id for job in found], "status = ?, tries = tries + 1", RUNNING)
        return found

    def survived(self, ids: Sequence[str]) -> None:
        """Starting these did not stop the server."""
        self._change(ids, "tries = 0")

    def alive(self, ids: Iterable[str]) -> set[str]:
        """Those of these jobs that were not deleted and have not failed."""
        with self._lock:
            rows = self._db.execute("SELECT id FROM videos WHERE status = ?", (RUNNING,)).fetchall()
        return {row[0] for row in rows} & set(ids)

    def advance(self, ids: Sequence[str], progress: int, seconds: float = 0.0, *, part: bool = False) -> None:
        """Note how far jobs are in per cent, after so many more seconds of drawing.

        Args:
            part: something new is on disk, so that a start from there is a first try.
        """
        what = "progress = ?, spent = spent + ?" + (", tries = 0" if part else "")
        self._change(ids, what, progress, seconds)

    def complete(self, identity: str) -> None:
        """All files of a video are written."""
        self._change([identity], "status = ?, progress = 100, completed_at = ?", DONE, time.time())

    def fail(self, ids: Sequence[str], error: str) -> None:
        self._change(ids, "status = ?, error = ?, completed_at = ?", FAILED, error, time.time())

    def separate(self, ids: Sequence[str]) -> None:
        """Draw each of these by itself from now on."""
        self._change(ids, "alone = 1, tries = 0")

    def sweep(self, *, older_than: float | None = None) -> None:
        """Remove folders without a job, and jobs that were finished before a time (seconds since 1970)."""
        if older_than is not None:
            for job in self._read("completed_at < ?", older_than):
                self.remove(job.id)
        with self._lock, os.scandir(self.data / "videos") as entries:
            known = {row[0] for row in self._db.execute("SELECT id FROM videos")}
            abandoned = [entry.path for entry in entries if entry.name not in known]
        for path in abandoned:
            shutil.rmtree(path, ignore_errors=True)
