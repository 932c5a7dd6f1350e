"""Super-resolution of tokens: one forward pass predicts every fine token of a frame from its coarse ones.

Coarse rows (text, coarse tokens) run through the frozen channel; fine rows through a channel of their own
whose attention is local: each fine place sees fine neighbours, not causally, and the coarse tokens around
the place it came from, and no text. All fine inputs are <start_of_image>; the state of a place predicts its
own token.

Source: CogView2 (arXiv 2204.14217), "direct super-resolution".
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.config import ModelConfig, require
from cogstyle.errors import LayoutError
from cogstyle.model.attention import attend, hidden, text_bias
from cogstyle.model.transformer import Block, Transformer

FINE_WINDOW, COARSE_WINDOW = (9, 5), (5, 5)  # rows, columns that a fine place sees


class LocalAttention(nn.Module):
    """The projections of the fine rows of one layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.dense = nn.Linear(width, width)


class SuperResolution(nn.Module):
    """All that super-resolution adds to a frozen image model: local attention a layer, fine positions.

    Args:
        factor: fine tokens along the side of a coarse one.
        coarse_offset: position rows between the end of the text and the first coarse token.
    """

    def __init__(self, config: ModelConfig, *, factor: int = 3, coarse_offset: int = 0) -> None:
        super().__init__()
        first = config.text_positions + coarse_offset
        require(
            first + config.tokens <= config.positions,
            f"coarse_offset {coarse_offset} leaves no room for {config.tokens} tokens in {config.positions} positions",
        )
        self.config, self.factor, self.first = config, factor, first
        self.layers = nn.ModuleList(LocalAttention(config.width) for _ in range(config.layers))
        self.positions = nn.Embedding(factor**2 * config.tokens, config.width)

    @property
    def grid(self) -> tuple[int, int]:
        """Fine tokens of a frame: rows, columns."""
        return self.config.grid[0] * self.factor, self.config.grid[1] * self.factor

    def forward(self, base: Transformer, text_BS: Tensor, coarse_BL: Tensor) -> Tensor:
        """Left-padded text and coarse tokens -> hidden states of the fine places [B, M, D].

        Raises:
            LayoutError: if the coarse tokens do not fill the grid.
        """
        config, (batch, text) = self.config, text_BS.shape
        if coarse_BL.shape != (batch, config.tokens):
            raise LayoutError(f"coarse tokens {tuple(coarse_BL.shape)} must be {batch} x {config.tokens}")
        valid_BS = text_BS != config.pad
        coarse = base.embed(coarse_BL) + base.positions.weight[self.first : self.first + config.tokens]
        start = base.embed.weight[config.start_of_image]
        fine_BMD = (start + self.positions.weight).expand(batch, -1, -1)
        x_BTD = torch.cat([base.embed_text(text_BS), coarse, fine_BMD], 1)
        bias = _coarse_bias(valid_BS, config.tokens)
        for block, beside in zip(base.layers, self.layers, strict=True):
            assert isinstance(block, Block) and isinstance(beside, LocalAttention)
            x_BTD = self._layer(x_BTD, block, beside, bias, text)
        return base.norm(x_BTD[:, text + config.tokens :])

    def _layer(self, x_BTD: Tensor, block: Block, beside: LocalAttention, bias: Tensor, text: int) -> Tensor:
        rows, heads = text + self.config.tokens, self.config.heads
        h_BTD = block.norm1(x_BTD)
        q, k, v = block.qkv(h_BTD[:, :rows]).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        frozen_BRD = block.dense(attend(q, k, v, bias).transpose(1, 2).flatten(2))
        fine = beside.qkv(h_BTD[:, rows:]).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        coarse = (k[:, :, text:], v[:, :, text:])
        local_BMD = beside.dense(self._local(fine, coarse).transpose(1, 2).flatten(2))
        x_BTD = x_BTD + block.norm3(torch.cat([frozen_BRD, local_BMD], 1))
        return block.mlp(x_BTD)

    def _local(self, fine: Tensor, coarse: tuple[Tensor, Tensor]) -> Tensor:
        """[3, B, N, M, H] queries, keys, values of the fine rows and coarse keys, values -> context [B, N, M, H].

        Neighbours are reached by shifting the whole grid, one product a neighbour: memory is one score a
        neighbour and place, and no [M, M] matrix exists.
        """
        q, k, v = (x.unflatten(2, self.grid) for x in fine)
        coarse_k, coarse_v = (x.unflatten(2, self.config.grid) for x in coarse)
        scores = torch.stack([(q * key).sum(-1) for key in self._neighbours(coarse_k, k)], -1)
        weights = (scores * q.shape[-1] ** -0.5 + self._outside(q.device)).softmax(-1)
        context = torch.zeros_like(q)
        for index, value in enumerate(self._neighbours(coarse_v, v)):
            context = context + weights[..., index, None] * value
        return context.flatten(2, 3)

    def _neighbours(self, coarse: Tensor, fine: Tensor) -> Iterator[Tensor]:
        """The fine grid as each neighbour of a place sees it: coarse neighbours first, then fine ones."""
        for view in _shifted(coarse, COARSE_WINDOW):
            yield self._enlarge(view)
        yield from _shifted(fine, FINE_WINDOW)

    def _enlarge(self, x_BNYXH: Tensor) -> Tensor:
        """Repeat every coarse place for the fine places it covers."""
        return x_BNYXH.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)

    def _outside(self, device: torch.device) -> Tensor:
        """[rows, columns, neighbours] bias: -inf where a neighbour lies outside the picture."""
        coarse, fine = (torch.ones(1, 1, *grid, 1, device=device) for grid in (self.config.grid, self.grid))
        return hidden(torch.cat(list(self._neighbours(coarse, fine)), -1)[0, 0] > 0)


def _shifted(x_BNYXH: Tensor, window: tuple[int, int]) -> Iterator[Tensor]:
    """The grid moved to each place of a window, raster order; zero outside."""
    rows, columns = x_BNYXH.shape[2:4]
    down, right = window[0] // 2, window[1] // 2
    padded = F.pad(x_BNYXH, (0, 0, right, right, down, down))
    for y in range(window[0]):
        for x in range(window[1]):
            yield padded[:, :, y : y + rows, x : x + columns]


def _coarse_bias(valid_BS: Tensor, tokens: int) -> Tensor:
    """[B, 1, S + L, S + L]: text sees text, coarse tokens see all, nobody sees padding."""
    batch, text = valid_BS.shape
    texts = text_bias(valid_BS).expand(-1, 1, text + tokens, -1)
    images = torch.zeros(batch, 1, text + tokens, tokens, device=valid_BS.device)
    images[:, :, :text] = -torch.inf
    return torch.cat([texts, images], -1)
