"""What there is of a video before it is whole: shown while it grows, and kept in a file to go on from after a stop."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cogstyle.errors import BundleError, MediaError
from cogstyle.files import read_tensors, write_tensors


@dataclass(frozen=True)
class PartialVideo:
    """What there is of a batch of videos: tokens [B, F, L] in the order of time, after `level` refinements.

    Without `whole` it is the first keyframes, and more are to come.
    """

    tokens_BFL: Tensor
    level: int = 0
    whole: bool = False
    numbers: tuple[int, ...] | None = None  # which frames of the whole video were given; None: evenly spaced ones


def write_part(path: Path, tokens_FL: Tensor, part: PartialVideo, mark: str) -> None:
    """Write one video of a part, whole or not at all.

    Raises:
        MediaError: if its folder cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"cannot write {path}: {error}") from None
    meta = {"mark": mark, "level": str(part.level), "whole": str(int(part.whole))}
    meta |= {} if part.numbers is None else {"numbers": json.dumps(part.numbers)}
    write_tensors(path, {"tokens": tokens_FL.to(torch.int32).cpu()}, meta)


def read_part(path: Path, mark: str) -> PartialVideo:
    """Read what write_part wrote, as a part of one video.

    Raises:
        BundleError: if the file is damaged, or was begun with another prompt, other options or other weights.
    """
    tensors, meta = read_tensors(path)
    try:
        numbers = tuple(map(int, json.loads(meta["numbers"]))) if "numbers" in meta else None
        part = PartialVideo(tensors["tokens"].long()[None], int(meta["level"]), bool(int(meta["whole"])), numbers)
    except (KeyError, ValueError, TypeError):
        raise BundleError(f"{path} is no part of a video") from None
    if meta.get("mark") != mark:
        raise BundleError(f"{path} was begun with another prompt, options or weights; remove it to start anew")
    return part


def together(parts: Sequence[PartialVideo]) -> PartialVideo:
    """Parts of several videos, equally far, as one."""
    return replace(parts[0], tokens_BFL=torch.cat([part.tokens_BFL for part in parts]))
