"""How people ask for a scene: its caption in other words and orders, in English and Chinese, always of the same facts.

Every fifth phrasing and the last of every four or more synonyms are held out: training never says them.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from cogstyle.shapes_world import world
from cogstyle.shapes_world.vocabulary import ADJECTIVES, CHINESE, ENGLISH, LANGUAGES, Forms

T = TypeVar("T")
Pick = Callable[[Forms], str]

HELD_OUT_PHRASINGS = 5  # one in so many
SYNONYMS = 4  # of so many words for one thing or more, the last is held out
CAPITAL, SHOUT, STOP = 0.3, 0.03, 0.4  # shares of the captions: a first capital letter, capitals only, a full stop

BASE, THIRD, ING = 0, 1, 2  # forms of a verb: *go, goes, going; or all three, parted by |
DOUBLED = ("bob", "drop", "get", "hop", "run", "sit", "spin", "stop")
SIDES = ("left", "right", "above", "below")  # of another actor


def phrasings(language: str, *, held_out: bool = False, with_action: bool = True) -> list[tuple[str, str]]:
    """The phrasings of "en" or "zh" that are (not) held out: every fifth, so never the canonical one."""
    found = LANGUAGES[language].moving if with_action else LANGUAGES[language].resting
    return [each for n, each in enumerate(found, 1) if (n % HELD_OUT_PHRASINGS == 0) == held_out]


def synonyms(forms: Forms, *, held_out: bool = False) -> Forms:
    """The words for one thing that are (not) held out; all where none is held out."""
    if len(forms) < SYNONYMS:
        return forms
    return forms[-1:] if held_out else forms[:-1]


def relations(scene: world.Scene) -> list[str]:
    """Where the first of two actors is beside the second at t = 0, of SIDES: true of all points of both."""
    if len(scene.actors) != 2:
        return []
    (x, y, r), (p, q, s) = (
        (place.x, place.y, world.AXIS_EXTENT[actor.shape] * place.r)
        for actor, place in ((actor, world.state(actor, 0.0, scene.duration)) for actor in scene.actors)
    )
    gaps = (p - x, x - p, q - y, y - q)
    return [side for side, gap in zip(SIDES, gaps, strict=True) if gap > r + s]


def phrase(
    scene: world.Scene,
    rng: np.random.Generator,
    *,
    language: str,
    held_out: bool = False,
    held_out_words: bool = False,
    canonical: bool = False,
    with_action: bool = True,
    beside: float = 0.0,
) -> str:
    """A caption of the scene as people write it.

    Args:
        language: "en" or "zh".
        held_out: in a phrasing that training never uses.
        held_out_words: with the words that training never uses, wherever there is one.
        canonical: the canonical caption; `rng` is left alone.
        with_action: name the actions; otherwise only what a still image shows.
        beside: share of the captions of two actors that also say where the first is beside the second at t = 0.
    """
    if canonical:
        return world.caption(replace(scene, language=language), with_action=with_action)

    def pick(forms: Forms) -> str:
        return _one(rng, synonyms(forms, held_out=held_out_words))

    one, whole = _one(rng, phrasings(language, held_out=held_out, with_action=with_action))
    say = _english if language == "en" else _chinese
    nouns = [_noun(actor, pick, rng, language) for actor in scene.actors]
    text = say(scene, nouns, one, whole, pick)
    sides = relations(scene)
    if sides and rng.random() < beside:
        of = LANGUAGES[language]
        text += pick(of.beside).format(x=nouns[0], y=nouns[1], side=pick(of.sides[_one(rng, sides)]))
    return _written(text, rng, "." if language == "en" else "。")


def words(language: str, *, held_out: bool = True) -> frozenset[str]:
    """All words that phrasings of a language use, held-out ones too or not; in Chinese its phrases."""
    of = LANGUAGES[language]
    tables = (of.colours, of.shapes, of.sizes, of.actions, of.directions, of.speeds, of.sides)
    slots = [*(forms for table in tables for forms in table.values()), of.places, of.grounds, of.joins, of.beside]
    texts = [form for forms in slots for form in (forms if held_out else synonyms(forms))]
    texts += [part for each in (*of.moving, *of.resting) for part in each]
    if language == "en":
        texts = [_verb(text, form) for text in texts for form in (BASE, THIRD, ING)]
        texts += ["a", "an", *(word for forms in ADJECTIVES.values() for word in forms)]
    found = (re.findall(r"[^\W_]+(?:-[^\W_]+)*", re.sub(r"\{.*?\}", " ", text)) for text in texts)
    return frozenset(word for words_ in found for word in words_)


def _one(rng: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]


def _noun(actor: world.Actor, pick: Pick, rng: np.random.Generator, language: str) -> str:
    """ "small red ball", without an article or a number."""
    of = LANGUAGES[language]
    size = pick(of.sizes[actor.size]) if actor.size else ""
    colour, shape = pick(of.colours[actor.colour]), pick(of.shapes[actor.shape])
    if language == "en":
        return " ".join(word for word in (size, colour, shape) if word)
    return colour + size + shape if "色" in colour and rng.random() < 0.3 else size + colour + shape


def _verb(form: str, which: int) -> str:
    """The words of an action with its verbs in one of three forms."""
    if "|" in form:
        return form.split("|")[which]

    def inflected(found: re.Match[str]) -> str:
        verb = found[1]
        if which == THIRD:
            verb = re.sub(r"(?<![aeiou])y$", "ie", verb)
            return verb + ("es" if verb.endswith(("o", "sh")) else "s")
        if which == ING:
            return (verb[:-1] if verb.endswith("e") else verb + verb[-1] * (verb in DOUBLED)) + "ing"
        return verb

    return re.sub(r"\*(\w+)", inflected, form)


def verb_forms(form: str, language: str) -> list[str]:
    """An action in each form of its verbs; Chinese ones have one."""
    return list(dict.fromkeys(_verb(form, which) for which in (BASE, THIRD, ING))) if language == "en" else [form]


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _english(scene: world.Scene, nouns: Sequence[str], one: str, whole: str, pick: Pick) -> str:
    colour = pick(ENGLISH.colours[scene.background])
    place, ground = (
        pick(forms).format(b=colour) if scene.says_background else "" for forms in (ENGLISH.places, ENGLISH.grounds)
    )
    clauses = []
    for number, (actor, noun) in enumerate(zip(scene.actors, nouns, strict=True)):
        form = pick(ENGLISH.actions[actor.action])
        way = pick(ENGLISH.directions[actor.direction]) if actor.direction else ""
        base, third, ing = (_verb(form, which).format(d=way) for which in (BASE, THIRD, ING))
        speed = scene.speed if actor.action != "still" else None
        late = pick(ENGLISH.speeds[speed]) if speed else ""
        fast = f"{pick(ADJECTIVES[speed])} {noun}" if speed else noun
        spoken = {
            "base": base,
            "v": third,
            "ing": ing,
            "late": late and f" {late}",
            "early": f"{speed} " if speed else "",
        }
        here = f" {place}" if place and number == 0 else ""
        clauses.append(one.format(a=_article(noun), n=noun, fast=_article(fast), here=here, **spoken))
    whole_clause = "{v}" in one or " is " in one
    join = pick(ENGLISH.joins if whole_clause and "there" not in whole else ENGLISH.joins[:3])
    front, place = place and f"{place}, ", place and f" {place}"
    return whole.format(clauses=join.join(clauses), place=place, front=front, ground=ground)


def _chinese(scene: world.Scene, nouns: Sequence[str], one: str, whole: str, pick: Pick) -> str:
    colour = CHINESE.colours[scene.background][0]
    place, ground = (
        pick(forms).format(b=colour) if scene.says_background else "" for forms in (CHINESE.places, CHINESE.grounds)
    )
    at = place if place.startswith(("在", "以")) or not place else f"在{place}"
    clauses = []
    for number, (actor, noun) in enumerate(zip(scene.actors, nouns, strict=True)):
        way = pick(CHINESE.directions[actor.direction]) if actor.direction else ""
        form = pick(CHINESE.actions[actor.action])
        verb = form.format(d=way[:1] if "方" in form and len(way) == 2 else way)
        adverb = pick(CHINESE.speeds[scene.speed]) if scene.speed and actor.action != "still" else ""
        clause = one.format(a=f"一个{noun}", n=noun, adv=adverb, v=verb, here=at if number == 0 else "")
        clauses.append(clause)
    front, place = place and f"{place}，", place and f"，{at}"
    return whole.format(clauses=pick(CHINESE.joins).join(clauses), place=place, front=front, on=at, ground=ground)


def _written(text: str, rng: np.random.Generator, stop: str) -> str:
    """With capitals and a full stop, as some people write."""
    capital, shout, stopped = rng.random(3) < (CAPITAL, SHOUT, STOP)
    text = text.upper() if shout else text[0].upper() + text[1:] if capital else text
    return text + stop if stopped else text
