"""Keys and values of earlier places, in buffers of fixed size that are written in place."""

from collections.abc import Sequence

from torch import Tensor

from cogstyle.layout import Runs


class KeyValues:
    """The memory of one channel: a buffer [B, N, H, slots] a layer for keys, and one for values.

    Slots come last, so that the products of a single query read memory from end to end.
    """

    def __init__(self, runs: Sequence[Runs], batch: int, heads: int, head_width: int, *, like: Tensor) -> None:
        """`runs` has one entry a layer; dtype and device are those of `like`."""
        self.runs = list(runs)
        shapes = [(batch, heads, head_width, run.length) for run in runs]
        self.keys, self.values = ([like.new_zeros(shape) for shape in shapes] for _ in range(2))

    def write(self, layer: int, slots: slice | Tensor, k_BNPH: Tensor, v_BNPH: Tensor) -> None:
        """Put new keys and values at `slots`."""
        self.keys[layer][..., slots] = k_BNPH.transpose(-1, -2)
        self.values[layer][..., slots] = v_BNPH.transpose(-1, -2)

    def write_text(self, layer: int, k_BNSH: Tensor, v_BNSH: Tensor) -> None:
        """Put the text at the start of every run."""
        for start in self.runs[layer].texts:
            self.write(layer, slice(start, start + k_BNSH.shape[2]), k_BNSH, v_BNSH)

    def write_images(self, layer: int, k_BNPH: Tensor, v_BNPH: Tensor) -> None:
        """Put the first P image places where their runs want them."""
        runs = self.runs[layer]
        self.write(layer, runs.slots_P[: k_BNPH.shape[2]].to(k_BNPH.device), k_BNPH, v_BNPH)

    def read(self, layer: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a stretch of slots, each [B, N, H, stop - start]."""
        return self.keys[layer][..., start:stop], self.values[layer][..., start:stop]
