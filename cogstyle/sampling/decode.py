"""The one decode loop: prefill what is known, then fill the places of a schedule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cogstyle.config import ModelConfig, SamplingConfig
from cogstyle.layout import FrameLayout, Window
from cogstyle.model.attention import Channel, StepChannel, hidden, text_bias
from cogstyle.model.cache import KeyValues
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Memory, Transformer
from cogstyle.sampling.logits import guide, sample
from cogstyle.sampling.schedule import Schedule, quickest

Progress = Callable[[int], None]  # called with the number of tokens that a step drew for one sample


Pick = Callable[[Tensor, Tensor], Tensor]  # logits [B, P, V] at image places [P] -> tokens [B, P]


def sampler(
    config: SamplingConfig,
    seeds: Sequence[tuple[int, ...]],
    layout: FrameLayout,
    labels_V: Tensor | None,
    *,
    last: SamplingConfig | None = None,
) -> Pick:
    """Draw as `config` says; every place of every sample owns its random numbers.

    Args:
        seeds: names the random stream of each sample.
        labels_V: cluster of every image id, needed for cluster sampling.
        last: how to draw the very last place, if otherwise.
    """
    places = layout.frames * layout.tokens
    uniforms_BP2 = torch.from_numpy(np.stack([np.random.default_rng(seed).random((places, 2)) for seed in seeds]))

    def pick(logits_BPV: Tensor, places_P: Tensor) -> Tensor:
        uniforms = uniforms_BP2[:, places_P].flatten(0, 1).to(logits_BPV.device)
        chosen = last if last is not None and int(places_P[0]) == places - 1 else config
        return sample(logits_BPV.flatten(0, 1), uniforms, chosen, labels_V).view(logits_BPV.shape[:2])

    return pick


def slots(layout: FrameLayout, in_flight: int) -> tuple[int, int]:
    """Places that the spatial memory (text + frames in flight) and the temporal one (text + all frames) hold."""
    return layout.text + in_flight * layout.tokens, layout.text + layout.frames * layout.tokens


def memory_bytes(config: ModelConfig, layout: FrameLayout, rows: int, itemsize: int, *, in_flight: int = 1) -> int:
    """Bytes of both memories for `rows` sequences."""
    return 2 * config.layers * rows * sum(slots(layout, in_flight)) * config.width * itemsize


def new_memory(model: Transformer, rows: int, layout: FrameLayout, in_flight: int, *, temporal: bool) -> Memory:
    """Buffers for `rows` sequences."""
    config, weight = model.config, model.embed.weight
    spatial, whole = (
        KeyValues(config.layers, rows, config.heads, length, config.head_width, like=weight)
        for length in slots(layout, in_flight)
    )
    return Memory(spatial, whole if temporal else None)


class Steps:
    """Channels for each step of a schedule, cut from visibility that is computed once."""

    def __init__(
        self,
        layout: FrameLayout,
        windows: set[Window | None],
        valid_RS: Tensor,
        memory: Memory,
        in_flight: int,
        bias: float,
    ) -> None:
        device = valid_RS.device
        self.layout, self.memory, self.in_flight = layout, memory, in_flight
        self.text_R11S = text_bias(valid_RS, bias)
        self.spatial_FLL = hidden(layout.spatial_visible().to(device))
        self.temporal_PP = {w: hidden(layout.temporal_visible(w).to(device)) for w in windows}

    def _bias(self, images_PK: Tensor) -> Tensor:
        """[R, 1, P, S + K]."""
        places, rows = images_PK.shape[0], self.text_R11S.shape[0]
        text = self.text_R11S.expand(-1, -1, places, -1)
        return torch.cat([text, images_PK.expand(rows, 1, -1, -1)], -1)

    def channels(self, places_P: Tensor) -> tuple[Channel, dict[Window | None, Channel]]:
        """The spatial channel and the temporal channel of each window for these places."""
        length, text = self.layout.tokens, self.layout.text
        frames_P, raster_P = places_P // length, places_P % length
        lane_P = frames_P % self.in_flight
        own_PK = torch.full((len(places_P), self.in_flight, length), -torch.inf, device=self.text_R11S.device)
        own_PK[torch.arange(len(places_P)), lane_P] = self.spatial_FLL[frames_P, raster_P]
        spatial_slots = text + lane_P * length + raster_P
        spatial = StepChannel(self.memory.spatial, spatial_slots, self._bias(own_PK.flatten(1)))
        temporal: dict[Window | None, Channel] = {}
        for window, visible_PP in self.temporal_PP.items():
            assert self.memory.temporal is not None
            bias = self._bias(visible_PP[places_P])
            temporal[window] = StepChannel(self.memory.temporal, text + places_P, bias)
        return spatial, temporal


def misplaced(tokens_BFL: Tensor, texts_BS: Tensor, guides_BS: Tensor, *, pad: int) -> Tensor:
    """Known frames as the released sampler puts them behind the guide: where the longer prompt would end.

    They come late by the difference in length; -1 where nothing was written.
    """
    late_B = ((texts_BS != pad).sum(1) - (guides_BS != pad).sum(1)).clamp(min=0)
    flat_BP = tokens_BFL.flatten(1)
    source_BP = torch.arange(flat_BP.shape[1], device=flat_BP.device) - late_B[:, None]
    moved_BP = flat_BP.gather(1, source_BP.clamp(min=0)).masked_fill(source_BP < 0, -1)
    return moved_BP.view_as(tokens_BFL)


@torch.inference_mode()
def decode(
    model: Transformer,
    texts_BS: Tensor,
    tokens_BFL: Tensor,
    layout: FrameLayout,
    pick: Pick,
    *,
    adapter: TemporalAdapter | None = None,
    guides_BS: Tensor | None = None,
    guidance: float = 1.0,
    text_bias: float = 0.0,
    schedule: Schedule | None = None,
    progress: Progress = lambda tokens: None,
    released: bool = False,
    guide_known_BFL: Tensor | None = None,
) -> Tensor:
    """Fill the generated frames of `tokens_BFL` and return all tokens in memory order, [B, F, L].

    Args:
        texts_BS: left-padded text ids of the prompts.
        tokens_BFL: known frames filled in; the rest is overwritten.
        pick: draws tokens from logits.
        guides_BS: left-padded guide texts; they ride in the same batch when `guidance` is not 1.
        text_bias: added to the scores of text keys where there is no guidance.
        schedule: order of filling; default: the quickest that gives the same tokens.
        progress: told about every step.
        released: prefill as the released sampler does: no text bias in the temporal channel, and shifted
            windows that see across the wrapped border.
        guide_known_BFL: the known frames as the guide's rows see them, if otherwise.
    """
    windows = set(adapter.windows) if adapter is not None else set()
    schedule = schedule or quickest(replace(layout, text=0), frozenset(windows))
    guided = guidance != 1.0 and guides_BS is not None
    texts_RS = torch.cat([texts_BS, guides_BS]) if guided and guides_BS is not None else texts_BS
    copies, bias = (2, 0.0) if guided else (1, text_bias)
    tokens_BP = tokens_BFL.flatten(1).clone()
    memory = new_memory(model, len(texts_RS), layout, schedule.in_flight, temporal=adapter is not None)
    known = layout.known
    known_RFL = tokens_BFL[:, :known].repeat(copies, 1, 1)
    if guided and guide_known_BFL is not None:
        known_RFL[len(texts_BS) :] = guide_known_BFL
    model(
        texts_RS,
        known_RFL,
        layout.first(known),
        adapter,
        memory=memory,
        spatial_bias=bias,
        temporal_bias=0.0 if released else bias,
        released=released,
    )
    steps = Steps(layout, windows, texts_RS != model.config.pad, memory, schedule.in_flight, bias)
    positions = layout.image_positions().to(texts_RS.device)
    for places_P in schedule.steps:
        before_BP = tokens_BP[:, (places_P - 1).clamp(min=0)]
        inputs_BP = before_BP.masked_fill(places_P % layout.tokens == 0, model.config.start_of_image)
        x_RPD = model.embed_image(inputs_BP.repeat(copies, 1), positions[places_P], adapter)
        logits_RPV = model.logits(model.run(x_RPD, 0, *steps.channels(places_P), adapter)).float()
        if guided:
            condition_BPV, guide_BPV = logits_RPV.chunk(2)
            logits_RPV = guide(condition_BPV, guide_BPV, guidance)
        tokens_BP[:, places_P] = pick(logits_RPV, places_P)
        progress(len(places_P))
    return tokens_BP.view_as(tokens_BFL)


@dataclass(frozen=True)
class Stage:
    """One step of the way from prompt to video: a model, maybe an adapter, and how to draw."""

    model: Transformer
    adapter: TemporalAdapter | None
    config: SamplingConfig
    labels_V: Tensor | None = None  # cluster of every image id
    progress: Progress = lambda tokens: None
    released: bool = False  # with the released sampler's quirks
    last: SamplingConfig | None = None  # how to draw the last place, if otherwise

    def fill(
        self,
        tokens_BFL: Tensor,
        layout: FrameLayout,
        texts: tuple[Tensor, Tensor],
        seeds: Sequence[tuple[int, ...]],
    ) -> Tensor:
        """`decode` with this stage's weights and options; `texts` are prompts and guides, [B, S] each."""
        known_BFL = tokens_BFL[:, : layout.known]
        return decode(
            self.model,
            texts[0],
            tokens_BFL,
            layout,
            sampler(self.config, seeds, layout, self.labels_V, last=self.last),
            adapter=self.adapter,
            guides_BS=texts[1],
            guidance=self.config.guidance,
            text_bias=self.config.text_bias,
            progress=self.progress,
            released=self.released,
            guide_known_BFL=misplaced(known_BFL, *texts, pad=self.model.config.pad) if self.released else None,
        )
