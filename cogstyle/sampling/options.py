"""What a caller can choose when sampling a video."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

from cogstyle.bundle import STAGES
from cogstyle.config import DECODERS, FRAME_RATES, SamplingConfig, require

MOST_STEPS = 100  # of the flow decoder
WINDOWS = 100  # the most that one call samples
LEVELS = 3  # refinement levels that the weights are made for: 5 -> 9 -> 17 -> 33 frames
LONGEST = 3600.0  # seconds between the first given image and the last
LEVEL_RATES = tuple(rate * 2.0**level for rate in FRAME_RATES[:1] for level in range(9))  # 0.25 to 64


class Choices(TypedDict, total=False):
    """What `pipe(prompt, ...)` takes by name: the fields of `Options`, and files that the video starts from."""

    frame_rate: float | None
    levels: int
    level_rates: Sequence[float] | None
    windows: int
    guidance: float | None
    negative_prompt: str | None
    temperature: float | None
    clusters: int | None
    top_k: int | None
    top_p: float | None
    upscale: bool
    times: Sequence[float] | None
    compat: str | None
    first_frame: str | Path
    continue_from: str | Path
    images: Sequence[str | Path]
    videos: Sequence[str | Path]


@dataclass(frozen=True)
class Options:
    """How to sample one video; None takes the bundle's default."""

    frame_rate: float | None = None  # keyframes a second
    seed: int = 0
    levels: int = LEVELS  # refinement levels, 0 = keyframes only
    level_rates: tuple[float, ...] | None = None  # frames a second that each level is told; None: twice as many each
    windows: int = 1  # windows of keyframes, each going on from the last frames of the one before
    guidance: float | None = None  # of keyframes
    temperature: float | None = None  # of keyframes
    clusters: int | None = None  # of every stage; likewise below
    top_k: int | None = None
    top_p: float | None = None
    upscale: bool = False  # super-resolution of every frame
    decoder: str | None = None  # "plain" or "flow"
    flow_steps: int | None = None  # of the flow decoder
    times: tuple[float, ...] | None = None  # seconds of each of the given images, the first at 0; None: even
    negative_prompt: str | None = None  # what guidance leads away from; None: the bundle's unconditional text
    compat: str | None = None  # "released": the released sampler with its quirks (docs/parity.md)

    def __post_init__(self) -> None:
        for name in ("seed", "levels", "windows", "clusters", "top_k", "flow_steps"):
            self._whole(name)
        for name in ("frame_rate", "guidance", "temperature", "top_p"):
            self._number(name)
        rates, level_rates = (", ".join(f"{rate:g}" for rate in known) for known in (FRAME_RATES, LEVEL_RATES))
        require(
            self.frame_rate is None or self.frame_rate in FRAME_RATES,
            f"frame_rate {self.frame_rate} must be one of {rates}",
        )
        require(0 <= self.levels <= LEVELS, f"levels {self.levels} must be 0 to {LEVELS}")
        require(
            self.level_rates is None or isinstance(self.level_rates, tuple | list),
            f"level_rates {self.level_rates!r:.60} must be a list of numbers",
        )
        require(
            self.level_rates is None or len(self.level_rates) == self.levels,
            f"level_rates {self.level_rates} must be one a level, {self.levels} in number",
        )
        if self.level_rates is not None:
            object.__setattr__(self, "level_rates", tuple(self.level_rates))
        for rate in self.level_rates or ():
            require(rate in LEVEL_RATES, f"level rate {rate} must be one of {level_rates}")
        self._check_times()
        negative = self.negative_prompt
        require(negative is None or isinstance(negative, str), f"negative_prompt must be a text, not {negative!r:.60}")
        object.__setattr__(self, "negative_prompt", (negative or "").strip() or None)
        require(self.compat in (None, "released"), f"compat {self.compat!r} must be 'released' or nothing")
        require(1 <= self.windows <= WINDOWS, f"windows {self.windows} must be 1 to {WINDOWS}")
        require(self.seed >= 0, f"seed {self.seed} must be 0 or more")
        self._check_decoder()
        for name in ("clusters", "top_k"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} {value} must be 1 or more")
        require(self.top_p is None or 0 < self.top_p <= 1, f"top_p {self.top_p} must be above 0 and at most 1")
        require(
            sum(x is not None for x in (self.clusters, self.top_k, self.top_p)) <= 1,
            "clusters, top_k and top_p exclude each other; set one",
        )
        self.stage(SamplingConfig(), "keyframes")  # guidance and temperature

    def _check_decoder(self) -> None:
        known, steps = self.decoder in (None, *DECODERS), self.flow_steps
        require(known, f"decoder {self.decoder!r:.60} must be one of {', '.join(DECODERS)}")
        require(steps is None or 1 <= steps <= MOST_STEPS, f"flow_steps {steps} must be 1 to {MOST_STEPS}")
        plain = "flow_steps are of the flow decoder; leave them out, or ask for it"
        require(steps is None or self.decoder != "plain", plain)
        require(
            self.decoder != "flow" or not self.upscale, "upscale decodes fine tokens, which decoder 'flow' does not"
        )

    def _check_times(self) -> None:
        """Times are two or more numbers, the first 0, each above the one before."""
        if self.times is None:
            return
        good = isinstance(self.times, tuple | list) and len(self.times) > 1
        good = good and all(isinstance(t, int | float) and not isinstance(t, bool) for t in self.times)
        require(good, f"times {self.times!r:.80} must be two or more numbers, one an image")
        object.__setattr__(self, "times", tuple(map(float, self.times)))
        rising = all(0 <= a < b <= LONGEST for a, b in pairwise(self.times)) and self.times[0] == 0
        require(rising, f"times {', '.join(f'{t:g}' for t in self.times)} must rise from 0 to {LONGEST:g} at most")
        require(self.level_rates is None, "level_rates has no effect with times; leave out one")
        require(self.compat is None, "compat 'released' knows no times; leave out one")

    def _number(self, name: str) -> None:
        """Raise ConfigError unless an option is a finite number, or None where that is its default."""
        value, unset = getattr(self, name), type(self).__dataclass_fields__[name].default
        try:
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        except OverflowError:  # a whole number beyond all floats
            number = False
        require(number or value is unset, f"{name} must be a number, not {value!r:.60}")
        if isinstance(unset, float | None) and number:
            object.__setattr__(self, name, float(value))

    def _whole(self, name: str) -> None:
        """Likewise a whole one; 1.0 stands for 1."""
        self._number(name)
        value = getattr(self, name)
        require(value is None or value == int(value), f"{name} must be a whole number, not {value!r}")
        object.__setattr__(self, name, None if value is None else int(value))

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that these options go through."""
        return (*STAGES, "superres") if self.upscale else STAGES

    def stage(self, config: SamplingConfig, name: str) -> SamplingConfig:
        """A stage's defaults with these options laid over them."""
        changes: dict[str, Any] = {}
        if any(x is not None for x in (self.clusters, self.top_k, self.top_p)):
            top_p = 1.0 if self.top_p is None else self.top_p
            changes |= {"clusters": self.clusters or 0, "top_k": self.top_k or 0, "top_p": top_p}
        if name == "keyframes":
            given = {"guidance": self.guidance, "temperature": self.temperature}
            changes |= {key: value for key, value in given.items() if value is not None}
        return replace(config, **changes)

    def rates(self, frame_rate: float) -> list[float]:
        """Frames a second that each refinement level is told."""
        return list(self.level_rates or (frame_rate * 2**level for level in range(1, self.levels + 1)))
