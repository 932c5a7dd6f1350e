"""Folders of videos as clips: what is there, of which classes, and the frames of each."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cogstyle.config import require
from cogstyle.errors import MediaError
from cogstyle.video import SUFFIXES, open_video

FILMS = (*SUFFIXES, ".avi", ".mov", ".mkv", ".webm")
BALANCE = 0.02  # largest difference between the shares that a class has on both sides


@dataclass
class Source:
    """A folder of videos: which files, of which class each, and what was met while reading them."""

    folder: Path
    files: list[Path]
    classes: list[str]  # one a file; empty where files lie in the folder itself
    frames: Counter[int] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    rates: Counter[str] = field(default_factory=Counter)

    def clips(self) -> Iterator[np.ndarray]:
        """The frames of each video, uint8 [F, height, width, 3]."""
        for path in self.files:
            frames, fps = read_frames(path)
            self.frames[len(frames)] += 1
            self.sizes[f"{frames.shape[2]} x {frames.shape[1]}"] += 1
            self.rates["unknown" if fps is None else f"{fps:g}"] += 1
            yield frames

    def record(self) -> dict[str, Any]:
        """What was read: number of videos, of each class, of each length, size and rate."""
        counts: dict[str, Counter[Any]] = {
            "classes": Counter(self.classes),
            "frames": self.frames,
            "sizes": self.sizes,
            "fps": self.rates,
        }
        return {
            "videos": len(self.files),
            **{name: {str(key): n for key, n in sorted(counter.items())} for name, counter in counts.items()},
        }


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in FILMS if path.is_file() else path.is_dir() and any(path.glob("*.png"))


def find_videos(folder: Path) -> Source:
    """All videos of a folder; those in subfolders have these as their class. A folder of PNG files is a video.

    Raises:
        MediaError: if there are none.
    """
    if not folder.is_dir():
        raise MediaError(f"no folder {folder}")
    found: list[tuple[Path, str]] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if _is_video(path):
            found.append((path, ""))
        elif path.is_dir():
            found += [(inner, path.name) for inner in sorted(path.iterdir()) if _is_video(inner)]
    if not found:
        raise MediaError(f"no videos in {folder}: looked for {', '.join(FILMS)} and folders of .png")
    return Source(folder, [path for path, _ in found], [name for _, name in found])


def read_frames(path: Path) -> tuple[np.ndarray, float | None]:
    """All frames of a video, uint8 [F, height, width, 3], and frames a second where the file says so.

    Raises:
        MediaError: if it cannot be read, or has no frames, or frames of several sizes.
    """
    with open_video(path) as video:
        frames, rate = list(video.frames()), video.rate
    if not frames or len({frame.shape for frame in frames}) > 1:
        raise MediaError(f"cannot read video {path}: {len(frames)} frames, which must be some, of one size")
    return np.stack(frames), rate


def check_balance(real: Mapping[str, int], fake: Mapping[str, int]) -> None:
    """Both sides must show the classes (name: videos) in equal shares: else FVD measures which classes, not how well.

    Raises:
        ConfigError: naming the class that differs most.
    """
    if not (set(real) | set(fake)) - {""}:
        return
    shares = {
        name: tuple(counts.get(name, 0) / sum(counts.values()) for counts in (real, fake))
        for name in sorted(set(real) | set(fake))
    }
    name, (a, b) = max(shares.items(), key=lambda item: abs(item[1][0] - item[1][1]))
    require(
        abs(a - b) <= BALANCE,
        f"class {name or '(none)'!r} is {100 * a:.1f} % of the real videos and {100 * b:.1f} % of the others; "
        f"at most {100 * BALANCE:g} points apart, or --any-balance",
    )
