"""From a video and its caption to training samples: which moments, which text, which frame rate.

A clip is the moments of one sample; a row is one sample before tokenization, frames and the caption with the
seconds that they span. What is drawn from the shapes world: docs/shapes_world.md, "What training draws".
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cogstyle.config import FRAME_RATES
from cogstyle.errors import MediaError

KINDS = ("keyframes", "interpolation", "continuation", "image", "superres")
STILL = ("image", "superres")  # rows of one frame
LEVELS = 3  # of refinement: each doubles the frame rate of keyframes
FASTER = 1.1  # times a video's own frame rate that rows may have: rates in files are averages
SIDES = re.compile(
    r"\b(left|right|leftwards?|rightwards?|(counter|anti)?clockwise)\b|左|右|时针|時計回り", re.IGNORECASE
)  # words that a mirrored picture makes untrue
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
    kind: str,
    duration: float,
    *,
    start: float = 0.0,
    frames: int = 5,
    extra_rates: int = 0,
    stills: int = 1,
    own_rate: float = math.inf,
    seed: int = 0,
) -> list[Clip]:
    """The clips to train on of a video that shows its caption from `start` for `duration` seconds.

    "keyframes": from the start at the lowest rate at which `frames` fit, so that the clip holds the whole action, and
    at the next `extra_rates` rates. "interpolation": one stretch of each level at which those keyframes are refined.
    "continuation": at one of the rates, from a later moment on. "image" and "superres": the first frame, with which a
    video begins, and as many others as `stills` are more, at random moments. Source: CogVideo, multi-frame-rate
    training.

    Args:
        own_rate: frames a second of the video; no row has more.

    Raises:
        MediaError: if it is too short, or has too few frames a second.
    """
    rng = np.random.default_rng(seed)
    if kind in STILL:
        moments = (np.arange(stills - 1) + rng.random(stills - 1)) / max(stills - 1, 1) * duration
        return [Clip(start + moment, 1.0, 1) for moment in (0.0, *moments.tolist())]
    fits = [rate for rate in FRAME_RATES if (frames - 1) / rate <= duration + TOLERANCE]
    if not fits:
        least, highest = (frames - 1) / FRAME_RATES[-1], FRAME_RATES[-1]
        raise MediaError(f"{duration:.3g} s are too short: {frames} frames span {least:g} s at {highest:g} a second")
    keyframe_rates = [rate for rate in fits[: 1 + extra_rates] if rate <= max(FASTER * own_rate, fits[0])]
    if kind == "keyframes":
        return [Clip(start, rate, frames) for rate in keyframe_rates]
    if kind == "interpolation":
        levels = [(rate, level) for rate in keyframe_rates for level in range(1, LEVELS + 1)]
        clips = [
            _stretch(rate, level, start, frames, rng) for rate, level in levels if rate * 2**level <= FASTER * own_rate
        ]
        if not clips:
            raise MediaError(f"{own_rate:.3g} frames a second have none between keyframes at {fits[0]:g} a second")
        return clips
    later = {rate: int((duration + TOLERANCE) * rate) - (frames - 1) for rate in fits}  # frames to choose among
    rates = [rate for rate in fits if later[rate] > 0]
    if not rates:
        raise MediaError(f"{duration:.3g} s are too short: {frames} frames at {fits[-1]:g} a second leave none before")
    rate = rates[int(rng.integers(len(rates)))]
    return [Clip(start + (1 + int(rng.integers(later[rate]))) / rate, rate, frames)]


def _stretch(keyframe_rate: float, level: int, start: float, frames: int, rng: np.random.Generator) -> Clip:
    """One of the groups of frames that a level of refinement fills."""
    rate = keyframe_rate * 2**level
    groups = 2 ** (level - 1) * (frames - 1) // (frames // 2)
    return Clip(start + int(rng.integers(groups)) * (frames - 1) / rate, rate, frames)


def names_side(texts: Iterable[str]) -> bool:
    """Whether one of the texts would be untrue of the mirrored picture."""
    return any(SIDES.search(text) is not None for text in texts)


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
