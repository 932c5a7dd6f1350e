"""The trainable half of the dual-channel block: temporal attention beside each frozen attention layer.

Source: CogVideo (arXiv 2205.15868), section 3.2.
"""

import torch
from torch import Tensor, nn

from cogstyle.config import ModelConfig, require
from cogstyle.layout import Window
from cogstyle.model.attention import Channel


class TemporalAttention(nn.Module):
    """Attention over frames and the gate that mixes it with the frozen spatial channel.

    Args:
        linear: class of the two projections, so that tensor-parallel ones can stand in.
    """

    def __init__(self, width: int, heads: int, *, linear: type[nn.Module] = nn.Linear) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = linear(width, 3 * width)
        self.dense = linear(width, width)
        self.gate = nn.Parameter(torch.zeros(width))

    def forward(self, layer: int, h_BTD: Tensor, spatial_BTD: Tensor, channel: Channel, text: int) -> Tensor:
        """Mix into `spatial_BTD`, the output of the frozen channel: text rows pass, image rows are gated."""
        q_BTNH, k_BTNH, v_BTNH = self.qkv(h_BTD).unflatten(-1, (3, self.heads, -1)).unbind(2)
        temporal_BPD = self.dense(channel(layer, q_BTNH[:, text:], k_BTNH, v_BTNH).flatten(2))
        gate = self.gate.sigmoid()
        mixed_BPD = gate * spatial_BTD[:, text:] + (1.0 - gate) * temporal_BPD
        return torch.cat([spatial_BTD[:, :text], mixed_BPD], 1) if text else mixed_BPD


class TemporalAdapter(nn.Module):
    """All that a video task adds to the frozen image model: one TemporalAttention a layer, new positions.

    Args:
        window: side of the attention windows in tokens, 0 for full attention; every second layer
            moves its windows by half their side. `windows` holds the window of each layer: it belongs to
            the layer, so inserting layers does not change those that are there.
    """

    def __init__(self, config: ModelConfig, *, window: int = 0, linear: type[nn.Module] = nn.Linear) -> None:
        super().__init__()
        require(0 <= window <= min(config.grid), f"window {window} must be 0 (full) to {min(config.grid)}")
        self.config, self.window = config, window
        self.windows = [
            Window(window, shift=window // 2 * (layer % 2)) if window else None for layer in range(config.layers)
        ]
        self.layers = nn.ModuleList(
            TemporalAttention(config.width, config.heads, linear=linear) for _ in range(config.layers)
        )
        self.positions = nn.Embedding(config.extra_positions, config.width)
