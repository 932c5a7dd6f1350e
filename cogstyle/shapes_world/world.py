"""The shapes world: a video world whose truth is known, rendered from a seed.

A scene is a function of time: ``render(scene, t, size)`` gives an RGB image for any ``t >= 0`` in
seconds and any square size, so every frame rate and resolution can be sampled from the same scene.
The canvas is [0, 1] x [0, 1], x to the right and y down. All rules: docs/shapes_world.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from cogstyle.config import FRAME_RATES

T = TypeVar("T")

BACKGROUNDS = {"black": (16, 16, 20), "white": (244, 244, 240), "grey": (140, 140, 140)}
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 220),
    "yellow": (240, 210, 40),
    "purple": (150, 60, 190),
    "orange": (245, 130, 32),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
ACTIONS = ("move", "return", "circle", "grow", "shrink", "blink", "bounce", "still")
LINEAR = ("left", "right", "up", "down")
TURNS = ("clockwise", "counterclockwise")
DIRECTIONS = {"move": LINEAR, "return": LINEAR, "circle": TURNS}
DURATIONS = {"slowly": 4.0, None: 2.0, "quickly": 1.0}
HELD_OUT = frozenset(
    [
        ("red", "star"),
        ("green", "ring"),
        ("blue", "triangle"),
        ("yellow", "cross"),
        ("purple", "circle"),
        ("orange", "square"),
    ]
)
VALIDATION_SEED = 1_000_000

# Half extent in units of r: how far a shape reaches along an axis, and along any direction.
AXIS_EXTENT = dict(circle=1.0, square=math.sqrt(math.pi) / 2, triangle=1.15, star=1.15, cross=1.0, ring=1.0)
REACH = dict(circle=1.0, square=math.sqrt(math.pi / 2), triangle=1.15, star=1.15, cross=math.hypot(1.0, 0.33), ring=1.0)
AREA = dict(circle=math.pi, square=math.pi, triangle=1.718, star=1.788, cross=2.204, ring=2.191)

MARGIN = 0.01
GAP = 0.02
PATH = 0.5
ORBIT = 0.22
HOP = 0.22
SMALL_R, LARGE_R, GROWN_R, SHRUNK_R = 0.12, 0.20, 0.22, 0.08
SUPERSAMPLE = 4

CHINESE = {
    **dict(black="黑色", white="白色", grey="灰色", red="红色", green="绿色", blue="蓝色"),
    **dict(yellow="黄色", purple="紫色", orange="橙色"),
    **dict(triangle="三角形", star="星形", cross="十字形", ring="圆环", square="正方形"),
    **dict(left="左", right="右", up="上", down="下", clockwise="顺时针", counterclockwise="逆时针"),
    **dict(small="小", large="大", slowly="慢慢地", quickly="快速地"),
}


@dataclass(frozen=True)
class Actor:
    """One shape and what it does. `x`, `y` are its free coordinates, `phase` the start angle of a circle."""

    colour: str
    shape: str
    action: str
    direction: str | None
    size: str | None
    r: float
    x: float
    y: float
    phase: float = 0.0


@dataclass(frozen=True)
class State:
    """Where an actor is at one moment: centre, nominal radius, opacity (0..1)."""

    x: float
    y: float
    r: float
    opacity: float = 1.0


@dataclass(frozen=True)
class Scene:
    """Actors on a background; the action starts at t = 0 and lasts `duration` seconds."""

    background: str
    actors: tuple[Actor, ...]
    duration: float
    speed: str | None
    language: str
    says_background: bool


def state(actor: Actor, t: float, duration: float) -> State:
    """The actor `t` seconds after its action began; it rests before 0 and after `duration`."""
    u = min(max(t / duration, 0.0), 1.0)
    x, y, r, opacity = actor.x, actor.y, actor.r, 1.0
    if actor.action in ("move", "return"):
        way = u if actor.action == "move" else 1.0 - abs(2.0 * u - 1.0)
        along = 0.5 - PATH / 2 + PATH * way
        if actor.direction in ("left", "up"):
            along = 1.0 - along
        x, y = (along, y) if actor.direction in ("left", "right") else (x, along)
    elif actor.action == "circle":
        turn = 2.0 * math.pi * u * (1.0 if actor.direction == "clockwise" else -1.0)
        x, y = 0.5 + ORBIT * math.cos(actor.phase + turn), 0.5 + ORBIT * math.sin(actor.phase + turn)
    elif actor.action in ("grow", "shrink"):
        share = u if actor.action == "grow" else 1.0 - u
        r = SHRUNK_R + (GROWN_R - SHRUNK_R) * share
    elif actor.action == "blink":
        opacity = min(max(0.0, 1.0 - u / 0.4, (u - 0.6) / 0.4), 1.0)
    elif actor.action == "bounce":
        y = actor.y - HOP * abs(math.sin(2.0 * math.pi * u))
    return State(x, y, r, opacity)


# ---------------------------------------------------------------- rendering


def _inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points lie in the shape of nominal radius 1 centred on the origin (y down)."""
    if shape == "circle":
        return x * x + y * y <= 1.0
    if shape == "ring":
        square = x * x + y * y
        return (square <= 1.0) & (square >= 0.55**2)
    if shape == "square":
        half = AXIS_EXTENT["square"]
        return (np.abs(x) <= half) & (np.abs(y) <= half)
    if shape == "cross":
        ax, ay = np.abs(x), np.abs(y)
        return ((ax <= 1.0) & (ay <= 0.33)) | ((ax <= 0.33) & (ay <= 1.0))
    if shape == "triangle":  # distance to each side <= inradius = circumradius / 2
        side = math.sqrt(3.0) / 2.0
        return (y <= 0.575) & (np.abs(x) * side - y * 0.5 <= 0.575)
    # star: fold the plane onto one of its ten half-points, then one straight edge from tip to notch
    angle = np.arctan2(np.abs(x), -y) % (2.0 * math.pi / 5.0)
    angle = np.minimum(angle, 2.0 * math.pi / 5.0 - angle)
    radius = np.hypot(x, y)
    tip, notch = 1.15, 0.46 * 1.15
    nx, ny = notch * math.sin(math.pi / 5.0), notch * math.cos(math.pi / 5.0)
    # left of the edge from (0, tip) to the notch: cross product of edge and point
    px, py = radius * np.sin(angle), radius * np.cos(angle)
    return nx * (py - tip) - (ny - tip) * px <= 0.0


def coverage(shape: str, place: State, size: int) -> np.ndarray:
    """Share of each pixel that the shape covers, float32 [size, size] in 0..1 (4 x 4 samples a pixel)."""
    cover = np.zeros((size, size), np.float32)
    reach = REACH[shape] * place.r
    left, top = (max(0, math.floor((c - reach) * size)) for c in (place.x, place.y))
    right, bottom = (min(size, math.ceil((c + reach) * size)) for c in (place.x, place.y))
    if left >= right or top >= bottom or place.r <= 0.0:
        return cover
    xs = (np.arange(left * SUPERSAMPLE, right * SUPERSAMPLE) + 0.5) / (SUPERSAMPLE * size)
    ys = (np.arange(top * SUPERSAMPLE, bottom * SUPERSAMPLE) + 0.5) / (SUPERSAMPLE * size)
    inside = _inside(shape, ((xs - place.x) / place.r)[None, :], ((ys - place.y) / place.r)[:, None])
    blocks = inside.reshape(bottom - top, SUPERSAMPLE, right - left, SUPERSAMPLE)
    cover[top:bottom, left:right] = blocks.mean((1, 3), dtype=np.float32)
    return cover


def paint(background: str, layers: list[tuple[str, str, State]], size: int) -> np.ndarray:
    """Paint (colour, shape, state) layers in order on a background: uint8 [size, size, 3]."""
    image = np.empty((size, size, 3), np.float32)
    image[:] = BACKGROUNDS[background]
    for colour, shape, place in layers:
        if place.opacity > 0.0:
            alpha = coverage(shape, place, size)[..., None] * np.float32(place.opacity)
            image += alpha * (np.asarray(COLOURS[colour], np.float32) - image)
    return np.rint(image).astype(np.uint8)


def render(scene: Scene, t: float, size: int) -> np.ndarray:
    """The scene at time `t` (seconds) as uint8 [size, size, 3]; later actors lie on top."""
    layers = [(a.colour, a.shape, state(a, t, scene.duration)) for a in scene.actors]
    return paint(scene.background, layers, size)


def render_clip(scene: Scene, times: list[float], size: int) -> np.ndarray:
    """Frames at `times`, uint8 [F, size, size, 3]."""
    return np.stack([render(scene, t, size) for t in times])


# ---------------------------------------------------------------- drawing scenes


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]


def weighted(rng: np.random.Generator, items: Sequence[str], weights: Mapping[str, float]) -> str:
    w = np.array([weights.get(item, 1.0) for item in items])
    return items[int(rng.choice(len(items), p=w / w.sum()))]


def draw_actor(
    rng: np.random.Generator, *, held_out: bool = False, weights: Mapping[str, float] | None = None
) -> Actor:
    """Draw one actor; `held_out` draws only from the pairs that training never shows, `weights` see `draw_scene`."""
    pairs = [(c, s) for c in COLOURS for s in SHAPES if ((c, s) in HELD_OUT) == held_out]
    if held_out:
        colour, shape = pick(rng, pairs)
    else:
        colour = pick(rng, tuple(COLOURS))
        shape = pick(rng, [s for c, s in pairs if c == colour])
    action = pick(rng, ACTIONS) if not weights else weighted(rng, ACTIONS, weights)
    direction = pick(rng, DIRECTIONS[action]) if action in DIRECTIONS else None
    size = None if action in ("grow", "shrink") else pick(rng, (None, None, "small", "large"))
    r = {None: _uniform(rng, 0.13, 0.19), "small": SMALL_R, "large": LARGE_R}[size]
    edge = AXIS_EXTENT[shape] * r + MARGIN
    x, y = _uniform(rng, edge, 1.0 - edge), _uniform(rng, edge, 1.0 - edge)
    if action in ("grow", "shrink"):
        x, y = _uniform(rng, 0.35, 0.65), _uniform(rng, 0.35, 0.65)
    elif action == "bounce":
        y = _uniform(rng, edge + HOP, 1.0 - edge)
    return Actor(colour, shape, action, direction, size, r, x, y, _uniform(rng, 0.0, 2.0 * math.pi))


def _apart(scene: Scene) -> bool:
    """Two actors: a gap at the start, and the lower one at least half visible at every eighth."""
    lower, upper = scene.actors
    for k in range(9):
        a, b = (state(actor, k * scene.duration / 8, scene.duration) for actor in scene.actors)
        gap = math.hypot(a.x - b.x, a.y - b.y) - REACH[lower.shape] * a.r - REACH[upper.shape] * b.r
        if k == 0 and gap < GAP:
            return False
        if not half_visible(lower.shape, a, upper.shape, b):
            return False
    return True


def half_visible(lower: str, a: State, upper: str, b: State) -> bool:
    """Whether at least half of a shape shows under another."""
    if math.hypot(a.x - b.x, a.y - b.y) >= REACH[lower] * a.r + REACH[upper] * b.r:
        return True
    whole = coverage(lower, a, 64)
    return bool((whole * (1.0 - coverage(upper, b, 64))).sum() >= 0.5 * whole.sum())


def draw_scene(
    seed: int, *, actors: int | None = None, held_out: bool = False, weights: Mapping[str, float] | None = None
) -> Scene:
    """The scene of a seed: below 1,000,000 for training, from there on for validation.

    Args:
        seed: any non-negative integer; the same seed gives the same scene.
        actors: 1 or 2 to force the number of actors, else 1 in 70 % and 2 in 30 % of the seeds.
        held_out: draw (first) actors from the colour-shape pairs that training never shows.
        weights: how likely an action is drawn, 1 for one that is not named; None: all alike.
    """
    rng = np.random.default_rng(seed)
    background = pick(rng, tuple(BACKGROUNDS))
    speed = pick(rng, tuple(DURATIONS))
    language = pick(rng, ("en", "zh"))
    says_background = bool(rng.integers(2))
    count = actors or (1 if rng.random() < 0.7 else 2)
    while True:
        cast = (
            draw_actor(rng, held_out=held_out, weights=weights),
            *(draw_actor(rng, weights=weights) for _ in range(count - 1)),
        )
        if all(actor.action == "still" for actor in cast):
            word, duration = None, 4.0
        else:
            word, duration = speed, DURATIONS[speed]
        scene = Scene(background, cast, duration, word, language, says_background)
        if count == 1 or (cast[0].colour != cast[1].colour and _apart(scene)):
            return scene


def _action_words(actor: Actor, language: str) -> str:
    d = actor.direction or ""
    if language == "en":
        return {
            "move": f"moves {d}",
            "return": f"goes {d} and comes back",
            "circle": f"circles {d}",
            "grow": "grows",
            "shrink": "shrinks",
            "blink": "disappears and comes back",
            "bounce": "bounces",
            "still": "stays still",
        }[actor.action]
    d = CHINESE.get(d, "")
    return {
        "move": f"向{d}移动",
        "return": f"向{d}移动再回来",
        "circle": f"{d}转圈",
        "grow": "变大",
        "shrink": "变小",
        "blink": "消失再出现",
        "bounce": "上下弹跳",
        "still": "静止不动",
    }[actor.action]


def _phrase(actor: Actor, scene: Scene, with_action: bool) -> str:
    speed = scene.speed if with_action and actor.action != "still" else None
    if scene.language == "en":
        words = [actor.size, actor.colour, actor.shape]
        words += [_action_words(actor, "en"), speed] if with_action else []
        noun = " ".join(word for word in words if word)
        return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    shape = "圆形" if actor.shape == "circle" else CHINESE[actor.shape]
    noun = f"一个{CHINESE.get(actor.size or '', '')}{CHINESE[actor.colour]}{shape}"
    return noun + (CHINESE.get(speed or "", "") + _action_words(actor, "zh") if with_action else "")


def caption(scene: Scene, *, with_action: bool = True) -> str:
    """The scene's caption in its own language; without actions it names only what a still image shows."""
    phrases = [_phrase(actor, scene, with_action) for actor in scene.actors]
    if scene.language == "en":
        tail = f" on a {scene.background} background" if scene.says_background else ""
        return " and ".join(phrases) + tail
    head = f"{CHINESE[scene.background]}背景上，" if scene.says_background else ""
    return head + "，".join(phrases)


def keyframe_rates(scene: Scene, frames: int = 5) -> list[float]:
    """Rates (fps) to train a scene at: from the lowest that holds the whole action to a quarter of it."""
    spans = ((frames - 1) / rate for rate in FRAME_RATES)
    return [r for r, s in zip(FRAME_RATES, spans, strict=True) if scene.duration / 4 <= s <= scene.duration]


def image_moment(scene: Scene, rng: np.random.Generator) -> tuple[float, bool]:
    """A time to train the image model on, and whether its caption names the actions: half t = 0 with them,
    half any moment without (a blinking actor is opaque only at t = 0)."""
    if rng.integers(2):
        return 0.0, True
    blinks = any(actor.action == "blink" for actor in scene.actors)
    return (0.0 if blinks else _uniform(rng, 0.0, scene.duration)), False
