"""Pictures to train an image tokenizer on, from any pictures and videos: decoded once, drawn at random from then on.

Every file becomes a few squares, at most `ZOOM` times as large as a frame: a picture is cut along its longer side, a
video gives short clips spread over it. They lie in one memory-mapped file; a draw is a crop, a resize and a flip.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from cogstyle.config import require
from cogstyle.data.manifest import PICTURES, VIDEOS, is_hidden, read_manifest
from cogstyle.errors import CogstyleError, ConfigError
from cogstyle.files import fingerprint, one_writer, read_text, whole_file, write_bytes
from cogstyle.pictures import read_picture
from cogstyle.video import open_video

ZOOM = 3  # times a frame's side: the largest square that is kept, and the closest that a crop looks
UNSEEN = 0.25  # the most of a picture, in shorter sides, that its squares may leave out
CLIP, CLIP_RATE = 5, 4.0  # frames of a clip out of a video, and how many a second
MOST_CLIPS, MOST_A_VIDEO = 2000, 12  # of videos beyond these every second, third, ... is read
MOST_PICTURES = 10_000
MOVING_RATES = (2.0, 4.0, 8.0, 16.0, 32.0)  # frames a second of moving clips: as sampled videos have
HELD_BACK = 0.1  # share of the pictures (never the same one in another size) and videos that nothing trains on
ALIKE = 0.97  # correlation of two thumbnails that show one picture
THUMBNAIL = 16  # pixels of a thumbnail's side


class Footage:
    """Squares of pictures and videos.

    Args:
        sources: folders of pictures and videos, or manifests (.csv, .jsonl) that name them.
        size: pixels along the side of a frame.
        cache: folder for what is decoded.
        shares: how often each source is drawn from; default: all alike.
        say: called with which files were left out.

    Raises:
        ConfigError: naming a source without pictures, or with none that can be read and is as large as a frame.
    """

    def __init__(
        self,
        sources: Sequence[Path],
        *,
        size: int,
        cache: Path,
        shares: Sequence[float] = (),
        quiet: bool = False,
        say: Callable[[str], Any] = tqdm.write,
    ) -> None:
        self.size = size
        self.shares = np.array(shares or [1.0] * len(sources)) / sum(shares or [1.0] * len(sources))
        squares = [Squares(source, size=size, cache=cache, quiet=quiet, say=say) for source in sources]
        self.videos = {
            held: [path for found in squares for path in found.videos(held_back=held)] for held in (False, True)
        }
        self.training = [found.chosen(held_back=False) for found in squares]
        self.held_back = [found.chosen(held_back=True) for found in squares]

    def draw(self, rng: np.random.Generator, count: int, *, held_back: bool = False) -> np.ndarray:
        """uint8 [count, size, size, 3]: random moments, crops, zooms and flips of random files."""
        sets = self.held_back if held_back else self.training
        return np.stack([self._view(rng, sets[rng.choice(len(sets), p=self.shares)]) for _ in range(count)])

    def _view(self, rng: np.random.Generator, files: list[list[np.ndarray]]) -> np.ndarray:
        squares = files[rng.integers(len(files))]
        whole = squares[rng.integers(len(squares))]
        side = round(self.size * (len(whole) / self.size) ** rng.random())
        y, x = rng.integers(len(whole) - side + 1, size=2)
        view = resize(whole[y : y + side, x : x + side], self.size)
        return view[:, ::-1] if rng.random() < 0.5 else view

    def whole(self, count: int) -> np.ndarray:
        """uint8 [at most count, size, size, 3]: held-back squares as they are, the files evenly chosen."""
        found = [resize(squares[0], self.size) for files in self.held_back for squares in files]
        return np.stack(found[:: -(-len(found) // count)])

    def clips(self, count: int) -> np.ndarray:
        """uint8 [at most count, CLIP, size, size, 3]: held-back clips, [0, ...] without videos."""
        found = [
            np.stack([resize(frame, self.size) for frame in squares[:CLIP]])
            for files in self.held_back
            for squares in files
            if isinstance(squares, Frames)
        ]
        return np.stack(found[:count]) if found else np.zeros((0, CLIP, self.size, self.size, 3), np.uint8)

    def moving(
        self, rng: np.random.Generator, count: int, frames: int, *, held_back: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Random clips of the videos, uint8 [count, frames, size, size, 3], and the frames a second of each, [count].

        Raises:
            ConfigError: if there are no videos.
        """
        videos, clips, rates_B = self.videos[held_back], [], np.zeros(count)
        require(bool(videos), "moving pictures are wanted, and this footage has no video to take them from")
        for b in range(count):
            with open_video(videos[rng.integers(len(videos))]) as video:
                rates_B[b] = MOVING_RATES[rng.integers(len(MOVING_RATES))]
                start = rng.uniform(0.0, max(0.0, video.last - (frames - 1) / rates_B[b]))
                times = [min(start + k / rates_B[b], video.last) for k in range(frames)]
                clips.append(np.stack(list(video.frames_at(times, self.size))))
        return np.stack(clips), rates_B


class Frames(list[np.ndarray]):
    """The squares of a video: clips of CLIP frames, one after the other."""


def resize(square_HWC: np.ndarray, size: int) -> np.ndarray:
    """A square at another, not larger size."""
    if len(square_HWC) == size:
        return np.ascontiguousarray(square_HWC)
    return cv2.resize(np.ascontiguousarray(square_HWC), (size, size), interpolation=cv2.INTER_AREA)


def files_of(source: Path, say: Callable[[str], Any] = lambda text: None) -> list[Path]:
    """The pictures and videos below a folder or in a manifest, by name; of very many some, evenly, which is said.

    Raises:
        ConfigError: if there are none.
    """
    if source.is_dir():
        hidden = [path for path in source.rglob("*") if path.suffix.lower() in PICTURES + VIDEOS]
        parts = [(path, path.relative_to(source).parts) for path in hidden]
        found = [p for p, names in parts if not any(map(is_hidden, names))]
        require(bool(found), f"footage {source} holds no pictures and no videos ({', '.join(PICTURES + VIDEOS)})")
    else:
        require(source.exists(), f"footage {source} does not exist")
        manifest = read_manifest(source)
        found = [manifest.folder / entry.video for entry in manifest.entries if entry.video]
        require(bool(found), f"footage {source} names no pictures and no videos")
    paths = sorted(set(found))
    videos = {path for path in paths if path.suffix.lower() in VIDEOS}
    taken = _thin([path for path in paths if path not in videos], MOST_PICTURES) + _thin(sorted(videos), MOST_CLIPS)
    if len(taken) < len(paths):
        limits = f"{MOST_PICTURES:,} pictures and {MOST_CLIPS:,} videos"
        say(
            f"footage {source}: {len(taken):,} of {len(paths):,} files are taken, evenly; a source has at most {limits}"
        )
    return taken


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file, zeros for what is not there."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _thin(paths: list[Path], most: int) -> list[Path]:
    return paths[:: -(-len(paths) // most)] if paths else []


class Squares:
    """The squares of one source, from the cache; made there first if need be."""

    def __init__(
        self, source: Path, *, size: int, cache: Path, quiet: bool = True, say: Callable[[str], Any] = tqdm.write
    ) -> None:
        self.source, self.size = source, size
        paths = files_of(source, say)
        stats = [(str(path), *stamp(path)) for path in paths]
        folder = cache / f"footage-{fingerprint('squares 1', size, ZOOM, stats)}"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "index.json").exists():
            with one_writer(folder):
                self._decode(folder, paths, quiet)
        self.index = json.loads(read_text(folder / "index.json"))
        kept = [item for item in self.index if item["sides"]]
        left = [item["problem"] for item in self.index if item["problem"]]
        if not kept:
            raise ConfigError(f"footage {source}: none of its {len(left)} files can be used: {left[0]}")
        if left:
            say(f"footage {source}: {len(left)} of {len(self.index)} files are left out, the first: {left[0]}")
        self.pixels = np.memmap(folder / "squares.bin", np.uint8, "r")
        self.items, self.held = kept, held_back(kept)
        self.paths = [path for path, item in zip(paths, self.index, strict=True) if item["sides"]]

    def _decode(self, folder: Path, paths: list[Path], quiet: bool) -> None:
        videos = sum(path.suffix.lower() in VIDEOS for path in paths)
        clips = min(MOST_A_VIDEO, MOST_CLIPS // max(videos, 1))
        index = []
        with whole_file(folder / "squares.bin") as file:
            for path in tqdm(paths, disable=quiet, desc=f"decode {self.source.name}", unit="file", mininterval=2):
                is_video, problem, found = path.suffix.lower() in VIDEOS, "", []
                try:
                    found = read_clips(path, self.size, clips) if is_video else cut(read_picture(path), self.size)
                except CogstyleError as error:
                    problem = str(error)
                if not found and not problem:
                    problem = f"{path.name} is smaller than a frame of {self.size} px"
                thumbnail = resize_any(found[0], THUMBNAIL).flatten().tolist() if found and not is_video else []
                name = path.relative_to(self.source).as_posix() if self.source.is_dir() else path.name
                index.append({"name": name, "problem": problem, "video": is_video, "thumbnail": thumbnail})
                index[-1] |= {"offset": file.tell(), "sides": [len(square) for square in found]}
                for pixels in found:
                    file.write(np.ascontiguousarray(pixels).data)
        write_bytes(folder / "index.json", json.dumps(index).encode())

    def chosen(self, *, held_back: bool) -> list[list[np.ndarray]]:
        """The squares of every file that is (not) held back."""
        items = [item for item, held in zip(self.items, self.held, strict=True) if held == held_back]
        return [self._squares(item) for item in items]

    def videos(self, *, held_back: bool) -> list[Path]:
        """The videos that are (not) held back."""
        found = zip(self.paths, self.items, self.held, strict=True)
        return [path for path, item, held in found if item["video"] and held == held_back]

    def _squares(self, item: dict[str, Any]) -> list[np.ndarray]:
        found, start = [], item["offset"]
        for side in item["sides"]:
            found.append(self.pixels[start : start + 3 * side * side].reshape(side, side, 3))
            start += 3 * side * side
        return Frames(found) if item["video"] else found


def resize_any(pixels: np.ndarray, size: int) -> np.ndarray:
    """Squeezed into a square."""
    return cv2.resize(np.ascontiguousarray(pixels), (size, size), interpolation=cv2.INTER_AREA)


def cut(picture_HWC: np.ndarray, size: int) -> list[np.ndarray]:
    """Squares along the longer side of a picture, at most ZOOM * size large; [] if it is smaller than a frame."""
    height, width = picture_HWC.shape[:2]
    short, long = min(height, width), max(height, width)
    if short < size:
        return []
    side = min(short, ZOOM * size)
    count = max(1, math.ceil(long / short - UNSEEN))
    starts = np.linspace(0, long - short, count).astype(int) if count > 1 else [(long - short) // 2]
    turned = picture_HWC if width >= height else picture_HWC.swapaxes(0, 1)
    found = [resize_any(turned[:, start : start + short], side) for start in starts]
    return found if width >= height else [square.swapaxes(0, 1) for square in found]


def read_clips(path: Path, size: int, count: int) -> list[np.ndarray]:
    """Up to `count` clips of CLIP frames each, spread over a video; [] if it is smaller than a frame."""
    with open_video(path) as video:
        short = min(next(video.frames()).shape[:2])
        if short < size:
            return []
        span = (CLIP - 1) / CLIP_RATE
        clips = max(1, min(count, int(video.last / (span + 1 / CLIP_RATE))))
        starts = np.linspace(0.0, max(0.0, video.last - span), clips)
        side, found = min(short, ZOOM * size), []
        for start in starts.tolist():
            times = [min(start + k / CLIP_RATE, video.last) for k in range(CLIP)]
            found += list(video.frames_at(times, side))
        return found


def held_back(items: list[dict[str, Any]]) -> list[bool]:
    """Which files nothing trains on: a tenth, at least one; one picture at several sizes counts as one.

    It depends on the names alone, so that files that are added later change little.

    Raises:
        ConfigError: if all of them are one picture.
    """
    groups = alike(items)
    order = sorted(set(groups), key=lambda group: hashlib.sha256(items[group]["name"].encode()).digest())
    require(len(order) > 1, "footage of a single picture or video: none can be held back; give at least two")
    held = set(order[: max(1, int(HELD_BACK * len(order)))])
    return [group in held for group in groups]


def alike(items: list[dict[str, Any]]) -> list[int]:
    """For each file the first one that shows the same picture: by thumbnails of the pictures; videos are their own."""
    groups = list(range(len(items)))
    pictures = [n for n, item in enumerate(items) if item["thumbnail"]]
    thumbnails = np.array([items[n]["thumbnail"] for n in pictures], np.float32).reshape(-1, 3 * THUMBNAIL**2)
    thumbnails -= thumbnails.mean(1, keepdims=True)
    thumbnails /= np.linalg.norm(thumbnails, axis=1, keepdims=True) + 1e-3
    for row, n in enumerate(pictures):
        close = np.flatnonzero(thumbnails[:row] @ thumbnails[row] > ALIKE)
        if len(close):
            groups[n] = groups[pictures[close[0]]]
    return groups
