"""Keys and values of earlier places, in buffers of fixed size that are written in place."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cogstyle.layout import Runs


class KeyValues:
    """The memory of one channel: of each layer, keys [B * N, H, slots] and values [B * N, slots, H].

    So the products of a single query read memory from end to end.
    """

    def __init__(self, runs: Sequence[Runs], batch: int, heads: int, head_width: int, *, like: Tensor) -> None:
        """`runs` has one entry a layer; dtype and device are those of `like`."""
        self.runs = list(runs)
        self.keys = [like.new_zeros(batch * heads, head_width, run.length) for run in runs]
        self.values = [like.new_zeros(batch * heads, run.length, head_width) for run in runs]

    def write(self, layer: int, slots_P: Tensor, k_BNPH: Tensor, v_BNPH: Tensor) -> None:
        """Put new keys and values at these slots."""
        keys, values = (
            buffer.view(*k_BNPH.shape[:2], *buffer.shape[1:]) for buffer in (self.keys[layer], self.values[layer])
        )
        keys.index_copy_(3, slots_P, k_BNPH.transpose(2, 3))
        values.index_copy_(2, slots_P, v_BNPH)

    def write_text(self, layer: int, k_BNSH: Tensor, v_BNSH: Tensor) -> None:
        """Put the text at the start of every run."""
        for start in self.runs[layer].texts:
            slots_S = torch.arange(start, start + k_BNSH.shape[2], device=k_BNSH.device)
            self.write(layer, slots_S, k_BNSH, v_BNSH)

    def write_images(self, layer: int, k_BNPH: Tensor, v_BNPH: Tensor) -> None:
        """Put the first P image places where their runs want them."""
        runs = self.runs[layer]
        self.write(layer, runs.slots_P[: k_BNPH.shape[2]].to(k_BNPH.device), k_BNPH, v_BNPH)
