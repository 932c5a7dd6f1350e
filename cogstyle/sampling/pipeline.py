"""Text in, video out: prompt -> first frame -> keyframes -> refinement levels (-> super-resolution) -> pixels.

pipe = cogstyle.load("shapes")
video = pipe("a red circle moves right", frame_rate=2, seed=0, levels=3)
video.save("circle.mp4")
"""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cogstyle.bundle import STAGES, Bundle
from cogstyle.config import FRAME_RATES, SamplingConfig, require
from cogstyle.errors import BundleError, ConfigError, PromptError
from cogstyle.layout import interpolation_layout, keyframe_layout
from cogstyle.model.superres import SuperResolution
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.decode import Progress, Stage, memory_bytes
from cogstyle.sampling.interpolate import refine
from cogstyle.sampling.keyframes import OVERLAP, SUPERRES_STAGE, Conditions, extend, first_frames, keyframes
from cogstyle.sampling.upscale import BUDGET, frames_of_a_pass, upscale
from cogstyle.shapes import expect_shape
from cogstyle.tokenizers.image import ImageTokenizer
from cogstyle.tokenizers.text import TextTokenizer
from cogstyle.video import Video, read_image, read_last_frames

WINDOWS = 100  # the most that one call samples
DTYPES = ("float32", "bfloat16", "float16")
LEVELS = 3  # refinement levels that the weights are made for: 5 -> 9 -> 17 -> 33 frames


@dataclass(frozen=True)
class Options:
    """How to sample one video; None takes the bundle's default."""

    frame_rate: float | None = None  # keyframes a second
    seed: int = 0
    levels: int = LEVELS  # refinement levels, 0 = keyframes only
    windows: int = 1  # windows of keyframes, each going on from the last frames of the one before
    guidance: float | None = None  # of keyframes
    temperature: float | None = None  # of keyframes
    clusters: int | None = None  # of every stage; likewise below
    top_k: int | None = None
    top_p: float | None = None
    upscale: bool = False  # super-resolution of every frame
    compat: str | None = None  # "released": the released sampler with its quirks (docs/parity.md)

    def __post_init__(self) -> None:
        rates = ", ".join(f"{rate:g}" for rate in FRAME_RATES)
        require(
            self.frame_rate is None or self.frame_rate in FRAME_RATES,
            f"frame_rate {self.frame_rate} must be one of {rates}",
        )
        require(0 <= self.levels <= LEVELS, f"levels {self.levels} must be 0 to {LEVELS}")
        require(self.compat in (None, "released"), f"compat {self.compat!r} must be 'released' or nothing")
        require(1 <= self.windows <= WINDOWS, f"windows {self.windows} must be 1 to {WINDOWS}")
        require(self.seed >= 0, f"seed {self.seed} must be 0 or more")
        require(
            sum(x is not None for x in (self.clusters, self.top_k, self.top_p)) <= 1,
            "clusters, top_k and top_p exclude each other; set one",
        )

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that these options go through."""
        return (*STAGES, "superres") if self.upscale else STAGES

    def stage(self, config: SamplingConfig, name: str) -> SamplingConfig:
        """A stage's defaults with these options laid over them."""
        changes: dict[str, Any] = {}
        if any(x is not None for x in (self.clusters, self.top_k, self.top_p)):
            changes |= {"clusters": self.clusters or 0, "top_k": self.top_k or 0, "top_p": self.top_p or 1.0}
        if name == "keyframes":
            given = {"guidance": self.guidance, "temperature": self.temperature}
            changes |= {key: value for key, value in given.items() if value is not None}
        return replace(config, **changes)


@dataclass
class Pipeline:
    """A bundle ready to sample; weights are read when they are first needed.

    Args:
        bundle: where the weights come from.
        device: torch device of the models.
        budget: bytes that one pass of super-resolution may take beside the weights.
    """

    bundle: Bundle
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    budget: int = BUDGET

    @cached_property
    def text(self) -> TextTokenizer:
        return self.bundle.text()

    @cached_property
    def vqvae(self) -> ImageTokenizer:
        return self.bundle.vqvae().to(self.device)

    @cached_property
    def image_model(self) -> Transformer:
        return self.bundle.image_model().to(self.device)

    @cached_property
    def adapters(self) -> dict[str, TemporalAdapter]:
        found = [stage for stage in STAGES[1:] if self.bundle.has(f"{stage}.safetensors")]
        return {stage: self.bundle.adapter(stage).to(self.device) for stage in found}

    @cached_property
    def upscaler(self) -> SuperResolution:
        return self.bundle.superres().to(self.device)

    @cached_property
    def labels(self) -> Tensor | None:
        labels = self.bundle.cluster_labels()
        return None if labels is None else labels.to(self.device)

    def check(self, prompt: str, options: Options) -> None:
        """Raise what sampling this prompt would raise, before any work is done."""
        if not prompt.strip():
            raise PromptError("the prompt is empty")
        self.text.image_text(prompt.strip())
        span = (self.bundle.model_config.frames - 1) / self.rate(options)
        for level in range(options.levels + 1):
            self.text.video_text(prompt.strip(), span / 2**level)
        if options.levels and not self.bundle.has("interpolation.safetensors"):
            raise BundleError(f"bundle {self.bundle.folder} has no interpolation.safetensors; levels 0 does without")
        for stage in options.stages:
            self._check_clusters(stage, options)
        if options.upscale:
            self.check_upscale(prompt, options)

    def _check_clusters(self, stage: str, options: Options) -> None:
        config = options.stage(self.bundle.sampling(stage), stage)
        require(
            not config.clusters or self.labels is not None,
            f"bundle {self.bundle.folder} has no cluster labels; use top_k or top_p",
        )

    def check_upscale(self, prompt: str | None, options: Options) -> None:
        """Raise what super-resolution with this prompt would raise; None is no prompt."""
        if not self.bundle.has("superres.safetensors"):
            raise BundleError(f"bundle {self.bundle.folder} has no superres.safetensors, which super-resolution needs")
        if prompt is not None and not prompt.strip():
            raise PromptError("the prompt is empty")
        text, span = self._upscale_text(prompt), self.bundle.superres_config.text_span
        if len(text) > span:
            raise PromptError(f"prompt has {len(text)} tokens, super-resolution reads {span}: {prompt!r}")
        self._check_clusters("superres", options)
        frames_of_a_pass(self.upscaler, len(text), self.budget)

    def _upscale_text(self, prompt: str | None) -> list[int]:
        return self.text.image_text(None if prompt is None else prompt.strip())

    def rate(self, options: Options) -> float:
        """Keyframe rate of these options."""
        return options.frame_rate or self.bundle.frame_rate

    def conditions(self, prompts: Sequence[str], seeds: Sequence[int]) -> Conditions:
        return Conditions([prompt.strip() for prompt in prompts], list(seeds), self.text, self.device)

    def stage(self, name: str, options: Options, progress: Progress) -> Stage:
        """What "image", "keyframes" or "interpolation" samples with."""
        adapter = None if name == "image" else self.adapters.get(name) or self.bundle.adapter(name)
        config = options.stage(self.bundle.sampling(name), name)
        released = options.compat == "released"
        # the released loop counts one place too far: it draws the first frame's last token as a keyframe's
        last = options.stage(self.bundle.sampling("keyframes"), "keyframes") if released and name == "image" else None
        return Stage(self.image_model, adapter, config, self.labels, progress, released, last)

    # ---------------------------------------------------------------- one stage at a time

    def encode(self, frames: np.ndarray) -> Tensor:
        """uint8 frames [F, height, width, 3] -> tokens [F, L]."""
        return self.vqvae.encode(torch.from_numpy(frames).permute(0, 3, 1, 2).to(self.device))

    def encode_image(self, path: str | Path) -> Tensor:
        """An image file as the tokens of one frame, [1, L]."""
        return self.encode(read_image(Path(path), self.bundle.tokenizer_config.image_size)[None])

    def encode_end(self, path: str | Path, frame_rate: float) -> Tensor:
        """The last keyframes of a video file, as many as a window goes on from, as tokens [1.., L]."""
        size = self.bundle.tokenizer_config.image_size
        return self.encode(read_last_frames(Path(path), OVERLAP, frame_rate=frame_rate, size=size))

    def keyframes(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        options: Options = Options(),
        *,
        first_BFL: Tensor | None = None,
        progress: Progress = lambda tokens: None,
    ) -> Tensor:
        """Prompts -> keyframe tokens [B, F, L], more frames with `options.windows`.

        Args:
            seeds: one a prompt.
            first_BFL: tokens of known first keyframes [B, 1.., L]; default: the image model draws one.
        """
        conditions = self.conditions(prompts, seeds)
        if first_BFL is None:
            first_BFL = first_frames(self.stage("image", options, progress), conditions)
        stage, rate = self.stage("keyframes", options, progress), self.rate(options)
        tokens_BFL = keyframes(stage, first_BFL, conditions, frame_rate=rate)
        return extend(stage, tokens_BFL, conditions, frame_rate=rate, windows=options.windows - 1)

    def interpolate(
        self,
        tokens_BFL: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        options: Options = Options(),
        *,
        progress: Progress = lambda tokens: None,
    ) -> Tensor:
        """Tokens at the keyframe rate -> tokens after `options.levels` refinements, [B, (F - 1) 2^levels + 1, L]."""
        conditions = self.conditions(prompts, seeds)
        for level in range(1, options.levels + 1):
            stage = self.stage("interpolation", options, progress)
            tokens_BFL = refine(stage, tokens_BFL, conditions, frame_rate=self.rate(options) * 2**level)
        return tokens_BFL

    def upscale(
        self,
        tokens_BFL: Tensor,
        prompts: Sequence[str | None],
        seeds: Sequence[int],
        options: Options = Options(),
        *,
        progress: Progress = lambda frames: None,
    ) -> Tensor:
        """Coarse tokens -> fine tokens [B, F, M], all frames side by side as far as `budget` allows.

        A place draws with the same random numbers in every frame of a video, so chance adds no flicker.

        Args:
            prompts: one a video; None: without text.
            progress: told the number of frames of every pass.

        Raises:
            LayoutError: if the tokens do not fill the model's grid.
        """
        expect_shape(tokens_BFL, "tokens_BFL", len(prompts), None, self.bundle.model_config.tokens)
        frames = tokens_BFL.shape[1]
        texts_BS = self.text.pad([self._upscale_text(prompt) for prompt in prompts]).to(self.device)
        fine_RM = upscale(
            self.image_model,
            self.upscaler,
            texts_BS.repeat_interleave(frames, 0),
            tokens_BFL.flatten(0, 1).to(self.device),
            [(SUPERRES_STAGE, seed) for seed in seeds for _ in range(frames)],
            options.stage(self.bundle.sampling("superres"), "superres"),
            self.labels,
            budget=self.budget,
            progress=progress,
        )
        return fine_RM.unflatten(0, (-1, frames))

    def decode(self, tokens_FL: Tensor) -> np.ndarray:
        """Tokens of one video -> uint8 frames [F, height, width, 3]."""
        frames = torch.cat([self.vqvae.decode(chunk) for chunk in tokens_FL.split(16)])
        return frames.permute(0, 2, 3, 1).cpu().numpy()

    # ---------------------------------------------------------------- all stages

    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        options: Options = Options(),
        *,
        first_frame: str | Path | None = None,
        follows: str | Path | None = None,
        images: Sequence[str | Path] = (),
        progress: Progress = lambda tokens: None,
    ) -> list[Video]:
        """A video for each prompt; the same prompt, seed and options give the same tokens in any batch.

        Args:
            first_frame: an image to start from.
            follows: a video file to go on from; its last keyframes are the first ones.
            images: image files that are the keyframes, two or more: only refinement is left to do.
        """
        for prompt in prompts:
            self.check(prompt, options)
        given = {"first_frame": first_frame, "follows": follows, "images": images or None}
        several = [name for name, value in given.items() if value is not None]
        require(len(several) <= 1, f"{' and '.join(several)} exclude each other; give one")
        require(len(images) != 1, "one image has nothing to interpolate to; give two or more")
        clock = [time.perf_counter()]
        known_FL = None
        if first_frame is not None or images:
            known_FL = torch.cat([self.encode_image(path) for path in images or [first_frame]])  # type: ignore[list-item]
        elif follows is not None:
            known_FL = self.encode_end(follows, self.rate(options))
        known_BFL = None if known_FL is None else known_FL[None].expand(len(prompts), -1, -1)
        if images and known_BFL is not None:
            key_BFL = known_BFL
        else:
            key_BFL = self.keyframes(prompts, seeds, options, first_BFL=known_BFL, progress=progress)
        clock.append(time.perf_counter())
        fine_BFL = self.interpolate(key_BFL, prompts, seeds, options, progress=progress)
        clock.append(time.perf_counter())
        shown = self.upscale(fine_BFL, prompts, seeds, options, progress=progress) if options.upscale else fine_BFL
        clock.append(time.perf_counter())
        pixels = [self.decode(tokens) for tokens in shown]
        clock.append(time.perf_counter())
        names = ("keyframes", "interpolation", "superres", "decode")
        seconds = dict(zip(names, np.diff(clock).round(3).tolist(), strict=True))
        rate = self.rate(options)
        shared = {
            "bundle": self.bundle.manifest["name"],
            "files": self.bundle.hashes(),
            "batch": len(prompts),
            "seconds": seconds,
            "given": {name: str(value) for name, value in given.items() if value is not None},
            "stages": {stage: asdict(options.stage(self.bundle.sampling(stage), stage)) for stage in options.stages},
        }
        videos = []
        for frames, tokens, prompt, seed in zip(pixels, fine_BFL.cpu().numpy(), prompts, seeds, strict=True):
            fps = rate * 2**options.levels
            info = {"prompt": prompt, "options": {**asdict(options), "seed": seed, "frame_rate": rate}, "fps": fps}
            videos.append(Video(frames, fps, {**info, **shared}, tokens))
        return videos

    def memory_of_one(self, options: Options) -> int:
        """Bytes of keys and values that one video takes at its largest stage; a batch takes as many times that."""
        config = self.bundle.model_config
        text, size = config.text_span, self.bundle.dtype.itemsize
        need = {"keyframes": memory_bytes(config, keyframe_layout(config, text), 1, size)}
        if options.levels:
            gaps = (config.frames - 1 + (options.windows - 1) * (config.frames - OVERLAP)) * 2 ** (options.levels - 1)
            layout = interpolation_layout(config, text)
            need["interpolation"] = memory_bytes(config, layout, -(-gaps // (config.frames // 2)), size)
        guided = {name: 1 + (options.stage(self.bundle.sampling(name), name).guidance != 1.0) for name in need}
        return max(guided[name] * need[name] for name in need)

    def steps(self, options: Options, *, known: int = 0) -> int:
        """Tokens that sampling one video draws, one after the other; an upscaled frame counts as one.

        Args:
            known: keyframes that are given.
        """
        frames, length = self.bundle.model_config.frames, self.bundle.model_config.tokens
        key = frames + (options.windows - 1) * (frames - OVERLAP)
        upscaled = ((key - 1) * 2**options.levels + 1) * options.upscale
        return length * (key - known + (frames // 2) * options.levels) + upscaled

    def __call__(self, prompt: str | Sequence[str], *, seed: int = 0, **options: Any) -> Video | list[Video]:
        """One prompt gives a Video, a list a list. Options are those of `Options`, and what `sample` can start from."""
        given = {name: options.pop(name) for name in ("first_frame", "follows", "images") if name in options}
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        videos = self.sample(prompts, [seed] * len(prompts), Options(seed=seed, **options), **given)
        return videos[0] if isinstance(prompt, str) else videos


def find_device(name: str) -> torch.device:
    """The torch device of that name.

    Raises:
        ConfigError: if it is not there.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} is not available: {str(error).splitlines()[0]}") from None
    return device


def free_memory(device: torch.device) -> int:
    """Bytes that a device has free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def load(name: str | Path = "shapes", *, device: str = "cpu", dtype: str = "float32") -> Pipeline:
    """A pipeline over a bundle: the name of a shipped one, or a folder.

    Args:
        dtype: of the transformer, "float32", "bfloat16" or "float16".

    Raises:
        BundleError: if the bundle is missing or damaged.
        ConfigError: if the device is not there, or the dtype is unknown.
    """
    require(dtype in DTYPES, f"dtype {dtype!r} must be one of {', '.join(DTYPES)}")
    return Pipeline(Bundle(name, dtype=getattr(torch, dtype)), find_device(device))
