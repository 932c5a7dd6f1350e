"""The one decode loop: prefill what is known, then score the next places, draw them and advance, step after step."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cogstyle.layout import FrameLayout
from cogstyle.model.attention import text_bias
from cogstyle.model.cache import KeyValues
from cogstyle.model.fast_path import FastLayers, StepChannel
from cogstyle.model.native_step import NativeLayers, NativeStep
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Memory, Transformer
from cogstyle.sampling.decode_plan import ChannelPlan, Plan
from cogstyle.sampling.logits import Pick, Sampler, apply_guidance
from cogstyle.sampling.lookahead import LookAhead, Tries
from cogstyle.sampling.static_step import StaticSteps, captures

Progress = Callable[[int], None]  # called with the number of tokens that a step drew for one sample


@dataclass(frozen=True)
class Texts:
    """What conditions a decoding.

    With guidance the unconditional texts ride in the same batch, R = 2 B rows; else R = B.
    """

    prompts_BS: Tensor  # left-padded text ids
    unconditional_BS: Tensor | None = None  # likewise
    guidance: float = 1.0  # scale; 1 is none
    bias: float = 0.0  # added to the scores of text keys where there is no guidance

    @property
    def guided(self) -> bool:
        return self.guidance != 1.0 and self.unconditional_BS is not None

    @property
    def ids(self) -> Tensor:
        """Text ids of all rows of the batch, [R, S]."""
        if self.unconditional_BS is None or not self.guided:
            return self.prompts_BS
        return torch.cat([self.prompts_BS, self.unconditional_BS])

    @property
    def row_bias(self) -> float:
        """The text bias that the rows take."""
        return 0.0 if self.guided else self.bias

    def rows(self, tokens_BP: Tensor) -> Tensor:
        """What all rows share of the samples, [B, ..] -> [R, ..]."""
        return torch.cat([tokens_BP, tokens_BP]) if self.guided else tokens_BP


ChannelOf = Callable[[ChannelPlan, KeyValues], StepChannel]
Prefill = Callable[[Transformer, Texts, Tensor, FrameLayout, TemporalAdapter | None, Memory], object]


def prefill(
    model: Transformer,
    texts: Texts,
    known_BFL: Tensor,
    layout: FrameLayout,
    adapter: TemporalAdapter | None,
    memory: Memory,
) -> None:
    """Fill the memory with keys and values of texts and known frames."""
    known_RFL, bias = texts.rows(known_BFL), texts.row_bias
    model(texts.ids, known_RFL, layout, adapter, memory=memory, spatial_bias=bias, temporal_bias=bias)


class Scorer:
    """Logits of the next places of a plan, from the tokens before them and a memory that is filled at first."""

    together = True  # all samples of a batch at the same places

    def __init__(
        self, model: Transformer, texts: Texts, plan: Plan, adapter: TemporalAdapter | None, memory: Memory
    ) -> None:
        self.model, self.texts, self.plan, self.memory = model, texts, plan, memory
        self.room = text_room(model.valid(texts.ids), texts.row_bias, model.config.heads, plan.longest)
        self.layers, positions_P = FastLayers(model, adapter), plan.positions_P
        self.entry, self.rotary_PH = model.entry(texts.ids, positions_P, adapter), model.rotary(positions_P)
        self.own_rotary_PH = model.rotary(positions_P, temporal=True)
        self.signal_BPD = None if adapter is None else adapter.signal(texts.ids, positions_P)

    def score(self, tokens_BP: Tensor, tries: Tries) -> Tensor:
        """Logits [N, V] of what is tried, guidance included."""
        ends = next(iter(tries.ends.values()))
        first, last = ends[0], ends[-1]
        return self.logits(tokens_BP, slice(first, last), lambda one, kept: one.channel(kept, first, last, self.room))

    def logits(self, tokens_BP: Tensor, part: slice | Tensor, channel_of: ChannelOf) -> Tensor:
        """Logits [B * P, V] of some of the plan's places, through the channels that their keys lie in."""
        model, plan, memory = self.model, self.plan, self.memory
        inputs_BP = tokens_BP[:, plan.input_place_P[part]]
        inputs_BP = inputs_BP.masked_fill(plan.starts_frame_P[part], model.config.start_of_image)
        x_RPD = self.entry(self.texts.rows(inputs_BP), part)
        spatial, channels = channel_of(plan.spatial, memory.spatial), {}
        for window, order in plan.temporal.items():
            assert memory.temporal is not None
            channels[window] = channel_of(order, memory.temporal)
        if self.rotary_PH is not None and self.own_rotary_PH is not None:
            spatial = replace(spatial, rotary_PH=self.rotary_PH[part])
            signal_BPD = None if self.signal_BPD is None else self.signal_BPD[:, part]
            own_PH = self.own_rotary_PH[part]
            for window, channel in channels.items():
                channels[window] = replace(channel, rotary_PH=own_PH, signal_BPD=signal_BPD)
        h_RPD = self.layers(x_RPD, spatial, channels)
        return guided(model.logits(h_RPD).float().flatten(0, 1), self.texts)


class NativeScorer:
    """The same by the native step, each sample at its own places."""

    together = False

    def __init__(
        self, model: Transformer, texts: Texts, plan: Plan, adapter: TemporalAdapter | None, layers: NativeLayers
    ) -> None:
        self.model, self.texts, self.plan = model, texts, plan
        unseen_R = (~model.valid(texts.ids)).sum(1) - int(model.llama)
        self.adapter, self.step = adapter, NativeStep(layers, plan.native, unseen_R.tolist(), texts.row_bias)
        self.entry = model.entry(texts.ids, plan.positions_P, adapter)
        self.signal_RPD = None if adapter is None else adapter.signal(texts.ids, plan.positions_P)

    def fill(self, known_BFL: Tensor) -> None:
        """Prefill: every sequence alone, so that its numbers do not depend on the others."""
        model, known = self.model, self.plan.layout.known
        if model.llama:
            return self._fill_by_torch(known_BFL)
        positions_P = self.plan.layout.first(known).image_positions()
        inputs_RP = self.texts.rows(model.shift(known_BFL))
        for row, (ids_S, inputs_P) in enumerate(zip(self.texts.ids, inputs_RP, strict=True)):
            ids_S = ids_S[ids_S != model.config.pad]
            text_SD = model.embed_text(ids_S[None])[0]
            image_PD = model.embed_image(inputs_P[None], positions_P, self.adapter)[0]
            self.step.fill(torch.cat([text_SD, image_PD]), row, len(ids_S))

    def _fill_by_torch(self, known_BFL: Tensor) -> None:
        plan, known_RFL, bias = self.plan, self.texts.rows(known_BFL), self.texts.row_bias
        for row, ids in enumerate(self.texts.ids.split(1)):
            memory = plan.memory(self.model, 1)
            one = Texts(ids, bias=bias)
            prefill(
                self.model, one, known_RFL[row : row + 1], plan.layout.first(plan.layout.known), self.adapter, memory
            )
            self.step.memory.take(memory, row)

    def score(self, tokens_BP: Tensor, tries: Tries) -> Tensor:
        """Logits [N, V] of what is tried, guidance included."""
        plan, samples_N, order_N = self.plan, tries.samples_N, tries.order_N
        inputs_N = tokens_BP[samples_N, plan.input_place_P[order_N]]
        inputs_N = inputs_N.masked_fill(plan.starts_frame_P[order_N], self.model.config.start_of_image)
        if self.texts.guided:
            samples_N = torch.cat([samples_N, samples_N + len(tokens_BP)])
        inputs_N, order_N = self.texts.rows(inputs_N), self.texts.rows(order_N)
        signal_ND = None if self.signal_RPD is None else self.signal_RPD[samples_N, order_N]
        x_ND = self.entry(inputs_N, order_N, samples_N)
        return guided(self.step(x_ND, samples_N, plan.places_P[order_N], signal_ND), self.texts)


def guided(logits_RV: Tensor, texts: Texts) -> Tensor:
    """Logits [N, V] of the samples from those of all rows."""
    if not texts.guided:
        return logits_RV
    prompt_NV, unconditional_NV = logits_RV.chunk(2)
    return apply_guidance(prompt_NV, unconditional_NV, texts.guidance)


def text_room(valid_RS: Tensor, bias: float, heads: int, longest: int) -> Tensor | None:
    """What the scores of a run need, [R * N, 1, longest]: -inf at padding, `bias` at text; None if that is nothing."""
    if bias == 0.0 and bool(valid_RS.all()):
        return None
    text_R1S = text_bias(valid_RS, bias)[:, 0]
    return F.pad(text_R1S, (0, longest - text_R1S.shape[-1])).repeat_interleave(heads, 0)


@torch.inference_mode()
def decode(
    model: Transformer,
    texts: Texts,
    tokens_BFL: Tensor,
    plan: Plan,
    pick: Pick,
    *,
    adapter: TemporalAdapter | None = None,
    prefill: Prefill = prefill,
    progress: Progress = lambda tokens: None,
) -> Iterator[Tensor]:
    """Fill the generated frames of `tokens_BFL`; whenever one is finished, yield all that are, [B, .., L].

    Frames come in memory order; the last yield holds all.

    Args:
        tokens_BFL: known frames filled in; the rest is overwritten.
        plan: the layout and the order of filling; see `plan_for`. One that looks `ahead` tries several steps at
            once, which changes no token; a GPU does one after the other, in static shapes.
        pick: draws tokens from logits.
        prefill: fills the memory with texts and known frames.
        progress: called with the tokens of every step that counts.
    """
    layout, known = plan.layout, plan.layout.known
    model.check_positions(layout, adapter)
    tokens_BP = tokens_BFL.flatten(1).clone()
    scorer = scorer_for(model, texts, tokens_BFL[:, :known], plan, adapter, prefill)
    if isinstance(scorer, Scorer) and isinstance(pick, Sampler) and captures(tokens_BFL.device):
        for done in StaticSteps(scorer, pick, tokens_BP).frames(progress):
            yield tokens_BP.view_as(tokens_BFL)[:, : known + done].clone()
        return
    ahead = LookAhead(plan, len(tokens_BP), together=scorer.together or not isinstance(pick, Sampler))
    while (before := ahead.step) < plan.steps:
        tries = ahead.propose(tokens_BP)
        ahead.accept(tokens_BP, draw(pick, scorer.score(tokens_BP, tries), plan, tries), tries)
        if (step := ahead.step) > before:
            progress(plan.ends[step] - plan.ends[before])
        if step == plan.steps:
            yield tokens_BP.view_as(tokens_BFL)
        elif plan.finished[step] > plan.finished[before]:
            yield tokens_BP.view_as(tokens_BFL)[:, : known + plan.finished[step]].clone()


def scorer_for(
    model: Transformer,
    texts: Texts,
    known_BFL: Tensor,
    plan: Plan,
    adapter: TemporalAdapter | None,
    fill: Prefill,
) -> Scorer | NativeScorer:
    """The native scorer where the weights are packed for it, else PyTorch's; texts and known frames are filled in."""
    layers = NativeLayers.of(model, adapter)
    native = None if layers is None else NativeScorer(model, texts, plan, adapter, layers)
    if native is not None and fill is prefill:
        native.fill(known_BFL)
        return native
    memory = plan.memory(model, len(texts.ids))
    fill(model, texts, known_BFL, plan.layout.first(plan.layout.known), adapter, memory)
    if native is None:
        return Scorer(model, texts, plan, adapter, memory)
    native.step.memory.take(memory)
    return native


def draw(pick: Pick, logits_NV: Tensor, plan: Plan, tries: Tries) -> Tensor:
    """The tokens [N] of what is tried."""
    places_N = plan.places_P[tries.order_N]
    if isinstance(pick, Sampler):
        return pick.rows(logits_NV, tries.samples_N, places_N)
    batch = len(tries.ends)  # of samples that go together
    return pick(logits_NV.unflatten(0, (batch, -1)), places_N[: len(places_N) // batch]).flatten()


def finish(frames: Iterator[Tensor]) -> Tensor:
    """The last tokens of a decoding, when all frames are filled."""
    return deque(frames, maxlen=1).pop()
