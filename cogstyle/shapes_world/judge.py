"""The reader of the shapes world as a judge by name: `--judge shapes`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from numpy import ndarray

from cogstyle.shapes_world.alignment import judge_reading
from cogstyle.shapes_world.captions import parse
from cogstyle.shapes_world.facts import canonical
from cogstyle.shapes_world.reader import read_clip
from cogstyle.shapes_world.restating import restated


def judge(frames_FHWC: ndarray, times_F: Sequence[float], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Which attributes of what is asked for hold; those that it does not name do.

    Args:
        asked: `prompt`, and if it is neither a caption nor read for sure, the `caption` that it means.

    Raises:
        ConfigError: for a text that is no caption of the shapes world.
        MediaError: see `read_clip`.
    """
    text = str(asked.get("caption") or asked["prompt"])
    scene, reading = parse(text if canonical(text) else restated(text) or text), read_clip(frames_FHWC, times_F)
    seen = [" ".join(filter(None, (a.colour, a.shape, a.action, a.direction))) for a in reading.actors]
    verdict = judge_reading(reading, times_F, scene)
    return {**asdict(verdict), "seen": f"{' and '.join(seen) or 'nothing'} on {reading.background}"}
