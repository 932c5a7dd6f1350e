"""Folders of videos as clips: what is there, of which classes, and the frames of each."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cogstyle.config import require
from cogstyle.data.manifest import VIDEOS, is_hidden
from cogstyle.errors import MediaError
from cogstyle.pictures import natural
from cogstyle.video import open_video

BALANCE = 0.02  # largest difference between the shares that a class has on both sides


@dataclass
class VideoFolder:
    """A folder of videos: which files, of which class each, and what was met while reading them."""

    folder: Path
    files: list[Path]
    classes: list[str]  # one a file; empty where files lie in the folder itself
    frames: Counter[int] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    rates: Counter[str] = field(default_factory=Counter)
    codecs: Counter[str] = field(default_factory=Counter)

    def clips(self) -> Iterator["Film"]:
        """Each video; what is met is known once it has been read to its end."""
        for path in self.files:
            film = Film(path)
            yield film
            self.frames[film.length] += 1
            self.sizes[film.size] += 1
            self.rates["unknown" if film.rate is None else f"{film.rate:g}"] += 1
            self.codecs[film.codec] += 1

    def record(self) -> dict[str, Any]:
        """What was read: number of videos, of each class, of each length, size, rate and codec."""
        counts: dict[str, Counter[Any]] = {
            "classes": Counter(self.classes),
            "frames": self.frames,
            "sizes": self.sizes,
            "fps": self.rates,
            "codecs": self.codecs,
        }
        return {
            "videos": len(self.files),
            **{name: {str(key): n for key, n in sorted(counter.items())} for name, counter in counts.items()},
        }


class Film:
    """The frames of a video, uint8 [height, width, 3], upright as training sees them; read anew by each loop.

    Raises:
        MediaError: if it cannot be read, or has no frames, or frames of several sizes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.length, self.size, self.codec = 0, "", ""
        self.rate: float | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        with open_video(self.path) as video:
            self.length, self.rate, self.codec, shape = 0, video.rate, video.codec, None
            for frame in video.frames():
                if shape not in (None, frame.shape):
                    sizes = " and ".join(f"{one[1]} x {one[0]}" for one in (shape, frame.shape))
                    raise MediaError(f"cannot read video {self.path}: its frames are of several sizes ({sizes})")
                shape = frame.shape
                self.length += 1
                yield frame
        if shape is None:
            raise MediaError(f"cannot read video {self.path}: it has no frames")
        self.size = f"{shape[1]} x {shape[0]}"


def _is_video(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() in VIDEOS
    inside = [inner for inner in path.iterdir() if not is_hidden(inner.name)] if path.is_dir() else []
    numbered = [inner for inner in inside if inner.suffix.lower() == ".png" and any(map(str.isdecimal, inner.name))]
    return bool(numbered) and not any(inner.is_dir() or inner.suffix.lower() in VIDEOS for inner in inside)


def find_videos(folder: Path) -> VideoFolder:
    """All videos of a folder; those in subfolders have these as their class.

    A folder of numbered PNG files is a video, unless videos lie in it too: then they are contact sheets of these.

    Raises:
        MediaError: if there are none.
    """
    if not folder.is_dir():
        raise MediaError(f"no folder {folder}")
    found: list[tuple[Path, str]] = []
    for path in _visible(folder):
        if _is_video(path):
            found.append((path, ""))
        elif path.is_dir():
            found += [(inner, path.name) for inner in _visible(path) if _is_video(inner)]
    if not found:
        raise MediaError(f"no videos in {folder}: looked for {', '.join(VIDEOS)} and folders of numbered .png")
    return VideoFolder(folder, [path for path, _ in found], [name for _, name in found])


def _visible(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if not is_hidden(path.name)), key=natural)


def check_balance(real: Mapping[str, int], fake: Mapping[str, int]) -> None:
    """Validate that both sides show the classes (name: videos) in equal shares; else FVD measures which, not how well.

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
