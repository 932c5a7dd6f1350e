"""What all recipes have, and those of what is trained step by step."""

from dataclasses import dataclass
from typing import Literal

from cogstyle.config import require
from cogstyle.schema import Seed
from cogstyle.training.engine import DeviceConfig
from cogstyle.training.job import LoopConfig, OptimConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train, and into which bundle it goes."""

    task: str  # a name of RECIPES
    bundle: str  # folder of the bundle: read for what the task stands on, written at the end
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class WeightRecipe(Recipe):
    """What is trained step by step."""

    optim: OptimConfig
    start: str | None = None  # bundle whose weights for this task are the initial ones; default: new ones
    licence: str = "Apache-2.0"  # of the weights
    export: Literal["best", "last"] = "best"  # weights by validation, or the last ones
    loop: LoopConfig = LoopConfig()  # noqa: RUF009  (frozen)
    engine: DeviceConfig = DeviceConfig()  # noqa: RUF009  (frozen)

    @property
    def source(self) -> str:
        """The bundle that the task stands on."""
        return self.bundle

    @property
    def mixed(self) -> bool:
        """Whether a token budget says how many samples a step has."""
        return False

    def __post_init__(self) -> None:
        batch = self.optim.batch
        sized = (batch > 0) != self.mixed
        require(sized, f"batch {batch}: a recipe needs either [optim] batch or tokens of [mix] or [curriculum]")
