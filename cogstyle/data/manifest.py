"""What people have: a table of videos and captions (CSV or JSONL), two lists of lines, or a folder with .txt files.

A bad line never ends the reading: it becomes an entry that says what is wrong with it.
"""

import csv
import io
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogstyle.config import require
from cogstyle.errors import ConfigError, FileError
from cogstyle.files import read_text
from cogstyle.video import VIDEOS

NAMES = {
    "video": ("video", "file_name", "file", "path"),
    "caption": ("caption", "text", "prompt"),
}  # the first is taken
MORE = "caption_"  # begins the names of columns with further texts of the same video, such as caption_zh
COLUMNS = ("start", "end", "language")
TABLES = ("metadata.csv", "metadata.jsonl")  # of a folder; those of Hugging Face's videofolder and imagefolder
LISTS = ("videos.txt", "prompts.txt")  # of a folder, line by line; finetrainers has them
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".avif")
SIDECAR = 1 << 20  # the most bytes of a caption's file


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
    more: tuple[tuple[str, str], ...] = ()  # further texts of it, each behind its language

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        """Every text of it, each behind its language."""
        return ((self.language, self.caption), *self.more)


@dataclass(frozen=True)
class Manifest:
    """Entries in the order of the file; `folder` is what their paths are relative to."""

    folder: Path
    entries: list[Entry]
    unused: tuple[str, ...] = ()  # columns that nothing reads
    taken: str = ""  # where videos and captions were found, unless in columns of just these names


def read_manifest(path: Path, *, caption: str = "") -> Manifest:
    """Read what says which videos there are, and what they show.

    It is a .csv or .jsonl file with a column of `NAMES` for the video, one for the caption, and `COLUMNS`; or a folder
    with one of `TABLES`, with both `LISTS`, or with a .txt file beside each video or picture.

    Args:
        caption: of whatever has none of its own.

    Raises:
        ConfigError: naming the file, and the line if there is one, for what is no manifest.
        FileError: for a file that cannot be read or is not UTF-8.
    """
    if path.is_dir():
        if table := next((path / name for name in TABLES if (path / name).is_file()), None):
            return read_manifest(table, caption=caption)
        if all((path / name).is_file() for name in LISTS):
            return Manifest(path, _lists(path, caption), taken=f"videos from {LISTS[0]}, captions from {LISTS[1]}")
        return Manifest(path, _folder(path, caption))
    require(path.suffix in (".csv", ".jsonl"), f"manifest {path} must be a .csv or .jsonl file, or a folder of videos")
    text, wanted = read_text(path), ["video"] if caption else list(NAMES)
    lines = list(_csv_lines(text, path, wanted) if path.suffix == ".csv" else _jsonl_lines(text))
    require(bool(lines), f"manifest {path} has no rows")
    names = list(dict.fromkeys(key for _, line in lines if isinstance(line, Mapping) for key in line))
    found = columns_of(names)
    entries = [_entry(f"{path.name}:{number}", _renamed(line, found, caption)) for number, line in lines]
    unused = sorted(set(names) - set(COLUMNS) - {name for several in found.values() for name in several})
    plain = found == {"video": ["video"], "caption": ["caption"]}
    taken = ", ".join(f"{key}s from {' and '.join(several)}" for key, several in found.items() if several)
    return Manifest(path.parent, entries, tuple(unused), "" if plain else taken)


def columns_of(names: Sequence[str]) -> dict[str, list[str]]:
    """The columns that are taken for the video and for its captions, of which the first is the caption."""
    found = {key: [name for name in known if name in names][:1] for key, known in NAMES.items()}
    found["caption"] += sorted(name for name in names if name.startswith(MORE))
    return found


def _renamed(line: Any, found: Mapping[str, list[str]], caption: str) -> Any:
    """A line under our own names; what is wrong with one stays as it is."""
    if not isinstance(line, Mapping):
        return line
    texts = [(name.removeprefix(MORE) if name.startswith(MORE) else "", line.get(name)) for name in found["caption"]]
    texts = [(language, text) for language, text in texts if text is not None and text != ""] or [("", caption)]
    (language, first), *more = texts
    renamed = {name: line.get(name) for name in COLUMNS} | {"caption": first, "more": more}
    renamed["video"] = next((line.get(name) for name in found["video"]), None)
    return renamed | ({"language": language} if language and not renamed["language"] else {})


def _csv_lines(text: str, path: Path, wanted: Collection[str]) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    try:
        names = list(reader.fieldnames or ())
        missing = [key for key, several in columns_of(names).items() if not several and key in wanted]
        known = " and ".join(f"{key} (or {', '.join(NAMES[key][1:])})" for key in missing)
        found = ", ".join(names) or "none"
        require(not missing, f"manifest {path} has no column {known}; its columns are: {found}")
        twice = sorted({name for name in names if names.count(name) > 1} - {""})
        require(not twice, f"manifest {path} has several columns {' and '.join(twice)}")
        for line in reader:
            extra = line.pop("", None)
            yield reader.line_num, "more fields than the header has" if extra else line
    except csv.Error as error:
        raise ConfigError(f"{path}:{reader.reader.line_num}: {error}") from None


def _jsonl_lines(text: str) -> Iterator[tuple[int, Any]]:
    for number, said in enumerate(text.split("\n"), 1):  # other line breaks, such as U+2028, may stand inside strings
        if said.strip(" \t\r"):
            try:
                line = json.loads(said)
                yield number, line if isinstance(line, dict) else f"{said.strip()[:60]} is no JSON object"
            except (ValueError, RecursionError) as error:
                yield number, f"no JSON: {error}"


def _entry(where: str, line: Any) -> Entry:
    """One entry from a mapping of columns, or from what is wrong with the line."""
    if isinstance(line, str):
        return Entry(where, "", problem=line)
    values = {key: "" if line.get(key) is None else line[key] for key in ("video", "caption", *COLUMNS)}
    text = {key: value if isinstance(value := values[key], str) else "" for key in ("video", "caption", "language")}
    name, caption = text["video"].strip(), " ".join(text["caption"].split())
    entry = Entry(where, name, caption, language=text["language"].strip())
    for language, value in (more := line.get("more", ())):
        if not isinstance(value, str):
            return _bad(entry, f"{MORE}{language} must be text, not {json.dumps(value)[:60]}")
    for key in text:
        if not isinstance(values[key], str):
            return _bad(entry, f"{key} must be text, not {json.dumps(values[key])[:60]}")
    numbers = {}
    for key, default in (("start", 0.0), ("end", math.inf)):
        try:
            numbers[key] = _seconds(values[key], default)
        except (ValueError, OverflowError):
            return _bad(entry, f"{key} {values[key]!r:.60} is no number of seconds")
    start, end = numbers["start"], numbers["end"]
    if not name:
        return _bad(entry, "video is empty")
    if not caption:
        return _bad(entry, "caption is empty")
    if any("\ud800" <= letter <= "\udfff" for letter in caption + entry.language + "".join(map("".join, more))):
        return _bad(entry, "its text holds half a character (a lone surrogate)")
    if not 0.0 <= start < math.inf:
        return _bad(entry, f"start {start:g} must be 0 or more seconds")
    if not end > start:
        return _bad(entry, f"end {end:g} must lie after start {start:g}")
    others = tuple((language, " ".join(value.split())) for language, value in more if value.strip())
    return Entry(where, name, caption, start, None if end == math.inf else end, entry.language, more=others)


def _seconds(value: object, default: float) -> float:
    if isinstance(value, str):
        return float(value) if value.strip() else default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return float(value)


def _bad(entry: Entry, problem: str) -> Entry:
    return Entry(entry.where, entry.video, entry.caption, language=entry.language, problem=problem)


def is_hidden(name: str) -> bool:
    """Whether files or folders of this name are no user's: .DS_Store, ._a.mp4, .git, what macOS puts into archives."""
    return name.startswith(".") or name == "__MACOSX"


def _lists(folder: Path, caption: str) -> list[Entry]:
    """Line n of videos.txt with line n of prompts.txt."""
    videos, texts = (read_text(folder / name).rstrip().split("\n") for name in LISTS)
    unequal = f"{folder}: {LISTS[0]} has {len(videos)} lines, {LISTS[1]} {len(texts)}; they must belong line by line"
    require(len(videos) == len(texts), unequal)
    lines = enumerate(zip(videos, texts, strict=True), 1)
    return [
        _entry(f"{LISTS[0]}:{number}", {"video": video, "caption": text if text.strip() else caption})
        for number, (video, text) in lines
    ]


def _folder(folder: Path, caption: str) -> list[Entry]:
    """Videos and pictures below a folder, by name; the caption of a/b.mp4 is all of a/b.txt, else `caption`."""
    found = [path for path in sorted(folder.rglob("*")) if not any(map(is_hidden, path.relative_to(folder).parts))]
    folders = {path for path in found if path.is_dir() and _sidecar(path).exists() and any(path.glob("*.png"))}
    films = {path.with_suffix("") for path in found if path.suffix.lower() in VIDEOS} | folders
    paths = [
        path
        for path in found
        if path in folders
        or (
            (path.suffix.lower() in VIDEOS + PICTURES and not path.is_dir() and not folders.intersection(path.parents))
            and not (path.suffix.lower() == ".png" and path.with_suffix("") in films)
        )  # the sheet of a video
    ]
    require(bool(paths), f"folder {folder} holds no videos")
    sidecars = any(_sidecar(path).exists() for path in paths)
    table = next((path for suffix in ("csv", "jsonl") for path in sorted(folder.glob(f"*.{suffix}"))), None)
    hint = f"; give {table} instead?" if table else ""
    hint = hint or "; --caption gives all of them one"
    require(sidecars or bool(caption), f"no video in {folder} has a .txt file with its caption beside it{hint}")
    entries = []
    for path in paths:
        name, sidecar = path.relative_to(folder).as_posix(), _sidecar(path)
        try:
            text = caption if caption and not sidecar.exists() else read_text(sidecar, SIDECAR)
            entries.append(_entry(name, {"video": name, "caption": text if text.strip() else caption}))
        except FileError as error:
            reason = f"there is no {sidecar.name}" if not sidecar.exists() else str(error)
            entries.append(Entry(name, name, problem=reason))
    return entries


def _sidecar(path: Path) -> Path:
    """The file of a video's caption."""
    return path.with_name(f"{path.name}.txt") if path.is_dir() else path.with_suffix(".txt")
