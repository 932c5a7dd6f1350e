"""The folder of a report: report.json grows part by part, report.md says it in tables, a stopped report resumes."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cogstyle.config import require
from cogstyle.errors import ConfigError, FileError
from cogstyle.files import one_writer, read_text, write_bytes

JSON, MARKDOWN = "report.json", "report.md"


@contextmanager
def report_folder(folder: Path) -> Iterator[None]:
    """The folder, made if it is not there, with this process as its only writer.

    Raises:
        FileError: if it cannot be written, or another process does.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise FileError(f"cannot write into {folder}: {getattr(error, 'strerror', None) or error}") from None
    with one_writer(folder):
        yield


def open_report(folder: Path, made: dict[str, Any]) -> dict[str, Any]:
    """The report in `folder` as far as it is, if it was made with the same settings; a new one in a new folder.

    Args:
        made: weights and settings: everything that its figures depend on.

    Raises:
        ConfigError: naming what differs, for a report made otherwise, or a folder of something else.
    """
    path = folder / JSON
    if not path.exists():
        others = [name for name in sorted(os.listdir(folder)) if not name.startswith(".")]
        require(not others, f"{folder} holds other files ({', '.join(others[:3])}): give another --out")
        return {"made": made, "parts": {}}
    try:
        report: dict[str, Any] = json.loads(read_text(path))
        theirs = dict(report["made"])
        if not isinstance(report["parts"], dict):
            raise TypeError
    except (KeyError, TypeError, RecursionError):
        raise ConfigError(f"{path} is no report of cogstyle evaluate: give another --out") from None
    except (FileError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}; remove it to start anew") from None
    differing = [key for key in sorted({*theirs, *made}) if theirs.get(key) != made.get(key)]
    short = [f"{key} ({theirs.get(key)}, now {made.get(key)})" for key in differing]
    said = ", ".join(text if len(text) < 80 else key for text, key in zip(short, differing, strict=True))
    require(not differing, f"{path} is a report of other {said}: give another --out, or remove the old one")
    return report


def write_report(folder: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Write report.json; the report as it reads back from it."""
    text = json.dumps(report, ensure_ascii=False, indent=1, default=_plain)
    write_bytes(folder / JSON, text.encode())
    return dict(json.loads(text))


def _plain(value: object) -> object:
    """What JSON does not know: numbers of numpy."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value)} in a report")
