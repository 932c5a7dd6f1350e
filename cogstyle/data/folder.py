"""A folder of shards: that it is ours, how its parts are made, who writes them, of which videos."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from cogstyle.config import require
from cogstyle.data.shards import INDEX, Index, read_index
from cogstyle.errors import ConfigError, FileError
from cogstyle.files import fingerprint, write_bytes

WRITERS = ".writers"  # byte k of this file is locked by the process that writes part k
END = 1 << 20  # bytes at each end of a file that its content is known by


def _files(path: Path) -> list[Path]:
    """The files of a video: itself, or the pictures of a folder."""
    return sorted(path.glob("*.png")) if path.is_dir() else [path]


def content_of(path: Path) -> str:
    """A name for what a video shows: equal for copies. Of large files beginning, end and size must do."""
    digest = hashlib.sha256()
    for name in _files(path):
        with name.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(b"%d." % size + file.read(END))
            file.seek(max(size - END, file.tell()))
            digest.update(file.read(END))
    return digest.hexdigest()[:16]


def stamp(path: Path) -> str:
    """Changes when a video is replaced; "" if there is none."""
    with suppress(OSError, ValueError):
        return fingerprint([(found.st_size, found.st_mtime_ns) for found in map(os.stat, _files(path))])
    return ""


def check_folder(folder: Path) -> None:
    """Raise ConfigError or BundleError unless `folder` is new, empty, or one that encoding wrote."""
    try:
        if (folder / INDEX).exists():
            read_index(folder)
            return
        others = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot write to {folder}: {getattr(error, 'strerror', None) or error}") from None
    others = [name for name in others if not name.startswith(".")]
    require(not others, f"{folder} holds other files ({', '.join(others[:3])}): encode to a folder of its own")


def ensure_index(folder: Path, index: Index, *, retry: bool = False) -> None:
    """Write the index, or check that the one in the folder is the same.

    Args:
        retry: the manifest may have changed.

    Raises:
        ConfigError: naming the setting that differs.
    """
    if (folder / INDEX).exists():
        there = read_index(folder)
        for name in (field.name for field in fields(Index) if field.name not in ("contents", "entries")):
            old, new = getattr(there, name), getattr(index, name)
            said = f"the shards in {folder} have {name} {old}, this run {new}"
            require(old == new, f"{said}; encode to another folder")
        if there == index:
            return
        said = f"the shards in {folder} were made from another manifest (or it was changed)"
        require(retry, f"{said}; --retry encodes what changed again, or encode to another folder")
    write_bytes(folder / INDEX, json.dumps(asdict(index), indent=2).encode())


@contextmanager
def writing(folder: Path, parts: range) -> Iterator[None]:
    """Hold these parts of a folder for this process: others may write others. The lock dies with the process.

    Raises:
        ConfigError: if the folder cannot be made, or holds something else.
        FileError: if another process writes one of the parts.
    """
    check_folder(folder)
    path = folder / WRITERS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            file = path.open("ab")
            held = [_lock(file, part) for part in parts]
            if os.fstat(file.fileno()).st_nlink:  # else the last holder has just removed it
                break
            file.close()
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror or error}") from None
    with file:
        if not all(held):
            raise FileError(f"another process is writing {folder}: wait until it is done, or stop it")
        yield
        if _lock(file):  # nobody else holds any part
            path.unlink(missing_ok=True)


def _lock(file: Any, part: int | None = None) -> bool:
    """Whether a part, or all of them, are this process's now."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 0 if part is None else 1, part or 0)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return part is not None  # a file system without locks
    return True
