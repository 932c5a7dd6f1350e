"""The frozen text-to-image transformer, with a place beside each attention layer for an adapter.

One class serves training and sampling, images, keyframes and interpolation: tasks differ by the layout
that prepared the channels. Without an adapter it is the image model, exactly. Its config says the family of its
blocks, and with it what positions and text are: CogView2's, or LlamaGen's (llama.py).

Source: CogView2 / CogVideo (arXiv 2204.14217, 2205.15868): sandwich LayerNorm, tied output embedding.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.axes import expect_shape
from cogstyle.config import ModelConfig
from cogstyle.errors import LayoutError
from cogstyle.growth_config import running_order
from cogstyle.layout import FrameLayout, Window
from cogstyle.model.attention import Channel, spatial_blocks, temporal_blocks
from cogstyle.model.cache import KeyValues
from cogstyle.model.language import Listener
from cogstyle.model.llama import CaptionEmbedder, rotary, valid_states
from cogstyle.model.packed import linear_gelu
from cogstyle.model.temporal import Layer, TemporalAdapter, TemporalAttention


class Block(nn.Module):
    """x + norm3(attention(norm1(x))), then x + norm4(mlp(norm2(x)))."""

    listener: Listener | None = None  # of a view that hears a language model, see `Transformer.listening`
    norm1: nn.Module
    norm2: nn.Module
    norm3: nn.Module

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inner = config.width, config.inner_width
        self.heads = config.heads
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(width, config.norm_eps) for _ in range(4))
        self.qkv = nn.Linear(width, 3 * width)
        self.dense = nn.Linear(width, width)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)

    def forward(
        self,
        layer: int,
        x_BTD: Tensor,
        text: int,
        spatial: Channel,
        temporal: Channel | None = None,
        adapter: TemporalAttention | None = None,
        signal: Tensor | None = None,
    ) -> Tensor:
        h_BTD = self.norm1(x_BTD)
        q_BTNH, k_BTNH, v_BTNH = self.qkv(h_BTD).view(*x_BTD.shape[:2], 3, self.heads, -1).unbind(2)
        a_BTD = self.dense(spatial(layer, q_BTNH, k_BTNH, v_BTNH).flatten(2))
        if adapter is not None and temporal is not None:
            a_BTD = adapter(layer, h_BTD, a_BTD, temporal, text, signal)
        x_BTD = x_BTD + self.norm3(a_BTD)
        if self.listener is not None:
            x_BTD = torch.cat([x_BTD[:, :text], self.listener(x_BTD[:, text:])], 1)
        return self.mlp(x_BTD)

    def mlp(self, x_BTD: Tensor) -> Tensor:
        """The second half of the block, its residual included."""
        return x_BTD + self.norm4(self.down(linear_gelu(self.up, self.norm2(x_BTD))))


class LlamaBlock(Block):
    """x + attention(norm1(x)), then x + mlp(norm2(x)); RMSNorm, SwiGLU, no biases. Its channels rotate."""

    def __init__(self, config: ModelConfig) -> None:
        nn.Module.__init__(self)
        width, inner = config.width, config.inner_width
        self.heads = config.heads
        self.norm1, self.norm2 = (nn.RMSNorm(width, config.norm_eps) for _ in range(2))
        self.norm3 = nn.Identity()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.dense = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def mlp(self, x_BTD: Tensor) -> Tensor:
        h_BTD = self.norm2(x_BTD)
        return x_BTD + self.down(F.silu(self.gate(h_BTD)) * self.up(h_BTD))


def make_block(config: ModelConfig) -> Block:
    """A layer of the config's family."""
    return (LlamaBlock if config.family == "llama" else Block)(config)


def view_of(block: nn.Module) -> nn.Module:
    """The same weights in an object of its own, whose attributes can be others."""
    view = copy(block)
    if isinstance(wrapped := view.__dict__.pop("forward", None), partial):  # activations that are computed again
        view.forward = partial(wrapped.func, view.forward, **wrapped.keywords)
    return view


def shifted(tokens_BFL: Tensor, start_of_image: int) -> Tensor:
    """Tokens -> inputs [B, F * L]: <start_of_image> first, then each token but the last of its frame."""
    start = tokens_BFL.new_full((*tokens_BFL.shape[:2], 1), start_of_image)
    return torch.cat([start, tokens_BFL[:, :, :-1]], 2).flatten(1)


@dataclass
class Memory:
    """Keys and values kept for sampling: the spatial channel's own frame, the temporal channel's video."""

    spatial: KeyValues
    temporal: KeyValues | None


class Entry(Protocol):
    """Embeds input ids of some image positions; `text` says of which text each is, where they are of several."""

    def __call__(self, inputs: Tensor, part: slice | Tensor, text: Tensor | None = None) -> Tensor: ...


class Transformer(nn.Module):
    """Tokens -> hidden states -> logits over the image ids."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, self.llama = config, config.family == "llama"
        self.embed = nn.Embedding(config.vocabulary, config.width)
        if self.llama:
            self.caption = CaptionEmbedder(config)
        else:
            self.positions = nn.Embedding(config.positions, config.width)
        self.layers = nn.ModuleList(make_block(config) for _ in range(config.layers))
        self.norm = (nn.RMSNorm if self.llama else nn.LayerNorm)(config.width, config.norm_eps)
        # none where the embedding is the output too, but for a packed copy of its rows
        self.head: nn.Module | None = nn.Linear(config.width, config.codes, bias=False) if self.llama else None

    @property
    def new(self) -> nn.Module:
        """The layers that were added to it."""
        order = running_order(self.config.layers - len(self.config.grown), self.config.grown)
        return nn.ModuleList(layer for layer, (_, new) in zip(self.layers, order, strict=True) if new is not None)

    def valid(self, text_BS: Tensor) -> Tensor:
        """bool [B, S]: the rows of a text that others see; the rest is padding."""
        return valid_states(text_BS) if self.llama else text_BS != self.config.pad

    def embed_text(self, text_BS: Tensor) -> Tensor:
        """Left-padded text ids (or states) -> [B, S, D]; positions count from the first id that is no padding."""
        if self.llama:
            return self.caption(text_BS)
        positions_BS = (self.valid(text_BS).cumsum(1) - 1).clamp(min=0)
        return self.embed(text_BS) + self.positions(positions_BS)

    def embed_positions(self, positions_P: Tensor, adapter: TemporalAdapter | None) -> Tensor:
        """Image positions (time * L + raster) -> [P, D], what is added to the embedded inputs."""
        length, table = self.config.tokens, self.positions.weight[self.config.text_positions :]
        first_PD = F.embedding(positions_P.clamp(max=length - 1), table)
        if adapter is None:
            return first_PD
        assert adapter.positions is not None
        later_PD = adapter.positions((positions_P - length).clamp(min=0))
        return torch.where((positions_P < length)[:, None], first_PD, later_PD)

    def embed_image(
        self, inputs_BP: Tensor, positions_P: Tensor, adapter: TemporalAdapter | None, text_BS: Tensor | None = None
    ) -> Tensor:
        """Input ids at image positions -> [B, P, D]; what frames begin with may be the end of the text."""
        return self.entry(text_BS, positions_P, adapter)(inputs_BP, slice(None))

    def entry(self, text_BS: Tensor | None, positions_P: Tensor, adapter: TemporalAdapter | None) -> Entry:
        """What embeds input ids of those image positions: [B, some of P], or [N] where each is of its own text.

        What all steps share is done here.
        """
        if not self.llama:
            positions_PD = self.embed_positions(positions_P, adapter)
            return lambda inputs, part, text=None: self.embed(inputs) + positions_PD[part]
        assert text_BS is not None
        start_B1D, first_P1 = self.caption(text_BS[:, -1:]), (positions_P % self.config.tokens == 0)[:, None]

        def embed(inputs: Tensor, part: slice | Tensor, text: Tensor | None = None) -> Tensor:
            starts = start_B1D if text is None else start_B1D[text, 0]
            return torch.where(first_P1[part], starts, self.embed(inputs))

        return embed

    def rotary(self, positions_P: Tensor, *, temporal: bool = False) -> Tensor | None:
        """What turns queries and keys at image positions, if the family does so."""
        return rotary(self.config, positions_P, temporal=temporal) if self.llama else None

    def check_positions(self, layout: FrameLayout, adapter: TemporalAdapter | None) -> None:
        """Validate that the tables have a row for every place.

        Raises:
            LayoutError: if a position lies beyond them.
        """
        if self.llama and adapter is None:
            return
        rows = self.config.tokens if adapter is None else adapter.rows
        if (last := (max(layout.times, default=-1) + 1) * layout.tokens - 1) >= rows:
            raise LayoutError(f"image position {last} lies beyond the {rows} rows of the tables")

    def listening(self, listeners: Sequence[Listener | None]) -> "Transformer":
        """A view of this model, the same weights, whose layers hear the prompts of one batch; one entry a layer."""
        layers = [view_of(block) for block in self.layers]
        for block, listener in zip(layers, listeners, strict=True):
            assert isinstance(block, Block)
            block.listener = listener
        view = copy(self)
        view._modules = self._modules | {"layers": nn.ModuleList(layers)}
        return view

    @property
    def listens(self) -> bool:
        """Whether this is a view that hears a language model."""
        return any(getattr(block, "listener", None) is not None for block in self.layers)

    def stack(self, adapter: TemporalAdapter | None) -> list[Layer]:
        """All layers in the order of running, those that an adapter brings along too."""
        return [Layer(block, None, None) for block in self.layers] if adapter is None else adapter.stack(self.layers)

    def run(
        self,
        x_BTD: Tensor,
        text: int,
        spatial: Channel,
        temporal: dict[Window | None, Channel] | None = None,
        adapter: TemporalAdapter | None = None,
        signal: Tensor | None = None,
    ) -> Tensor:
        """All layers and the last norm over embedded rows, the first `text` of which are text.

        Args:
            signal: what `adapter.signal` says of the image rows.
        """
        for index, (block, beside, window) in enumerate(self.stack(adapter)):
            channel = temporal[window] if adapter is not None and temporal is not None else None
            x_BTD = block(index, x_BTD, text, spatial, channel, beside, signal)
        return self.norm(x_BTD)

    def logits(self, h_BTD: Tensor) -> Tensor:
        """Hidden states [..., D] -> logits [..., V] over the image ids (the tied embedding's first rows)."""
        return F.linear(h_BTD, self.embed.weight[: self.config.codes]) if self.head is None else self.head(h_BTD)

    def shift(self, tokens_BFL: Tensor) -> Tensor:
        """`shifted` with this model's <start_of_image>."""
        return shifted(tokens_BFL, self.config.start_of_image)

    def forward(
        self,
        text_BS: Tensor,
        tokens_BFL: Tensor,
        layout: FrameLayout,
        adapter: TemporalAdapter | None = None,
        *,
        memory: Memory | None = None,
        spatial_bias: float = 0.0,
        temporal_bias: float = 0.0,
        pb_relax: bool = False,
    ) -> Tensor:
        """Hidden states [B, F * L, D] of the image places; the state of a place predicts its own token.

        Args:
            text_BS: left-padded text ids.
            tokens_BFL: image ids in memory order.
            layout: S, times and roles; must match both tensors.
            adapter: the temporal channel, or None for the image model.
            memory: filled with keys and values for later steps.
            spatial_bias, temporal_bias: added to the scores of text keys.
            pb_relax: compute the temporal channel in the order that half precision survives.

        Raises:
            LayoutError: if tensors and layout disagree, or several frames come without an adapter.
        """
        states = (self.config.caption_width + 2,) if self.llama else ()
        expect_shape(text_BS, "text_BSE" if self.llama else "text_BS", None, layout.text, *states)
        expect_shape(tokens_BFL, "tokens_BFL", len(text_BS), layout.frames, layout.tokens)
        self.check_positions(layout, adapter)
        valid_BS = self.valid(text_BS)
        positions_P = layout.image_positions().to(text_BS.device)
        image_BPD = self.embed_image(self.shift(tokens_BFL), positions_P, adapter, text_BS)
        x_BTD = torch.cat([self.embed_text(text_BS), image_BPD], 1)
        spatial_memory, temporal_memory = (None, None) if memory is None else (memory.spatial, memory.temporal)
        turned = self.rotary(positions_P)
        spatial = spatial_blocks(layout, valid_BS, bias=spatial_bias, memory=spatial_memory, rotary=turned)
        turned = None if adapter is None else self.rotary(positions_P, temporal=True)
        blocks = partial(temporal_blocks, layout, valid_BS, bias=temporal_bias, memory=temporal_memory, rotary=turned)
        windows = set() if adapter is None else set(adapter.windows)
        temporal: dict[Window | None, Channel] = {each: blocks(window=each, pb_relax=pb_relax) for each in windows}
        signal = None if adapter is None else adapter.signal(text_BS, positions_P)
        return self.run(x_BTD, layout.text, spatial, temporal, adapter, signal)[:, layout.text :]
