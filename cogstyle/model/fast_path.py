"""A few new places through all layers: what `Transformer.run` computes, in as few operations as it takes.

With a handful of rows, calling an operation costs as much as computing it. So a step goes past the modules:
`FastLayers`
looks up their weights once a decoding, and keys and values stay in the shape that products want, X = batch * heads.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cogstyle.layout import Window
from cogstyle.model.cache import KeyValues
from cogstyle.model.llama import rotate
from cogstyle.model.packed import linear_gelu
from cogstyle.model.temporal import TemporalAdapter, TemporalAttention
from cogstyle.model.transformer import Block, LlamaBlock, Transformer


@dataclass(frozen=True)
class KeyRange:
    """Some of the new places (`rows`), which all read the slots from `start` to `stop`."""

    rows: slice | Tensor
    start: int
    stop: int
    bias: Tensor | None = None  # added to their scores, broadcasts to [X, rows, stop - start]
    slots_K: Tensor | None = None  # where those slots are, if only the device knows it


@dataclass(frozen=True)
class StepChannel:
    """Attention of a few new places, each written to its slot of the memory and then reading what it may see."""

    memory: KeyValues
    slots_P: Tensor  # where the new keys and values go
    ranges: list[KeyRange]
    rotary_PH: Tensor | None = None  # turns queries and keys to where they stand, see `llama.rotary`
    signal_BPD: Tensor | None = None  # see `TemporalAdapter.signal`

    def __call__(self, layer: int, qkv_BPE: Tensor) -> Tensor:
        """Queries, keys and values side by side (E = 3 D) -> context [B, P, D]."""
        batch, places, width = qkv_BPE.shape
        keys_XHK, values_XKH = self.memory.keys[layer], self.memory.values[layer]
        heads, size = len(keys_XHK) // batch, keys_XHK.shape[1]
        split = qkv_BPE.view(batch, places, 3, heads, size).permute(2, 0, 3, 1, 4)
        q_XPH, k_XPH, v_XPH = split.reshape(3, batch * heads, places, size).unbind()
        if self.rotary_PH is not None:
            q_XPH, k_XPH = rotate(q_XPH, self.rotary_PH), rotate(k_XPH, self.rotary_PH)
        keys_XHK.index_copy_(2, self.slots_P, k_XPH.transpose(1, 2))
        values_XKH.index_copy_(1, self.slots_P, v_XPH)
        if len(self.ranges) == 1:
            context_XPH = _read(q_XPH, keys_XHK, values_XKH, self.ranges[0])
        else:
            context_XPH = torch.empty_like(q_XPH)
            for keys in self.ranges:
                context_XPH[:, keys.rows] = _read(q_XPH[:, keys.rows], keys_XHK, values_XKH, keys)
        return context_XPH.view(batch, heads, places, size).transpose(1, 2).reshape(batch, places, width // 3)


def _read(q_XQH: Tensor, keys_XHK: Tensor, values_XKH: Tensor, keys: KeyRange) -> Tensor:
    count, scale, bias = keys.stop - keys.start, q_XQH.shape[-1] ** -0.5, keys.bias
    if keys.slots_K is None:
        keys_XHK, values_XKH = keys_XHK.narrow(2, keys.start, count), values_XKH.narrow(1, keys.start, count)
    else:
        keys_XHK, values_XKH = keys_XHK.index_select(2, keys.slots_K), values_XKH.index_select(1, keys.slots_K)
    if bias is None:
        scores_XQK = torch.baddbmm(q_XQH[0, 0, 0], q_XQH, keys_XHK, beta=0, alpha=scale)
    else:
        scores_XQK = torch.baddbmm(bias.to(q_XQH.dtype), q_XQH, keys_XHK, alpha=scale)
    return torch.bmm(scores_XQK.softmax(-1), values_XKH)


class FastLayers:
    """The layers of a model and of the adapter beside it, as they stand now, for steps."""

    def __init__(self, model: Transformer, adapter: TemporalAdapter | None) -> None:
        stack = model.stack(adapter)
        self.layers = [_layer(one.block, one.temporal) for one in stack]
        self.windows = [one.window for one in stack]
        self.norm = _norm(model.norm)

    def __call__(self, x_BPD: Tensor, spatial: StepChannel, temporal: dict[Window | None, StepChannel]) -> Tensor:
        """Embedded rows -> hidden states [B, P, D], the last norm included; `temporal` is empty without an adapter."""
        for index, (layer, window) in enumerate(zip(self.layers, self.windows, strict=True)):
            x_BPD = layer(index, x_BPD, spatial, temporal.get(window))
        return self.norm(x_BPD)


def _norm(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    if not isinstance(norm, nn.LayerNorm):
        return norm
    shape, weight, bias, eps = norm.normalized_shape, norm.weight, norm.bias, norm.eps
    return lambda x: torch.layer_norm(x, shape, weight, bias, eps)


def _layer(block: nn.Module, temporal_attention: TemporalAttention | None) -> Callable[..., Tensor]:
    if isinstance(block, LlamaBlock):
        return _llama_layer(block, temporal_attention)
    assert isinstance(block, Block)
    norm1, norm2, norm3, norm4 = map(_norm, (block.norm1, block.norm2, block.norm3, block.norm4))
    qkv, dense, up, down = block.qkv.forward, block.dense.forward, block.up, block.down.forward
    listener = block.listener
    if temporal_attention is not None:
        own_qkv, own_dense = temporal_attention.qkv.forward, temporal_attention.dense.forward
        gate = temporal_attention.gate.sigmoid()

    def run(index: int, x_BPD: Tensor, spatial: StepChannel, temporal: StepChannel | None) -> Tensor:
        h_BPD = norm1(x_BPD)
        a_BPD = dense(spatial(index, qkv(h_BPD)))
        if temporal is not None:
            a_BPD = own_dense(temporal(index, own_qkv(h_BPD))).lerp_(a_BPD, gate)
        x_BPD = x_BPD + norm3(a_BPD)
        if listener is not None:
            x_BPD = listener(x_BPD)
        return x_BPD + norm4(down(linear_gelu(up, norm2(x_BPD))))

    return run


def _llama_layer(block: LlamaBlock, temporal_attention: TemporalAttention | None) -> Callable[..., Tensor]:
    gate = None if temporal_attention is None else temporal_attention.gate.sigmoid()

    def run(index: int, x_BPD: Tensor, spatial: StepChannel, temporal: StepChannel | None) -> Tensor:
        h_BPD = block.norm1(x_BPD)
        a_BPD = block.dense(spatial(index, block.qkv(h_BPD)))
        if temporal_attention is not None and temporal is not None:
            own_BPD = h_BPD if temporal.signal_BPD is None else h_BPD + temporal.signal_BPD
            a_BPD = temporal_attention.dense(temporal(index, temporal_attention.qkv(own_BPD))).lerp_(a_BPD, gate)
        x_BPD = x_BPD + a_BPD
        return block.mlp(x_BPD if block.listener is None else block.listener(x_BPD))

    return run
