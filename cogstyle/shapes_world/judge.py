"""The reader of the shapes world as a judge by name: `--judge shapes`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from itertools import product
from typing import Any

from numpy import ndarray

from cogstyle.config import require
from cogstyle.shapes_world import world
from cogstyle.shapes_world.alignment import judge_reading
from cogstyle.shapes_world.reader import read_clip

Said = tuple[world.Actor, str | None]  # an actor, and the word for its speed


def judge(frames_FHWC: ndarray, times_F: Sequence[float], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Which attributes of the caption `asked["prompt"]` hold; those that it does not name do.

    Raises:
        ConfigError: for a text that is no caption of the shapes world.
        MediaError: see `read_clip`.
    """
    scene, reading = parse(asked["prompt"]), read_clip(frames_FHWC, times_F)
    seen = [" ".join(filter(None, (a.colour, a.shape, a.action, a.direction))) for a in reading.actors]
    verdict = judge_reading(reading, times_F, scene)
    return {**asdict(verdict), "seen": f"{' and '.join(seen) or 'nothing'} on {reading.background}"}


def parse(caption: str) -> world.Scene:
    """What a caption of the shapes world asks for; what it leaves open is made up.

    Raises:
        ConfigError: for any other text.
    """
    text, background = caption.strip(), None
    for name in world.BACKGROUNDS:
        for words in (f" on a {name} background", f"{world.CHINESE[name]}背景上，"):
            if words in text:
                text, background = text.replace(words, ""), name
    found = [_phrases().get(phrase) for phrase in re.split(r" and (?=an? )|，", text)]
    said = [one for one in found if one is not None]
    require(len(said) == len(found) <= 2, f"no caption of the shapes world: {caption!r:.80}")
    actors, speed = tuple(actor for actor, _ in said), next((word for _, word in said if word), None)
    rests = all(actor.action == "still" for actor in actors)
    duration = 4.0 if rests else world.DURATIONS[speed]
    language = "en" if caption.isascii() else "zh"
    return world.Scene(background or "black", actors, duration, speed, language, background is not None)


@lru_cache(maxsize=1)
def _phrases() -> dict[str, Said]:
    """All that can be said of one actor, in both languages."""
    motions = [(action, way) for action in world.ACTIONS for way in world.DIRECTIONS.get(action, (None,))]
    found: dict[str, Said] = {}
    for colour, shape, size, motion in product(world.COLOURS, world.SHAPES, (None, "small", "large"), motions):
        actor = world.Actor(colour, shape, *motion, size, 0.15, 0.5, 0.5)
        for speed, language in product(world.DURATIONS, ("en", "zh")):
            scene = world.Scene("black", (actor,), 2.0, speed, language, False)
            found[world.caption(scene)] = actor, None if motion[0] == "still" else speed
    return found
