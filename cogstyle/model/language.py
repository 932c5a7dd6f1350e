"""A frozen language model beside the text: cross-attention that image places give to the states of a prompt.

The states are read once a prompt and so are keys and values; at the start every layer adds zero to the bit, so that
the model that listens gives what the plain one does.

Source: ModelGrow (arXiv 2412.18688); ELLA (arXiv 2403.05135).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor, nn

from cogstyle.config import ModelConfig
from cogstyle.language_config import LanguageConfig
from cogstyle.model.attention import attend, hidden


class Segment(IntEnum):
    """Whose state stands in a place."""

    PADDING = -1
    ORIGINAL = 0  # the prompt as it was given
    REWRITTEN = 1
    NULL = 2  # no prompt's: the one place of a guide, or of a row whose prompt is left out


@dataclass(frozen=True)
class Heard:
    """States of the prompts of a batch, side by side."""

    states_BUE: Tensor
    segments_BU: Tensor  # int64, see `Segment`

    @classmethod
    def of(cls, rows: Sequence[Sequence[tuple[Segment, Tensor]]], width: int) -> "Heard":
        """Rows of prompts (what they are, states [U, width]); a row without any is a guide's."""
        lengths = [max(1, sum(len(states) for _, states in row)) for row in rows]
        states_BUE = torch.zeros(len(rows), max(lengths), width)
        segments_BU = torch.full(states_BUE.shape[:2], Segment.PADDING)
        for states_UE, segments_U, row in zip(states_BUE, segments_BU, rows, strict=True):
            if not row:
                segments_U[0] = Segment.NULL
                continue
            together = torch.cat([states for _, states in row])
            states_UE[: len(together)] = together
            marks = [torch.full((len(states),), int(segment)) for segment, states in row]
            segments_U[: len(together)] = torch.cat(marks)
        return cls(states_BUE, segments_BU)

    def to(self, device: torch.device) -> "Heard":
        return Heard(self.states_BUE.to(device), self.segments_BU.to(device))


class RefinerBlock(nn.Module):
    """x + attention(norm1(x)), then x + mlp(norm2(x)), in both directions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.dense = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x_BUD: Tensor, bias_B11U: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x_BUD)).unflatten(2, (3, self.heads, -1))
        q_BNUH, k_BNUH, v_BNUH = (part.transpose(1, 2) for part in qkv.unbind(2))
        x_BUD = x_BUD + self.dense(attend(q_BNUH, k_BNUH, v_BNUH, bias_B11U).transpose(1, 2).flatten(2))
        return x_BUD + self.down(nn.functional.gelu(self.up(self.norm2(x_BUD)), approximate="tanh"))


class Connector(nn.Module):
    """States of a language model -> rows that the layers read.

    A causal model's early states know nothing of what follows, so two blocks look both ways.
    """

    def __init__(self, inputs: int, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.RMSNorm(inputs), nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(RefinerBlock(width, heads) for _ in range(2))
        self.segments = nn.Embedding(2, width)
        self.null = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.segments.weight, std=0.02)
        nn.init.normal_(self.null, std=0.5)  # as large as the other rows begin

    def forward(self, heard: Heard) -> Tensor:
        """C [B, U, D]."""
        bias_B11U = visible(heard)
        x_BUD = self.linear(self.norm(heard.states_BUE.to(self.linear.weight.dtype)))
        for block in self.blocks:
            x_BUD = block(x_BUD, bias_B11U)
        x_BUD = x_BUD + self.segments(heard.segments_BU.clamp(Segment.ORIGINAL, Segment.REWRITTEN))
        return torch.where((heard.segments_BU == Segment.NULL)[..., None], self.null, x_BUD)


def visible(heard: Heard) -> Tensor:
    """[B, 1, 1, U]: -inf at padding."""
    return hidden(heard.segments_BU != Segment.PADDING)[:, None, None]


class CrossAttention(nn.Module):
    """norm_out(out(attention(query(norm_in(x)), key(C), value(C)))), which is zero until it trains."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        nn.init.zeros_(self.norm_out.weight)

    def split(self, x_BPD: Tensor) -> Tensor:
        """[B, P, D] -> [B, N, P, H]."""
        return x_BPD.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def forward(self, x_BPD: Tensor, k_BNUH: Tensor, v_BNUH: Tensor, bias_B11U: Tensor) -> Tensor:
        context_BNPH = attend(self.split(self.query(self.norm_in(x_BPD))), k_BNUH, v_BNUH, bias_B11U)
        return self.norm_out(self.out(context_BNPH.transpose(1, 2).flatten(2)))


@dataclass(frozen=True)
class Listener:
    """What one layer hears of the prompts of a batch: keys and values, made once."""

    attention: CrossAttention
    k_BNUH: Tensor
    v_BNUH: Tensor
    bias_B11U: Tensor

    def __call__(self, x_BPD: Tensor) -> Tensor:
        """Image rows with what they hear."""
        return x_BPD + self.attention(x_BPD, self.k_BNUH, self.v_BNUH, self.bias_B11U)


class LanguageAdapter(nn.Module):
    """All that listening adds to a frozen model: the connector, and cross-attention in every (second) frozen layer."""

    def __init__(self, config: ModelConfig, language: LanguageConfig) -> None:
        super().__init__()
        self.config, self.language = config, language
        self.connector = Connector(language.width, config.width, config.heads)
        count = config.layers // language.every
        self.layers = nn.ModuleList(CrossAttention(config.width, config.heads) for _ in range(count))

    def listen(self, heard: Heard) -> list[Listener | None]:
        """What each frozen layer hears; None: nothing."""
        c_BUD, bias_B11U = self.connector(heard), visible(heard)
        found: list[Listener | None] = [None] * self.config.layers
        for number, layer in enumerate(self.layers, 1):
            assert isinstance(layer, CrossAttention)
            k_BNUH, v_BNUH = layer.split(layer.key(c_BUD)), layer.split(layer.value(c_BUD))
            found[number * self.language.every - 1] = Listener(layer, k_BNUH, v_BNUH, bias_B11U)
        return found
