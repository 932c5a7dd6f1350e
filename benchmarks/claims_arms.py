"""The arms of the paper's claims: what each changes, how it starts, and its training.

Every arm sees as many tokens a step as every other: `batch` clips of five frames. Arms of one task and seed see the
same batches in the same order, unless their rows differ by design.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cogstyle.adapter import adapter_from_image
from cogstyle.bundle import Bundle, WeightFile
from cogstyle.config import SamplingConfig
from cogstyle.data import shards
from cogstyle.data.mixing import MixConfig, make_groups
from cogstyle.files import fingerprint
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.rows import Row
from cogstyle.shapes_world import rows, world
from cogstyle.training.batches import Batches, kinds_of
from cogstyle.training.engine import EngineConfig, start
from cogstyle.training.guard import Guard
from cogstyle.training.job import OptimConfig
from cogstyle.training.jobs import encoding
from cogstyle.training.loop import train_step
from cogstyle.training.loss import VideoModel
from cogstyle.training.processes import Processes
from cogstyle.training.sources import SceneData
from cogstyle.training.transformer import TransformerJob, fresh_transformer

LEVELS = 3  # refinements from keyframes to a whole clip: 5 -> 33 frames
OnStep = Callable[[int, TransformerJob, dict[str, float]], None]  # called with steps done, job, figures of the step


@dataclass(frozen=True)
class Recipe:
    """What all arms have in common."""

    steps: int = 150
    batch: int = 8  # clips a step
    lr: float = 2e-3  # of Muon; a tenth of the steps warms up, then cosine to zero
    rows: int = 1200  # training clips of each kind
    validation_rows: int = 64
    caption_dropout: float = 0.1
    precision: str = "fp32"  # of the training, see cogstyle.training.engine


@dataclass(frozen=True)
class Arm:
    """What one arm changes of the dual-channel adapter that starts as a copy of the image model's attention."""

    says: str
    task: str = "keyframes"
    rows: str = "keyframes"  # "keyframes@4": of one frame rate; "windows": any five frames of a whole clip
    copy_output: bool = True  # False: the released start, a random output projection
    random_temporal: bool = False  # queries, keys, values and output projection are N(0, 0.02)
    random_image: bool = False  # so is the image model
    train_all: bool = False  # the image model trains too
    window: int = 0  # of the temporal channel, 0: full
    length: int = 1  # times the steps


ARMS = {
    "copied": Arm("adapter, copied from the image model"),
    "random": Arm("adapter, temporal channel random", random_temporal=True),
    "all": Arm("everything trained, from the image model", train_all=True),
    "scratch": Arm("everything trained, from scratch", random_temporal=True, random_image=True, train_all=True),
    "released": Arm("adapter, output projection random", copy_output=False),
    "one_rate": Arm("adapter, 4 frames a second only", rows="keyframes@4"),
    "window_4": Arm("window 4", task="interpolation", rows="interpolation", window=4),
    "window_2": Arm("window 2", task="interpolation", rows="interpolation", window=2),
    "window_full": Arm("full attention", task="interpolation", rows="interpolation"),
    "one_stage": Arm("one stage, sliding window", rows="windows", length=2),
}
DRAWING = {  # ways to draw keyframes, all at temperature 0.6
    "guidance_1.5": SamplingConfig(guidance=1.5, temperature=0.6, top_p=0.9),  # as the shapes bundle does
    "guidance_1": SamplingConfig(guidance=1.0, temperature=0.6, top_p=0.9),
    "top-k_16": SamplingConfig(guidance=1.5, temperature=0.6, top_k=16),
    "clusters_3": SamplingConfig(guidance=1.5, temperature=0.6, clusters=3),
    "guidance_3": SamplingConfig(guidance=3.0, temperature=0.6, top_p=0.9),
    "guidance_2": SamplingConfig(guidance=2.0, temperature=0.6, top_p=0.9),
    "guidance_1.25": SamplingConfig(guidance=1.25, temperature=0.6, top_p=0.9),
    "top-k_64": SamplingConfig(guidance=1.5, temperature=0.6, top_k=64),
    "clusters_8": SamplingConfig(guidance=1.5, temperature=0.6, clusters=8),
}


def window_row(seed: int, size: int, frames: int) -> Row:
    """`frames` successive frames, anywhere in a whole clip that starts at one of the scene's keyframe rates."""
    scene, rng = world.draw_scene(seed), np.random.default_rng([seed, 7])
    rates = world.keyframe_rates(scene, frames)
    rate = rates[int(rng.integers(len(rates)))] * 2**LEVELS
    first = int(rng.integers((frames - 1) * (2**LEVELS - 1) + 1))
    times = [(first + k) / rate for k in range(frames)]
    return Row(world.render_clip(scene, times, size), world.caption(scene), (frames - 1) / rate)


def read_rows(bundle: Bundle, kind: str, data: Path, count: int, first_seed: int) -> shards.Shards:
    """`count` rows, encoded once and kept under `data`: "windows" or "image"."""
    size, frames = bundle.tokenizer_config.image_size, bundle.model_config.frames
    make: Any = (
        partial(window_row, size=size, frames=frames) if kind == "windows" else partial(rows.image_row, size=size)
    )
    digest = bundle.sha256(WeightFile.TOKENIZER)
    folder = data / f"claims-{kind}-{fingerprint(rows.RULES, first_seed, size, frames, LEVELS, digest)}"
    options: dict[str, Any] = {"vqvae": bundle.vqvae(), "tokenizer_sha256": digest, "quiet": True}
    return shards.encode(lambda number: make(first_seed + number), count, folder, **options)


@torch.no_grad()
def random_attention(adapter: TemporalAdapter) -> None:
    """Forget the copy: N(0, 0.02) projections with zero biases."""
    for layer in adapter.layers:
        for linear in (layer.qkv, layer.dense):
            nn.init.normal_(linear.weight, std=0.02)  # type: ignore[arg-type,union-attr]
            nn.init.zeros_(linear.bias)  # type: ignore[arg-type,union-attr]


def make_job(arm: Arm, recipe: Recipe, bundle: Bundle, data: Path, seed: int) -> TransformerJob:
    """The training job of an arm. It exports nothing."""
    config, image = bundle.model_config, bundle.image_model()
    mix = MixConfig(
        recipe.batch * config.frames * config.tokens, {"keyframes" if arm.rows == "windows" else arm.rows: 1.0}
    )
    torch.manual_seed(seed)
    if arm.random_image:
        image.load_state_dict(fresh_transformer(config).state_dict())
    adapter = adapter_from_image(image, window=arm.window, copy_output=arm.copy_output)
    if arm.random_temporal:
        random_attention(adapter)
    model, groups = VideoModel(image, adapter, bundle.text(), bundle.vqvae()), make_groups(mix, config)
    if arm.rows == "windows":
        parts = ((recipe.rows, 0), (recipe.validation_rows, world.VALIDATION_SEED))
        trained, validated = (read_rows(bundle, "windows", data, *part) for part in parts)
        read = {"keyframes": (trained, validated)}
    else:
        how = encoding(bundle, model.vqvae, frames=config.frames, folder=data, quiet=True)
        read = SceneData(recipe.rows, recipe.validation_rows).read(kinds_of(groups), how)
    options: dict[str, Any] = {"caption_dropout": recipe.caption_dropout, "steps": arm.length * recipe.steps}
    return TransformerJob(model, Batches(groups, read, seed=seed, mix=mix, **options), None, train_all=arm.train_all)


def train(job: TransformerJob, arm: Arm, recipe: Recipe, *, seed: int, on_step: OnStep) -> float:
    """Train an arm from its start to its end; returns the seconds of processor time."""
    steps = arm.length * recipe.steps
    optim = OptimConfig(steps, optimizer="muon", lr=recipe.lr, warmup=max(1, steps // 10) if steps > 1 else 0)
    engine, guard, seconds = (
        start(EngineConfig(device="cpu", precision=recipe.precision), job, optim, Processes()),
        Guard(0.0, 1),
        0.0,
    )
    for step in range(steps):
        began = time.process_time()
        figures, _ = train_step(engine, optim, guard, seed=seed, step=step)
        seconds += time.process_time() - began
        engine.call(partial(on_step, step + 1, job, figures))
    return seconds
