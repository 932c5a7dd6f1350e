"""How rows become tokens, and what sources of rows and pictures give."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple, Protocol

import numpy as np
from annotated_types import Interval
from tqdm import tqdm

from cogstyle.bundle import Bundle
from cogstyle.data.clips import STILL
from cogstyle.data.dataset_card import PICTURE, write_card
from cogstyle.data.encode import Encoding as VideoEncoding
from cogstyle.data.manifest import Manifest
from cogstyle.data.shards import INDEX, Encode, Index, Shards, encode, part_path, read_index
from cogstyle.data.workers import cores
from cogstyle.tokenizers.image import ImageTokenizer
from cogstyle.tokenizers.text import TextTokenizer

Rows = tuple[Shards, Shards]  # to train on, to validate on
Validation = Annotated[int, Interval(ge=8, le=1_000_000)]
Dropout = Annotated[float, Interval(ge=0.0, lt=1.0)]


def is_encoded(folder: Path, index: Index) -> bool:
    """Whether every part of these shards is there."""
    if not (folder / INDEX).exists() or read_index(folder) != index:
        return False
    return all(part_path(folder, number).exists() for number in range(index.parts))


def encode_videos(manifest: Manifest, folder: Path, index: Index, bundle: Bundle, *, quiet: bool = False) -> Path:
    """Encode what is not in `folder` yet, on every core, and what was changed in the manifest since."""
    done, changed = is_encoded(folder, index), (folder / INDEX).exists() and read_index(folder) != index
    say = partial(tqdm.write, file=sys.stderr)
    work = VideoEncoding(manifest, folder, index, bundle)
    work.run(workers=cores(), retry=changed, quiet=quiet, report=say)
    if not done:
        write_card(folder, index, name=manifest.folder.name, videos=manifest.folder, vqvae=bundle.vqvae())
        if not quiet:
            say(f"how these videos look as tokens: {folder / PICTURE}")
    return folder


class RowSize(NamedTuple):
    """What rows are: their kind, frames, and pixels of a side."""

    kind: str
    frames: int
    size: int


EncodeVideos = Callable[..., Path]  # takes what `encode_videos` takes


@dataclass(frozen=True)
class Encoding:
    """How rows become tokens, and where those are kept.

    Args:
        digest: sha256 of the image tokenizer.
        frames: of a video.
        factor: of super-resolution.
        folder: keeps encoded rows.
        sizes: of rows that are not of the model's own frames and grid, by their names.
        encode: as `shards.encode`; `encode_videos` likewise.
    """

    bundle: Bundle
    vqvae: ImageTokenizer
    text: TextTokenizer
    digest: str
    frames: int
    folder: Path
    factor: int = 1
    encode: Encode = encode
    encode_videos: EncodeVideos = encode_videos
    quiet: bool = False
    sizes: Mapping[str, RowSize] = field(default_factory=dict)

    def sized(self, name: str) -> RowSize:
        """What rows of this name are; those of the model's own size are named by their kind."""
        own = RowSize(name, 1 if name in STILL else self.frames, self.vqvae.config.image_size)
        return self.sizes.get(name, own)


class Pictures(Protocol):
    """What a tokenizer is trained on and judged by."""

    def draw(self, rng: np.random.Generator, count: int, *, held_back: bool = False) -> np.ndarray:
        """uint8 [count, size, size, 3]: random pictures, of those that training never sees if `held_back`."""

    def clips(self, count: int) -> np.ndarray:
        """uint8 [at most count, F, size, size, 3]: clips that training never sees."""

    def moving(
        self, rng: np.random.Generator, count: int, frames: int, *, held_back: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Random clips, uint8 [count, frames, size, size, 3], and the frames a second of each, [count]."""
