"""Keys and values of earlier places, in buffers of fixed size that are written in place."""

import torch
from torch import Tensor


class KeyValues:
    """The memory of one channel: [layers, B, N, text + slots, H] for keys and for values."""

    def __init__(self, layers: int, batch: int, heads: int, length: int, head_width: int, *, like: Tensor) -> None:
        """`length` is text + slots; dtype and device are those of `like`."""
        shape = (layers, batch, heads, length, head_width)
        self.keys, self.values = (torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(2))

    def write(self, layer: int, slots: slice | Tensor, k_BNPH: Tensor, v_BNPH: Tensor) -> None:
        """Put new keys and values at `slots`."""
        self.keys[layer, :, :, slots] = k_BNPH
        self.values[layer, :, :, slots] = v_BNPH

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer, each [B, N, text + slots, H]."""
        return self.keys[layer], self.values[layer]
