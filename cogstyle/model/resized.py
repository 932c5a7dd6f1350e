"""The same weights for frames of another grid, or clips of another length: learned positions are resized, no weight is.

Rows and columns are resized bilinearly, as pixels of a picture are, times linearly from the first frame to the last.
What has the size that the tables were learned at keeps them to the bit.
"""

from copy import copy
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cogstyle.config import ModelConfig
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer


class Table(nn.Module):
    """Rows that stand in for an embedding's; gradients pass to what they were made of."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight, self.num_embeddings = weight, len(weight)

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


def sized(config: ModelConfig, frames: int, grid: tuple[int, int]) -> ModelConfig:
    """The config of the same model for `frames` frames of `grid`; one frame says nothing about a video's length."""
    frames = config.frames if frames == 1 else frames
    if (frames, grid) == (config.frames, config.grid):
        return config
    tokens = grid[0] * grid[1]
    first, later = config.text_positions + tokens, (frames - 1) * tokens
    return replace(config, frames=frames, grid=grid, positions=first, extra_positions=later)


def resize(table_FYXD: Tensor, frames: int, grid: tuple[int, int]) -> Tensor:
    """Positions [F, rows, columns, D] for `frames` frames of `grid`."""
    if table_FYXD.shape[1:3] != grid:
        planes = F.interpolate(table_FYXD.permute(0, 3, 1, 2), grid, mode="bilinear", align_corners=False)
        table_FYXD = planes.permute(0, 2, 3, 1)
    return _in_time(table_FYXD, frames)


def _in_time(table: Tensor, frames: int) -> Tensor:
    """[F, ...] -> [frames, ...]: the first stays the first, the last the last."""
    if len(table) == frames:
        return table
    lines = table.flatten(1).T[None]
    return F.interpolate(lines, frames, mode="linear", align_corners=True)[0].T.unflatten(1, table.shape[1:])


def resized(
    transformer: Transformer, adapter: TemporalAdapter | None, frames: int, grid: tuple[int, int]
) -> tuple[Transformer, TemporalAdapter | None]:
    """Views of an image model and its adapter, of the same weights, for `frames` frames of `grid`."""
    old, new = transformer.config, sized(transformer.config, frames, grid)
    if new == old:
        return transformer, adapter
    image, video = copy(transformer), copy(adapter)
    image.config = new
    if video is not None:
        video.config = new
    if transformer.llama:  # places turn, nothing is learned but the times
        if video is not None and adapter is not None and adapter.times is not None:
            video._modules = adapter._modules | {"times": Table(_in_time(adapter.times.weight, new.frames))}
        return image, video
    rows, first = old.text_positions, transformer.positions.weight[old.text_positions :][: old.tokens]
    tables = first[None]
    if adapter is not None and adapter.positions is not None:
        later = adapter.positions.weight[: (old.frames - 1) * old.tokens]
        tables = torch.cat([tables, later.unflatten(0, (-1, old.tokens))])
    made = resize(tables.unflatten(1, old.grid), len(tables) if len(tables) == 1 else new.frames, grid).flatten(1, 2)
    image._modules = transformer._modules | {
        "positions": Table(torch.cat([transformer.positions.weight[:rows], made[0]]))
    }
    if video is not None and adapter is not None:
        video._modules = adapter._modules | {"positions": Table(made[1:].flatten(0, 1))}
    return image, video
