"""The bundles that a server offers, and what can be asked of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cogstyle.bundle import WeightFile
from cogstyle.config import FRAME_RATES, require
from cogstyle.sampling.options import LEVELS, Options
from cogstyle.sampling.pipeline import Pipeline, load

MOST_PICTURES = 5  # that one video is filled in between


@dataclass(frozen=True)
class Model:
    """A bundle; of `pipe` only the text tokenizer is ever read: weights are the worker's."""

    source: str
    device: str
    dtype: str

    def load(self) -> Pipeline:
        """A pipeline of its own, to fill with weights and to drop again."""
        return load(self.source, device=self.device, dtype=self.dtype)

    @cached_property
    def pipe(self) -> Pipeline:
        return self.load()

    @property
    def name(self) -> str:
        return self.pipe.bundle.name

    @property
    def keyframes(self) -> int:
        return self.pipe.bundle.model_config.frames

    @cached_property
    def levels(self) -> int:
        """The most refinement levels."""
        return LEVELS if self.pipe.bundle.has(WeightFile.of("interpolation")) else 0

    @cached_property
    def sizes(self) -> dict[str, bool]:
        """Sizes of its videos, and whether they take super-resolution."""
        bundle = self.pipe.bundle
        side = bundle.tokenizer_config.image_size
        sizes = {f"{side}x{side}": False}
        if bundle.has(WeightFile.SUPERRES):
            large = side * bundle.superres_config.factor
            sizes[f"{large}x{large}"] = True
        return sizes

    def rates(self, levels: int, *, whole: bool = False) -> list[float]:
        """Keyframes a second that it was trained for, with so many refinement levels.

        Args:
            whole: all keyframes are given, so that only what lies between them is drawn.
        """
        key, between = (self.pipe.bundle.trained_rates(stage) for stage in ("keyframes", "interpolation"))
        known = [rate for rate in FRAME_RATES if whole or not key or rate in key]
        fitting = [r for r in known if not between or all(r * 2**level in between for level in range(1, levels + 1))]
        return fitting or known

    def default_rate(self, rates: Sequence[float]) -> float:
        usual = self.pipe.bundle.frame_rate
        return usual if usual in rates else rates[0]

    def description(self) -> dict[str, Any]:
        """As GET /v1/models gives it."""
        bundle = self.pipe.bundle
        return {
            "id": self.name, "object": "model", "created": 0, "owned_by": "cogstyle", "keyframes": self.keyframes,
            "levels": self.levels, "sizes": list(self.sizes), "frame_rate": self.default_rate(self.rates(self.levels)),
            "frame_rates": {str(level): self.rates(level) for level in range(self.levels + 1)},
            "between_rates": {str(level): self.rates(level, whole=True) for level in range(self.levels + 1)},
            "words": {name: list(words) for name, words in bundle.words.groups.items()}, "most_pictures": MOST_PICTURES,
        }  # fmt: skip


def open_models(sources: Sequence[str], *, device: str, dtype: str) -> dict[str, Model]:
    """The bundles of these names or folders by their own names, the first of them the default.

    Raises:
        BundleError: if one is missing or damaged.
        ConfigError: if two have the same name.
    """
    models: dict[str, Model] = {}
    for source in sources:
        model = Model(source, device, dtype)
        require(model.name not in models, f"two bundles are named {model.name!r}; a request could not tell them apart")
        model.pipe.check("x", Options(levels=0), whole=True)  # reads the text tokenizer
        models[model.name] = model
    return models
