"""What a Llama-like image model does in its own way: its block, rotary positions in the plane, captions as states.

Text is a tensor text_BSE, S rows that end with the caption: the states of a language model (E = caption_width + 2),
then the row's `Mark`, then the seconds that a video spans (0: a picture). The last row is no text to the others:
every frame has a copy of it as its first input, where other models have <start_of_image>.

Source: LlamaGen (arXiv 2406.06525).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.config import ModelConfig
from cogstyle.layout import Mark


class CaptionEmbedder(nn.Module):
    """States -> rows of the transformer. The unconditional embedding is a constant, as in the release."""

    unconditional: Tensor  # [S, caption_width]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.caption_width, config.width, bias=False)
        self.fc2 = nn.Linear(config.width, config.width, bias=False)
        states = torch.randn(config.text_span, config.caption_width) / config.caption_width**0.5
        self.register_buffer("unconditional", states)

    def forward(self, text_BSE: Tensor) -> Tensor:
        given = (text_BSE[..., -2:-1].long() & Mark.UNCONDITIONAL) == 0
        rows = self.unconditional[len(self.unconditional) - text_BSE.shape[1] :]
        states_BSE = torch.where(given, text_BSE[..., :-2].to(rows.dtype), rows)
        return self.fc2(F.gelu(self.fc1(states_BSE), approximate="tanh"))


def valid_states(text_BSE: Tensor) -> Tensor:
    """bool [B, S]: the rows that others see; not the last one, of which every frame has a copy."""
    valid_BS = (text_BSE[..., -2].long() & Mark.TEXT) != 0
    valid_BS[:, -1] = False
    return valid_BS


def seconds_of(text_BSE: Tensor) -> Tensor:
    """Seconds [B] that the video of each text spans; 0: a picture."""
    return text_BSE[:, -1, -1]


def rotary(config: ModelConfig, positions_P: Tensor, *, temporal: bool = False) -> Tensor:
    """cos and sin [P, head_width / 2, 2] of image positions (time * L + raster), in float32.

    A place stands where its input does, the token before its own; the first half of the angles says the row, the
    second the column. The first place of a frame has none: in the spatial channel its cos and sin are zero, as those
    of text are, in the temporal channel it stands where its own token does.
    """
    raster_P, device = positions_P % config.tokens, positions_P.device
    place_P = (raster_P - 1).clamp(min=0)
    half = config.head_width // 2
    frequencies = 1.0 / config.rope_base ** (torch.arange(0, half, 2, device=device).float() / half)
    both = torch.stack([place_P // config.grid[1], place_P % config.grid[1]], 1).float()
    angles = (both[..., None] * frequencies).flatten(1)
    table = torch.stack([angles.cos(), angles.sin()], -1)
    return table if temporal else table.masked_fill((raster_P == 0)[:, None, None], 0.0)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate neighbouring pairs of the last axis; cos and sin [.., head_width / 2, 2] broadcast. In float32."""
    one, other = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = table.unbind(-1)
    return torch.stack([one * cos - other * sin, other * cos + one * sin], -1).flatten(-2).to(x.dtype)
