"""Adapters with more than a temporal channel: layers of their own, or low-rank additions to the frozen ones.

A grown layer is a copy of a frozen block and of the temporal attention beside it. It starts silent: what it adds is
zero to the bit, so a model that has just grown gives what it gave. Functions on weights keep their dtype.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from cogstyle.config import ModelConfig
from cogstyle.growth_config import Lora, running_order
from cogstyle.model.temporal import Layer, TemporalAdapter, TemporalAttention, temporal_attention
from cogstyle.model.transformer import make_block, view_of

SILENT = {  # weights that are zero in a copy: all that its two halves add goes through them
    "sandwich": ("norm3.weight", "norm3.bias", "norm4.weight", "norm4.bias"),
    "llama": ("dense.weight", "down.weight"),
}
PROJECTIONS = ("qkv", "dense", "gate", "up", "down")  # of a block, where low-rank additions stand


class GrownLayer(nn.Module):
    """A layer that an adapter brings along."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.block = make_block(config)
        self.temporal = temporal_attention(config)


class LowRank(nn.Module):
    """What is added to the output of a frozen projection; nothing at the start."""

    def __init__(self, inputs: int, outputs: int, lora: Lora) -> None:
        super().__init__()
        self.scale = lora.alpha / lora.rank
        self.down = nn.Linear(inputs, lora.rank, bias=False)
        self.up = nn.Linear(lora.rank, outputs, bias=False)
        nn.init.normal_(self.down.weight, std=inputs**-0.5)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.up(self.down(x))


class Added(nn.Module):
    """A frozen projection with what is added to it."""

    def __init__(self, frozen: nn.Module, low_rank: nn.Module) -> None:
        super().__init__()
        self.frozen, self.low_rank = frozen, low_rank

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(x) + self.low_rank(x)


class GrownAdapter(TemporalAdapter):
    """An adapter with layers of its own, which run behind those of the frozen image model, or low-rank additions.

    Args:
        after: where each runs, see `Growth.after`.
        lora: the additions to every frozen layer.
    """

    def __init__(
        self, config: ModelConfig, *, window: int = 0, after: Sequence[int] = (), lora: Lora | None = None
    ) -> None:
        super().__init__(config, window=window)
        self.after, self.low_rank = tuple(after), lora
        self.order = running_order(config.layers, after)
        self.windows = [self.windows[source] for source, _ in self.order]
        self.grown = nn.ModuleList(GrownLayer(config) for _ in after)
        width, inner = config.width, config.inner_width
        sizes = {"qkv": (width, 3 * width), "dense": (width, width), "up": (width, inner), "down": (inner, width)}
        sizes |= {"gate": (width, inner)} if config.family == "llama" else {}
        self.lora = nn.ModuleList()
        for _ in range(config.layers if lora is not None else 0):
            assert lora is not None
            self.lora.append(nn.ModuleDict({name: LowRank(*size, lora) for name, size in sizes.items()}))

    @property
    def new(self) -> nn.Module:
        """All that a plain adapter has not."""
        return nn.ModuleList([self.grown, self.lora])

    def stack(self, blocks: Iterable[nn.Module]) -> list[Layer]:
        found, frozen = list[Layer](), list(blocks)
        if len(self.lora):
            frozen = [_with_additions(*pair) for pair in zip(frozen, self.lora, strict=True)]  # type: ignore[arg-type]
        for (source, new), window in zip(self.order, self.windows, strict=True):
            if new is None:
                temporal = self.layers[source]
                assert isinstance(temporal, TemporalAttention)
                found.append(Layer(frozen[source], temporal, window))
            else:
                own = self.grown[new]
                assert isinstance(own, GrownLayer)
                found.append(Layer(own.block, own.temporal, window))
        return found


def _with_additions(block: nn.Module, additions: nn.ModuleDict) -> nn.Module:
    """A view of a frozen block: the same weights, its projections with what is added to them."""
    view = view_of(block)
    view._modules = block._modules | {name: Added(getattr(block, name), part) for name, part in additions.items()}
    return view


def new_layers(
    image: Mapping[str, Tensor], adapter: Mapping[str, Tensor], config: ModelConfig, after: Sequence[int]
) -> dict[str, Tensor]:
    """The weights of an adapter's grown layers: silent copies of the image model's blocks and of its own attention."""
    found: dict[str, Tensor] = {}
    for source, new in running_order(config.layers, after):
        if new is not None:
            for part, tensors in (("block", image), ("temporal", adapter)):
                layer = silenced(_layer(tensors, source), config)
                found |= {f"grown.{new}.{part}.{name}": value for name, value in layer.items()}
    return found


def deeper(tensors: Mapping[str, Tensor], config: ModelConfig, after: Sequence[int]) -> dict[str, Tensor]:
    """An image model (of `config`) or what stands on it, with silent copies among its layers."""
    found = {name: value for name, value in tensors.items() if not name.startswith("layers.")}
    for place, (source, new) in enumerate(running_order(config.layers, after)):
        layer = _layer(tensors, source)
        layer = layer if new is None else silenced(layer, config)
        found |= {f"layers.{place}.{name}": value for name, value in layer.items()}
    return found


def shallower(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """`deeper` undone: the weights without the layers that `config` lists as grown, and without an adapter's own."""
    found = {n: value for n, value in tensors.items() if not n.startswith(("layers.", "grown.", "lora."))}
    for place, (source, new) in enumerate(running_order(config.layers - len(config.grown), config.grown)):
        if new is None:
            found |= {f"layers.{source}.{name}": value for name, value in _layer(tensors, place).items()}
    return found


def silenced(layer: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """A copy that adds nothing."""
    silent = SILENT[config.family]
    return {name: torch.zeros_like(value) if name in silent else value for name, value in layer.items()}


def _layer(tensors: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    start = f"layers.{index}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
