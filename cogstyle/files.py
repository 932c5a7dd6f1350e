"""Files that are written whole or not at all: bytes, tensors (safetensors), TOML."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cogstyle.errors import BundleError

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write; it takes its name only when the block ends well.

    Raises:
        BundleError: naming the file, if it cannot be written.
    """
    scratch = path.with_name(path.name + ".part")
    try:
        with scratch.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or the name could outlive a power cut, and the bytes not
        os.replace(scratch, path)
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error}") from None
    finally:
        scratch.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with whole_file(path) as file:
        file.write(data)


def read_bytes(path: Path) -> bytes:
    """All of a file.

    Raises:
        BundleError: naming the file, if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error}") from None


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    meta: dict[str, str] | None = None,
    *,
    progress: Callable[[int], None] = lambda size: None,
) -> None:
    """Write a safetensors file, one tensor after the other: memory-mapped ones never meet in memory.

    Args:
        progress: told the bytes of every tensor that is written.
    """
    header: dict[str, Any] = {"__metadata__": meta} if meta else {}
    end = 0
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # keeps every tensor aligned
    for name in names:
        value = tensors[name]
        start, end = end, end + value.numel() * value.element_size()
        header[name] = {"dtype": DTYPES[value.dtype], "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as file:
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
    try:
        with safe_open(path, "pt", device) as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BundleError(f"cannot read {path}: {error}") from None


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error}") from None


def fingerprint(*parts: object) -> str:
    """A short name for what these values together make: a data set, or a video that was begun."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:10]


def to_toml(table: Mapping[str, Any], path: str = "") -> str:
    """Nested tables of strings, numbers, booleans and lists of numbers as TOML."""
    lines, tables = [], []
    for key, value in table.items():
        name = key if key.replace("_", "").isalnum() else f'"{key}"'
        if isinstance(value, Mapping):
            inner = f"{path}{name}"
            tables.append(f"\n[{inner}]\n{to_toml(value, inner + '.')}")
        elif isinstance(value, bool):
            lines.append(f"{name} = {str(value).lower()}\n")
        elif isinstance(value, str):
            escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            lines.append(f'{name} = "{escaped}"\n')
        else:
            lines.append(f"{name} = {list(value) if isinstance(value, tuple) else value}\n")
    return "".join(lines + tables)
