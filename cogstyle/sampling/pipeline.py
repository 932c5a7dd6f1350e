"""Text in, video out: prompt -> first frame -> keyframes -> refinement levels (-> super-resolution) -> pixels.

pipe = cogstyle.load("shapes")
video = pipe("a red circle moves right", frame_rate=2, seed=0, levels=3)
video.save("circle.mp4")
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cogstyle.bundle import STAGES, Bundle
from cogstyle.config import require
from cogstyle.errors import BundleError, PromptError
from cogstyle.layout import interpolation_layout, keyframe_layout
from cogstyle.model.linear import ONEDNN, packs
from cogstyle.model.superres import SuperResolution
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.decode import Progress, Stage, memory_bytes
from cogstyle.sampling.interpolate import refine
from cogstyle.sampling.keyframes import OVERLAP, SUPERRES_STAGE, Conditions, first_frames, keyframes
from cogstyle.sampling.machine import find_device
from cogstyle.sampling.options import Options
from cogstyle.sampling.parts import Part
from cogstyle.sampling.upscale import BUDGET, frames_of_a_pass, upscale
from cogstyle.shapes import expect_shape
from cogstyle.tokenizers.image import ImageTokenizer
from cogstyle.tokenizers.text import TextTokenizer
from cogstyle.video import Video, read_image, read_last_frames

DTYPES = ("float32", "bfloat16", "float16", "int8")
AHEAD = 16  # steps tried at once: more are rarely guessed right


@dataclass
class Pipeline:
    """A bundle ready to sample; weights are read when they are first needed.

    Args:
        bundle: where the weights come from.
        device: torch device of the models.
        budget: bytes that one pass of super-resolution may take beside the weights.
        ahead: the most steps of decoding that are tried at once; the tokens do not depend on it.
    """

    bundle: Bundle
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    budget: int = BUDGET
    ahead: int = AHEAD

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
        for rate in (self.rate(options), *options.rates(self.rate(options))):
            self.text.video_text(prompt.strip(), (self.bundle.model_config.frames - 1) / rate)
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

    def stage(self, name: str, options: Options, progress: Progress) -> Stage:
        """What "image", "keyframes" or "interpolation" samples with."""
        adapter = None if name == "image" else self.adapters.get(name) or self.bundle.adapter(name)
        config = options.stage(self.bundle.sampling(name), name)
        released = options.compat == "released"
        # the released loop counts one place too far: it draws the first frame's last token as a keyframe's
        last = options.stage(self.bundle.sampling("keyframes"), "keyframes") if released and name == "image" else None
        ahead = 1 if released else self.ahead
        return Stage(self.image_model, adapter, config, self.labels, progress, released, last, ahead)

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

    def stream(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        options: Options = Options(),
        *,
        start: Part | None = None,
        progress: Progress = lambda tokens: None,
    ) -> Iterator[Part]:
        """Videos as they grow: the first frame, each further keyframe, each refinement level.

        Args:
            seeds: one a prompt.
            start: what is there already; going on from a part gives the same videos as not stopping.
        """
        conditions = Conditions([prompt.strip() for prompt in prompts], list(seeds), self.text, self.device)
        rate, total, part = self.rate(options), self.keyframe_count(options), start
        if part is None:
            part = Part(first_frames(self.stage("image", options, progress), conditions))
            yield part
        if not part.whole:
            stage = self.stage("keyframes", options, progress)
            windows = options.windows
            for tokens_BFL in keyframes(stage, part.tokens_BFL, conditions, frame_rate=rate, windows=windows):
                part = Part(tokens_BFL, whole=tokens_BFL.shape[1] == total)
                yield part
        for level, told in enumerate(options.rates(rate), 1):
            if level > part.level:
                stage = self.stage("interpolation", options, progress)
                part = Part(refine(stage, part.tokens_BFL, conditions, frame_rate=told), level, whole=True)
                yield part

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
        options = replace(options, levels=0, level_rates=None)
        start = None if first_BFL is None else Part(first_BFL)
        return [*self.stream(prompts, seeds, options, start=start, progress=progress)][-1].tokens_BFL

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
        start = Part(tokens_BFL, whole=True)
        return [start, *self.stream(prompts, seeds, options, start=start, progress=progress)][-1].tokens_BFL

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
        done: Part | None = None,
        watch: Callable[[Part], None] = lambda part: None,
        progress: Progress = lambda tokens: None,
    ) -> list[Video]:
        """A video for each prompt; the same prompt, seed and options give the same tokens in any batch.

        Args:
            first_frame: an image to start from.
            follows: a video file to go on from; its last keyframes are the first ones.
            images: image files that are the keyframes, two or more: only refinement is left to do.
            done: what `watch` was shown before the same call was stopped.
            watch: shown every part of `stream`.
        """
        for prompt in prompts:
            self.check(prompt, options)
        given = {"first_frame": first_frame, "follows": follows, "images": images or None}
        clock, seconds = time.perf_counter(), dict.fromkeys(("keyframes", "interpolation", "superres", "decode"), 0.0)

        def lap(name: str) -> None:
            nonlocal clock
            clock, before = time.perf_counter(), clock
            seconds[name] = round(seconds[name] + clock - before, 3)

        start = done or self.start(options, len(prompts), first_frame=first_frame, follows=follows, images=images)
        part = start
        for part in self.stream(prompts, seeds, options, start=start, progress=progress):
            lap("interpolation" if part.level else "keyframes")
            watch(part)
        assert part is not None
        fine_BFL, rate = part.tokens_BFL, self.rate(options)
        shown = self.upscale(fine_BFL, prompts, seeds, options, progress=progress) if options.upscale else fine_BFL
        lap("superres")
        pixels = [self.decode(tokens) for tokens in shown]
        lap("decode")
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

    def start(
        self,
        options: Options,
        batch: int,
        *,
        first_frame: str | Path | None = None,
        follows: str | Path | None = None,
        images: Sequence[str | Path] = (),
    ) -> Part | None:
        """What files say about the first keyframes of a batch of videos; None: nothing.

        Raises:
            ConfigError: if they contradict each other.
            MediaError: if one cannot be read.
        """
        given = {"first_frame": first_frame, "follows": follows, "images": images or None}
        several = [name for name, value in given.items() if value is not None]
        require(len(several) <= 1, f"{' and '.join(several)} exclude each other; give one")
        require(len(images) != 1, "one image has nothing to interpolate to; give two or more")
        if not several:
            return None
        if follows is not None:
            known_FL = self.encode_end(follows, self.rate(options))
        else:
            known_FL = torch.cat([self.encode_image(path) for path in images or [first_frame]])  # type: ignore[list-item]
        return Part(known_FL[None].expand(batch, -1, -1), whole=bool(images))

    def keyframe_count(self, options: Options) -> int:
        """Keyframes of all windows."""
        frames = self.bundle.model_config.frames
        return frames + (options.windows - 1) * (frames - OVERLAP)

    def memory_of_one(self, options: Options) -> int:
        """Bytes of keys and values that one video takes at its largest stage; a batch takes as many times that."""
        config, size = self.bundle.model_config, self.bundle.dtype.itemsize
        text, lanes = config.text_span, 3  # of frames being filled, with steps tried ahead
        need = {"keyframes": memory_bytes(config, keyframe_layout(config, text), 1, size, lanes=lanes)}
        if options.levels:
            gaps = (self.keyframe_count(options) - 1) * 2 ** (options.levels - 1)
            layout, groups = interpolation_layout(config, text), -(-gaps // (config.frames // 2))
            need["interpolation"] = memory_bytes(config, layout, groups, size, window=config.window, lanes=lanes)
        guided = {name: 1 + (options.stage(self.bundle.sampling(name), name).guidance != 1.0) for name in need}
        return max(guided[name] * need[name] for name in need)

    def steps(self, options: Options, *, start: Part | None = None) -> int:
        """Tokens that sampling one video draws, one after the other; an upscaled frame counts as one.

        Args:
            start: what is there already.
        """
        frames, length, key = (
            self.bundle.model_config.frames,
            self.bundle.model_config.tokens,
            self.keyframe_count(options),
        )
        level, known = (0, 0) if start is None else (start.level, start.tokens_BFL.shape[1])
        left = 0 if start is not None and start.whole else key - known
        upscaled = ((key - 1) * 2**options.levels + 1) * options.upscale
        return length * (left + (frames // 2) * (options.levels - level)) + upscaled

    def __call__(self, prompt: str | Sequence[str], *, seed: int = 0, **options: Any) -> Video | list[Video]:
        """One prompt gives a Video, a list a list. Options are those of `Options`, and what `sample` can start from."""
        given = {name: options.pop(name) for name in ("first_frame", "follows", "images") if name in options}
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        videos = self.sample(prompts, [seed] * len(prompts), Options(seed=seed, **options), **given)
        return videos[0] if isinstance(prompt, str) else videos


def load(name: str | Path = "shapes", *, device: str = "cpu", dtype: str = "float32") -> Pipeline:
    """A pipeline over a bundle: the name of a shipped one, or a folder.

    Args:
        dtype: of the transformer, "float32", "bfloat16", "float16" or, on the CPU, "int8" (its matrices; all else is
            float32). On the CPU "float16" too is of the matrices alone: it computes in float32.

    Raises:
        BundleError: if the bundle is missing or damaged.
        ConfigError: if the device is not there, or the dtype is unknown or not for this device.
    """
    require(dtype in DTYPES, f"dtype {dtype!r} must be one of {', '.join(DTYPES)}")
    place = find_device(device)
    require(dtype != "int8" or place.type == "cpu", f"dtype int8 runs on the CPU, not on {device!r}")
    if place.type != "cpu" or (dtype in ONEDNN and not packs(dtype)):
        return Pipeline(Bundle(name, dtype=getattr(torch, dtype)), place)
    rest = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    return Pipeline(Bundle(name, dtype=rest, packed=dtype), place)
