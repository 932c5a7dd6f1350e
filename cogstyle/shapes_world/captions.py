"""What a caption of the shapes world asks for."""

import re
from functools import lru_cache
from itertools import product

from cogstyle.config import require
from cogstyle.shapes_world import world

Said = tuple[world.Actor, str | None]  # an actor, and the word for its speed


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
