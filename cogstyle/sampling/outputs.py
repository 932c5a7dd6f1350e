"""Where videos go: what may be written, what is there already, and the files beside a video."""

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cogstyle import files
from cogstyle.errors import FileError, MediaError
from cogstyle.pictures import write_png
from cogstyle.sampling.token_file import SUFFIX, write_tokens
from cogstyle.video import Video, check_output

SHEET, PREVIEW, JSON, PART = ".png", ".preview.png", ".json", ".part"
IDENTITY = ("prompt", "options", "decoder", "stages", "text_ids", "files", "dtype", "given_sha256")


@dataclass(frozen=True)
class Output:
    """Where a video goes, and what goes beside it.

    Args:
        sides: suffixes of what is written beside it, of SHEET, SUFFIX (tokens) and PREVIEW.
        join: begin with the frames of the video that it continues.
    """

    path: Path
    sides: tuple[str, ...] = ()
    join: bool = False

    @property
    def part(self) -> Path:
        """What is there of the video while it is made."""
        return beside(self.path, PART)


def beside(out: Path, suffix: str) -> Path:
    """A file beside a video."""
    return out.with_name(out.name + suffix)


def sidecar(out: Path) -> Path:
    """The json beside a video; it is written last, so a video with its json is whole."""
    return beside(out, JSON)


def inside(folder: Path, out: str) -> Path:
    """A place inside `folder` that a video can have.

    Raises:
        MediaError: if it is none.
    """
    path = Path(out)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise MediaError(f"out {out!r:.80} must name a place inside the output folder")
    check_output(path)
    return check_output(folder / path)


def check_written(out: Path, *, sides: Iterable[str] = (), inputs: Iterable[Path] = ()) -> None:
    """Refuse what would overwrite anything that is not ours.

    Ours is a video (or picture) with its json, or with what a stopped run left; and beside it what the json names.

    Args:
        sides: suffixes of what is written beside the video.
        inputs: files that are read.

    Raises:
        MediaError: naming what is in the way.
    """
    try:
        _check_written(out, {JSON, *sides}, [path.resolve() for path in inputs])
    except (OSError, ValueError) as error:
        raise MediaError(f"cannot write {out}: {getattr(error, 'strerror', None) or error}") from None


def _check_written(out: Path, sides: set[str], inputs: list[Path]) -> None:
    written = {out: "", **{beside(out, suffix): suffix for suffix in sorted(sides)}}
    info = read_sidecar(out)
    begun = info is None and beside(out, PART).exists()  # stopped before the json was written
    known = {"", JSON, *info.get("beside", ())} if info is not None else set(written.values()) if begun else set()
    for path, suffix in written.items():
        if path.resolve() in inputs:
            raise MediaError(f"{path} is read and would be written: name another file")
        if suffix not in known and os.path.lexists(path):
            raise MediaError(f"{path} is there and not known to be ours: move it, or name another file")
    place = next(folder for folder in out.absolute().parents if folder.exists())
    with tempfile.TemporaryFile(dir=place):  # raises what writing there would raise
        pass


def read_sidecar(out: Path) -> dict[str, Any] | None:
    """The json that was written beside a video of ours, None without one."""
    with suppress(FileError, ValueError, RecursionError):
        info = json.loads(files.read_text(sidecar(out)))
        if isinstance(info, dict) and isinstance(info.get("frames"), int) and "fps" in info:
            return info
    return None


def changes(out: Path, identity: Mapping[str, Any], sides: Iterable[str]) -> list[str] | None:
    """What differs between the video that is there and the one asked for; [] if nothing does, None if none is there."""
    info = read_sidecar(out)
    if info is None or not out.exists():
        return None
    found = [key for key in IDENTITY if info.get(key) != identity.get(key)]
    return found + [f"FILE{suffix}" for suffix in sides if not beside(out, suffix).exists()]


def write_preview(out: Path, frames: np.ndarray) -> None:
    """The frames so far, side by side, as FILE.preview.png."""
    write_png(beside(out, PREVIEW), Video(frames, 1.0).contact_sheet())


def write_video(out: Path, video: Video, sides: Iterable[str] = ()) -> None:
    """A video and what goes beside it; the json is the last, and lists the files beside.

    Args:
        sides: of SHEET, SUFFIX (tokens) and PREVIEW (which is there already).

    Raises:
        MediaError, FileError: if one cannot be written.
    """
    before = (read_sidecar(out) or {}).get("beside", ())
    video.save(out)
    if SHEET in sides:
        write_png(beside(out, SHEET), video.contact_sheet(scale=1 if video.info["options"]["upscale"] else 2))
    if SUFFIX in sides:
        write_tokens(beside(out, SUFFIX), video)
    there = sorted({*sides, *(suffix for suffix in before if beside(out, suffix).exists())})
    write_json(out, {**video.info, "frames": len(video.frames), "beside": there})


def write_json(out: Path, info: Mapping[str, Any]) -> None:
    """The json beside a video; names that are not UTF-8 are escaped."""
    text = json.dumps(info, ensure_ascii=False, indent=1)
    files.write_bytes(sidecar(out), text.encode(errors="backslashreplace"))
