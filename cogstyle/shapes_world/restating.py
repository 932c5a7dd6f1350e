"""The caption of a prompt that can be read for sure: one actor, and every word of it is known.

Whatever else a prompt says (a second actor, a number, a place, a negation, two things one after the other, a word that
may be misspelt) is left to a language model.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from cogstyle.shapes_world import world
from cogstyle.shapes_world.facts import WORD, Lexicon, canonical, language_of, lexicon_of, lost, plain, scan
from cogstyle.shapes_world.vocabulary import FILLERS, HEARD

LETTER = re.compile(r"\w")
LOOKS = ("colour", "size")
PLACES = {"en": ("on {b}", "against {b}"), "zh": ()}  # more ways to say a background
COMING_BACK = re.compile(r"back|again|return|re-?appear|blink|现|出|回|闪")


def restated(text: str) -> str | None:
    """The caption of a text in English or Chinese, or None if it cannot be read for sure."""
    language = language_of(text)
    rest, said = scan(_cut(text, language), _sure(language))
    kinds = [kind for kind, _ in said]
    if rest or kinds.count("shape") != 1 or "direction" in kinds[: kinds.index("shape")]:  # "a right triangle"
        return None
    found: dict[str, str] = {}
    for name, value in _each(said):
        late = name in LOOKS and "shape" in found  # of whom? or it is "a little"
        if late or name == "unsure" or found.setdefault(name, value) != value:
            return None
    return _caption(found, text, language)


def _cut(text: str, language: str) -> list[str]:
    return (WORD if language == "en" else LETTER).findall(plain(text))


def _caption(found: dict[str, str], text: str, language: str) -> str | None:
    action, way, speed, ground = (found.get(name) for name in ("action", "direction", "speed", "background"))
    if not {"colour", "shape", "action"} <= set(found) or way not in world.DIRECTIONS.get(str(action), (None,)):
        return None
    if action == "blink" and not COMING_BACK.search(plain(text)):
        return None
    actor = world.Actor(found["colour"], found["shape"], str(action), way, found.get("size"), 0.15, 0.5, 0.5)
    scene = world.Scene(ground or "black", (actor,), world.DURATIONS[speed], speed, language, ground is not None)
    caption = world.caption(scene)
    return caption if canonical(caption) and not lost(text, caption) else None


def _each(said: list[tuple[str, object]]) -> Iterator[tuple[str, str]]:
    """What is said, an attribute at a time."""
    for kind, value in said:
        if kind in ("motion", "direction") and isinstance(value, tuple):
            yield from ((name, one) for name, one in zip(("action", "direction"), value, strict=True) if one)
        elif kind in ("back", "side"):  # "back" alone may be anything
            yield "unsure", kind
        elif kind != "filler":
            yield kind, str(value)


@lru_cache(maxsize=2)
def _sure(language: str) -> Lexicon:
    """Phrases that mean one thing: a background is said by more than its colour."""
    of = HEARD[language]
    known = {key: said for key, said in lexicon_of(language).items() if said[0] != "background"}
    grounds = {
        form.format(b=colour): name
        for name in world.BACKGROUNDS
        for colour in of.colours[name]
        for form in (*of.places, *of.grounds, *PLACES[language])
    }
    known |= {tuple(_cut(key, language)): ("background", name) for key, name in grounds.items()}
    return known | {tuple(_cut(form, language)): ("filler", form) for form in FILLERS[language]}
