"""Files that are written whole or not at all: bytes, tensors (safetensors)."""

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cogstyle.errors import BundleError, FileError

SAFETENSORS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


SCRATCH = ".scratch"  # ends the names of files that are being written: `.NAME.RANDOM.scratch`
LARGEST_TEXT = 1 << 28  # bytes of a manifest, a prompts file
LARGEST_TOML = 1 << 20  # bytes of a recipe, a bundle's manifest


@contextmanager
def whole_file(path: Path, *, final: Callable[[Path], Path] | None = None) -> Iterator[BinaryIO]:
    """Open a file to write; it takes its name only if the block ends without an error.

    Every writer has a scratch file of its own, locked while it writes: what a killed one left behind is known by
    its missing lock and removed by the next writer of the same file.

    Args:
        final: says the name when the file is complete (a path beside `path`), from its scratch file.

    Raises:
        FileError: naming the file, if it cannot be written.
    """
    try:
        _remove_abandoned(path)
        file, scratch = _new_scratch(path)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # or the name could outlive a power cut, and the bytes not
                os.replace(scratch, path if final is None else final(scratch))
            _sync(path.parent)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from None


@contextmanager
def whole_folder(path: Path, *, remove: Callable[[Path], object] | None = None) -> Iterator[Path]:
    """Make a folder to fill; it takes its name only if the block ends without an error and the name is free.

    Args:
        remove: takes away the folder that has the name, once the new one is complete, and what killed writers left.

    Raises:
        FileError: naming the folder, if it exists (and nothing removes it) or cannot be written.
    """
    try:
        if remove is None and os.path.lexists(path):
            raise FileError(f"{path} exists; name a new folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path, remove or shutil.rmtree)
        scratch = Path(tempfile.mkdtemp(SCRATCH, _scratch_prefix(path), path.parent))
        try:
            with one_writer(scratch):
                yield scratch
                for entry in scratch.rglob("*"):
                    _sync(entry)
                scratch.chmod(0o777 & ~_umask())
                if remove is not None:
                    remove(path)
                os.rename(scratch, path)  # fails if there is something now
            _sync(path.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from None


def _new_scratch(path: Path) -> tuple[BinaryIO, Path]:
    """A locked file beside `path`."""
    while True:
        number, name = tempfile.mkstemp(SCRATCH, _scratch_prefix(path), path.parent)
        file = os.fdopen(number, "wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(number).st_nlink:  # else another writer took it for abandoned before it was locked
            os.fchmod(number, 0o666 & ~_umask())
            return file, Path(name)
        file.close()


def _scratch_prefix(path: Path) -> str:
    return f".{os.fsdecode(os.fsencode(path.name)[:100])}."


def _remove_abandoned(path: Path, remove_folder: Callable[[Path], object] = shutil.rmtree) -> None:
    """Remove scratch files and folders of this path that no process holds any more."""
    prefix = _scratch_prefix(path)
    for entry in os.scandir(path.parent):
        if entry.name.startswith(prefix) and entry.name.endswith(SCRATCH) and not entry.is_symlink():
            with suppress(OSError):
                number = os.open(entry.path, os.O_RDONLY | os.O_NONBLOCK)
                try:
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while somebody writes it
                    remove_folder(Path(entry.path)) if entry.is_dir() else os.unlink(entry.path)
                finally:
                    os.close(number)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems cannot
            os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Lock `folder` for this process; the lock dies with the process. It cannot be nested.

    Raises:
        FileError: if another process holds it, or there is no such folder.
    """
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise FileError(f"cannot write into {folder}: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileError(f"another process is writing {folder}: wait until it is done, or stop it") from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(number)


def is_file(path: Path) -> bool:
    """Whether `path` is a file or a link to one; False for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def expect_regular(path: Path, limit: int | None = None) -> Path:
    """Validate that `path` is a regular file, and return it.

    Args:
        limit: the most bytes it may have.

    Raises:
        FileError: for a missing file, a folder, pipe or device, a file of /proc or /sys, or one over the limit.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise FileError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or device"
        raise FileError(f"cannot read {path}: it is {kind}, not a file")
    if found.st_dev in _kernel_devices():
        raise FileError(f"cannot read {path}: it is a window into the kernel, not a file")
    if limit is not None and found.st_size > limit:
        raise FileError(f"cannot read {path}: {found.st_size:,} bytes, at most {limit:,} are read")
    return path


def _kernel_devices() -> set[int]:
    return {os.stat(place).st_dev for place in ("/proc", "/sys") if os.path.ismount(place)}


def read_text(path: Path, limit: int = LARGEST_TEXT) -> str:
    """A text file in UTF-8, without its byte order mark.

    Raises:
        FileError: naming the file, if it cannot be read, is too large, or is not UTF-8 (with the line).
    """
    data = read_bytes(path, limit)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise FileError(f"{path}, line {line}: byte {data[error.start]:#04x} is not UTF-8") from None


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file, with or without a byte order mark.

    Raises:
        FileError: naming the file, if it cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(read_text(path, LARGEST_TOML))
    except (ValueError, RecursionError) as error:
        raise FileError(f"cannot read {path}: {error}") from None


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with whole_file(path) as file:
        file.write(data)


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """All of a file.

    Args:
        limit: the most bytes it may have.

    Raises:
        FileError: naming the file, if it cannot be read; see `expect_regular`.
    """
    try:
        return expect_regular(path, limit).read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    meta: dict[str, str] | None = None,
    *,
    progress: Callable[[int], None] = lambda size: None,
    final: Callable[[Path], Path] | None = None,
) -> None:
    """Write a safetensors file, one tensor after the other: mapped ones are never in memory together.

    Args:
        progress: called with the bytes of every tensor that is written.
        final: as `whole_file` takes it.
    """
    header: dict[str, Any] = {"__metadata__": meta} if meta else {}
    end = 0
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # keeps every tensor aligned
    for name in names:
        value = tensors[name]
        start, end = end, end + value.numel() * value.element_size()
        header[name] = {"dtype": SAFETENSORS[value.dtype], "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path, final=final) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            flat = tensors[name].detach().cpu().contiguous().flatten()
            file.write(flat.view(torch.uint8).numpy().data)
            progress(flat.numel() * flat.element_size())


def read_tensors(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors, memory-mapped, and the metadata of a safetensors file.

    Raises:
        BundleError: if the file is missing or damaged.
    """
    expect_regular(path)
    try:
        with safe_open(path, "pt", device) as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BundleError(f"cannot read {path}: {error}") from None


def sha256(path: Path) -> str:
    """Hex digest of a file.

    Raises:
        FileError: if it cannot be read.
    """
    expect_regular(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error}") from None


def human(size: float) -> str:
    """Bytes with a unit."""
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def fingerprint(*parts: object) -> str:
    """A short name for what these values together make: a data set, or a video that was begun."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:10]
