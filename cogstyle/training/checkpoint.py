"""Checkpoints: one safetensors file each, whole or not at all; the last few are kept."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cogstyle.errors import BundleError, FileError
from cogstyle.files import read_tensors, write_tensors

BEFORE = "checkpoint.safetensors"  # what older versions wrote


def checkpoints(folder: Path) -> list[Path]:
    """Those in a run's folder, the oldest first."""
    return [path for path in [folder / BEFORE] if path.exists()] + sorted(folder.glob("checkpoint-*.safetensors"))


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], meta: dict[str, str], *, keep: int) -> Path:
    """Write the checkpoint of step `meta["step"]`, then remove all but the last `keep`.

    Raises:
        BundleError: if it cannot be written; those before it stay.
    """
    path = folder / f"checkpoint-{int(meta['step']):08d}.safetensors"
    write_tensors(path, tensors, meta)
    for old in checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Tensor], dict[str, str]] | None:
    """The newest checkpoint that can be read, its tensors and its figures; None if there is none at all.

    Raises:
        BundleError: if there are some, and none can be read.
    """
    damaged: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            return path, *read_tensors(path)
        except FileError as error:
            damaged.append(str(error))
    if damaged:
        raise BundleError(f"no checkpoint in {folder} can be read: {damaged[0]}")
    return None


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
