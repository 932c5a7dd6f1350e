"""Which parameters train, and how an adapter starts from the frozen image model."""

import torch
from torch import Tensor, nn

from cogstyle.config import require
from cogstyle.growth_config import Growth, Lora
from cogstyle.model.grown import GrownAdapter, new_layers
from cogstyle.model.superres import LocalAttention, SuperResolution
from cogstyle.model.temporal import TemporalAdapter, TemporalAttention
from cogstyle.model.transformer import Block, Transformer


@torch.no_grad()
def adapter_from_image(base: Transformer, *, window: int = 0, copy_output: bool = True) -> TemporalAdapter:
    """An adapter that starts as a copy of the spatial channel, beside a base that no longer trains.

    With the output projection copied too, a single frame is left as the image model makes it, whatever
    the gate. `copy_output=False` leaves that projection random, as the released code does.

    Args:
        base: the image model; its gradients are switched off.
        window: side of the temporal windows in tokens, 0 for full attention.
    """
    config = base.config
    base.requires_grad_(False)
    adapter = TemporalAdapter(config, window=window)
    for layer, block in zip(adapter.layers, base.layers, strict=True):
        assert isinstance(layer, TemporalAttention) and isinstance(block, Block)
        _copy_attention(layer, block, copy_output)
    if adapter.positions is None:  # when and how fast are vectors of their own, which begin as none
        for table in (adapter.times, adapter.rates):
            assert table is not None
            table.weight.zero_()
        return adapter
    first = base.positions.weight[config.text_positions : config.text_positions + config.tokens]
    adapter.positions.weight.copy_(later_positions(first, config.extra_positions))
    return adapter


def grow(base: Transformer, adapter: TemporalAdapter, growth: Growth) -> GrownAdapter:
    """The adapter with layers of its own beside those of the frozen base; until they train it gives what it gave.

    Raises:
        ConfigError: if the new layers cannot be shared out evenly, or it has grown already.
    """
    require(not isinstance(adapter, GrownAdapter), "the adapter has grown already, or has low-rank additions")
    after = growth.after(base.config.layers)
    grown = GrownAdapter(base.config, window=adapter.window, after=after)
    old = adapter.state_dict()
    grown.load_state_dict(old | new_layers(base.state_dict(), old, base.config, after))
    return grown


def add_low_rank(adapter: TemporalAdapter, lora: Lora) -> GrownAdapter:
    """The adapter with low-rank additions to every frozen projection; until they train it gives what it gave.

    Raises:
        ConfigError: if it has grown already.
    """
    require(not isinstance(adapter, GrownAdapter), "the adapter has grown already, or has low-rank additions")
    added = GrownAdapter(adapter.config, window=adapter.window, lora=lora)
    added.load_state_dict(added.state_dict() | adapter.state_dict())
    return added


@torch.no_grad()
def superres_from_image(
    base: Transformer, *, factor: int, coarse_offset: int = 0, copy_output: bool = True
) -> SuperResolution:
    """Super-resolution that starts as a copy of the frozen attention, each fine place at its coarse one's position.

    Args:
        base: the image model; its gradients are switched off.
        factor, coarse_offset: as `SuperResolution` takes them.
        copy_output: copy the output projection too, as CogView2 does.

    Raises:
        ConfigError: for an image model without learned positions.
    """
    require(not base.llama, "super-resolution stands on learned positions, which a llama image model has not")
    base.requires_grad_(False)
    upscaler = SuperResolution(base.config, factor=factor, coarse_offset=coarse_offset)
    for layer, block in zip(upscaler.layers, base.layers, strict=True):
        assert isinstance(layer, LocalAttention) and isinstance(block, Block)
        _copy_attention(layer, block, copy_output)
    rows_YXD = base.positions.weight[upscaler.first :][: base.config.tokens].unflatten(0, base.config.grid)
    fine_YXD = rows_YXD.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    upscaler.positions.weight.copy_(fine_YXD.flatten(0, 1))
    return upscaler


def _copy_attention(layer: TemporalAttention | LocalAttention, block: Block, copy_output: bool) -> None:
    layer.qkv.load_state_dict(block.qkv.state_dict())
    if copy_output:
        layer.dense.load_state_dict(block.dense.state_dict())
    else:
        nn.init.normal_(layer.dense.weight, std=0.02)  # type: ignore[arg-type]
        if layer.dense.bias is not None:
            nn.init.zeros_(layer.dense.bias)  # type: ignore[arg-type]


def later_positions(first_LD: Tensor, rows: int) -> Tensor:
    """The positions of the first frame over and over, [rows, D]: where those of later frames start."""
    return first_LD.repeat(-(-rows // len(first_LD)), 1)[:rows]
