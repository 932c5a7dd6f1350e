"""Recipes: one TOML file says everything about one weight. The class of its task says which keys it can have."""

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin, get_type_hints

from annotated_types import Interval

from cogstyle.bundle import Bundle
from cogstyle.config import (
    TOKENIZERS,
    FlowConfig,
    TokenizerConfig,
    from_dict,
    preset,
    require,
)
from cogstyle.errors import ConfigError
from cogstyle.files import read_toml
from cogstyle.schema import Picture, tables_of
from cogstyle.schema import Share as PartOfBatch
from cogstyle.shipped import shipped_recipe
from cogstyle.training.language_model_recipe import LanguageModelRecipe
from cogstyle.training.preference_recipe import PreferenceRecipe
from cogstyle.training.recipe import Recipe, WeightRecipe
from cogstyle.training.sharp import SharpConfig
from cogstyle.training.sources import (
    CaptionData,
    FootageData,
    PhrasedCaptions,
)
from cogstyle.training.stage_recipes import (
    ImageRecipe,
    InterpolationRecipe,
    KeyframesRecipe,
    LanguageRecipe,
    SuperresRecipe,
)

Pieces = Annotated[int, Interval(ge=300, le=1_000_000)]  # 256 of them are bytes


@dataclass(frozen=True, kw_only=True)
class TextRecipe(Recipe):
    """A text tokenizer: on captions of footage, on those of the shapes world, or a model that there is."""

    preset: str | None = None  # of the image model that reads its ids, "shapes" by default; without [data] only
    data: CaptionData | PhrasedCaptions | None = None  # captions to learn from
    pieces: Pieces = 2048  # of the vocabulary that is learned from [data]
    kind: Literal["unigram", "bpe"] = "unigram"  # of the sentencepiece model that is learned from [data]
    model: str | None = None  # a sentencepiece model (.model) to take instead
    base: str | None = None  # a bundle to take the image tokenizer from
    size: Picture | None = None  # pixels of a frame; default: as in `base`

    def __post_init__(self) -> None:
        given = {"[data]": self.data, "model": self.model, "preset": self.preset}
        several = [name for name, value in given.items() if value is not None]
        require(len(several) <= 1, f"{' and '.join(several)} exclude each other: a text tokenizer comes from one")
        require(self.size is None or self.base is not None, f"size {self.size} has no effect without base")


@dataclass(frozen=True, kw_only=True)
class TokenizerRecipe(WeightRecipe):
    """An image tokenizer, on scenes of the shapes world or on footage."""

    preset: str = "shapes"  # architecture
    tokenizer: TokenizerConfig | None = None  # architecture, instead of a preset's
    train: Literal["decoder"] | None = None  # the decoder alone: the codes of `start` stay
    data: FootageData | None = None
    sharp: SharpConfig | None = None  # terms for sharp pictures

    def __post_init__(self) -> None:
        super().__post_init__()
        critic = 0.0 if self.sharp is None else self.sharp.adversarial
        require(
            critic == 0.0 or self.export == "last",
            f'adversarial {critic:g} lowers the PSNR, by which export = "best" chooses; set export = "last"',
        )
        started = self.train is None or self.start is not None
        require(started, 'train "decoder" needs a start: the bundle that has the codes')

    @property
    def config(self) -> TokenizerConfig:
        """The recipe's own architecture, else that of what it starts from, else a preset.

        Raises:
            ConfigError: if that is of a kind that is not trained here.
        """
        if self.tokenizer is not None or self.start is None:
            return self.tokenizer or preset(TOKENIZERS, self.preset)
        found = Bundle(self.start).tokenizer_config
        if not isinstance(found, TokenizerConfig):
            raise ConfigError(f"start {self.start!r}: a tokenizer of kind {found.kind!r} cannot be trained here")
        return found


@dataclass(frozen=True, kw_only=True)
class FlowDecoderRecipe(WeightRecipe):
    """A flow-matching decoder of clips, on scenes of the shapes world or on footage."""

    flow: FlowConfig = FlowConfig()  # noqa: RUF009  (frozen)
    from_noise: PartOfBatch = 0.2  # share of the clips that are decoded in one step; 1: a regression
    data: FootageData | None = None


RECIPES: dict[str, type[Recipe]] = {
    "text": TextRecipe,
    "tokenizer": TokenizerRecipe,
    "flow_decoder": FlowDecoderRecipe,
    "image": ImageRecipe,
    "keyframes": KeyframesRecipe,
    "interpolation": InterpolationRecipe,
    "superres": SuperresRecipe,
    "preference": PreferenceRecipe,
    "language_model": LanguageModelRecipe,
    "language_image": LanguageRecipe,
    "language_keyframes": LanguageRecipe,
}


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe; its task selects its class.

    Args:
        changes: `KEY=VALUE`, laid over what the file says.

    Raises:
        FileError, ConfigError: for a file that cannot be read, unknown keys, or values out of range.
    """
    table = read_recipe(path, changes)
    for key in ("bundle", "base", "start", "model"):
        if isinstance(table.get(key), str):
            table[key] = os.path.expanduser(table[key])
    return from_dict(RECIPES[table["task"]], table, str(path))


def read_recipe(path: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The table of a recipe, of which only the task is checked; see `load_recipe`."""
    table = read_toml(shipped_recipe(path))
    for change in changes:
        keys, value = parse_change(change)
        inner = table
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
            require(isinstance(inner, dict), f"--set {change}: {key} is no table")
        inner[keys[-1]] = value
    task = table.get("task")
    require(task is not None, f"{path}: missing key task")
    require(task in tuple(RECIPES), f"{path}: unknown task {task!r:.60}; known are {', '.join(RECIPES)}")
    return table


def parse_change(change: str) -> tuple[list[str], Any]:
    """`optim.steps=4000` -> (["optim", "steps"], 4000); what is no TOML value is text."""
    name, equals, value = change.partition("=")
    keys = [key.strip() for key in name.split(".")]
    require(bool(equals) and all(keys), f"--set {change!r:.80} must be KEY=VALUE, such as optim.steps=4000")
    try:
        return keys, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return keys, value


def has_key(path: Path, change: str) -> bool:
    """Whether a recipe can have the key that a change names."""
    table = read_recipe(path)
    return _has(RECIPES[table["task"]], parse_change(change)[0], table)


def _has(cls: type, keys: list[str], table: dict[str, Any]) -> bool:
    hint = get_type_hints(cls).get(keys[0])
    if hint is None or len(keys) == 1:
        return hint is not None
    inner = table.get(keys[0], {})
    return any(_has(found, keys[1:], inner) for found in tables_of(hint, inner)) or get_origin(hint) is dict
