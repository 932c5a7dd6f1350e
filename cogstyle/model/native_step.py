"""A few places through all layers in one call of the native step: what `fast_path` does operation by operation.

Rows are (sequence, place) pairs in any mix, so every sequence goes at its own pace. What a row gives depends neither
on the rows beside it nor on how far texts are padded: sums go from slot to slot, counted from the text's end.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cogstyle import native
from cogstyle.layout import FrameLayout, Role, Runs
from cogstyle.model.cache import KeyValues
from cogstyle.model.grown import Added
from cogstyle.model.llama import rotary
from cogstyle.model.packed import PackedLinear
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Block, LlamaBlock, Memory, Transformer
from cogstyle.native import SLOTS


def aligned(count: int) -> int:
    """The next multiple of SLOTS."""
    return -(-count // SLOTS) * SLOTS


@dataclass(frozen=True)
class NativeRuns:
    """`Runs` whose starts, and the ends of whose texts, are multiples of SLOTS."""

    spots_3P: Tensor  # int32: slot, start of the run and end of what is seen, of every image place
    starts_R: Tensor  # int32: where runs start
    length: int  # slots in all
    slots_O: Tensor  # where slots of the old runs have gone

    @classmethod
    def of(cls, layout: FrameLayout, runs: Runs) -> "NativeRuns":
        old_R = torch.tensor(runs.texts)
        lengths_R = torch.tensor([*runs.texts[1:], runs.length]) - old_R
        room = aligned(layout.text)
        widths_R = torch.tensor([aligned(int(length) - layout.text + room) for length in lengths_R])
        starts_R = widths_R.cumsum(0) - widths_R
        run_O = torch.arange(len(old_R)).repeat_interleave(lengths_R)
        slots_O = torch.arange(runs.length) + (starts_R - old_R + room - layout.text)[run_O]
        slots_P, run_P = slots_O[runs.slots_P], run_O[runs.slots_P]
        stops_P = slots_P + 1
        given_P = torch.tensor([role is Role.GIVEN for role in layout.roles]).repeat_interleave(layout.tokens)
        for run in run_P[given_P].unique():  # given places see all given places of their run
            inside_P = given_P & (run_P == run)
            stops_P[inside_P] = slots_P[inside_P].max() + 1
        spots_3P = torch.stack([slots_P, starts_R[run_P], stops_P]).int()
        return cls(spots_3P, starts_R.int(), int(widths_R.sum()), slots_O)


class NativePlan:
    """Where the places of a layout lie in native memories: of the spatial channel, then of every window."""

    def __init__(self, layout: FrameLayout, runs: Sequence[Runs]) -> None:
        self.layout, self.runs = layout, [NativeRuns.of(layout, one) for one in runs]
        self.spots_C3P = torch.stack([one.spots_3P for one in self.runs])


class NativeMemory:
    """Keys and values of every layer and channel, for all sequences of a decoding."""

    def __init__(self, runs: list[list[NativeRuns]], shape: tuple[int, int, int], dtype: torch.dtype) -> None:
        """`runs` are those of each layer, one a channel; `shape` is sequences, heads, head width."""
        self.runs, self.shape, self.dtype = runs, shape, dtype
        sizes = [[one.length * math.prod(shape) * dtype.itemsize for one in layer] for layer in runs]
        arena = native.Arena(2 * sum(map(sum, sizes)))
        self.keys, self.values = (
            [[arena.take(size).view(dtype) for size in layer] for layer in sizes] for _ in range(2)
        )
        self.table = (native.Memory * (2 * len(runs)))()
        for index, layer in enumerate(runs):
            for channel, one in enumerate(layer):
                pointers = self.keys[index][channel].data_ptr(), self.values[index][channel].data_ptr()
                self.table[2 * index + channel] = native.Memory(*pointers, one.length, dtype is torch.bfloat16)

    def take(self, memory: Memory, sequence: int | None = None) -> None:
        """Copy what a prefill by PyTorch wrote, of all sequences or of one."""
        for channel, kept in enumerate((memory.spatial, memory.temporal)):
            for layer in range(len(kept.keys) if kept is not None else 0):
                assert kept is not None
                self._take(layer, channel, kept, slice(None) if sequence is None else slice(sequence, sequence + 1))

    def _take(self, layer: int, channel: int, kept: KeyValues, part: slice) -> None:
        runs, (sequences, heads, width) = self.runs[layer][channel], self.shape
        blocks = self.keys[layer][channel].view(sequences, heads, -1, width, SLOTS)[part].flatten(0, 1)
        values = self.values[layer][channel].view(sequences, heads, -1, width)[part].flatten(0, 1)
        block_O, lane_O = runs.slots_O // SLOTS, runs.slots_O % SLOTS
        blocks[:, block_O, :, lane_O] = kept.keys[layer].permute(2, 0, 1).to(self.dtype)
        values[:, runs.slots_O] = kept.values[layer].to(self.dtype)


class NativeLayers:
    """The layers of a model, of the adapter beside it, and the head, as they stand now; see `of`."""

    def __init__(self, library: native.Library, model: Transformer, adapter: TemporalAdapter | None) -> None:
        self.library, self.config, self.kept = library, model.config, list[Tensor]()
        stack = model.stack(adapter)
        self.windows = [] if adapter is None else list(dict.fromkeys(adapter.windows))
        self.channels = [0 if one.temporal is None else 1 + self.windows.index(one.window) for one in stack]
        assert isinstance(model.head, PackedLinear)
        self.dtype = torch.float32 if model.head.kind == "float32" else torch.bfloat16  # of keys and values
        self.layers = (native.Layer * len(stack))()
        for layer, (block, beside, _), channel in zip(self.layers, stack, self.channels, strict=True):
            assert isinstance(block, Block)
            for name in ("qkv", "dense", "up", "down"):
                setattr(layer, name, matrix(getattr(block, name)))
            for name in ("norm1", "norm2") if model.llama else ("norm1", "norm2", "norm3", "norm4"):
                setattr(layer, name, self._norm(getattr(block, name)))
            if isinstance(block, LlamaBlock):
                layer.swish = matrix(block.gate)
            if beside is not None:
                layer.own_qkv, layer.own_dense = matrix(beside.qkv), matrix(beside.dense)
                layer.gate, layer.temporal = self._vector(beside.gate.float().sigmoid()), channel
        config = model.config
        sizes = (len(stack), config.width, config.heads, config.inner_width)
        self.model = native.Model(self.layers, self._norm(model.norm), matrix(model.head), *sizes, config.norm_eps, 0)

    @classmethod
    def of(cls, model: Transformer, adapter: TemporalAdapter | None) -> "NativeLayers | None":
        """None where PyTorch must do it: unless all matrices are packed for it, and nothing hears a language model."""
        if model.listens or (model.llama and model.config.inner_width % SLOTS):
            return None
        matrices = [model.head]
        parts = [part for block, beside, _ in model.stack(adapter) for part in (block, beside) if part is not None]
        for part in parts:
            if any(isinstance(inner, Added) for inner in part.modules()):
                return None
            matrices += [inner for inner in part.modules() if isinstance(inner, nn.Linear | PackedLinear)]
        found = [part.native for part in matrices if isinstance(part, PackedLinear) and part.native is not None]
        if len(found) < len(matrices) or model.config.head_width % SLOTS:
            return None
        return cls(found[0].library, model, adapter)

    def _vector(self, x: Tensor) -> int:
        self.kept.append(x.detach().float().contiguous())
        return self.kept[-1].data_ptr()

    def _norm(self, norm: nn.Module) -> native.Norm:
        assert isinstance(norm, nn.LayerNorm | nn.RMSNorm)
        return native.Norm(
            self._vector(norm.weight), self._vector(norm.bias) if isinstance(norm, nn.LayerNorm) else None
        )

    def memory(self, plan: NativePlan, sequences: int) -> NativeMemory:
        """Empty keys and values for so many sequences."""
        shape = (sequences, self.config.heads, self.config.head_width)
        runs = [[plan.runs[0], *([plan.runs[channel]] if channel else [])] for channel in self.channels]
        return NativeMemory(runs, shape, self.dtype)


class NativeStep:
    """Rows against a memory."""

    def __init__(self, layers: NativeLayers, plan: NativePlan, pads: Sequence[int], bias: float) -> None:
        """`pads` has one entry a sequence: how many rows its text begins with that nobody sees. `bias` is added to the
        scores of text keys. Of a Llama-like model the last row of a text is not seen either.
        """
        self.layers, self.plan, self.memory = layers, plan, layers.memory(plan, len(pads))
        self.text = aligned(plan.layout.text)
        self.pads_B = torch.tensor(pads, dtype=torch.int32) + self.text - plan.layout.text
        self.channels = (native.Channel * len(plan.runs))()
        for channel, runs in zip(self.channels, plan.runs, strict=True):
            channel.starts, channel.runs = runs.starts_R.data_ptr(), len(runs.starts_R)
        self.call = native.Call(channels=self.channels, memories=self.memory.table, pad=self.pads_B.data_ptr())
        self.call.text, self.call.bias = self.text, bias
        self.turns, config = dict[str, Tensor](), layers.config
        if config.family == "llama":
            self.call.unseen, positions_P = 1, plan.layout.image_positions()
            self.turns = {"turn": rotary(config, positions_P), "own_turn": rotary(config, positions_P, temporal=True)}

    def __call__(self, x_ND: Tensor, sequences_N: Tensor, places_N: Tensor, signal_ND: Tensor | None = None) -> Tensor:
        """Logits [N, V] of embedded rows: `places_N` of the layout in `sequences_N`.

        Args:
            signal_ND: what `TemporalAdapter.signal` says of them.
        """
        logits_NV = torch.empty(len(x_ND), self.layers.config.codes)
        said = {name: turn_P[places_N] for name, turn_P in self.turns.items()}
        if signal_ND is not None:
            said["signal"] = signal_ND.float().contiguous()
        for name, one in said.items():
            setattr(self.call, name, one.data_ptr())
        self._run(x_ND, sequences_N, self.plan.spots_C3P[:, :, places_N], logits_NV)
        return logits_NV

    def fill(self, x_TD: Tensor, sequence: int, texts: int) -> None:
        """Put one sequence's text and the places that follow it, in the layout's order, into the memory."""
        assert not self.turns  # rows that turn are filled by PyTorch
        start = self.text - texts
        text_3S = torch.stack([torch.arange(start, self.text), torch.zeros(texts), torch.full((texts,), self.text)])
        images_C3P = self.plan.spots_C3P[:, :, : len(x_TD) - texts]
        spots_C3T = torch.cat([text_3S.int().expand(len(images_C3P), 3, -1), images_C3P], 2)
        self._run(x_TD, torch.full((len(x_TD),), sequence), spots_C3T, None, texts)

    def _run(
        self, x_ND: Tensor, sequences_N: Tensor, spots_C3N: Tensor, logits_NV: Tensor | None, texts: int = 0
    ) -> None:
        x_ND, sequences_N, spots_C3N = x_ND.float().contiguous(), sequences_N.int(), spots_C3N.contiguous()
        for channel, spots_3N in zip(self.channels, spots_C3N, strict=True):
            channel.slot, channel.start, channel.stop = (one_N.data_ptr() for one_N in spots_3N)
        self.call.x, self.call.sequence = x_ND.data_ptr(), sequences_N.data_ptr()
        self.call.logits = None if logits_NV is None else logits_NV.data_ptr()
        self.call.rows, self.call.texts = len(x_ND), texts
        self.layers.library.step(self.layers.model, self.call)
        self.call.turn = self.call.own_turn = self.call.signal = None  # they are of these rows


def step_name(model: Transformer) -> str:
    """What computes the decode steps of a model: "native", with the build's name, or "torch"."""
    layers = NativeLayers.of(model, None)
    return "torch" if layers is None else f"native {layers.library.name}"


def matrix(layer: nn.Module) -> native.Matrix:
    """What the native step reads of a packed layer."""
    assert isinstance(layer, PackedLinear) and layer.native is not None
    return layer.native.matrix
