"""What the arms are judged by: losses, captions, first frames, steps and seconds."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cogstyle.bundle import Bundle
from cogstyle.config import SamplingConfig
from cogstyle.data.shards import Shards
from cogstyle.layout import FrameLayout, interpolation_layout, keyframe_layout
from cogstyle.model.temporal import TemporalAdapter, layer_windows
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import Plan
from cogstyle.sampling.interpolate import refine
from cogstyle.sampling.keyframes import TextConditions, first_frames, keyframes
from cogstyle.sampling.logits import sampler
from cogstyle.sampling.schedule import Schedule, sequential, wavefront
from cogstyle.sampling.stage import Stage
from cogstyle.shapes_report.protocol import Clip, Scenes, judged, lowest_rate, mean_step, true_mean_step
from cogstyle.shapes_report.temporal import distance_from_motion, still_flicker
from cogstyle.shapes_world import world
from cogstyle.tokenizers.text import TextTokenizer
from cogstyle.training.loss import token_loss
from cogstyle.video import Video

DRAWN = SamplingConfig(
    temperature=0.6, top_p=0.9
)  # keyframes; no guidance: so short a run learns nothing to lead away from
REFINED = SamplingConfig(temperature=0.2, top_p=0.95)


@torch.no_grad()
def row_losses(
    model: Transformer,
    adapter: TemporalAdapter | None,
    text: TextTokenizer,
    data: Shards,
    layout: FrameLayout,
    *,
    batch: int = 16,
) -> np.ndarray:
    """Loss of every generated frame of every row, nats a token [rows, generated frames]."""
    parts = []
    for picks in torch.arange(len(data)).split(batch):
        still = layout.frames == 1
        ids = [
            text.image_text(data.captions[k]) if still else text.video_text(data.captions[k], data.seconds[k])
            for k in picks.tolist()
        ]
        text_BS = text.pad(ids)
        shown = replace(layout, text=text_BS.shape[1])
        tokens_BFL = data.tokens[picks][:, list(layout.times)].long()
        h_BPD = model(text_BS, tokens_BFL, shown, adapter)[:, layout.known * layout.tokens :]
        losses_BP = token_loss(model.logits(h_BPD), tokens_BFL[:, layout.known :].flatten(1))
        parts.append(losses_BP.unflatten(1, (-1, layout.tokens)).mean(2))
    return torch.cat(parts).numpy()


def by_rate(losses_RF: np.ndarray, data: Shards) -> dict[str, float]:
    """Mean loss of the rows of each frame rate."""
    rates_R = np.round(4 / np.array(data.seconds), 3)
    return {f"{rate:g}": float(losses_RF[rates_R == rate].mean()) for rate in np.unique(rates_R)}


@dataclass(frozen=True)
class OwnRates(TextConditions):
    """TextConditions of clips that each have a keyframe rate of their own; stages are told 1 a second."""

    rates: tuple[float, ...] = ()

    def texts(self, seconds: float | None, *, copies: int = 1) -> tuple[Tensor, Tensor]:
        if seconds is None:
            return super().texts(None, copies=copies)
        spans = [seconds / rate for rate in self.rates for _ in range(copies)]
        prompts = [prompt for prompt in self.prompts for _ in range(copies)]
        rows = [self.text.video_text(prompt, span) for prompt, span in zip(prompts, spans, strict=True)]
        both = self.text.pad(rows + [self.text.video_text(None, span) for span in spans])
        return both[: len(rows)], both[len(rows) :]


class Judge:
    """Captions of one actor, their true first frames, and what samples of them show."""

    def __init__(self, bundle: Bundle, scenes: Scenes, rates: Sequence[float] | None = None) -> None:
        self.bundle, self.scenes, self.vqvae = bundle, scenes, bundle.vqvae()
        self.rates = tuple(rates or (lowest_rate(scene) for _, scene in scenes))
        captions, seeds = [world.caption(scene) for _, scene in scenes], [seed for seed, _ in scenes]
        self.conditions = OwnRates(captions, seeds, bundle.text(), rates=self.rates)
        size = bundle.tokenizer_config.image_size
        first = np.concatenate([world.render_clip(scene, [0.0], size) for _, scene in scenes])
        self.first_BFL = self.vqvae.encode(torch.from_numpy(first).permute(0, 3, 1, 2))[:, None]

    def clips(self, tokens_BFL: Tensor, speed: float = 1.0) -> list[Clip]:
        """Tokens as clips, read and judged; frames come `speed` times the keyframe rate."""
        found = []
        for (seed, scene), rate, tokens_FL in zip(self.scenes, self.rates, tokens_BFL, strict=True):
            frames = self.vqvae.decode(tokens_FL).permute(0, 2, 3, 1).numpy()
            found.append(judged(seed, scene, Video(frames, rate * speed, tokens=tokens_FL.numpy())))
        return found

    def keyframes(self, stage: Stage, first_BFL: Tensor | None = None) -> Tensor:
        """Keyframes [B, F, L] from true first frames, or from others."""
        first_BFL = self.first_BFL if first_BFL is None else first_BFL
        return [*keyframes(stage, first_BFL, self.conditions, frame_rate=1.0)][-1]

    def first_frames(self, model: Transformer) -> Tensor:
        """First frames [B, 1, L] by an image model, as the bundle draws them."""
        return first_frames(Stage(model, None, self.bundle.sampling("image"), ahead=16), self.conditions)


def looks_right(clip: Clip) -> bool:
    """Everything that one frame can show."""
    return all(getattr(clip.verdict, name) for name in ("count", "colour", "shape", "background", "size"))


def shares(clips: Sequence[Clip]) -> dict[str, float]:
    """Shares of the clips whose look, motion, and everything hold; distance from the asked motion; flicker."""
    rows = {
        "look": [looks_right(clip) for clip in clips],
        "motion": [clip.verdict.action and clip.verdict.direction for clip in clips],
        "all": [clip.verdict.all for clip in clips],
        "distance": [
            distance_from_motion(clip.reading, [k / clip.video.fps for k in range(len(clip.video.frames))], clip.scene)
            for clip in clips
        ],
        "flicker": [still_flicker(clip.video.frames) for clip in clips],
        "last frame": [
            looks_right(judged(clip.seed, clip.scene, Video(clip.video.frames[-1:], 1.0))) for clip in clips
        ],
    }
    return {name: _mean(values) for name, values in rows.items()}


def _mean(values: Sequence[Any]) -> float:
    there = [float(value) for value in values if value is not None]
    return float(np.mean(there)) if there else float("nan")


def rate_control(judge: Judge, stage: Stage) -> dict[str, float]:
    """Movement a keyframe over the true one, by keyframe rate."""
    clips = judge.clips(judge.keyframes(stage))
    found: dict[str, list[float]] = {}
    for clip, rate in zip(clips, judge.rates, strict=True):
        step, true = mean_step(clip.reading), true_mean_step(clip.scene, rate, len(clip.video.frames))
        if step is not None:
            found.setdefault(f"{rate:g}", []).append(step / true)
    return {rate: _mean(values) for rate, values in found.items()}


def first_frame_figures(
    model: Transformer, original: Transformer, judge: Judge, text: TextTokenizer, images: Shards, layout: FrameLayout
) -> dict[str, float]:
    """What is left of an image model: loss on images, first frames read right and tokens as it drew them before."""
    drawn_BFL, before_BFL = judge.first_frames(model), judge.first_frames(original)
    clips = judge.clips(drawn_BFL)
    return {
        "loss": float(row_losses(model, None, text, images, layout).mean()),
        "read right": float(np.mean([looks_right(clip) for clip in clips])),
        "equal tokens": float((drawn_BFL == before_BFL).float().mean()),
    }


def whole_clip(judge: Judge, first: Stage, second: Stage, levels: int) -> Tensor:
    """Keyframes from true first frames, then refinement: [B, 33, L]."""
    tokens_BFL = judge.keyframes(first)
    for level in range(1, levels + 1):
        tokens_BFL = refine(second, tokens_BFL, judge.conditions, frame_rate=2.0**level)
    return tokens_BFL


def slide(judge: Judge, stage: Stage, *, overlap: int, levels: int) -> Tensor:
    """The same number of frames by a window of F frames that goes on from its last `overlap`: [B, 33, L]."""
    config, frames_BFL = stage.model.config, judge.first_BFL
    total = (config.frames - 1) * 2**levels + 1
    texts, window = judge.conditions.texts((config.frames - 1) / 2.0**levels), 0
    while frames_BFL.shape[1] < total:
        known_BFL = frames_BFL[:, -overlap:]  # one frame at the start, whatever the overlap
        layout = keyframe_layout(config, texts[0].shape[1], known=known_BFL.shape[1])
        blank_BFL = known_BFL.new_zeros(len(known_BFL), config.frames - layout.known, layout.tokens)
        seeds = [(9, seed, overlap, window) for seed in judge.conditions.seeds]
        filled_BFL = stage.fill(torch.cat([known_BFL, blank_BFL], 1), layout, texts, seeds)
        frames_BFL, window = torch.cat([frames_BFL, filled_BFL[:, layout.known :]], 1), window + 1
    return frames_BFL[:, :total]


def schedules(config: Any, window: int) -> dict[str, Schedule]:
    """Orders of one interpolation group: token after token, and side by side as the windows allow."""
    layout = interpolation_layout(config, 0)
    orders = {"sequential": sequential(layout)}
    return orders | ({"wavefront": wavefront(layout, set(layer_windows(config.layers, window)))} if window else {})


def level_seconds(judge: Judge, stage: Stage) -> dict[str, float]:
    """Processor seconds of refining two first gaps of each clip by each schedule; all give the same tokens.

    Raises:
        AssertionError: if they do not.
    """
    assert stage.adapter is not None
    config, texts = stage.model.config, judge.conditions.texts((stage.model.config.frames - 1) / 2.0)
    layout = interpolation_layout(config, texts[0].shape[1])
    given_BFL = judge.first_BFL.repeat(1, layout.frames, 1)
    pick = sampler(stage.config, [(8, seed) for seed in judge.conditions.seeds], layout, None)
    found, drawn = {}, []
    for name, schedule in schedules(config, stage.adapter.window).items():
        plan = Plan(layout, schedule, tuple(stage.adapter.windows))
        for _ in range(2):  # the first one fills the plan's own tables
            began = time.process_time()
            tokens_BFL = finish(decode(stage.model, Texts(texts[0]), given_BFL, plan, pick, adapter=stage.adapter))
            found[name] = time.process_time() - began
        drawn.append(tokens_BFL)
    assert all(torch.equal(tokens_BFL, drawn[0]) for tokens_BFL in drawn), "schedules differ"
    return found
