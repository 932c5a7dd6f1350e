"""The recipe of preference: what is drawn, who says how good it is, and what follows from that."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Interval

from cogstyle.config import SamplingConfig, require
from cogstyle.errors import ConfigError
from cogstyle.schema import Count
from cogstyle.training.engine import EngineConfig
from cogstyle.training.job import LoopConfig
from cogstyle.training.recipe import WeightRecipe
from cogstyle.training.rewards import RewardConfig
from cogstyle.training.sources import PromptCaptions, PromptData, ScenePrompts

Factor = Annotated[float, Interval(ge=0.0, le=1e3)]


@dataclass(frozen=True)
class PreferenceConfig:
    """How draws become a loss."""

    method: Literal["grpo", "dpo", "best"] = "grpo"
    group: Annotated[int, Interval(ge=2, le=1024)] = 8  # draws of a prompt
    beta: Factor | None = None  # how firmly the reference holds; default: 0.02 (grpo), 0.1 (dpo)
    clip: Annotated[float, Interval(gt=0.0, le=1.0)] = 0.2  # grpo: ratios further from 1 teach nothing more
    updates: Annotated[int, Interval(ge=1, le=64)] = 1  # grpo: steps between two drawings
    entropy: Factor = 0.05  # nats: tokens below are certain, and neither rewarded nor held
    most_kl: Factor = 0.05  # grpo: nats a token from the reference that end the run; 0: none do
    patience: Count = 10  # drawings in a row without a difference that end the run
    pairs: Count = 2000  # dpo, best: prompts whose draws are kept
    supervised: Factor = 0.2  # dpo: weight of the cross-entropy of the better draw
    least: float | None = None  # best: the reward that a draw needs to be trained on
    frame_rate: float | None = None  # keyframes a second; default: the prompt's, else the bundle's

    @property
    def strength(self) -> float:
        return self.beta if self.beta is not None else {"dpo": 0.1}.get(self.method, 0.02)

    def check(self, batch: int) -> None:
        """Raise ConfigError unless a batch of GRPO is whole groups."""
        whole = self.method != "grpo" or batch % self.group == 0
        require(whole, f"batch {batch} is no whole number of groups of {self.group} draws")


@dataclass(frozen=True)
class PreferenceLoopConfig(LoopConfig):
    """Of a loss that means nothing by itself: it lies around 0."""

    sample_every: Count = 25
    spike: Annotated[float, Interval(ge=0.0, le=0.0)] = 0.0


@dataclass(frozen=True, kw_only=True)
class PreferenceRecipe(WeightRecipe):
    """A keyframe adapter beside the one that it starts from, by what a reward says of its draws."""

    data: ScenePrompts | PromptData | PromptCaptions  # what to draw
    reward: tuple[RewardConfig, ...]  # added up
    preference: PreferenceConfig = PreferenceConfig()
    base: str | None = None  # the bundle to take image model and tokenizers from; default: `start`
    sampling: SamplingConfig | None = None  # how sampling draws by default; else as with the old adapter
    loop: PreferenceLoopConfig = PreferenceLoopConfig()
    engine: EngineConfig = EngineConfig()  # noqa: RUF009  (frozen)

    @property
    def source(self) -> str:
        return self.base or self.start or ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start is None:
            raise ConfigError("preference needs a start: the bundle whose keyframe adapter it begins with")
        apart = Path(self.bundle).resolve() not in (Path(self.start).resolve(), Path(self.source).resolve())
        require(apart, f"bundle {self.bundle} is where it starts from: the new adapter needs a folder beside the old")
        require(bool(self.reward), "name at least one [[reward]]")
        self.preference.check(self.optim.batch)
        require(self.engine.zero == 0, f"zero {self.engine.zero}: preference trains in one process; leave it 0")
