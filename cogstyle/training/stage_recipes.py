"""Recipes of what sampling draws with: the image model, and all that stands on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cogstyle.bundle import Bundle, holds_bundle
from cogstyle.config import FRAME_RATES, MODELS, ModelConfig, SamplingConfig, preset, require
from cogstyle.data.curriculum import CurriculumConfig
from cogstyle.data.mixing import MixConfig, check_mix
from cogstyle.growth_config import Growth, Lora
from cogstyle.language_config import LanguageTraining
from cogstyle.schema import Share
from cogstyle.training.architecture import ModelSizes
from cogstyle.training.engine import EngineConfig, ProcessConfig
from cogstyle.training.job import DrawingLoopConfig
from cogstyle.training.recipe import WeightRecipe
from cogstyle.training.sources import SceneData, ShardData, VideoData


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
    curriculum: CurriculumConfig | None = None  # grids that take turns, stage by stage
    resample: Share | None = None  # of the tokens that it sees in training, another of their cluster
    frozen: bool = False  # the image model of `start` is taken as it is, with its tokenizers; nothing trains
    loop: DrawingLoopConfig = DrawingLoopConfig()  # noqa: RUF009  (frozen)
    engine: EngineConfig = EngineConfig()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.preset is None or self.model is None, "preset and [model] exclude each other")
        require(self.start is not None or not self.frozen, "frozen needs a start: the bundle that has the image model")
        require(self.start is not None or self.train is None, 'train "new" needs a start: a bundle that has grown')
        require(not (self.frozen and self.resample), "frozen and resample exclude each other: nothing trains")
        if self.curriculum is not None:
            self.curriculum.check(self.task, steps=self.optim.steps, train_all=True)

    @property
    def mixed(self) -> bool:
        return self.curriculum is not None

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
    resample: Share | None = None  # of the tokens that it sees in training, another of their cluster
    mix: MixConfig | None = None  # tasks that take turns
    curriculum: CurriculumConfig | None = None  # frames, grids and rates that take turns, stage by stage
    growth: GrowthRecipe | None = None  # layers of its own, which the adapter of `start` grows
    lora: Lora | None = None  # low-rank additions to the frozen layers, beside the adapter of `start`
    engine: EngineConfig = EngineConfig()  # noqa: RUF009  (frozen)

    @property
    def source(self) -> str:
        return self.base or self.bundle

    @property
    def mixed(self) -> bool:
        return self.mix is not None or self.curriculum is not None

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
        if self.curriculum is not None:
            require(self.mix is None, "[mix] and [curriculum] exclude each other")
            self.curriculum.check(self.task, steps=self.optim.steps, train_all=self.train_all)


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
