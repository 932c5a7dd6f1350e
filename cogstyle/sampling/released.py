"""The quirks of the released sampler, for `compat="released"` (docs/parity.md); nothing else knows of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cogstyle.config import SamplingConfig
from cogstyle.layout import FrameLayout, Window
from cogstyle.model.attention import Channel, spatial_blocks, temporal_blocks
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Memory, Transformer
from cogstyle.sampling.decode import Prefill, Texts
from cogstyle.sampling.logits import Pick, sampler
from cogstyle.sampling.stage import Stage


def misplaced(tokens_BFL: Tensor, texts_BS: Tensor, unconditional_BS: Tensor, *, pad: int) -> Tensor:
    """Known frames as the released sampler puts them behind the unconditional text: where the longer prompt would end.

    They come late by the difference in length; -1 where nothing was written.
    """
    late_B = ((texts_BS != pad).sum(1) - (unconditional_BS != pad).sum(1)).clamp(min=0)
    flat_BP = tokens_BFL.flatten(1)
    source_BP = torch.arange(flat_BP.shape[1], device=flat_BP.device) - late_B[:, None]
    moved_BP = flat_BP.gather(1, source_BP.clamp(min=0)).masked_fill(source_BP < 0, -1)
    return moved_BP.view_as(tokens_BFL)


def forward(
    model: Transformer,
    text_BS: Tensor,
    tokens_BFL: Tensor,
    layout: FrameLayout,
    adapter: TemporalAdapter | None = None,
    *,
    memory: Memory | None = None,
    bias: float = 0.0,
) -> Tensor:
    """`Transformer.forward` as the released sampler does it.

    There is no text bias in the temporal channel, shifted windows see across the wrapped border, and an id of -1
    stands for a place that was never written: its embedding is zero.
    """
    valid_BS, inputs_BP = text_BS != model.config.pad, model.shift(tokens_BFL)
    positions_P = layout.image_positions().to(text_BS.device)
    image_BPD = model.embed_image(inputs_BP.clamp(min=0), positions_P, adapter)
    image_BPD = image_BPD - model.embed.weight[0] * (inputs_BP < 0)[..., None]
    spatial = spatial_blocks(layout, valid_BS, bias=bias, memory=None if memory is None else memory.spatial)
    temporal: dict[Window | None, Channel] = {
        window: temporal_blocks(
            layout,
            valid_BS,
            window=None if window is None else replace(window, wraps=True),
            memory=None if memory is None else memory.temporal,
        )
        for window in set(adapter.windows if adapter is not None else ())
    }
    x_BTD = torch.cat([model.embed_text(text_BS), image_BPD], 1)
    return model.run(x_BTD, layout.text, spatial, temporal, adapter)[:, layout.text :]


def prefill(
    model: Transformer,
    texts: Texts,
    known_BFL: Tensor,
    layout: FrameLayout,
    adapter: TemporalAdapter | None,
    memory: Memory,
) -> None:
    """Prefill by `forward`."""
    forward(model, texts.ids, texts.rows(known_BFL), layout, adapter, memory=memory, bias=texts.row_bias)


def prefill_late(
    model: Transformer,
    texts: Texts,
    known_BFL: Tensor,
    layout: FrameLayout,
    adapter: TemporalAdapter | None,
    memory: Memory,
) -> None:
    """Likewise; the unconditional rows see the known frames where the released sampler puts them."""
    known_RFL = texts.rows(known_BFL)
    if texts.guided and texts.unconditional_BS is not None:
        late_BFL = misplaced(known_BFL, texts.prompts_BS, texts.unconditional_BS, pad=model.config.pad)
        known_RFL = torch.cat([known_BFL, late_BFL])
    forward(model, texts.ids, known_RFL, layout, adapter, memory=memory, bias=texts.row_bias)


def last_place(pick: Pick, other: Pick, layout: FrameLayout) -> Pick:
    """`pick`, but for the very last place of a layout, which `other` draws."""
    last = layout.frames * layout.tokens - 1
    return lambda logits_BPV, places_P: (other if int(places_P[0]) == last else pick)(logits_BPV, places_P)


@dataclass(frozen=True)
class ReleasedStage(Stage):
    """A stage as the released sampler has it, one step at a time.

    Its loop counts one place too far: it draws the first frame's last token as a keyframe's.
    """

    last: SamplingConfig | None = None  # how to draw the last place, if otherwise
    prefill: Prefill = field(default=prefill_late, kw_only=True)

    def picker(self, seeds: Sequence[tuple[int, ...]], layout: FrameLayout, device: torch.device) -> Pick:
        pick = super().picker(seeds, layout, device)
        if self.last is None:
            return pick
        return last_place(pick, sampler(self.last, seeds, layout, self.labels_V, device=device), layout)
