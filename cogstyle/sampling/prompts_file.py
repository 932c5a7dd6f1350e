"""JSON Lines of prompts: one object a line, each checked on its own."""

import json
from pathlib import Path
from typing import Any

from cogstyle.config import require
from cogstyle.errors import ConfigError
from cogstyle.files import LARGEST_TEXT, read_bytes

KEYS = ("prompt", "out", "frame_rate", "seed", "guidance", "negative_prompt", "levels", "first_frame")
BOM = b"\xef\xbb\xbf"


def read_lines(path: Path) -> list[tuple[int, bytes]]:
    """Number and bytes of every line that is not blank; only a line feed ends a line.

    Raises:
        FileError: if the file cannot be read.
    """
    lines = read_bytes(path, LARGEST_TEXT).removeprefix(BOM).split(b"\n")
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def parse_line(line: bytes, number: int, folder: Path) -> dict[str, Any]:
    """What a line says; keys that are null are left out. Without `out` the line's number names the file.

    Args:
        folder: of the file: what a relative `first_frame` is relative to.

    Raises:
        ConfigError: if it is no object of the known keys, or a text is none.
    """
    try:
        text = line.decode()
        found = json.loads(text, parse_constant=_no_number, object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        raise ConfigError(f"byte {error.start + 1} ({line[error.start]:#04x}) is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not JSON: {error}") from None
    require(isinstance(found, dict), f"must be a JSON object, not {text[:40]!r}")
    unknown = sorted(set(found) - set(KEYS))
    require(not unknown, f"unknown key {', '.join(unknown)}; known are {', '.join(KEYS)}")
    given = {key: value for key, value in found.items() if value is not None}
    require("prompt" in given, "missing key prompt")
    for key in ("prompt", "out", "first_frame"):
        value = given.get(key, "")
        require(isinstance(value, str), f"{key} must be a text, not {value!r:.60}")
    if "first_frame" in given:
        given["first_frame"] = folder / Path(given["first_frame"]).expanduser()
    return {"out": f"{number:04d}.mp4", **given}


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object none of whose keys is said twice."""
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return table
