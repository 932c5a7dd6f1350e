"""From a video and its caption to training samples: which moments, which text, which frame rate.

A clip is the moments of one sample; a row is one sample before tokenization, frames and the caption with the
seconds that they span. What is drawn from the shapes world: docs/shapes_world.md, "What training draws".
"""

import math
from dataclasses import dataclass

import numpy as np

from cogstyle.config import FRAME_RATES
from cogstyle.errors import MediaError

RULES = 2  # to be raised with every change of the rules below: shards made by other rules are not read
KINDS = ("keyframes", "interpolation", "continuation", "image")
INTERPOLATION_RATES = (2.0, 4.0, 8.0)
SLACK = 0.05  # share of a row's span that a video may be longer: files last a frame or two more than was meant
TOLERANCE = 1e-3  # seconds, as times in files are rounded


@dataclass(frozen=True)
class Clip:
    """`frames` moments from `start` (seconds) on, `rate` a second."""

    start: float
    rate: float
    frames: int

    @property
    def times(self) -> list[float]:
        return [self.start + k / self.rate for k in range(self.frames)]

    @property
    def seconds(self) -> float:
        """The time that the clip spans, 0 for an image."""
        return (self.frames - 1) / self.rate


def clips_of(
    kind: str, duration: float, *, start: float = 0.0, frames: int = 5, extra_rates: int = 0, seed: int = 0
) -> list[Clip]:
    """The clips to train on of a video that shows its caption from `start` for `duration` seconds.

    "keyframes": from the start at the lowest rate at which `frames` fit, so that the clip holds the whole action, and
    at the next `extra_rates` rates. "interpolation": at each of `INTERPOLATION_RATES` that fits, one of the stretches
    that refining those keyframes meets. "continuation": at one of the rates, from a later moment on. "image": the
    middle. Source: CogVideo, multi-frame-rate training.

    Raises:
        MediaError: if it is too short.
    """
    if kind == "image":
        return [Clip(start + duration / 2, 1.0, 1)]
    fits = [rate for rate in FRAME_RATES if (frames - 1) / rate <= duration + TOLERANCE]
    if not fits:
        least, highest = (frames - 1) / FRAME_RATES[-1], FRAME_RATES[-1]
        raise MediaError(f"{duration:.3g} s are too short: {frames} frames span {least:g} s at {highest:g} a second")
    if kind == "keyframes":
        return [Clip(start, rate, frames) for rate in fits[: 1 + extra_rates]]
    rng = np.random.default_rng(seed)
    if kind == "interpolation":
        rates = [rate for rate in INTERPOLATION_RATES if rate in fits]
        firsts = [int(rng.integers(int(rate / fits[0]))) * (frames - 1) / rate for rate in rates]
        return [Clip(start + first, rate, frames) for first, rate in zip(firsts, rates, strict=True)]
    later = {rate: int((duration + TOLERANCE) * rate) - (frames - 1) for rate in fits}  # frames to choose among
    rates = [rate for rate in fits if later[rate] > 0]
    if not rates:
        raise MediaError(f"{duration:.3g} s are too short: {frames} frames at {fits[-1]:g} a second leave none before")
    rate = rates[int(rng.integers(len(rates)))]
    return [Clip(start + (1 + int(rng.integers(later[rate]))) / rate, rate, frames)]


def stretches_of(kind: str, duration: float, *, frames: int = 5, split: bool = False) -> list[tuple[float, float]]:
    """Beginnings and lengths (seconds) of the parts of a video whose clips are taken: of most videos the whole.

    Keyframes that are to show the whole action must reach its end at the lowest frame rate, the last one shown until
    the next would follow. If that is asked for, a longer video gives several stretches of that length, spread evenly;
    where they must, they overlap.

    Raises:
        MediaError: if it is too long.
    """
    lowest = FRAME_RATES[0]
    longest = frames / lowest
    count = math.ceil(duration / longest - SLACK)
    if kind not in ("keyframes", "interpolation") or count <= 1:
        return [(0.0, duration)]
    if not split:
        raise MediaError(
            f"{duration:.4g} s are too long: {frames} frames show {longest:g} s at {lowest:g} a second, "
            "the lowest rate; give lines with start and end, or --split-long"
        )
    return [(k * (duration - longest) / (count - 1), longest) for k in range(count)]
