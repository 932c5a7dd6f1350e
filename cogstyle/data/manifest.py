"""What people have: a table of videos and captions (CSV or JSONL), or a folder of videos with .txt files.

A bad line never ends the reading: it becomes an entry that says what is wrong with it.
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogstyle.config import require
from cogstyle.errors import ConfigError

COLUMNS = ("video", "caption", "start", "end", "language")
VIDEOS = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".wmv",
    ".flv",
    ".3gp",
    ".ogv",
    ".gif",
)
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Entry:
    """A video, what it shows, and from when to when in seconds (`end` None: until it is over).

    `where` is the line it comes from; `problem` says why it cannot be used, if it cannot.
    """

    where: str
    video: str  # as it was written
    caption: str = ""
    start: float = 0.0
    end: float | None = None
    language: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Manifest:
    """Entries in the order of the file; `folder` is what their paths are relative to."""

    folder: Path
    entries: list[Entry]
    unused: tuple[str, ...] = ()  # columns that nothing reads


def read_manifest(path: Path) -> Manifest:
    """Read a .csv or .jsonl file with the columns `COLUMNS`, or a folder of videos with a .txt file beside each.

    Raises:
        ConfigError: naming the file, and the line if there is one, for what cannot be read as a whole.
    """
    if path.is_dir():
        return Manifest(path, _folder(path))
    require(path.suffix in (".csv", ".jsonl"), f"manifest {path} must be a .csv or .jsonl file, or a folder of videos")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(_csv_lines(file, path) if path.suffix == ".csv" else _jsonl_lines(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read manifest {path}: {error}") from None
    require(bool(lines), f"manifest {path} has no rows")
    unused = sorted({key for _, line in lines if isinstance(line, Mapping) for key in line if key not in COLUMNS})
    return Manifest(path.parent, [_entry(f"{path.name}:{number}", line) for number, line in lines], tuple(unused))


def _csv_lines(file: Any, path: Path) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(file, restkey="", strict=True)
    try:
        missing = [name for name in COLUMNS[:2] if name not in (reader.fieldnames or ())]
        found = ", ".join(reader.fieldnames or ()) or "none"
        require(not missing, f"manifest {path} has no column {' and '.join(missing)}; its columns are: {found}")
        for line in reader:
            extra = line.pop("", None)
            yield reader.line_num, "more fields than the header has" if extra else line
    except csv.Error as error:
        raise ConfigError(f"{path}:{reader.reader.line_num}: {error}") from None


def _jsonl_lines(file: Any) -> Iterator[tuple[int, Any]]:
    for number, text in enumerate(file, 1):
        if text.strip():
            try:
                line = json.loads(text)
                yield number, line if isinstance(line, dict) else f"{text.strip()[:60]} is no JSON object"
            except ValueError as error:
                yield number, f"no JSON: {error}"


def _entry(where: str, line: Any) -> Entry:
    """One entry from a mapping of columns, or from what is wrong with the line."""
    if isinstance(line, str):
        return Entry(where, "", problem=line)
    text = {key: "" if line.get(key) is None else str(line[key]) for key in COLUMNS}
    caption = " ".join(text["caption"].split())
    entry = Entry(where, text["video"].strip(), caption, language=text["language"].strip())
    numbers = {}
    for key, default in (("start", 0.0), ("end", math.inf)):
        try:
            numbers[key] = float(text[key]) if text[key].strip() else default
        except ValueError:
            return _bad(entry, f"{key} {text[key]!r} is no number of seconds")
    start, end = numbers["start"], numbers["end"]
    if not entry.video:
        return _bad(entry, "video is empty")
    if not caption:
        return _bad(entry, "caption is empty")
    if not 0.0 <= start < math.inf:
        return _bad(entry, f"start {start:g} must be 0 or more seconds")
    if not end > start:
        return _bad(entry, f"end {end:g} must lie after start {start:g}")
    return Entry(where, entry.video, caption, start, None if end == math.inf else end, entry.language)


def _bad(entry: Entry, problem: str) -> Entry:
    return Entry(entry.where, entry.video, entry.caption, language=entry.language, problem=problem)


def _folder(folder: Path) -> list[Entry]:
    """Videos and pictures below a folder, by name; the caption of a/b.mp4 is all of a/b.txt."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEOS + PICTURES)
    require(bool(paths), f"folder {folder} holds no videos")
    sidecars = any(path.with_suffix(".txt").exists() for path in paths)
    table = next((path for suffix in ("csv", "jsonl") for path in sorted(folder.glob(f"*.{suffix}"))), None)
    hint = f"; give {table} instead?" if table else ""
    require(sidecars, f"no video in {folder} has a .txt file with its caption beside it{hint}")
    entries = []
    for path in paths:
        name, sidecar = path.relative_to(folder).as_posix(), path.with_suffix(".txt")
        try:
            entries.append(_entry(name, {"video": name, "caption": sidecar.read_text("utf-8-sig")}))
        except (OSError, UnicodeDecodeError) as error:
            reason = f"there is no {sidecar.name}" if not sidecar.exists() else f"cannot read {sidecar.name}: {error}"
            entries.append(Entry(name, name, problem=reason))
    return entries
