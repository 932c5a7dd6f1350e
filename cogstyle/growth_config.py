"""How a model grows: which layers are added to it, and where they run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from cogstyle.schema import Id, Size, Small, require

HOW = ("insert", "prefix", "suffix")


@dataclass(frozen=True)
class Growth:
    """Copies of layers, silent at the start: as many behind each group of layers, in front of all, or behind all.

    Source: ModelGrow; LLaMA Pro (arXiv 2401.02415).
    """

    how: Literal["insert", "prefix", "suffix"]
    blocks: Small  # new layers

    def after(self, layers: int) -> tuple[int, ...]:
        """The layer, counted from 1, that each new one runs behind, of which it is a copy; 0: in front of the first.

        Raises:
            ConfigError: if the new layers cannot be shared out evenly.
        """
        if self.how != "insert":
            return (0 if self.how == "prefix" else layers,) * self.blocks
        group, copies = max(1, layers // self.blocks), max(1, self.blocks // layers)
        even = layers % group == 0 and layers // group * copies == self.blocks
        fit = ", ".join(str(count) for count in range(1, layers + 1) if layers % count == 0)
        require(
            even,
            f"{self.blocks} blocks cannot be inserted evenly into {layers} layers; {fit} or a multiple can",
        )
        return tuple(layer for layer in range(group, layers + 1, group) for _ in range(copies))


@dataclass(frozen=True)
class Grown(Growth):
    """Layers that were added, as bundle.toml lists them: to the image model, or brought along by an adapter."""

    after: tuple[Id, ...]  # type: ignore[assignment]  # of the image model, see `Growth.after`
    trained: Literal["nothing", "new", "new+adapter", "all"] = "nothing"  # since it has grown

    def __post_init__(self) -> None:
        require(len(self.after) == self.blocks, f"{self.blocks} blocks stand behind {len(self.after)} layers")


@dataclass(frozen=True)
class Lora:
    """Low-rank additions to the projections of every frozen layer: W + alpha / rank * B A."""

    rank: Size
    alpha: Annotated[float, Interval(gt=0.0, le=1e6)]


@dataclass(frozen=True)
class GrownWeights:
    """The weights of a bundle that have grown: the image model itself, or adapters beside it."""

    image: Grown | None = None
    keyframes: Grown | None = None
    interpolation: Grown | None = None


@dataclass(frozen=True)
class LoraAdapters:
    """The adapters of a bundle that have low-rank additions."""

    keyframes: Lora | None = None
    interpolation: Lora | None = None


def running_order(layers: int, after: Sequence[int]) -> list[tuple[int, int | None]]:
    """Of each layer in the order of running: which of the old ones (from 0) it is or copies; its number if it is new.

    Args:
        layers: old ones.
        after: see `Growth.after`.

    Raises:
        ConfigError: if there is no such layer.
    """
    wrong = [layer for layer in after if layer > layers]
    require(not wrong, f"a layer stands behind layer {max(wrong, default=0)}, and there are {layers}")
    order: list[tuple[int, int | None]] = []
    for place in range(layers + 1):
        order += [(place - 1, None)] if place else []
        order += [(max(place - 1, 0), number) for number, layer in enumerate(after) if layer == place]
    return order
