"""A pipeline called as those of other libraries are: seeds or generators in, videos, arrays or pictures out."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Generator

from cogstyle.config import require
from cogstyle.sampling import cost
from cogstyle.sampling.models import GIVEN, Models
from cogstyle.sampling.options import Choices, Options
from cogstyle.sampling.partial_video import PartialVideo
from cogstyle.sampling.recaption import How
from cogstyle.video import Video

OUTPUTS = (None, "np", "pil", "pt")
OnStepEnd = Callable[[Any, int, int, dict[str, Any]], Any]  # pipeline, tokens drawn, tokens in all, {"tokens": so far}


def options_of(values: Mapping[str, Any], seed: int) -> Options:
    """Options from their names.

    Raises:
        ConfigError: for an unknown name, or a value out of range.
    """
    known = {one.name for one in fields(Options)} - {"seed"}
    unknown = sorted(set(values) - known)
    require(not unknown, f"unknown option {', '.join(unknown)}; known are {', '.join(sorted(known | set(GIVEN)))}")
    return Options(seed=seed, **values)


def seeds_of(
    prompts: int, each: int, seed: int | Sequence[int], generator: Generator | Sequence[Generator] | None
) -> list[int]:
    """A seed for every video, `each` for every prompt.

    Args:
        seed: the first of every prompt, counted up from there; or one a video.
        generator: draws the seeds instead, so that a call after another gives other videos; or one a video.

    Raises:
        ConfigError: if there are more or fewer than videos, or both are given.
    """
    require(each >= 1 and each == int(each), f"num_videos_per_prompt {each} must be 1 or more")
    count = prompts * each
    if generator is not None:
        require(seed == 0, "seed and generator exclude each other; give one")
        drawn = [generator] * count if isinstance(generator, Generator) else list(generator)
        require(len(drawn) == count, f"{len(drawn)} generators for {count} videos; give one a video, or one for all")
        return [int(torch.randint(2**31, (), generator=one, device=one.device)) for one in drawn]
    if isinstance(seed, int | float):
        return [seed + number for _ in range(prompts) for number in range(each)]
    require(len(seed) == count, f"{len(seed)} seeds for {count} videos; give one a video, or one for all")
    return list(seed)


def as_output(video: Video, kind: str | None) -> Any:
    """A video as it is (None), or its frames: "np" float32 [F, height, width, 3] and "pt" [F, 3, height, width] in
    0..1, or "pil", a list of pictures.
    """
    if kind is None:
        return video
    if kind == "pil":
        return video.to_pil()
    frames_FHWC = video.frames.astype(np.float32) / 255.0
    return frames_FHWC if kind == "np" else torch.from_numpy(frames_FHWC).permute(0, 3, 1, 2)


def told_steps(pipe: Any, tell: OnStepEnd | None, total: int) -> dict[str, Any]:
    """What `Pipeline.sample` takes so that `tell` is called with every step."""
    if tell is None:
        return {}
    drawn, latest = 0, None

    def on_part(part: PartialVideo) -> None:
        nonlocal latest
        latest = part.tokens_BFL

    def progress(tokens: int) -> None:
        nonlocal drawn
        drawn += tokens
        tell(pipe, drawn, total, {"tokens": latest})

    return {"on_part": on_part, "progress": progress}


class Calls(Models):
    """How a pipeline is called, and what it says of itself."""

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_videos_per_prompt: int = 1,
        output_type: str | None = None,
        callback_on_step_end: OnStepEnd | None = None,
        recaption: How | None = None,
        **options: Unpack[Choices],
    ) -> Any:
        """Sample a video of a prompt, or a list of videos of several prompts (or of `num_videos_per_prompt` each).

        Args:
            prompt: in English or Chinese.
            seed: same prompt, options and seed: same video. One a video, or one from which the videos count up.
            generator: draws the seeds instead; one for all, or one a video.
            output_type: None: `Video`s; "np", "pt": float32 [F, H, W, 3] or [F, 3, H, W] in 0..1; "pil": pictures.
            callback_on_step_end: called as (pipeline, tokens drawn, tokens in all, {"tokens": [B, F, L] so far}).
            recaption: what rewrites the prompts first, as `find_recaption` takes it.
            options: the fields of `Options` (frame_rate, levels, ...), and the files of `start` (first_frame, ...).

        Raises:
            CogstyleError: for what cannot be sampled, before anything is drawn.
        """
        require(output_type in OUTPUTS, f"output_type {output_type!r} must be np, pil, pt or None")
        pipe: Any = self  # a Pipeline
        values: dict[str, Any] = dict(options)
        given = {name: values.pop(name) for name in GIVEN if name in values}
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        rewritten = self.recaption(recaption)(prompts)
        seeds = seeds_of(len(prompts), num_videos_per_prompt, seed, generator)
        prompts = [one.drawn for one in rewritten for _ in range(num_videos_per_prompt)]
        chosen = options_of(values, seeds[0] if seeds else 0)
        whole = bool(given.get("images") or given.get("videos"))
        for one, other in zip(prompts, seeds, strict=True):  # before a file is read
            pipe.check(one, replace(chosen, seed=other), whole=whole)
        start = self.start(chosen, len(prompts), **given)
        total = cost.steps(self.bundle.model_config, chosen, start)
        videos = pipe.sample(prompts, seeds, chosen, start=start, **told_steps(self, callback_on_step_end, total))
        for number, video in enumerate(videos):
            video.info["given"].update({name: str(value) for name, value in given.items() if value})
            if info := rewritten[number // num_videos_per_prompt].info:
                video.info["recaption"] = info
        notes = [one.note for one in rewritten if one.refused]
        for note in dict.fromkeys([*notes, *(n for one in prompts for n in pipe.untrained(one, chosen, whole=whole))]):
            warnings.warn(note, stacklevel=2)
        found = [as_output(video, output_type) for video in videos]
        return found[0] if isinstance(prompt, str) and num_videos_per_prompt == 1 else found

    def __repr__(self) -> str:
        parts = ", ".join(Path(file).stem for file in self.bundle.hashes())
        size = self.bundle.tokenizer_config.image_size
        return f"Pipeline({self.bundle.name!r}: {parts}; {size} px, {self.dtype} on {self.device})"
