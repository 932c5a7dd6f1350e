"""Sources that anybody's pictures and videos give: rows to train on, pictures for a tokenizer, captions."""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Interval
from tqdm import tqdm

from cogstyle.bundle import Bundle
from cogstyle.config import SuperResConfig, require
from cogstyle.data.clips import STILL
from cogstyle.data.encode import make_index
from cogstyle.data.footage import Footage, files_of
from cogstyle.data.footage import stamp as size_of
from cogstyle.data.manifest import Manifest, read_manifest
from cogstyle.data.quality import Quality
from cogstyle.data.selection import QualityConfig, said_of, select
from cogstyle.data.shards import INDEX, Index, Shards, load_videos, read_captions, read_index, split_validation
from cogstyle.data.workers import cores
from cogstyle.errors import BundleError
from cogstyle.files import fingerprint, sha256
from cogstyle.rows import Row
from cogstyle.schema import Count, Weight
from cogstyle.training.encoding import Dropout, Encoding, Pictures, Rows, RowSize, Validation


@dataclass(frozen=True)
class ShardData:
    """Shards of own videos, which `cogstyle encode` wrote."""

    shards: str | tuple[str, ...]  # their folders
    validation_rows: Validation = 256  # at most a tenth of the rows, from videos of their own
    caption_dropout: Dropout = 0.1  # share of the samples whose caption is left out
    quality: QualityConfig | None = None  # which rows to train on, by their scores; default: all

    @property
    def folders(self) -> tuple[Path, ...]:
        return _paths(self.shards)

    def read(self, kinds: Sequence[str], how: Encoding) -> dict[str, Rows]:
        """Rows of each kind.

        Raises:
            BundleError: if there are none of a kind, or the shards are of another tokenizer or shape.
            PromptError: for a caption that is too long.
        """
        found = dict(
            zip(kinds, split_validation([self._of_kind(k, how) for k in kinds], self.validation_rows), strict=True)
        )
        return found if self.quality is None else {kind: self._chosen(kind, *rows, how) for kind, rows in found.items()}

    def _chosen(self, kind: str, train: Shards, held_back: Shards, how: Encoding) -> Rows:
        """The rows that are good enough to train on, and all that are held back: losses of other choices compare."""
        assert self.quality is not None
        chosen = select(train, self.quality)
        if not how.quiet:
            tqdm.write("\n".join(f"{kind}: {line}" for line in said_of(chosen.kept or {})), file=sys.stderr)
        return chosen, held_back

    def captions_of(self) -> list[str]:
        """Every caption, once."""
        return CaptionData(self.shards).captions_of()

    def _of_kind(self, kind: str, how: Encoding) -> Shards:
        size = how.sized(kind)
        kind, still = size.kind, size.kind in STILL
        found = load_videos(
            self._of_size(size) if how.sizes else self.folders,
            kind,
            frames=size.frames,
            size=size.size,
            tokenizer_sha256=how.digest,
            factor=how.factor if kind == "superres" else 1,
            scored=self.quality is not None,
        )
        low, high = map(int, found.tokens.aminmax())
        if low < 0 or high >= how.vqvae.config.codes:
            limit = how.vqvae.config.codes - 1
            raise BundleError(
                f"shards of {self.shards} hold codes from {low} to {high}, expected 0 to {limit}: damaged"
            )
        for caption, seconds in zip(found.captions, found.seconds, strict=True):
            _ = how.text.image_text(caption) if still else how.text.video_text(caption, seconds)
        return found

    def _of_size(self, size: RowSize) -> list[Path]:
        """The folders that hold such rows, where a run takes several sizes.

        Raises:
            BundleError: if there is none.
        """
        indices = {folder: read_index(folder) for folder in self.folders}
        found = [folder for folder, index in indices.items() if (index.kind, index.frames, index.size) == size]
        there = ", ".join(f"{k} holds {i.kind} of {i.frames} frames of {i.size} px" for k, i in indices.items())
        wanted = f"{size.kind} of {size.frames} frames of {size.size} px"
        if not found:
            raise BundleError(f"no shards for {wanted}: {there}; cogstyle encode --frames and --size write such")
        return found

    @property
    def factor(self) -> int:
        """Of super-resolution."""
        found = [index.factor for index in map(read_index, self.folders) if index.kind == "superres"]
        return found[0] if found else SuperResConfig.factor

    def validation_pictures(self, kind: str, how: Encoding, held_back: Shards, most: int) -> list[Row]:
        """The first validation rows as the tokenizer decodes them, at most `most`."""
        first, pictures = held_back.take(np.arange(min(most, len(held_back)))), []
        assert first.fine is not None
        for number, caption in enumerate(first.captions):
            small, fine = (
                how.vqvae.decode(part[number].long()).permute(0, 2, 3, 1).numpy() for part in (first.tokens, first.fine)
            )
            pictures.append(Row(small, caption, 0.0, fine))
        return pictures

    def identity(self) -> dict[str, Any]:
        """What the rows depend on, wherever they lie: what the shards hold."""
        indices = [repr(read_index(folder)) for folder in self.folders]
        names = ["part-*.safetensors", *(["scores-*.safetensors"] if self.quality is not None else [])]
        parts = [sha256(path) for folder in self.folders for name in names for path in sorted(folder.glob(name))]
        return {"shards": hashlib.sha256("".join(indices + parts).encode()).hexdigest()}


@dataclass(frozen=True)
class VideoData:
    """Videos or pictures with captions, encoded once and kept: what `cogstyle encode` reads, with its options."""

    videos: str | tuple[str, ...]  # manifests, or folders
    caption: str = ""  # of whatever has none
    extra_rates: Annotated[int, Interval(ge=0, le=100)] = 0  # higher frame rates of each clip
    frames_per_video: Count = 2  # image, superres: the first frame, and others at random moments
    factor: Annotated[int, Interval(ge=2, le=64)] = 2  # superres: fine tokens along the side of a coarse one
    flip: Literal["auto", "all", "no"] = "auto"  # rows that come mirrored too; auto: those whose captions name no side
    fit: Literal["crop", "letterbox"] = "crop"  # the square in the middle of a frame, or all of it between bars
    clip_seconds: Annotated[float, Interval(ge=0.0, le=1e5)] = 0.0  # cut videos into such pieces, at cuts too; 0: not
    split_long: bool = False  # videos that no row can show as a whole give several
    validation_rows: Validation = 256  # at most a tenth of the rows, from videos of their own
    caption_dropout: Dropout = 0.1  # share of the samples whose caption is left out
    quality: QualityConfig | None = None  # which rows to train on, by their scores; default: all

    def read(self, kinds: Sequence[str], how: Encoding) -> dict[str, Rows]:
        """Rows of each kind, encoded unless they are already; see `ShardData.read`."""
        folders = [str(self._encoded(place, kind, how)) for kind in kinds for place in _paths(self.videos)]
        return self._shards(folders).read(kinds, how)

    def captions_of(self) -> list[str]:
        """Every caption, once."""
        return CaptionData(self.videos, self.caption).captions_of()

    def _shards(self, folders: Sequence[str]) -> ShardData:
        return ShardData(tuple(folders), self.validation_rows, self.caption_dropout, self.quality)

    def _encoded(self, place: Path, kind: str, how: Encoding) -> Path:
        manifest = read_manifest(place, caption=self.caption)
        size = how.sized(kind)
        index = self.index(size.kind, manifest, how.bundle)
        if kind in how.sizes:
            index = replace(index, frames=size.frames, size=size.size)
        name = fingerprint(replace(index, contents=(), entries=1), str(place.resolve()))
        folder = how.encode_videos(manifest, how.folder / f"{size.kind}-{name}", index, how.bundle, quiet=how.quiet)
        if self.quality is not None:
            Quality(folder, how.bundle, manifest.folder, {}).run(workers=cores(), quiet=how.quiet)
        return folder

    def index(self, kind: str, manifest: Manifest, bundle: Bundle) -> Index:
        """How the rows of a manifest are made."""
        still = kind in STILL
        return make_index(
            manifest,
            bundle,
            kind,
            extra_rates=0 if still else self.extra_rates,
            stills=self.frames_per_video if still else 1,
            factor=self.factor if kind == "superres" else 1,
            flip=self.flip,
            letterbox=self.fit == "letterbox",
            split_long=self.split_long,
            clip_seconds=self.clip_seconds,
        )

    def validation_pictures(self, kind: str, how: Encoding, held_back: Shards, most: int) -> list[Row]:
        """The first validation rows as the tokenizer decodes them, at most `most`."""
        return self._shards(()).validation_pictures(kind, how, held_back, most)

    def identity(self) -> dict[str, Any]:
        """What the rows depend on beside the keys: lines of the manifests, and the sizes of their files."""
        found: list[Any] = []
        for place in _paths(self.videos):
            manifest = read_manifest(place, caption=self.caption)
            found += [(entry.texts, entry.start, entry.end, entry.problem) for entry in manifest.entries]
            found += [(entry.video, size_of(manifest.folder / entry.video)[0]) for entry in manifest.entries]
        return {"videos": fingerprint(found)}


@dataclass(frozen=True)
class FootageData:
    """Pictures and videos for an image tokenizer."""

    footage: str | tuple[str, ...]  # folders of pictures and videos, or manifests that name them
    shares: tuple[Weight, ...] = ()  # how often a picture comes from each of them; default: all alike

    def __post_init__(self) -> None:
        same = len(self.shares) in (0, len(self.places))
        require(same, f"shares has {len(self.shares)} numbers for {len(self.places)} places of footage")

    @property
    def places(self) -> tuple[Path, ...]:
        return _paths(self.footage)

    def pictures(self, size: int, cache: Path, *, quiet: bool) -> Pictures:
        """Pictures of `size` pixels a side, decoded once and kept in `cache`."""
        return Footage(self.places, size=size, cache=cache, shares=self.shares, quiet=quiet)

    def identity(self) -> dict[str, Any]:
        """What the pictures depend on: names and sizes of the files."""
        files = [[(path.name, size_of(path)[0]) for path in files_of(place)] for place in self.places]
        return {"footage": hashlib.sha256(repr(files).encode()).hexdigest()}


@dataclass(frozen=True)
class CaptionData:
    """Captions of footage, for a text tokenizer."""

    captions: str | tuple[str, ...]  # manifests, folders of videos, or folders of shards
    caption: str = ""  # of whatever has none
    symbols = ()  # pieces of their own

    def captions_of(self) -> list[str]:
        """Every caption, once.

        Raises:
            ConfigError, FileError, BundleError: if there is none, or it cannot be read.
        """
        found: dict[str, None] = {}
        for place in _paths(self.captions):
            texts = read_captions(place) if (place / INDEX).is_file() else self._captions(place)
            found |= dict.fromkeys(texts)
        require(bool(found), f"captions {self.captions}: none of the lines can be used")
        return list(found)

    def _captions(self, place: Path) -> Iterator[str]:
        for entry in read_manifest(place, caption=self.caption).entries:
            if not entry.problem:
                yield from (text for _, text in entry.texts)


def _paths(names: str | tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(Path(os.path.expanduser(name)) for name in ((names,) if isinstance(names, str) else names))
