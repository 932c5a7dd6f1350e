"""What a caption of the zoo asks for, in either language and any phrasing."""

import re
from functools import lru_cache

from nouns import NOUNS
from scenes import (
    ADVERBS,
    BACKGROUNDS,
    CHINESE_VERBS,
    CHINESE_WORDS,
    DIRECTIONS,
    DURATIONS,
    PAIRED,
    SIZES,
    TO,
    VERBS,
    Actor,
    Scene,
)

Words = dict[str, str]  # what is said -> what it means
WAYS = {word for ways in DIRECTIONS.values() for word in ways}


@lru_cache(maxsize=2)
def words(language: str) -> tuple[Words, Words, Words, Words, Words, Words]:
    """Nouns, sizes, backgrounds, speeds, directions, and verbs (as patterns) of "en" or "zh"."""
    if language == "zh":
        means = {said: word for word, said in CHINESE_WORDS.items()}
        sizes, speeds, ways = ({s: w for s, w in means.items() if w in of} for of in (SIZES, ADVERBS, WAYS))
        nouns = {noun.chinese: name for name, noun in NOUNS.items()}
        places = {chinese: place for place, (_, chinese) in BACKGROUNDS.items()}
        forms = [(form, action) for action, found in CHINESE_VERBS.items() for form in found]
    else:
        nouns = {said: name for name, noun in NOUNS.items() for said in noun.english}
        sizes, speeds = ({said: word for word, all_ in of.items() for said in all_} for of in (SIZES, ADVERBS))
        places = {said: place for place, (english, _) in BACKGROUNDS.items() for said in english}
        ways = {said: way for way in WAYS for said in {way, TO.get(way, way)}}
        forms = [(form, action) for action, found in VERBS.items() for pair in found for form in pair]
    some = f"(?:{either(ways)})"
    verbs = {re.sub(r"\{(d|to)\}", some, form.partition("{other}")[0].strip()): action for form, action in forms}
    return nouns, sizes, places, speeds, ways, verbs


def either(said: Words) -> str:
    """A pattern of all words, the longest first."""
    return "|".join(sorted(map(re.escape, said), key=len, reverse=True))


def understood(caption: str) -> Scene:
    """The scene that a caption asks for; what it leaves open is made up.

    Raises:
        ValueError: if it names no actor of the zoo, more than two, or nothing that one does.
    """
    language = "en" if caption.isascii() else "zh"
    nouns, sizes, places, speeds, ways, verbs = words(language)
    edge = r"\b" if language == "en" else ""
    text, place = caption.lower(), None
    if found := re.search(f"{edge}({either(places)}){edge}", text):
        text, place = text[: found.start()] + text[found.end() :], places[found[1]]
    named = [*re.finditer(f"{edge}(?:({either(sizes)}) ?)?({either(nouns)}){edge}", text)]
    if not 1 <= len(named) <= 2:
        raise ValueError(f"no caption of the zoo: {caption!r:.80}")
    ends = [*(match.start() for match in named[1:]), len(text)]
    parts = [text[match.end() : end] for match, end in zip(named, ends, strict=True)]
    actors: list[Actor] = []
    for number, match in enumerate(named):
        rest = "".join(parts[number:])
        action = "still" if actors and actors[0].action in PAIRED else _action(parts[number], verbs)
        if action is None:
            raise ValueError(f"no caption of the zoo: {caption!r:.80}")
        said = re.search(f"{edge}({either(ways)}){edge}", rest if action in PAIRED else parts[number])
        way = ways[said[1]] if said and action in DIRECTIONS else None
        size = sizes[match[1]] if match[1] else None
        actors.append(Actor(nouns[match[2]], action, way, size, 0.15, 0.5, 0.5, 0.0, "left"))
    found = re.search(f"{edge}({either(speeds)}){edge}", text)
    speed = speeds[found[1]] if found else None
    rests = all(actor.action == "still" for actor in actors)
    duration = 4.0 if rests else DURATIONS[speed]
    return Scene(0, place or "meadow", tuple(actors), speed, duration, place is not None)


def _action(part: str, verbs: Words) -> str | None:
    """The action whose words take up most of what is said of an actor."""
    found = [(len(match[0]), action) for verb, action in verbs.items() if (match := re.search(verb, part))]
    return max(found)[1] if found else None
