"""Super-resolution of tokens: one forward pass predicts every fine token of a frame from its coarse ones.

Coarse rows (text, coarse tokens) run through the frozen channel; fine rows through a channel of their own
whose attention is local: each fine place sees fine neighbours, not causally, and the coarse tokens around
the place it came from, and no text. All fine inputs are <start_of_image>; the state of a place predicts its
own token.

Source: CogView2 (arXiv 2204.14217), "direct super-resolution".
"""

from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.config import ModelConfig, require
from cogstyle.errors import LayoutError
from cogstyle.model.attention import attend, hidden, text_bias
from cogstyle.model.transformer import Block, Transformer

FINE_WINDOW, COARSE_WINDOW = (9, 5), (5, 5)  # rows, columns that a fine place sees
TILE = 2  # coarse tokens along the side of a tile; wider ones copy fewer keys and compute more hidden scores


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
        config, batch = self.config, len(text_BS)
        if coarse_BL.shape != (batch, config.tokens):
            raise LayoutError(f"coarse tokens {tuple(coarse_BL.shape)} must be {batch} x {config.tokens}")
        valid_BS = text_BS != config.pad
        coarse = base.embed(coarse_BL) + base.positions.weight[self.first : self.first + config.tokens]
        start = base.embed.weight[config.start_of_image]
        fine_BMD = (start + self.positions.weight).expand(batch, -1, -1)
        x_BRD = torch.cat([base.embed_text(text_BS), coarse], 1)
        bias, window = _coarse_bias(valid_BS, config.tokens), self.window_bias(x_BRD.device)
        for block, local_attention in zip(base.layers, self.layers, strict=True):
            assert isinstance(block, Block) and isinstance(local_attention, LocalAttention)
            x_BRD, fine_BMD = self._layer(x_BRD, fine_BMD, block, local_attention, bias, window)
        return base.norm(fine_BMD)

    def _layer(
        self,
        x_BRD: Tensor,
        fine_BMD: Tensor,
        block: Block,
        local_attention: LocalAttention,
        bias: Tensor,
        window: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Text and coarse rows, which nothing here trains, and fine rows, which read them."""
        first, heads = x_BRD.shape[1] - self.config.tokens, self.config.heads
        q, k, v = block.qkv(block.norm1(x_BRD)).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        frozen_BRD = block.dense(attend(q, k, v, bias).transpose(1, 2).flatten(2))
        fine = local_attention.qkv(block.norm1(fine_BMD)).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        context = self._local(fine, (k[:, :, first:], v[:, :, first:]), window)
        local_BMD = local_attention.dense(context.transpose(1, 2).flatten(2))
        return block.mlp(x_BRD + block.norm3(frozen_BRD)), block.mlp(fine_BMD + block.norm3(local_BMD))

    def _local(self, fine: Tensor, coarse: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        """[3, B, N, M, H] queries, keys, values of the fine rows and coarse keys, values -> context [B, N, M, H].

        The picture is cut into tiles; all queries of a tile meet the same few keys, its own surroundings, in one
        product, and `bias` hides what lies outside a query's window. No [M, M] matrix exists.
        """
        q, k, v = (x.unflatten(2, self.grid) for x in fine)
        keys, values = (
            torch.cat([_tiles(x.unflatten(2, self.config.grid), self.tile, COARSE_WINDOW),
                       _tiles(y, self._fine_tile, FINE_WINDOW)], 2)
            for x, y in zip(coarse, (k, v), strict=True)
        )  # fmt: skip
        context = attend(_tiles(q, self._fine_tile, (1, 1)), keys, values, bias)
        rows, columns = (side // size for side, size in zip(self.config.grid, self.tile, strict=True))
        context = context.unflatten(2, self._fine_tile).unflatten(1, (rows, columns)).transpose(2, 3)
        return context.reshape(q.flatten(2, 3).shape)

    @property
    def tile(self) -> tuple[int, int]:
        """Coarse tokens that one tile covers: rows, columns."""
        rows, columns = (gcd(side, TILE) for side in self.config.grid)
        return rows, columns

    @property
    def _fine_tile(self) -> tuple[int, int]:
        return self.tile[0] * self.factor, self.tile[1] * self.factor

    @property
    def keys(self) -> int:
        """Coarse and fine keys that all queries of a tile meet."""
        return sum(
            (rows + window[0] - 1) * (columns + window[1] - 1)
            for (rows, columns), window in ((self.tile, COARSE_WINDOW), (self._fine_tile, FINE_WINDOW))
        )

    def window_bias(self, device: torch.device) -> Tensor:
        """[1, tiles, queries, keys] bias: -inf where a key lies outside the picture or the query's window."""
        parts = []
        for grid, tile, window, step in (
            (self.config.grid, self.tile, COARSE_WINDOW, self.factor),
            (self.grid, self._fine_tile, FINE_WINDOW, 1),
        ):
            near = [
                _near(queries, keys + reach - 1, reach, step)
                for queries, keys, reach in zip(self._fine_tile, tile, window, strict=True)
            ]
            near_QK = (near[0][:, None, :, None] & near[1][None, :, None, :]).flatten(2).flatten(0, 1)
            inside_GK = _tiles(torch.ones(1, 1, *grid, 1), tile, window)[0, :, :, 0] > 0
            parts.append(near_QK & inside_GK[:, None])
        return hidden(torch.cat(parts, -1)[None]).to(device)


def _near(queries: int, keys: int, reach: int, step: int) -> Tensor:
    """[queries, keys] of one axis: whether a key, counted from the margin's edge, lies in the query's window."""
    ahead = torch.arange(keys) - torch.arange(queries)[:, None] // step
    return (ahead >= 0) & (ahead < reach)


def _tiles(x_BNYXH: Tensor, tile: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """[B * N, tiles, places, H]: each tile with the margin that windows around its places reach; zero outside."""
    down, right = window[0] // 2, window[1] // 2
    padded = F.pad(x_BNYXH, (0, 0, right, right, down, down))
    cut = padded.unfold(2, tile[0] + 2 * down, tile[0]).unfold(3, tile[1] + 2 * right, tile[1])
    return cut.permute(0, 1, 2, 3, 5, 6, 4).flatten(4, 5).flatten(2, 3).flatten(0, 1)


def _coarse_bias(valid_BS: Tensor, tokens: int) -> Tensor:
    """[B, 1, S + L, S + L]: text sees text, coarse tokens see all, nobody sees padding."""
    batch, text = valid_BS.shape
    texts = text_bias(valid_BS).expand(-1, 1, text + tokens, -1)
    images = torch.zeros(batch, 1, text + tokens, tokens, device=valid_BS.device)
    images[:, :, :text] = -torch.inf
    return torch.cat([texts, images], -1)
