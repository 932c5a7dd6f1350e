"""What a text says of a scene, read word by word, synonyms and slips of the pen too: does a rewriting keep it?"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import permutations, product
from typing import Any

from cogstyle.errors import ConfigError
from cogstyle.shapes_world import world
from cogstyle.shapes_world.captions import parse
from cogstyle.shapes_world.phrasings import verb_forms, words
from cogstyle.shapes_world.vocabulary import ADJECTIVES, HEARD, VERTICAL

WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
TOWARDS = ("向", "往", "朝")  # before a direction in Chinese
LEAST = 4  # letters from which a word counts as misspelt
MOST = 4  # actors
Lexicon = Mapping[tuple[str, ...], tuple[str, Any]]  # words (in Chinese letters) -> kind and value


@dataclass
class Said:
    """What is said of one actor; None: nothing."""

    colour: str | None = None
    shape: str | None = None
    size: str | None = None
    action: str | None = None
    direction: str | None = None

    def __str__(self) -> str:
        said = (self.size, self.colour, self.shape, self.action, self.direction)
        return " ".join(one for one in said if one)


@dataclass
class Facts:
    """What a text says; `unread` are the words that say nothing to the world."""

    actors: list[Said] = field(default_factory=list)
    speeds: set[str] = field(default_factory=set)
    background: str | None = None
    unread: list[str] = field(default_factory=list)


def canonical(text: str) -> bool:
    """Whether a text is a caption of the world, with or without actions, to the letter."""
    text = text.strip()
    try:
        return world.caption(parse(text)) == text
    except ConfigError:
        pass
    ground = next((ground for ground in _grounds() if text.startswith(ground) or text.endswith(ground)), "")
    nouns = re.split(r" and (?=an? )|，", text.replace(ground, "", 1))
    return len(nouns) <= 2 and all(noun in _nouns() for noun in nouns)


def _grounds() -> list[str]:
    """How captions say a background: at the end in English, at the beginning in Chinese."""
    return [f" on a {name} background" for name in world.BACKGROUNDS] + [
        f"{world.CHINESE[name]}背景上，" for name in world.BACKGROUNDS
    ]


@lru_cache(maxsize=1)
def _nouns() -> frozenset[str]:
    """Captions of one actor that name no action."""
    found = set()
    for colour, shape, size, language in product(world.COLOURS, world.SHAPES, (None, "small", "large"), HEARD):
        actor = world.Actor(colour, shape, "still", None, size, 0.15, 0.5, 0.5)
        scene = world.Scene("black", (actor,), 4.0, None, language, says_background=False)
        found.add(world.caption(scene, with_action=False))
    return frozenset(found)


def lost(asked: str, drawn: str) -> str:
    """What of a prompt its rewriting loses or turns into something else, in a few words; empty: nothing.

    A rewriting may add what the prompt leaves open, but not where the prompt has words that cannot be read.
    """
    mine, theirs = read(asked), read(drawn)
    if len(mine.actors) != len(theirs.actors) or not 0 < len(mine.actors) <= MOST:
        return f"the prompt names {_names(mine)}, the rewriting {_names(theirs)}"
    orders = [_lost(mine, order, theirs) for order in permutations(theirs.actors)]
    return min(orders, key=len)


def _names(facts: Facts) -> str:
    return " and ".join(map(str, facts.actors)) or "no shape of the shapes world"


def _lost(mine: Facts, order: tuple[Said, ...], theirs: Facts) -> str:
    found = [one for pair in zip(mine.actors, order, strict=True) if (one := _differs(*pair, unread=mine.unread))]
    found += [f"{speed} is lost" for speed in sorted(mine.speeds - theirs.speeds)]
    if mine.background not in (None, theirs.background):
        found.append(f"background {mine.background} became {theirs.background or 'none'}")
    return ", ".join(found)


def _differs(asked: Said, drawn: Said, *, unread: list[str]) -> str:
    for name in ("shape", "colour", "action", "direction", "size"):
        before, now = getattr(asked, name), getattr(drawn, name)
        if before is not None and before != now:
            return f"{name} {before} became {now or 'none'}"
        plain_move = name == "action" and now == "move" and asked.direction is not None  # whatever word says so
        if name == "action" and before is now is None and unread:
            return f"{', '.join(unread[:3])} may say what happens, and the rewriting says nothing of it"
        if before is None and now is not None and unread and name != "size" and not plain_move:
            return f"{name} {now} is not in the prompt, as far as it can be read (not: {', '.join(unread[:3])})"
    return ""


def plain(text: str) -> str:
    """NFKC, without upper case."""
    return unicodedata.normalize("NFKC", text).casefold()


def read(text: str) -> Facts:
    """What a text in English or Chinese says."""
    language = language_of(text)
    found = WORD.findall(plain(text)) if language == "en" else re.findall(r"\w", plain(text))
    facts, lexicon = Facts(), lexicon_of(language)
    if language == "en":
        found = [_spelt(word) for word in found]
    found, speeds = scan(found, {key: said for key, said in lexicon.items() if said[0] == "speed"})
    facts.speeds = {value for _, value in speeds}
    rest, said = scan(found, lexicon)
    if language == "en":
        facts.unread = [word for word in rest if word not in _known()]
    _assemble(facts, said)
    return facts


def language_of(text: str) -> str:
    """The language that a text is read in."""
    return "zh" if re.search(r"[\u4e00-\u9fff]", text) else "en"


def _spelt(word: str) -> str:
    """The known word that an unknown one stands for: a letter lacks, is too many, or changed places with the next."""
    if word in _known() or len(word) < LEAST:
        return word
    return next((known for known in sorted(_known()) if _slipped(word, known)), word)


def _slipped(word: str, known: str) -> bool:
    if word[0] != known[0] or abs(len(word) - len(known)) > 1:
        return False
    if len(word) == len(known):
        places = [n for n, pair in enumerate(zip(word, known, strict=True)) if pair[0] != pair[1]]
        return (
            len(places) == 2 and places[1] == places[0] + 1 and word[places[0]] == known[places[1]] != word[places[1]]
        )
    long, short = sorted((word, known), key=len, reverse=True)
    return any(long[:n] + long[n + 1 :] == short for n in range(len(long)))


def scan(found: list[str], lexicon: Lexicon) -> tuple[list[str], list[tuple[str, Any]]]:
    """What the longest phrases say, in order; and the words that are in none."""
    rest, said, at = [], [], 0
    longest = max(map(len, lexicon))
    while at < len(found):
        tries = (tuple(found[at : at + size]) for size in range(longest, 0, -1))
        key = next((key for key in tries if key in lexicon), None)
        if key is None:
            rest.append(found[at])
            at += 1
        else:
            said.append(lexicon[key])
            at += len(key)
    return rest, said


def _assemble(facts: Facts, said: list[tuple[str, Any]]) -> None:
    """Give each actor what is said around it: looks before its noun, motion behind it, or before where none was."""
    coming, current = Said(), None
    for kind, value in said:
        if kind == "background":
            facts.background = value
        elif kind == "shape":
            coming.shape, current, coming = value, coming, Said()
            facts.actors.append(current)
        elif kind in ("colour", "size"):
            setattr(coming, kind, value)
        elif kind in ("motion", "direction", "back"):
            action, way = value
            to = (
                coming
                if current is None or (kind == "motion" and current.action and coming.action is None)
                else current
            )
            if kind == "back":
                action = "return" if to.action in (None, "move") else to.action
            to.action, to.direction = action or to.action, way or to.direction
    last = facts.actors[-1] if facts.actors else None
    for name in ("colour", "size"):
        if last is not None and getattr(last, name) is None:
            setattr(last, name, getattr(coming, name))
    unique: list[Said] = []
    for actor in facts.actors:  # said again, as where one is beside another
        twin = [one for one in unique if (one.colour, one.shape) == (actor.colour, actor.shape)]
        if not twin or actor.action is not None:
            unique.append(actor)
        if actor.action == "move" and actor.direction in world.TURNS:
            actor.action = "circle"
    facts.actors = unique


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    """Every English word that is understood."""
    return frozenset(word for key in lexicon_of("en") for word in key) | words("en")


@lru_cache(maxsize=2)
def lexicon_of(language: str) -> Lexicon:
    """What phrases say, whole motions and their parts."""
    of = HEARD[language]
    found: dict[str, tuple[str, Any]] = {}
    for action, forms in of.actions.items():
        for form in (inflected for verb in forms for inflected in verb_forms(verb, language)):
            _add_motion(found, action, form, language)
    for way, verbs in VERTICAL.items() if language == "en" else ():
        found |= {form: ("motion", ("move", way)) for verb in verbs for form in verb_forms(verb, language)}
    for name, forms in of.directions.items():
        for form in forms:
            if language == "en" or len(form) > 2:
                found[form] = "direction", (None, name)
            found |= {f"{to}{form}": ("direction", (None, name)) for to in TOWARDS if language == "zh"}
    for kind, table in (("size", of.sizes), ("shape", of.shapes), ("colour", of.colours)):
        found |= {form: (kind, name) for name, forms in table.items() for form in forms}
    found |= {form: ("background", name) for name in world.BACKGROUNDS for form in of.colours[name]}
    speeds = [*of.speeds.items(), *(ADJECTIVES.items() if language == "en" else ())]
    found |= {form: ("speed", name) for name, forms in speeds for form in forms}
    found |= {form: ("side", name) for name, forms in of.sides.items() for form in forms}
    cut = WORD.findall if language == "en" else list
    return {tuple(cut(plain(key))): said for key, said in found.items()}


def _add_motion(found: dict[str, tuple[str, Any]], action: str, form: str, language: str) -> None:
    """A form of an action with each of its directions; and its parts, which mean less."""
    if "{d}" not in form:
        found[form] = "motion", (action, None)
        if action == "blink" and " and " in form:
            found.setdefault(form.split(" and ")[0], ("motion", (action, None)))
        return
    shapes = {shape for forms in HEARD[language].shapes.values() for shape in forms}
    for way in world.DIRECTIONS[action]:
        for said in HEARD[language].directions[way]:
            found[form.format(d=said)] = "motion", (action, way)
    head, tail = (part.strip() for part in form.split("{d}"))
    if language == "en" and not tail and head not in shapes:
        found.setdefault(head, ("motion", (action, None)))
    if action == "return":
        back = tail.removeprefix("and ") if language == "en" else tail[-2:]
        found.setdefault(back, ("back", (None, None)))
    if language == "zh" and action == "circle" and not head:
        found.setdefault(tail, ("motion", (action, None)))
