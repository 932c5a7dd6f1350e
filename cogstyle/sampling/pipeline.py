"""Text in, video out: prompt -> first frame -> keyframes -> refinement levels (-> super-resolution) -> pixels.

pipe = cogstyle.load("shapes")
video = pipe("a red circle moves right", frame_rate=2, seed=0, levels=3)
video.save("circle.mp4")
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cogstyle.axes import expect_shape
from cogstyle.bundle import open_bundle
from cogstyle.config import DTYPES, ModelConfig, require
from cogstyle.devices import find_device
from cogstyle.errors import LayoutError
from cogstyle.files import fingerprint
from cogstyle.model.packed import ONEDNN, packs
from cogstyle.sampling import cost
from cogstyle.sampling.calls import Calls
from cogstyle.sampling.decode import Progress
from cogstyle.sampling.interpolate import fill_between, refine
from cogstyle.sampling.keyframes import SUPERRES_STAGE, TextConditions, first_frames, keyframes
from cogstyle.sampling.options import Options
from cogstyle.sampling.partial_video import PartialVideo
from cogstyle.sampling.released import ReleasedStage
from cogstyle.sampling.stage import Stage
from cogstyle.sampling.upscale import frames_of_a_pass, upscale
from cogstyle.sampling.validate import level_rates, untrained, validate, validate_upscale
from cogstyle.version import commit, version
from cogstyle.video import Video


@dataclass(repr=False)
class Pipeline(Calls):
    """A bundle ready to sample; weights are read when they are first needed. The fields are those of `Models`.

    One pipeline may be used from several threads: each call gives what it gives alone.
    """

    def check(self, prompt: str, options: Options, *, whole: bool = False) -> None:
        """Raise what sampling this prompt would raise, before any work is done.

        Args:
            whole: all keyframes are given.
        """
        validate(self.bundle, self.text, prompt, options, whole=whole)
        self.hear(prompt.strip(), options.negative_prompt)
        if options.upscale:
            self.check_upscale(prompt, options)

    def untrained(self, prompt: str, options: Options, *, whole: bool = False) -> list[str]:
        """What the weights were not trained for, a sentence each: words, frame rates."""
        return untrained(self.bundle, prompt, options, whole=whole)

    def check_upscale(self, prompt: str | None, options: Options) -> None:
        """Raise what super-resolution with this prompt would raise; None is no prompt."""
        text = validate_upscale(self.bundle, self.text, prompt, options)
        frames_of_a_pass(self.upscaler, text, self.budget)

    def _upscale_text(self, prompt: str | None) -> list[int]:
        return self.text.image_text(None if prompt is None else prompt.strip())

    def rate(self, options: Options) -> float:
        """Keyframe rate of these options."""
        return options.frame_rate or self.bundle.frame_rate

    def stage(self, name: str, options: Options, progress: Progress) -> Stage:
        """What "image", "keyframes" or "interpolation" samples with."""
        adapter = None if name == "image" else self.adapter(name)
        config = options.stage(self.bundle.sampling(name), name)
        common, hearing = (self.image_model, adapter, config, self.labels, progress), self.hearing(name)
        require(
            options.compat is None or self.bundle.model_config.family == "sandwich",
            "compat 'released' is CogVideo's sampler; this image model is of another family",
        )
        if options.compat != "released":
            return Stage(*common, self.ahead, name, hearing=hearing)
        require(hearing is None, "compat 'released' is CogVideo's sampler, which listens to no language model")
        keyframes = options.stage(self.bundle.sampling("keyframes"), "keyframes")
        return ReleasedStage(*common, name=name, last=keyframes if name == "image" else None)

    # ---------------------------------------------------------------- one stage at a time

    def stream(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        options: Options = Options(),
        *,
        start: PartialVideo | None = None,
        progress: Progress = lambda tokens: None,
    ) -> Iterator[PartialVideo]:
        """Videos as they grow: the first frame, each further keyframe, each refinement level.

        Args:
            seeds: one a prompt.
            start: what is there already; going on from a part gives the same videos as not stopping.
        """
        yield from self.computed(self._stream(prompts, seeds, options, start, progress))

    def _stream(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        options: Options,
        start: PartialVideo | None,
        progress: Progress,
    ) -> Iterator[PartialVideo]:
        texts = [prompt.strip() for prompt in prompts]
        conditions = TextConditions(texts, list(seeds), self.text, self.device, options.negative_prompt)
        if start is not None:
            expect_tokens(start.tokens_BFL, len(prompts), self.bundle.model_config)
        rate, total, part = self.rate(options), cost.keyframe_count(self.bundle.model_config, options), start
        if part is None:
            part = PartialVideo(first_frames(self.stage("image", options, progress), conditions))
            yield part
        if part.numbers is not None:
            fps = rate * 2**options.levels
            yield from fill_between(self.stage("interpolation", options, progress), part, conditions, fps=fps)
            return
        if not part.whole:
            stage = self.stage("keyframes", options, progress)
            windows = options.windows
            for tokens_BFL in keyframes(stage, part.tokens_BFL, conditions, frame_rate=rate, windows=windows):
                part = PartialVideo(tokens_BFL, whole=tokens_BFL.shape[1] == total)
                yield part
        for level, level_rate in enumerate(options.rates(rate), 1):
            if level > part.level:
                stage = self.stage("interpolation", options, progress)
                part = PartialVideo(
                    refine(stage, part.tokens_BFL, conditions, frame_rate=level_rate), level, whole=True
                )
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
        start = None if first_BFL is None else PartialVideo(first_BFL)
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
        start = PartialVideo(tokens_BFL, whole=True)
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
            progress: called with the number of frames of every pass.

        Raises:
            LayoutError: if the tokens do not fill the model's grid.
        """
        require(len(seeds) == len(prompts), f"{len(seeds)} seeds for {len(prompts)} prompts; give one a prompt")
        expect_tokens(tokens_BFL, len(prompts), self.bundle.model_config)
        frames = tokens_BFL.shape[1]
        texts_BS = self.text.pad([self._upscale_text(prompt) for prompt in prompts]).to(self.device)
        passes = upscale(
            self.image_model,
            self.upscaler,
            texts_BS.repeat_interleave(frames, 0),
            tokens_BFL.flatten(0, 1).to(self.device),
            [(SUPERRES_STAGE, seed) for seed in seeds for _ in range(frames)],
            options.stage(self.bundle.sampling("superres"), "superres"),
            self.labels,
            budget=self.budget,
        )
        parts = []
        for fine_RM in self.computed(passes):
            parts.append(fine_RM)
            progress(len(fine_RM))
        return torch.cat(parts).unflatten(0, (-1, frames))

    # ---------------------------------------------------------------- all stages

    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        options: Options = Options(),
        *,
        start: PartialVideo | None = None,
        on_part: Callable[[PartialVideo], None] = lambda part: None,
        progress: Progress = lambda tokens: None,
    ) -> list[Video]:
        """A video for each prompt; the same prompt, seed and options give the same tokens in any batch.

        Args:
            start: what is there already: first keyframes, or what `on_part` was shown before a stop.
            on_part: shown every part of `stream`.
        """
        whole = start is not None and start.whole
        for prompt in prompts:
            self.check(prompt, options, whole=whole)
        self.read_weights(options, whole=whole)
        clock, seconds = time.perf_counter(), dict.fromkeys(("keyframes", "interpolation", "superres", "decode"), 0.0)

        def lap(name: str) -> None:
            nonlocal clock
            clock, before = time.perf_counter(), clock
            seconds[name] = round(seconds[name] + clock - before, 3)

        part = start
        for part in self.stream(prompts, seeds, options, start=start, progress=progress):
            lap("interpolation" if part.level else "keyframes")
            on_part(part)
        assert part is not None
        fine_BFL = part.tokens_BFL
        shown = self.upscale(fine_BFL, prompts, seeds, options, progress=progress) if options.upscale else fine_BFL
        lap("superres")
        own = [replace(options, seed=seed) for seed in seeds]
        pixels = [*self.computed(self.decode_video(*work) for work in zip(shown, own, strict=True))]
        lap("decode")
        shared = {**self.provenance(), "batch": len(prompts), "seconds": seconds, "given": {}}
        if start is not None and start.whole:
            shared["given_frames"] = list(given_frames(start, options))
        videos = []
        for frames, tokens, prompt, seed in zip(pixels, fine_BFL.cpu().numpy(), prompts, seeds, strict=True):
            info = self.identity(prompt, replace(options, seed=seed))
            videos.append(Video(frames, info["fps"], {**info, **shared}, tokens))
        return videos

    def provenance(self) -> dict[str, Any]:
        """What made a video: bundle, files, dtype, version of the package, and its commit in a checkout."""
        made_by = {"bundle": self.bundle.name, "files": self.bundle.hashes(), "dtype": self.dtype}
        made_by["step"] = self.step
        return {**made_by, "version": version(), "commit": commit()}

    def identity(self, prompt: str, options: Options) -> dict[str, Any]:
        """All that a video depends on, but for files that it starts from: what its json says."""
        prompt, rate, frames = prompt.strip(), self.rate(options), self.bundle.model_config.frames
        texts = [self.text.video_text(prompt, (frames - 1) / one) for one in (rate, *level_rates(options, rate))]
        return {
            "prompt": prompt,
            "options": {**asdict(options), "frame_rate": rate},
            "fps": rate * 2**options.levels,
            "decoder": self.decoder(options),
            "stages": {stage: asdict(options.stage(self.bundle.sampling(stage), stage)) for stage in options.stages},
            "text_ids": fingerprint(self.text.image_text(prompt), texts),
            "files": self.bundle.hashes(),
            "dtype": self.dtype,
            **self.heard(),
        }

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | Sequence[str | Path] = "shapes",
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "float32",
    ) -> "Pipeline":
        """`load`, by the name that other libraries have for it.

        Args:
            revision: of a repository on the hub: a branch, tag or commit.
        """
        if revision is not None:
            require(isinstance(name, str), "revision is of one repository on the hub")
            name = f"{name}@{revision}"
        return load(name, device=device, dtype=dtype)


def given_frames(start: PartialVideo, options: Options) -> Sequence[int]:
    """Numbers of the frames that were given, in the whole video."""
    if start.numbers is not None:
        return start.numbers
    step = 2**options.levels
    return range(0, (start.tokens_BFL.shape[1] - 1) * 2 ** (options.levels - start.level) + 1, step)


def expect_tokens(tokens_BFL: Tensor, batch: int, config: ModelConfig) -> None:
    """Raise LayoutError unless these are frames of image tokens, `batch` videos of them."""
    expect_shape(tokens_BFL, "tokens_BFL", batch, None, config.tokens)
    low, high = int(tokens_BFL.min()), int(tokens_BFL.max())
    if low < 0 or high >= config.codes:
        raise LayoutError(f"tokens from {low} to {high}, expected 0 to {config.codes - 1}")


def load(
    name: str | Path | Sequence[str | Path] = "shapes",
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "float32",
    llm: str | Path | None = None,
) -> Pipeline:
    """A pipeline over a bundle.

    Args:
        name: of a shipped one, a folder, user/repo[@revision] on the Hugging Face hub, or several as `open_bundle`
            takes them.
        device: a torch device; None and "auto" take a GPU where there is one.
        dtype: of the transformer, "float32", "bfloat16", "float16" or, on the CPU, "int8" (its matrices; all else is
            float32). On the CPU "float16" too is of the matrices alone: it computes in float32.
        llm: a language model that the bundle's language adapters listen to, see `Models`.

    Raises:
        BundleError: if the bundle is missing or damaged.
        ConfigError: if the device is not there, or the dtype is unknown or not for this device.
    """
    dtype, device = str(dtype).removeprefix("torch."), "auto" if device is None else str(device)
    require(dtype in DTYPES, f"dtype {dtype!r} must be one of {', '.join(DTYPES)}")
    place = find_device("cpu" if (device, dtype) == ("auto", "int8") else device)
    require(dtype != "int8" or place.type == "cpu", f"dtype int8 runs on the CPU, not on {device!r}")
    names = [name] if isinstance(name, str | Path) else list(name)
    if place.type != "cpu" or (dtype in ONEDNN and not packs(dtype)):
        return Pipeline(open_bundle(names, dtype=getattr(torch, dtype)), place, llm=llm)
    rest = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    return Pipeline(open_bundle(names, dtype=rest, packed=dtype), place, llm=llm)
