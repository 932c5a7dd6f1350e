"""Texts and what each should become: a table (CSV or JSONL) of captions and other ways to say them."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogstyle.config import require
from cogstyle.data.manifest import NAMES
from cogstyle.errors import ConfigError
from cogstyle.files import read_text

PHRASINGS = ("caption_", "paraphrase")  # begin the names of columns with other ways to say the caption
Pair = tuple[str, str]  # as somebody says it, as the weights know it


@dataclass(frozen=True)
class Phrased:
    """A caption and other ways to say it."""

    caption: str
    phrasings: tuple[str, ...]

    @property
    def pairs(self) -> list[Pair]:
        """Each phrasing, and the caption as it is."""
        return [(said, self.caption) for said in (*self.phrasings, self.caption)]


def read_phrasings(path: Path) -> list[Phrased]:
    """The captions of a table, each with the phrasings of its own columns; a JSONL cell may be a list of them.

    Raises:
        ConfigError: naming the file, and the line if there is one, for what is no such table.
        FileError: for a file that cannot be read or is not UTF-8.
    """
    require(path.suffix in (".csv", ".jsonl"), f"pairs {path} must be a .csv or .jsonl file")
    found: dict[str, dict[str, None]] = {}
    for number, line in (_csv_lines if path.suffix == ".csv" else _jsonl_lines)(path):
        where = f"{path}:{number}"
        names = [name for name in NAMES["caption"] if name in line]
        require(bool(names), f"{where}: no caption (or {', '.join(NAMES['caption'][1:])})")
        texts = [_texts(line[names[0]], where), *(_texts(line[name], where) for name in line if _is_phrasing(name))]
        require(len(texts[0]) == 1, f"{where}: {names[0]} must be one text")
        found.setdefault(texts[0][0], {}).update(dict.fromkeys(text for several in texts[1:] for text in several))
    columns = " and ".join(f"{name}..." for name in PHRASINGS)
    require(any(found.values()), f"{path} has no phrasings: name their columns {columns}")
    return [Phrased(caption, tuple(said)) for caption, said in found.items()]


def _is_phrasing(name: Any) -> bool:
    return isinstance(name, str) and name.startswith(PHRASINGS)


def _texts(value: Any, where: str) -> list[str]:
    several = value if isinstance(value, list) else [] if value is None else [value]
    for text in several:
        require(isinstance(text, str), f"{where}: {text!r:.60} is no text")
    return [" ".join(text.split()) for text in several if text.strip()]


def _csv_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for line in reader:
            yield reader.line_num, line
    except csv.Error as error:
        raise ConfigError(f"{path}:{reader.line_num}: {error}") from None


def _jsonl_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, text in enumerate(read_text(path).split("\n"), 1):
        if text.strip():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"{path}:{number}: no JSON: {error}") from None
            require(isinstance(line, dict), f"{path}:{number}: {text[:60]!r} is no JSON object")
            yield number, line
