"""Where training rows come from: the one door to scenes of the shapes world, shards of own videos, and footage.

A recipe chooses a source by the keys of its [data]. A source of rows gives those to train on and those to validate on.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
from annotated_types import Interval

from cogstyle.config import SuperResConfig, require
from cogstyle.data.clips import STILL
from cogstyle.data.footage import Footage, files_of, stamp
from cogstyle.data.manifest import read_manifest
from cogstyle.data.shards import (
    INDEX,
    Encode,
    Shards,
    encode,
    load_videos,
    read_captions,
    read_index,
    split_validation,
)
from cogstyle.errors import BundleError
from cogstyle.files import fingerprint, sha256
from cogstyle.rows import Row
from cogstyle.schema import Share, Weight
from cogstyle.shapes_world import corpus, world
from cogstyle.shapes_world import rows as scene_rows
from cogstyle.shapes_world.pictures import ScenePictures
from cogstyle.tokenizers.image import ImageTokenizer
from cogstyle.tokenizers.text import TextTokenizer

__all__ = ["CaptionData", "FootageData", "Pictures", "Rows", "SceneData", "ScenePictures", "ShardData", "TextCorpus"]

Rows = tuple[Shards, Shards]  # to train on, to validate on
Validation = Annotated[int, Interval(ge=8, le=1_000_000)]
Dropout = Annotated[float, Interval(ge=0.0, lt=1.0)]


@dataclass(frozen=True)
class Encoding:
    """How rows become tokens, and where those are kept.

    Args:
        digest: sha256 of the image tokenizer.
        frames: of a video.
        factor: of super-resolution.
        folder: keeps encoded scenes.
        encode: as `shards.encode`.
    """

    vqvae: ImageTokenizer
    text: TextTokenizer
    digest: str
    frames: int
    folder: Path
    factor: int = 1
    encode: Encode = encode
    quiet: bool = False


class Pictures(Protocol):
    """What a tokenizer is trained on and judged by."""

    def draw(self, rng: np.random.Generator, count: int, *, held_back: bool = False) -> np.ndarray:
        """uint8 [count, size, size, 3]: random pictures, of those that training never sees if `held_back`."""

    def clips(self, count: int) -> np.ndarray:
        """uint8 [at most count, F, size, size, 3]: clips that training never sees."""


@dataclass(frozen=True)
class SceneData:
    """Scenes of the shapes world, encoded once and kept."""

    rows: Annotated[int, Interval(ge=1, le=world.VALIDATION_SEED)]  # training samples, each another scene
    validation_rows: Validation = 256  # samples from validation seeds
    caption_dropout: Dropout = 0.1  # share of the samples whose caption is left out
    two_actors: Share | None = None  # share of the scenes with two actors; default: as the world draws them
    actions: dict[str, Weight] = field(default_factory=dict)  # how likely scenes draw one, 1 if not named

    def __post_init__(self) -> None:
        for name in self.actions:
            require(name in world.ACTIONS, f"unknown action {name!r}; known are {', '.join(world.ACTIONS)}")

    @property
    def emphasis(self) -> scene_rows.Emphasis:
        """The scenes to train on more often."""
        return scene_rows.Emphasis(self.two_actors, dict(sorted(self.actions.items())))

    def read(self, kinds: Sequence[str], how: Encoding) -> dict[str, Rows]:
        """Rows of each kind, encoded unless they are already."""
        return {
            kind: (
                self._encoded(kind, how, self.rows, 0, self.emphasis),
                self._encoded(kind, how, self.validation_rows, world.VALIDATION_SEED, scene_rows.EVEN),
            )
            for kind in kinds
        }

    def _encoded(self, kind: str, how: Encoding, count: int, first_seed: int, emphasis: scene_rows.Emphasis) -> Shards:
        make = _row_of(kind, how, emphasis)
        size, kept = how.vqvae.config.image_size, sorted(make.keywords.items())
        parts = (kept,) if kind == "superres" else (size, how.frames, emphasis)
        folder = how.folder / f"{kind}-{fingerprint(scene_rows.RULES, first_seed, *parts, how.digest)}"
        options: dict[str, Any] = {"vqvae": how.vqvae, "tokenizer_sha256": how.digest, "quiet": how.quiet}
        return how.encode(lambda number: make(first_seed + number), count, folder, **options)

    @property
    def factor(self) -> int:
        """Of super-resolution."""
        return SuperResConfig.factor

    def validation_pictures(self, kind: str, how: Encoding, rows: Rows, most: int) -> list[Row]:
        """The first validation rows as pixels, at most `most`."""
        make = _row_of(kind, how, scene_rows.EVEN)
        return [make(world.VALIDATION_SEED + number) for number in range(min(most, self.validation_rows))]

    def identity(self) -> dict[str, Any]:
        """What the rows depend on beside the keys: the rules that draw scenes."""
        return {"rules": scene_rows.RULES}


def _row_of(kind: str, how: Encoding, emphasis: scene_rows.Emphasis) -> "partial[Row]":
    """What makes the row of a seed."""
    makers: dict[str, tuple[Callable[..., Row], dict[str, int]]] = {
        "image": (scene_rows.image_row, {}),
        "keyframes": (scene_rows.keyframe_row, {"frames": how.frames}),
        "continuation": (scene_rows.continuation_row, {"frames": how.frames}),
        "interpolation": (scene_rows.interpolation_row, {"frames": how.frames}),
        "superres": (scene_rows.superres_row, {"factor": how.factor}),
    }
    make, sizes = makers[kind]
    return partial(make, size=how.vqvae.config.image_size, emphasis=emphasis, **sizes)


@dataclass(frozen=True)
class ShardData:
    """Shards of own videos, which `cogstyle encode` wrote."""

    shards: str | tuple[str, ...]  # their folders
    validation_rows: Validation = 256  # at most a tenth of the rows, from videos of their own
    caption_dropout: Dropout = 0.1  # share of the samples whose caption is left out

    @property
    def folders(self) -> tuple[Path, ...]:
        return _paths(self.shards)

    def read(self, kinds: Sequence[str], how: Encoding) -> dict[str, Rows]:
        """Rows of each kind.

        Raises:
            BundleError: if there are none of a kind, or the shards are of another tokenizer or shape.
            PromptError: for a caption that is too long.
        """
        found = [self._of_kind(kind, how) for kind in kinds]
        return dict(zip(kinds, split_validation(found, self.validation_rows), strict=True))

    def _of_kind(self, kind: str, how: Encoding) -> Shards:
        still = kind in STILL
        found = load_videos(
            self.folders,
            kind,
            frames=1 if still else how.frames,
            size=how.vqvae.config.image_size,
            tokenizer_sha256=how.digest,
            factor=how.factor if kind == "superres" else 1,
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

    @property
    def factor(self) -> int:
        """Of super-resolution."""
        found = [index.factor for index in map(read_index, self.folders) if index.kind == "superres"]
        return found[0] if found else SuperResConfig.factor

    def validation_pictures(self, kind: str, how: Encoding, rows: Rows, most: int) -> list[Row]:
        """The first validation rows as the tokenizer decodes them, at most `most`."""
        held_back, pictures = rows[1].take(np.arange(min(most, len(rows[1])))), []
        assert held_back.fine is not None
        for number, caption in enumerate(held_back.captions):
            small, fine = (
                how.vqvae.decode(part[number].long()).permute(0, 2, 3, 1).numpy()
                for part in (held_back.tokens, held_back.fine)
            )
            pictures.append(Row(small, caption, 0.0, fine))
        return pictures

    def identity(self) -> dict[str, Any]:
        """What the rows depend on, wherever they lie: what the shards hold."""
        indices = [repr(read_index(folder)) for folder in self.folders]
        parts = [sha256(path) for folder in self.folders for path in sorted(folder.glob("part-*.safetensors"))]
        return {"shards": hashlib.sha256("".join(indices + parts).encode()).hexdigest()}


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
        files = [[(path.name, stamp(path)[0]) for path in files_of(place)] for place in self.places]
        return {"footage": hashlib.sha256(repr(files).encode()).hexdigest()}


def _paths(names: str | tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(Path(os.path.expanduser(name)) for name in ((names,) if isinstance(names, str) else names))


@dataclass(frozen=True)
class CaptionData:
    """Captions of footage, for a text tokenizer."""

    captions: str | tuple[str, ...]  # manifests, folders of videos, or folders of shards

    def sentences(self) -> list[str]:
        """Every caption, once.

        Raises:
            ConfigError, FileError, BundleError: if there is none, or it cannot be read.
        """
        found: dict[str, None] = {}
        for place in _paths(self.captions):
            texts = read_captions(place) if (place / INDEX).is_file() else _captions(place)
            found |= dict.fromkeys(texts)
        require(bool(found), f"captions {self.captions}: none of the lines can be used")
        return list(found)


def _captions(place: Path) -> Iterator[str]:
    for entry in read_manifest(place).entries:
        if not entry.problem:
            yield from (text for _, text in entry.texts)


@dataclass(frozen=True)
class TextCorpus:
    """Captions of the shapes world, for a text tokenizer."""

    captions: int = 4_000
    seed: int = 0
    pieces: tuple[str, ...] = corpus.CHINESE_WORDS  # words that no spaces part

    def sentences(self) -> Iterator[str]:
        return corpus.captions(self.captions, self.seed)
