"""Checkpoints: one safetensors file each, whole or not at all, with a hash of its contents; the last few are kept."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cogstyle.errors import BundleError, FileError
from cogstyle.files import read_tensors, write_tensors

HASH = "sha256"  # of everything else in the file, in its metadata


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds, and what was found damaged before it."""

    path: Path
    tensors: dict[str, Tensor]
    meta: dict[str, str]
    damaged: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """The next step."""
        return int(self.meta["step"])


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / f"checkpoint-{step:08d}.safetensors"


def checkpoints(folder: Path) -> list[Path]:
    """Those in a run's folder, the oldest first."""
    return sorted(folder.glob("checkpoint-*.safetensors"))


def content_hash(tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> str:
    """sha256 of names, types, shapes and bytes of the tensors, and of the metadata without the hash itself."""
    figures = {name: meta[name] for name in sorted(meta) if name != HASH}
    whole = hashlib.sha256(json.dumps(figures).encode())
    for name in sorted(tensors):
        value = tensors[name].detach()
        whole.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        whole.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return whole.hexdigest()


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], meta: dict[str, str]) -> None:
    """
    Raises:
        FileError: if it cannot be written.
    """
    write_tensors(path, tensors, meta | {HASH: content_hash(tensors, meta)})


def read_checkpoint(path: Path) -> Checkpoint:
    """
    Raises:
        FileError: if it is missing or damaged: every bit counts.
    """
    tensors, meta = read_tensors(path)
    if HASH not in meta:
        raise BundleError(f"cannot read {path}: it carries no hash of its contents")
    if content_hash(tensors, meta) != meta[HASH]:
        raise BundleError(f"{path} is damaged: its contents are not what was written")
    return Checkpoint(path, tensors, meta)


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], meta: dict[str, str], *, keep: int) -> Path:
    """Write the checkpoint of step `meta["step"]`, then remove all but the last `keep`.

    Raises:
        FileError: if it cannot be written; those before it stay.
    """
    path = checkpoint_path(folder, int(meta["step"]))
    write_checkpoint(path, tensors, meta)
    for old in checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, and what was found damaged on the way; None if there is none at all.

    Raises:
        BundleError: if there are some, and none is whole.
    """
    damaged: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            found = read_checkpoint(path)
        except FileError as error:
            damaged.append(str(error))
            continue
        return Checkpoint(found.path, found.tensors, found.meta, tuple(damaged))
    if damaged:
        raise BundleError(f"no checkpoint in {folder} can be read: {damaged[0]}; name a new run, or remove the folder")
    return None


def peek(folder: Path) -> dict[str, str]:
    """The metadata of the newest checkpoint that opens, nothing of it checked; empty if there is none."""
    for path in reversed(checkpoints(folder)):
        with suppress(FileError):
            meta = read_tensors(path)[1]
            if HASH in meta:
                return meta
    return {}


def set_aside(folder: Path, after: Path) -> None:
    """Rename damaged checkpoints, those newer than `after`, so that they count no more."""
    for path in checkpoints(folder):
        if path > after:
            path.replace(path.with_name(f"{path.name}.damaged"))


def expect_room(folder: Path, size: int) -> None:
    """
    Raises:
        BundleError: if the disk of `folder` has less than `size` bytes left.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise BundleError(
            f"{folder} has {free / 1e9:.3f} GB left; the checkpoints of this run need {size / 1e9:.3f} GB"
        )
