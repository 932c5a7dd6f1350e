"""The trainable half of the dual-channel block: temporal attention beside each frozen attention layer.

Source: CogVideo (arXiv 2205.15868), section 3.2.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.config import FRAME_RATES, ModelConfig, require
from cogstyle.growth_config import running_order
from cogstyle.layout import Window
from cogstyle.model.attention import Channel
from cogstyle.model.llama import seconds_of

RATES = tuple(FRAME_RATES[0] * 2.0**level for level in range(9))  # frames a second, of keyframes or between them
Projection = Callable[[int, int], nn.Module]  # (features in, features out) -> a projection


class TemporalAttention(nn.Module):
    """Attention over frames and the gate that mixes it with the frozen spatial channel.

    Args:
        column, row: make the projections into and out of the heads. Tensor-parallel ones can stand in: one that
            gives each rank the queries, keys and values of its heads, and one that sums over the ranks.
    """

    def __init__(self, width: int, heads: int, *, column: Projection = nn.Linear, row: Projection = nn.Linear) -> None:
        super().__init__()
        self.head_width = width // heads
        self.qkv = column(width, 3 * width)
        self.dense = row(width, width)
        self.gate = nn.Parameter(torch.zeros(width))

    def forward(
        self,
        layer: int,
        h_BTD: Tensor,
        spatial_BTD: Tensor,
        channel: Channel,
        text: int,
        signal_BPD: Tensor | None = None,
    ) -> Tensor:
        """Mix into `spatial_BTD`, the output of the frozen channel: text rows pass, image rows are gated.

        Args:
            signal_BPD: added to the image rows that this channel reads.
        """
        if signal_BPD is not None:
            h_BTD = h_BTD + F.pad(signal_BPD, (0, 0, text, 0))
        q_BTNH, k_BTNH, v_BTNH = self.qkv(h_BTD).view(*h_BTD.shape[:2], 3, -1, self.head_width).unbind(2)
        q_BPNH, spatial_BPD = (q_BTNH[:, text:], spatial_BTD[:, text:]) if text else (q_BTNH, spatial_BTD)
        temporal_BPD = self.dense(channel(layer, q_BPNH, k_BTNH, v_BTNH).flatten(2))
        mixed_BPD = torch.addcmul(temporal_BPD, self.gate.sigmoid(), spatial_BPD - temporal_BPD)
        return torch.cat([spatial_BTD[:, :text], mixed_BPD], 1) if text else mixed_BPD


def layer_windows(layers: int, window: int, grown: Sequence[int] = ()) -> list[Window | None]:
    """The window of each layer, `window` tokens a side (0: full attention); every second one moves by half a side.

    Args:
        grown: those of the layers that were added later, see `ModelConfig`: they have the windows of what they copy.
    """
    order = running_order(layers - len(grown), grown)
    return [Window(window, shift=window // 2 * (layer % 2)) if window else None for layer, _ in order]


class Layer(NamedTuple):
    """What runs as one layer."""

    block: nn.Module  # a `Block`
    temporal: TemporalAttention | None
    window: Window | None


def temporal_attention(config: ModelConfig) -> TemporalAttention:
    """That of one layer, as the family of the model has it."""
    linear: Projection = partial(nn.Linear, bias=False) if config.family == "llama" else nn.Linear
    return TemporalAttention(config.width, config.heads, column=linear, row=linear)


class TemporalAdapter(nn.Module):
    """All that a video task adds to the frozen image model: one TemporalAttention a layer, new positions.

    Args:
        window: side of the attention windows in tokens, 0 for full attention. `windows` holds the window of
            each layer: it belongs to the layer, so inserting layers does not change those that are there.
    """

    def __init__(self, config: ModelConfig, *, window: int = 0) -> None:
        super().__init__()
        require(0 <= window <= min(config.grid), f"window {window} must be 0 (full) to {min(config.grid)}")
        self.config, self.window = config, window
        self.windows = layer_windows(config.layers, window, config.grown)
        self.layers = nn.ModuleList(temporal_attention(config) for _ in range(config.layers))
        self.positions, self.times, self.rates = None, None, None
        if config.family == "llama":
            self.times = nn.Embedding(config.frames, config.width)
            self.rates = nn.Embedding(len(RATES), config.width)
        else:
            self.positions = nn.Embedding(config.extra_positions, config.width)

    def stack(self, blocks: Iterable[nn.Module]) -> list[Layer]:
        """All that runs, in order, where `blocks` are those of the image model."""
        return [Layer(*parts) for parts in zip(blocks, self.layers, self.windows, strict=True)]  # type: ignore[arg-type]

    @property
    def rows(self) -> int:
        """Image positions that there are, those of the first frame included."""
        if self.times is not None:
            return self.times.num_embeddings * self.config.tokens
        assert self.positions is not None
        return self.config.tokens + self.positions.num_embeddings

    def signal(self, text_BSE: Tensor, positions_P: Tensor) -> Tensor | None:
        """When a place is and how fast the frames follow each other, for this channel alone, [B, P, D].

        Where positions are learned they say the first, and the text the second: None.
        """
        if self.times is None or self.rates is None:
            return None
        asked_B = (self.config.frames - 1) / seconds_of(text_BSE).float().clamp(min=1e-3)
        known_R = torch.tensor(RATES, device=text_BSE.device)
        rate_B = (asked_B[:, None] / known_R).log().abs().argmin(1)
        return self.times(positions_P // self.config.tokens) + self.rates(rate_B)[:, None]
