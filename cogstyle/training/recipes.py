"""Recipes: one TOML file says everything about one weight. The class of its task says which keys it can have."""

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin, get_type_hints

from annotated_types import Interval

from cogstyle.bundle import Bundle, holds_bundle
from cogstyle.config import (
    FRAME_RATES,
    MODELS,
    TOKENIZERS,
    FlowConfig,
    ModelConfig,
    SamplingConfig,
    TokenizerConfig,
    from_dict,
    preset,
    require,
)
from cogstyle.data.mixing import MixConfig, check_mix
from cogstyle.errors import ConfigError
from cogstyle.files import read_toml
from cogstyle.growth_config import Growth, Lora
from cogstyle.language_config import LanguageTraining
from cogstyle.schema import Picture, tables_of
from cogstyle.schema import Share as PartOfBatch
from cogstyle.shipped import shipped_recipe
from cogstyle.training.architecture import ModelSizes
from cogstyle.training.engine import EngineConfig, ProcessConfig
from cogstyle.training.job import DrawingLoopConfig
from cogstyle.training.language_model_recipe import LanguageModelRecipe
from cogstyle.training.preference_recipe import PreferenceRecipe
from cogstyle.training.recipe import Recipe, WeightRecipe
from cogstyle.training.sharp import SharpConfig
from cogstyle.training.sources import (
    CaptionData,
    FootageData,
    PhrasedCaptions,
    SceneData,
    ShardData,
    VideoData,
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
        require(self.size is None or self.base is not None, "size has no effect without base")


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


@dataclass(frozen=True, kw_only=True)
class StageRecipe(WeightRecipe):
    """What sampling draws with: trained on tokens, by any number of processes."""

    data: SceneData | ShardData | VideoData
    sampling: SamplingConfig | None = None  # how sampling draws by default
    engine: ProcessConfig = EngineConfig()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = not isinstance(self.loop, DrawingLoopConfig) or not self.loop.prompts or self.engine.zero < 3
        require(whole, "prompts cannot be drawn with zero 3: no process has the whole weights")
        continued = getattr(self.data, "continuation", 0.0) > 0.0
        fits = not continued or (self.task == "keyframes" and not self.mixed)
        require(fits, "continuation is of keyframes alone; where tasks take turns, it is one of [mix] tasks")


@dataclass(frozen=True, kw_only=True)
class ImageRecipe(StageRecipe):
    """The image model."""

    preset: str | None = None  # architecture, that of `start` or "shapes" by default
    model: ModelSizes | None = None  # architecture, instead of a preset's: it fits any tokenizers
    train: Literal["new"] | None = None  # of a `start` that has grown, its new layers alone
    frozen: bool = False  # the image model of `start` is taken as it is, with its tokenizers; nothing trains
    loop: DrawingLoopConfig = DrawingLoopConfig()  # noqa: RUF009  (frozen)
    engine: EngineConfig = EngineConfig()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.preset is None or self.model is None, "preset and [model] exclude each other")
        require(self.start is not None or not self.frozen, "frozen needs a start: the bundle that has the image model")
        require(self.start is not None or self.train is None, 'train "new" needs a start: a bundle that has grown')

    @property
    def source(self) -> str:
        """A bundle that is not there yet gets the tokenizers of `start`."""
        return self.bundle if self.start is None or holds_bundle(Path(self.bundle)) else self.start

    def architecture(self, source: Bundle) -> ModelConfig:
        """The image model on the tokenizers of a bundle.

        Raises:
            ConfigError: if a preset, or the model of `start`, does not fit them.
        """
        if self.model is not None:
            return self.model.config(source)
        name, tokenizer = f"preset {self.preset or 'shapes'!r}", source.tokenizer_config
        if self.start is not None and self.preset is None:
            name, found = f"the image model of {self.start!r}", Bundle(self.start).model_config
        else:
            found = preset(MODELS, self.preset or "shapes")
        side = tokenizer.image_size // tokenizer.rate
        require(
            found.grid == (side, side) and found.codes == tokenizer.codes,
            f"{name} is of {found.grid[0]} x {found.grid[1]} places and {found.codes:,} codes, the tokenizer "
            f"of {source.folder} of {side} x {side} and {tokenizer.codes:,}; [model] layers, width, heads fits any",
        )
        return found


@dataclass(frozen=True)
class GrowthRecipe(Growth):
    """Layers that an adapter grows before it trains."""

    # the new layers alone, the rest of the adapter with them, or the image model too
    train: Literal["new", "new+adapter", "all"] = "new+adapter"


@dataclass(frozen=True, kw_only=True)
class AdapterRecipe(StageRecipe):
    """A temporal adapter on an image model."""

    base: str | None = None  # another bundle to take the image model and tokenizers from
    train: Literal["adapter", "all"] = "adapter"  # "all": the image model too
    pb_relax: bool = False  # the order of the temporal scores that half precision survives
    copy_output: bool = True  # start the output projection as a copy, not random
    mix: MixConfig | None = None  # tasks that take turns
    growth: GrowthRecipe | None = None  # layers of its own, which the adapter of `start` grows
    lora: Lora | None = None  # low-rank additions to the frozen layers, beside the adapter of `start`
    engine: EngineConfig = EngineConfig()  # noqa: RUF009  (frozen)

    @property
    def source(self) -> str:
        return self.base or self.bundle

    @property
    def mixed(self) -> bool:
        return self.mix is not None

    @property
    def grows(self) -> bool:
        """Whether the adapter gets more weights than the one it starts from."""
        return self.growth is not None or self.lora is not None

    @property
    def train_all(self) -> bool:
        """Whether the image model trains too."""
        return self.train == "all" or (self.growth is not None and self.growth.train == "all")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.growth is None or self.lora is None, "growth and lora exclude each other")
        require(not self.grows or self.start is not None, "growth and lora need a start: the bundle of the old adapter")
        require(self.growth is None or self.train == "adapter", 'with growth, train "all" is a key of it')
        if self.mix is not None:
            check_mix(self.mix, self.task, train_all=self.train_all)


@dataclass(frozen=True, kw_only=True)
class KeyframesRecipe(AdapterRecipe):
    """The adapter that draws keyframes."""

    frame_rate: float | None = None  # that sampling uses unless it is told another
    loop: DrawingLoopConfig = DrawingLoopConfig()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        super().__post_init__()
        known = self.frame_rate is None or self.frame_rate in FRAME_RATES
        require(known, f"frame_rate {self.frame_rate} must be one of {FRAME_RATES}")


@dataclass(frozen=True, kw_only=True)
class InterpolationRecipe(AdapterRecipe):
    """The adapter that draws the frames between others."""


@dataclass(frozen=True, kw_only=True)
class SuperresRecipe(StageRecipe):
    """Super-resolution."""

    copy_output: bool = True  # start the output projection as a copy, not random
    engine: ProcessConfig = ProcessConfig()  # noqa: RUF009  (frozen)


@dataclass(frozen=True, kw_only=True)
class LanguageRecipe(StageRecipe):
    """Cross-attention to a frozen language model, beside the frozen image model or its keyframes."""

    language: LanguageTraining
    base: str | None = None  # another bundle, which `bundle` becomes a copy of if it is not there
    loop: DrawingLoopConfig = DrawingLoopConfig()  # noqa: RUF009  (frozen)
    engine: EngineConfig = EngineConfig()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.sampling is None, f"{self.task} draws as the {self.stage} of its bundle do; leave out [sampling]")

    @property
    def source(self) -> str:
        return self.base or self.bundle

    @property
    def stage(self) -> str:
        """What listens: "image" or "keyframes"."""
        return self.task.removeprefix("language_")


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
