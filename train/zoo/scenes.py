"""What happens in a zoo video, and how people say it: a scene from a seed, its motion, its captions.

Actions, speeds, sizes and frame rates are those of the shapes world: a path of half the canvas in 4 s (slowly), 2 s or
1 s (quickly). x goes right, y down, both 0..1; sizes are in canvases.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from nouns import ANIMALS, NOUNS, VEHICLES, Noun

DURATIONS = {"slowly": 4.0, None: 2.0, "quickly": 1.0}  # seconds
SINGLE = ("move", "return", "circle", "grow", "shrink", "blink", "bounce", "still")
PAIRED = ("follow", "meet", "jump")  # what an actor does with another
SIDES, WAYS = ("left", "right"), ("left", "right", "up", "down")
DIRECTIONS = {
    "move": WAYS, "return": WAYS, "circle": ("clockwise", "counterclockwise"), "follow": SIDES, "jump": SIDES,
}  # fmt: skip
BACKGROUNDS = {
    "meadow": (("in a meadow", "on a meadow", "on the grass"), "草地上"),
    "sea": (("on the sea", "at sea", "over the sea"), "海面上"),
    "sand": (("on sand", "on the sand", "on a sandy beach"), "沙滩上"),
    "snow": (("in the snow", "on snow", "on the snow"), "雪地上"),
    "night": (("under a night sky", "at night", "in the night"), "夜空下"),
}
RADII = {"small": 0.12, "large": 0.20}
EXTENT = 1.15  # half the side of what is drawn, over its nominal radius
MARGIN, GAP, PATH, HOP, ORBIT, LEAP = 0.01, 0.02, 0.5, 0.22, 0.22, 0.36
TOGETHER = (0.10, 0.125)  # radii of those who do something with another
HELD_OUT_PAIRS, HELD_OUT_PHRASINGS = 12, 5  # one in so many is never rendered, never said


@dataclass(frozen=True)
class Actor:
    noun: str
    action: str
    direction: str | None
    size: str | None  # the word
    r: float  # nominal radius
    x: float
    y: float
    angle: float  # where a circle begins
    faces: str  # "left" or "right", while it goes neither way


@dataclass(frozen=True)
class Scene:
    """One actor, two that do not care for each other, or two of whom the first does a PAIRED action with the other."""

    seed: int
    background: str
    actors: tuple[Actor, ...]
    speed: str | None
    duration: float
    says_background: bool

    @property
    def together(self) -> bool:
        return self.actors[0].action in PAIRED


@dataclass(frozen=True)
class State:
    """An actor at a moment; `half` is half the side of what is drawn."""

    x: float
    y: float
    half: float
    opacity: float = 1.0
    faces: str = "left"


# ---------------------------------------------------------------- held out


def rank(*words: object) -> bytes:
    """A fixed, arbitrary order."""
    return hashlib.sha256("|".join(map(str, words)).encode()).digest()


def held_out(noun: str, action: str) -> bool:
    """Whether videos to train on never show `noun` do `action`: a twelfth of all pairs, the same ones always."""
    return (noun, action) in _HELD_OUT


_PAIRS = sorted(((n, a) for n in NOUNS for a in (*SINGLE, *PAIRED)), key=lambda pair: rank("pair", *pair))
_HELD_OUT = frozenset(_PAIRS[: len(_PAIRS) // HELD_OUT_PAIRS])


# ---------------------------------------------------------------- motion


def state(scene: Scene, number: int, t: float) -> State:
    """Where actor `number` is at `t` seconds; before its start and after its end it rests."""
    actor, u = scene.actors[number], min(max(t / scene.duration, 0.0), 1.0)
    if scene.together:
        return _together(scene, number, u)
    sign = {"left": -1, "right": 1, "up": -1, "down": 1}.get(actor.direction or "", 0)
    x, y, r, opacity, faces = actor.x, actor.y, actor.r, 1.0, actor.faces
    if actor.action in ("move", "return"):
        way = u if actor.action == "move" else 1.0 - abs(2.0 * u - 1.0)
        offset = sign * PATH * (way - 0.5)
        x, y = (0.5 + offset, y) if actor.direction in SIDES else (x, 0.5 + offset)
        if actor.direction in SIDES:
            back = actor.action == "return" and u > 0.5
            faces = actor.direction if not back else SIDES[actor.direction == "left"]
    elif actor.action == "circle":
        turns = 1 if actor.direction == "clockwise" else -1
        angle = actor.angle + 2.0 * math.pi * u * turns
        x, y = 0.5 + ORBIT * math.cos(angle), 0.5 + ORBIT * math.sin(angle)
        faces = SIDES[math.sin(angle) * turns <= 0.0]
    elif actor.action in ("grow", "shrink"):
        r = 0.08 + 0.14 * (u if actor.action == "grow" else 1.0 - u)
    elif actor.action == "blink":
        opacity = max(0.0, 1.0 - u / 0.4, (u - 0.6) / 0.4)
    elif actor.action == "bounce":
        y -= HOP * abs(math.sin(2.0 * math.pi * u))
    return State(x, y, EXTENT * r, opacity, faces)


def _together(scene: Scene, number: int, u: float) -> State:
    first, second = scene.actors
    a, b = EXTENT * first.r, EXTENT * second.r
    sign = -1 if first.direction == "left" else 1
    if first.action == "follow":  # the second leads
        path = 1.0 - 2.0 * (a + b) - GAP - 2.0 * MARGIN
        start = MARGIN + a if number == 0 else MARGIN + 2.0 * a + GAP + b
        x = start + path * u
        return State(x if sign > 0 else 1.0 - x, first.y, (a, b)[number], faces=first.direction or "left")
    if first.action == "meet":
        if number == 0:
            x, end, half = MARGIN + a, 0.5 - a - GAP / 2, a
        else:
            x, end, half = 1.0 - MARGIN - b, 0.5 + b + GAP / 2, b
        x, faces = x + (end - x) * u, SIDES[number == 0]
        return State(
            x if first.faces == "right" else 1.0 - x,
            first.y,
            half,
            faces=faces if first.faces == "right" else SIDES[number == 1],
        )
    if number == 1:
        return State(0.5, second.y, b, faces=second.faces)
    x = 0.5 + sign * (0.5 - MARGIN - a) * (2.0 * u - 1.0)
    return State(x, second.y + b - a - LEAP * math.sin(math.pi * u), a, faces=first.direction or "left")


# ---------------------------------------------------------------- drawing scenes


def draw_scene(seed: int, *, held_out_pairs: bool = False) -> Scene:
    """The scene of a seed.

    Args:
        held_out_pairs: of pairs that no other video shows: the first actor's.
    """
    rng = np.random.default_rng([seed, held_out_pairs])
    background, speed = _pick(rng, tuple(BACKGROUNDS)), _pick(rng, tuple(DURATIONS))
    says = bool(rng.random() < 0.75)
    kind = rng.random()
    while True:
        if kind < 0.18:
            actors = _draw_together(rng, held_out_pairs)
        else:
            actors = tuple(_draw_actor(rng, held_out_pairs and n == 0) for n in range(1 if kind < 0.75 else 2))
        rests = all(actor.action == "still" for actor in actors)
        word, duration = (None, 4.0) if rests else (speed, DURATIONS[speed])
        scene = Scene(seed, background, actors, word, duration, says)
        if len(actors) == 1 or (actors[0].noun != actors[1].noun and (scene.together or _apart(scene))):
            return scene


def _pick(rng: np.random.Generator, items):
    return items[int(rng.integers(len(items)))]


def _draw_actor(rng: np.random.Generator, held: bool) -> Actor:
    pairs = [(noun, action) for noun in NOUNS for action in SINGLE if held_out(noun, action) == held]
    if held:
        noun, action = _pick(rng, pairs)
    else:
        action = _pick(rng, SINGLE)
        noun = _pick(rng, [n for n, a in pairs if a == action])
    size = None if action in ("grow", "shrink") else _pick(rng, (None, None, "small", "large"))
    r = RADII.get(size or "", float(rng.uniform(0.13, 0.19)))
    edge = EXTENT * r + MARGIN
    x, y = rng.uniform(edge, 1.0 - edge, 2)
    if action in ("grow", "shrink"):
        x, y = rng.uniform(0.35, 0.65, 2)
    elif action == "bounce":
        y = rng.uniform(edge + HOP, 1.0 - edge)
    direction = _pick(rng, DIRECTIONS[action]) if action in DIRECTIONS else None
    return Actor(
        noun, action, direction, size, r, float(x), float(y), float(rng.uniform(0, 2 * math.pi)), _pick(rng, SIDES)
    )


def _draw_together(rng: np.random.Generator, held: bool) -> tuple[Actor, Actor]:
    action = _pick(rng, PAIRED)
    movers = tuple(ANIMALS) if action == "jump" else (*ANIMALS, *VEHICLES)
    others = tuple(NOUNS) if action == "jump" else movers
    found = [noun for noun in movers if held_out(noun, action) == held] or list(movers)
    partners = others if action == "jump" else [noun for noun in others if not held_out(noun, action)]
    nouns = _pick(rng, found), _pick(rng, partners)
    radii, direction = rng.uniform(*TOGETHER, 2), _pick(rng, SIDES)
    low = 1.0 - MARGIN - EXTENT * max(radii)
    y = float(
        rng.uniform(LEAP + EXTENT * max(radii) + MARGIN, low) if action == "jump" else rng.uniform(1.0 - low, low)
    )
    said = direction if action in DIRECTIONS else None
    first, second = (
        Actor(
            noun, action if n == 0 else "still", said if n == 0 else None, None, float(radii[n]), 0.5, y, 0.0, direction
        )
        for n, noun in enumerate(nouns)
    )
    return first, second


def _apart(scene: Scene) -> bool:
    """Two actors: a gap at the start; at every eighth at least half of the lower one is free."""
    for k in range(9):
        a, b = (state(scene, n, k * scene.duration / 8) for n in (0, 1))
        width, height = (a.half + b.half - abs(p - q) for p, q in ((a.x, b.x), (a.y, b.y)))
        if k == 0 and max(-width, -height) < GAP:
            return False
        if min(width, height) > 0.0 and min(width, 2 * a.half) * min(height, 2 * a.half) > 2.0 * a.half**2:
            return False
    return True


# ---------------------------------------------------------------- captions

VERBS = {  # third person, -ing form
    "move": (("moves {d}", "moving {d}"), ("goes {d}", "going {d}"), ("moves {to}", "moving {to}")),
    "return": (
        ("goes {d} and comes back", "going {d} and coming back"),
        ("moves {d} and returns", "moving {d} and returning"),
    ),
    "circle": (("circles {d}", "circling {d}"), ("goes round {d}", "going round {d}")),
    "grow": (("grows", "growing"), ("gets bigger", "getting bigger")),
    "shrink": (("shrinks", "shrinking"), ("gets smaller", "getting smaller")),
    "blink": (
        ("disappears and comes back", "disappearing and coming back"),
        ("vanishes and reappears", "vanishing and reappearing"),
    ),
    "bounce": (("bounces", "bouncing"), ("hops up and down", "hopping up and down")),
    "still": (("stays still", "staying still"), ("does not move", "not moving"), ("stands still", "standing still")),
    "follow": (("follows {other} {to}", "following {other} {to}"),),
    "meet": (("meets {other}", "meeting {other}"), ("comes towards {other}", "coming towards {other}")),
    "jump": (
        ("jumps over {other} {to}", "jumping over {other} {to}"),
        ("leaps over {other} {to}", "leaping over {other} {to}"),
    ),
}  # fmt: skip
TO = {"left": "to the left", "right": "to the right", "up": "upwards", "down": "downwards"}
ADVERBS = {"slowly": ("slowly",), "quickly": ("quickly", "fast")}
SIZES = {"small": ("small", "little"), "large": ("large", "big")}
ENGLISH = (  # of an actor; of the whole
    ("{a} {v}{late}", "{clauses}{place}"),
    ("{a} {ing}{late}", "{clauses}{place}"),
    ("{n} {ing}{late}", "{clauses}{place}"),
    ("the {n} {v}{late}", "{clauses}{place}"),
    ("{a} is {ing}{late}", "{clauses}{place}"),
    ("{a} {v}{late}", "{place_first}{clauses}"),
    ("{a}{early} {v}", "{clauses}{place}"),
    ("{n} {v}{late}", "{clauses}{place}"),
    ("{a} {ing}{late}", "a video of {clauses}{place}"),
    ("the {n} is{early} {ing}", "{place_first}{clauses}"),
)
CHINESE_VERBS = {
    "move": ("向{d}移动", "往{d}移动"), "return": ("向{d}移动再回来",), "circle": ("{d}转圈",), "grow": ("变大",),
    "shrink": ("变小",), "blink": ("消失再出现",), "bounce": ("上下弹跳",), "still": ("静止不动", "一动不动"),
    "follow": ("跟着{other}向{d}走",), "meet": ("迎向{other}",), "jump": ("向{d}跳过{other}",),
}  # fmt: skip
CHINESE_WORDS = {
    "left": "左", "right": "右", "up": "上", "down": "下", "clockwise": "顺时针", "counterclockwise": "逆时针",
    "slowly": "慢慢地", "quickly": "快速地", "small": "小", "large": "大",
}  # fmt: skip
CHINESE = (
    ("{a}{adv}{v}", "{clauses}{comma_place}"),
    ("{a}{adv}{v}", "{place_comma}{clauses}"),
    ("{n}{adv}{v}", "{clauses}{comma_place}"),
    ("{a}正{adv}{v}", "{place_comma}{clauses}"),
    ("有{a}{adv}{v}", "{place}{clauses}"),
)


def phrasings(language: str, *, held_out: bool) -> list[int]:
    """Numbers of the phrasings of "en" or "zh" that are (not) held out: a fifth, the same ones always."""
    count = len(ENGLISH if language == "en" else CHINESE)
    held = sorted(range(1, count), key=lambda n: rank("phrasing", language, n))[: count // HELD_OUT_PHRASINGS]
    return [n for n in range(count) if (n in held) == held_out]


def captions(scene: Scene, *, held_out: bool = False) -> tuple[str, str]:
    """What a scene shows in English and Chinese, each in a phrasing that is (not) held out."""
    rng = np.random.default_rng([scene.seed, 7, held_out])
    return _english(scene, rng, held_out), _chinese(scene, rng, held_out)


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _said(scene: Scene) -> tuple[Actor, ...]:
    return scene.actors[:1] if scene.together else scene.actors


def _english(scene: Scene, rng: np.random.Generator, held_out: bool) -> str:
    one, whole = ENGLISH[_pick(rng, phrasings("en", held_out=held_out))]
    names = [_pick(rng, (*(NOUNS[a.noun].english),)) for a in scene.actors]
    clauses = []
    for actor, name in zip(_said(scene), names, strict=False):
        word = _pick(rng, SIZES[actor.size]) + " " if actor.size else ""
        forms = _pick(rng, VERBS[actor.action])
        d = actor.direction or ""
        other = _article(names[-1])
        v, ing = (form.format(d=d, to=TO.get(d, ""), other=other) for form in forms)
        adverb = " " + _pick(rng, ADVERBS[scene.speed]) if scene.speed and actor.action != "still" else ""
        early = adverb.replace("fast", "quickly")
        clauses.append(one.format(a=_article(word + name), n=word + name, v=v, ing=ing, late=adverb, early=early))
    place = _pick(rng, BACKGROUNDS[scene.background][0]) if scene.says_background else ""
    return whole.format(clauses=" and ".join(clauses), place=place and f" {place}", place_first=place and f"{place}, ")


def _chinese(scene: Scene, rng: np.random.Generator, held_out: bool) -> str:
    one, whole = CHINESE[_pick(rng, phrasings("zh", held_out=held_out))]
    clauses = []
    for actor in _said(scene):
        noun, size = NOUNS[actor.noun], CHINESE_WORDS.get(actor.size or "", "")
        other = _counted(NOUNS[scene.actors[-1].noun])
        verb = _pick(rng, CHINESE_VERBS[actor.action]).format(
            d=CHINESE_WORDS.get(actor.direction or "", ""), other=other
        )
        adverb = CHINESE_WORDS.get(scene.speed or "", "") if actor.action != "still" else ""
        clauses.append(one.format(a=_counted(noun, size), n=size + noun.chinese, adv=adverb, v=verb))
    place = BACKGROUNDS[scene.background][1] if scene.says_background else ""
    return whole.format(
        clauses="，".join(clauses),
        place=place,
        comma_place=place and f"，在{place}",
        place_comma=place and f"{place}，",
    )


def _counted(noun: Noun, size: str = "") -> str:
    return f"一{noun.measure}{size}{noun.chinese}"
