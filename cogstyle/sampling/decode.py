"""The one decode loop: prefill what is known, then fill the places of a schedule."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cogstyle.config import ModelConfig, SamplingConfig, require
from cogstyle.errors import SamplingError
from cogstyle.layout import FrameLayout, spatial_runs, temporal_runs
from cogstyle.model.attention import text_bias
from cogstyle.model.cache import KeyValues
from cogstyle.model.fast_path import Stack
from cogstyle.model.temporal import TemporalAdapter, layer_windows
from cogstyle.model.transformer import Memory, Transformer
from cogstyle.sampling.decode_plan import Plan, plan_for
from cogstyle.sampling.logits import guide, sample

Progress = Callable[[int], None]  # called with the number of tokens that a step drew for one sample


Pick = Callable[[Tensor, Tensor], Tensor]  # logits [B, P, V] at image places [P] -> tokens [B, P]


def sampler(
    config: SamplingConfig,
    seeds: Sequence[tuple[int, ...]],
    layout: FrameLayout,
    labels_V: Tensor | None,
    *,
    last: SamplingConfig | None = None,
    device: torch.device | None = None,
) -> Pick:
    """Draw as `config` says; every place of every sample owns its random numbers.

    Args:
        seeds: names the random stream of each sample.
        labels_V: cluster of every image id, needed for cluster sampling.
        last: how to draw the very last place, if otherwise.
    """
    places = layout.frames * layout.tokens
    uniforms = np.stack([np.random.default_rng(seed).random((places, 2)) for seed in seeds])
    uniforms_BP2 = torch.from_numpy(uniforms).to(device)

    def pick(logits_BPV: Tensor, places_P: Tensor) -> Tensor:
        chosen = last if last is not None and int(places_P[0]) == places - 1 else config
        uniforms_R2 = uniforms_BP2[:, places_P].flatten(0, 1)
        return sample(logits_BPV.flatten(0, 1), uniforms_R2, chosen, labels_V).view(logits_BPV.shape[:2])

    return pick


def memory_bytes(
    config: ModelConfig, layout: FrameLayout, rows: int, itemsize: int, *, window: int = 0, lanes: int = 1
) -> int:
    """Bytes of keys and values for `rows` sequences beside an adapter with these temporal windows (0: none)."""
    spatial = config.layers * spatial_runs(layout, lanes).length
    temporal = sum(temporal_runs(layout, kind).length for kind in layer_windows(config.layers, window))
    return 2 * rows * (spatial + temporal) * config.width * itemsize


def text_room(valid_RS: Tensor, bias: float, heads: int, longest: int) -> Tensor | None:
    """What the scores of a run need, [R * N, 1, longest]: -inf at padding, `bias` at text; None if that is nothing."""
    if bias == 0.0 and bool(valid_RS.all()):
        return None
    text_R1S = text_bias(valid_RS, bias)[:, 0]
    return F.pad(text_R1S, (0, longest - text_R1S.shape[-1])).repeat_interleave(heads, 0)


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
    plan: Plan | None = None,
    progress: Progress = lambda tokens: None,
    released: bool = False,
    guide_known_BFL: Tensor | None = None,
) -> Iterator[Tensor]:
    """Fill the generated frames of `tokens_BFL`; whenever one is finished, yield all that are, [B, .., L].

    Frames come in memory order; the last yield holds all.

    Args:
        texts_BS: left-padded text ids of the prompts.
        tokens_BFL: known frames filled in; the rest is overwritten.
        pick: draws tokens from logits.
        guides_BS: left-padded guide texts; they ride in the same batch when `guidance` is not 1.
        text_bias: added to the scores of text keys where there is no guidance.
        plan: order of filling; default: the quickest that gives the same tokens. A plan that looks `ahead` tries
            several steps at once, their inputs guessed: first like the frame before, then as drawn last. Steps
            whose inputs were guessed right count. As every place owns its random numbers, what is drawn is
            what one step after the other would draw.
        progress: told the tokens of every step that counts.
        released: prefill as the released sampler does: no text bias in the temporal channel, and shifted
            windows that see across the wrapped border.
        guide_known_BFL: the known frames as the guide's rows see them, if otherwise.
    """
    model.check_positions(layout, adapter)
    config, device = model.config, texts_BS.device
    windows = tuple(adapter.windows) if adapter is not None else ()
    plan = plan or plan_for(layout, windows, device=device)
    guided = guidance != 1.0 and guides_BS is not None
    texts_RS = torch.cat([texts_BS, guides_BS]) if guided and guides_BS is not None else texts_BS
    copies, bias = (2, 0.0) if guided else (1, text_bias)
    tokens_BP = tokens_BFL.flatten(1).clone()
    spatial, temporal = (
        KeyValues(runs, len(texts_RS), config.heads, config.head_width, like=model.embed.weight)
        for runs in plan.runs(config.layers)
    )
    known = layout.known
    known_RFL = tokens_BFL[:, :known].repeat(copies, 1, 1)
    if guided and guide_known_BFL is not None:
        known_RFL[len(texts_BS) :] = guide_known_BFL
    model(
        texts_RS,
        known_RFL,
        layout.first(known),
        adapter,
        memory=Memory(spatial, temporal),
        spatial_bias=bias,
        temporal_bias=0.0 if released else bias,
        released=released,
    )
    room = text_room(texts_RS != config.pad, bias, config.heads, plan.longest)
    stack, positions_PD = Stack(model, adapter), model.embed_positions(plan.positions_P, adapter)

    def logits(first: int, last: int) -> Tensor:
        """Of the places `first` up to `last` in the plan's order, their inputs taken from `tokens_BP`."""
        inputs_BP = tokens_BP[:, plan.before_P[first:last]]
        inputs_BP = inputs_BP.masked_fill(plan.opens_P[first:last], config.start_of_image)
        x_RPD = model.embed(inputs_BP.repeat(copies, 1)) + positions_PD[first:last]
        channels = {window: order.channel(temporal, first, last, room) for window, order in plan.temporal.items()}
        h_RPD = stack(x_RPD, plan.spatial.channel(spatial, first, last, room), channels)
        logits_RPV = model.logits(h_RPD).float()
        if not guided:
            return logits_RPV
        condition_BPV, guide_BPV = logits_RPV.chunk(2)
        return guide(condition_BPV, guide_BPV, guidance)

    step, tried, right = 0, 0, 2
    while step < plan.steps:
        tries = min(plan.ahead, 2 * right)  # twice as many as were right the last time
        ends = plan.ends[step : step + tries + 1]
        first, last = ends[0], ends[-1]
        places_P = plan.places_P[first:last]
        if tried < last and plan.ahead > 1:
            tokens_BP[:, plan.places_P[tried:last]] = tokens_BP[:, plan.alike_P[tried:last]]
            tried = last
        drawn_BP = pick(logits(first, last), places_P)
        right = len(ends) - 1
        if right > 1:
            right = guessed_right(drawn_BP == tokens_BP[:, places_P], [end - first for end in ends])
        tokens_BP[:, places_P] = drawn_BP
        before, step = step, step + right
        progress(plan.ends[step] - first)
        if step == plan.steps:
            yield tokens_BP.view_as(tokens_BFL)
        elif plan.finished[step] > plan.finished[before]:
            yield tokens_BP.view_as(tokens_BFL)[:, : known + plan.finished[step]].clone()


def finish(frames: Iterator[Tensor]) -> Tensor:
    """The last tokens of a decoding, when all frames are filled."""
    return deque(frames, maxlen=1).pop()


def guessed_right(same_BP: Tensor, ends: list[int]) -> int:
    """Steps that count: the first one, and every further one as long as all draws before it equal their guesses.

    Args:
        same_BP: whether a place's draw equals what the step after it took for granted.
        ends: of the steps, starting with 0.
    """
    wrong_P = (~same_BP).any(0)
    first_wrong = int(torch.cat([wrong_P, wrong_P.new_ones(1)]).int().argmax())
    return 1 + sum(end <= first_wrong for end in ends[1:-1])


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
    ahead: int = 1  # steps that are tried at once
    name: str = ""  # for errors

    def frames(
        self,
        tokens_BFL: Tensor,
        layout: FrameLayout,
        texts: tuple[Tensor, Tensor],
        seeds: Sequence[tuple[int, ...]],
    ) -> Iterator[Tensor]:
        """`decode` with this stage's weights and options; `texts` are prompts and guides, [B, S] each."""
        require(len(seeds) == len(tokens_BFL), f"{len(seeds)} seeds for {len(tokens_BFL)} samples; give one a sample")
        known_BFL, device = tokens_BFL[:, : layout.known], tokens_BFL.device
        windows = () if self.adapter is None else tuple(self.adapter.windows)
        try:
            yield from decode(
                self.model,
                texts[0],
                tokens_BFL,
                layout,
                sampler(self.config, seeds, layout, self.labels_V, last=self.last, device=device),
                adapter=self.adapter,
                guides_BS=texts[1],
                guidance=self.config.guidance,
                text_bias=self.config.text_bias,
                plan=plan_for(layout, windows, ahead=self.ahead, device=device),
                progress=self.progress,
                released=self.released,
                guide_known_BFL=misplaced(known_BFL, *texts, pad=self.model.config.pad) if self.released else None,
            )
        except SamplingError as error:
            raise SamplingError(
                f"{self.name or 'sampling'}: {error}; are the weights whole, and the options sane?"
            ) from None

    def fill(
        self,
        tokens_BFL: Tensor,
        layout: FrameLayout,
        texts: tuple[Tensor, Tensor],
        seeds: Sequence[tuple[int, ...]],
    ) -> Tensor:
        """The tokens of `frames` when all are filled."""
        return finish(self.frames(tokens_BFL, layout, texts, seeds))
