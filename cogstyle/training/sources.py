"""Where training rows come from: the one door to scenes of the shapes world, to shards, videos and pictures.

A recipe chooses a source by the keys of its [data]. A source of rows gives those to train on and those to validate on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval

from cogstyle.config import SuperResConfig, require
from cogstyle.data.pairs import Pair
from cogstyle.data.shards import Shards
from cogstyle.files import fingerprint
from cogstyle.rows import Row
from cogstyle.sampling.keyframes import OVERLAP
from cogstyle.schema import Share, Weight
from cogstyle.shapes_world import corpus, world
from cogstyle.shapes_world import pairs as scene_pairs
from cogstyle.shapes_world import rows as scene_rows
from cogstyle.shapes_world.pictures import ScenePictures
from cogstyle.training.encoding import Dropout, Encoding, Pictures, Rows, RowSize, Validation
from cogstyle.training.footage import CaptionData, FootageData, ShardData, VideoData
from cogstyle.training.prompts import Held, PromptCaptions, PromptData, Prompts

__all__ = [
    "CaptionData",
    "Encoding",
    "FootageData",
    "PhrasedCaptions",
    "Pictures",
    "PromptCaptions",
    "PromptData",
    "Prompts",
    "Rows",
    "SceneData",
    "ScenePairs",
    "ScenePictures",
    "ScenePrompts",
    "ShardData",
    "TextCorpus",
    "VideoData",
]


CAPTIONS = 20_000  # every word of the phrasings is often among them


def _check_actions(actions: Mapping[str, float]) -> None:
    for name in actions:
        require(name in world.ACTIONS, f"unknown action {name!r}; known are {', '.join(world.ACTIONS)}")


@dataclass(frozen=True)
class SceneData:
    """Scenes of the shapes world, encoded once and kept."""

    rows: Annotated[int, Interval(ge=1, le=world.VALIDATION_SEED)]  # training samples, each another scene
    validation_rows: Validation = 256  # samples from validation seeds
    caption_dropout: Dropout = 0.1  # share of the samples whose caption is left out
    two_actors: Share | None = None  # share of the scenes with two actors; default: as the world draws them
    actions: dict[str, Weight] = field(default_factory=dict)  # how likely scenes draw one, 1 if not named
    phrasings: bool = False  # captions as people write them; default: the canonical ones
    continuation: Annotated[float, Interval(ge=0.0, lt=1.0)] = 0.0  # keyframes: share of the steps that go on from one

    def __post_init__(self) -> None:
        _check_actions(self.actions)

    @property
    def emphasis(self) -> scene_rows.Emphasis:
        """The scenes to train on more often."""
        return scene_rows.Emphasis(self.two_actors, dict(sorted(self.actions.items())), self.phrasings)

    @property
    def even(self) -> scene_rows.Emphasis:
        """The scenes to validate on."""
        return scene_rows.Emphasis(phrasings=self.phrasings)

    def read(self, kinds: Sequence[str], how: Encoding) -> dict[str, Rows]:
        """Rows of each kind, encoded unless they are already."""
        return {
            kind: (
                self._encoded(kind, how, self.rows, 0, self.emphasis),
                self._encoded(kind, how, self.validation_rows, world.VALIDATION_SEED, self.even),
            )
            for kind in kinds
        }

    def _encoded(self, kind: str, how: Encoding, count: int, first_seed: int, emphasis: scene_rows.Emphasis) -> Shards:
        size = how.sized(kind)
        make = _row_of(size, how.factor, emphasis)
        frames = how.frames if size.kind == "image" else size.frames
        parts = (sorted(make.keywords.items()),) if kind == "superres" else (size.size, frames, emphasis)
        folder = how.folder / f"{size.kind}-{fingerprint(scene_rows.RULES, first_seed, *parts, how.digest)}"
        options: dict[str, Any] = {"vqvae": how.vqvae, "tokenizer_sha256": how.digest, "quiet": how.quiet}
        return how.encode(lambda number: make(first_seed + number), count, folder, **options)

    def captions_of(self) -> list[str]:
        """Some captions, each once."""
        return list(dict.fromkeys(corpus.captions(64, world.VALIDATION_SEED, phrased=self.phrasings)))

    @property
    def factor(self) -> int:
        """Of super-resolution."""
        return SuperResConfig.factor

    def validation_pictures(self, kind: str, how: Encoding, held_back: Shards, most: int) -> list[Row]:
        """The first validation rows as pixels, at most `most`."""
        make = _row_of(how.sized(kind), how.factor, self.even)
        return [make(world.VALIDATION_SEED + number) for number in range(min(most, self.validation_rows))]

    def identity(self) -> dict[str, Any]:
        """What the rows depend on beside the keys: the rules that draw scenes."""
        return {"rules": scene_rows.RULES}


def _row_of(size: RowSize, factor: int, emphasis: scene_rows.Emphasis) -> "partial[Row]":
    """What makes the row of a seed."""
    makers: dict[str, tuple[Callable[..., Row], dict[str, int]]] = {
        "image": (scene_rows.image_row, {}),
        "keyframes": (scene_rows.keyframe_row, {"frames": size.frames}),
        "continuation": (scene_rows.continuation_row, {"frames": size.frames}),
        "join": (scene_rows.join_row, {"frames": size.frames, "known": OVERLAP}),
        "interpolation": (scene_rows.interpolation_row, {"frames": size.frames}),
        "superres": (scene_rows.superres_row, {"factor": factor}),
    }
    make, sizes = makers[size.kind]
    return partial(make, size=size.size, emphasis=emphasis, **sizes)


@dataclass(frozen=True)
class TextCorpus:
    """Captions of the shapes world, for a text tokenizer."""

    captions: int = 4_000
    seed: int = 0
    phrasings: bool = False

    @property
    def pieces(self) -> tuple[str, ...]:
        """Words that no spaces part."""
        return corpus.chinese_words() if self.phrasings else corpus.CHINESE_WORDS

    def sentences(self) -> Iterator[str]:
        return corpus.captions(self.captions, self.seed, phrased=self.phrasings)


@dataclass(frozen=True)
class ScenePrompts:
    """Captions of the shapes world, each at the lowest keyframe rate that holds the whole action."""

    scenes: Annotated[int, Interval(ge=1, le=world.VALIDATION_SEED)]  # to draw prompts from
    validation_prompts: Held = 32  # from validation seeds
    two_actors: Share | None = None  # share of the scenes with two actors; default: as the world draws them
    actions: dict[str, Weight] = field(default_factory=dict)  # how likely scenes draw one, 1 if not named

    def __post_init__(self) -> None:
        _check_actions(self.actions)

    def read(self) -> tuple[Prompts, Prompts]:
        """Prompts to train on, and those that are held back."""
        emphasis = scene_rows.Emphasis(self.two_actors, dict(sorted(self.actions.items())))

        def prompt(seed: int) -> tuple[str, float | None]:
            scene = emphasis.scene(seed)
            return world.caption(scene), world.keyframe_rates(scene)[0]

        held_back = Prompts(self.validation_prompts, lambda number: prompt(world.VALIDATION_SEED + number))
        return Prompts(self.scenes, prompt), held_back

    def identity(self) -> dict[str, Any]:
        """What is drawn beside the keys: the rules of scenes."""
        return {"rules": scene_rows.RULES}


@dataclass(frozen=True)
class PhrasedCaptions:
    """What a text tokenizer of the shapes world learns from, chosen by its one key."""

    phrasings: bool  # captions as people write them, or the canonical ones

    @property
    def symbols(self) -> tuple[str, ...]:
        """Pieces of their own."""
        return TextCorpus(phrasings=self.phrasings).pieces

    def captions_of(self) -> list[str]:
        return list(TextCorpus(CAPTIONS, phrasings=self.phrasings).sentences())


@dataclass(frozen=True)
class ScenePairs:
    """Phrasings of scenes of the shapes world and their captions, drawn anew for every step."""

    def draw(self, rng: np.random.Generator, count: int) -> list[Pair]:
        return [scene_pairs.draw_pair(rng) for _ in range(count)]

    def held_back(self, count: int) -> dict[str, list[Pair]]:
        kinds = [(kind, language) for kind in scene_pairs.KINDS for language in scene_pairs.LANGUAGES]
        return {f"{kind}_{language}": scene_pairs.held_back_pairs(kind, language, count) for kind, language in kinds}
