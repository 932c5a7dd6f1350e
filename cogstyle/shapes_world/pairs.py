"""Phrasings of scenes and the captions that they stand for: what a rewriter of prompts learns from."""

import numpy as np

from cogstyle.shapes_world import world
from cogstyle.shapes_world.phrasings import phrase

AS_IT_IS, NO_ACTION, TWO, UNSEEN_PAIR = 0.15, 0.08, 0.5, 0.15  # shares: captions themselves, of still images, ...
LANGUAGES = ("en", "zh")
KINDS = {  # how held-back pairs are phrased
    "known": {},
    "phrasing": {"held_out": True},
    "words": {"held_out_words": True},
    "caption": {"canonical": True},
}


def draw_cast(rng: np.random.Generator, *, actors: int | None = None) -> world.Scene:
    """A scene of which captions are made, but no pictures: its actors may lie on each other."""
    background, speed = world.BACKGROUNDS, (None, *(word for word in world.DURATIONS if word))
    count = actors or 1 + int(rng.random() < TWO)
    cast = [world.draw_actor(rng, held_out=bool(rng.random() < UNSEEN_PAIR)) for _ in range(count)]
    if count == 2 and cast[0].colour == cast[1].colour:
        return draw_cast(rng, actors=count)
    rests = all(actor.action == "still" for actor in cast)
    word = None if rests else speed[int(rng.integers(len(speed)))]
    name = tuple(background)[int(rng.integers(len(background)))]
    language = LANGUAGES[int(rng.integers(2))]
    return world.Scene(name, tuple(cast), 2.0, word, language, bool(rng.integers(2)))


def draw_pair(rng: np.random.Generator, held_out: float = 0.0) -> tuple[str, str]:
    """A phrasing, and the caption of the same facts in the same language.

    Args:
        held_out: share of the phrasings that may be in orders and words that are held out.
    """
    unseen = {"held_out": bool(rng.integers(2)), "held_out_words": bool(rng.integers(2))}
    scene, with_action = draw_cast(rng), bool(rng.random() >= NO_ACTION)
    as_it_is = bool(rng.random() < AS_IT_IS)
    how = unseen if rng.random() < held_out else {}
    said = phrase(scene, rng, language=scene.language, canonical=as_it_is, with_action=with_action, **how)
    return said, world.caption(scene, with_action=with_action)


def held_back_pairs(kind: str, language: str, count: int, *, actors: int | None = None) -> list[tuple[str, str]]:
    """Pairs of one of `KINDS`, always the same."""
    found = []
    for number in range(count):
        rng = np.random.default_rng([world.VALIDATION_SEED, number])
        scene = draw_cast(rng, actors=actors)
        said = phrase(scene, rng, language=language, **KINDS[kind])
        found.append((said, phrase(scene, rng, language=language, canonical=True)))
    return found
