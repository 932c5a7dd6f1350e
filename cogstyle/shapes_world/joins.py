"""What follows a video when it goes on under another caption: each actor begins a new motion where it is.

A motion has its usual speed, and ends early where the canvas does. Under its own caption a scene goes on as it was:
what comes back to where it began (CYCLES) begins again, the rest ends and rests.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cogstyle.shapes_world import world
from cogstyle.shapes_world.world import State

Motion = tuple[str, str | None]  # action and direction

SAME = 0.3  # share of the joins under the same caption, as in the windows of a longer video
LEAST_WAY, LEAST_GROWTH = 0.2, 0.05  # what a new motion has room for at least
MOTIONS: tuple[Motion, ...] = tuple(
    (action, way) for action in world.ACTIONS for way in world.DIRECTIONS.get(action, (None,))
)
CYCLES = ("return", "circle", "blink", "bounce")
TOWARDS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True)
class Join:
    """`second` takes over from `first` at `at` seconds; actors of the same place in both are the same."""

    first: world.Scene
    second: world.Scene
    at: float

    def states(self, t: float) -> list[State]:
        """Of every actor, `t` seconds after the first scene began."""
        duration = self.first.duration
        if t <= self.at or self.second is self.first:
            again = self.second is self.first
            return [
                world.state(a, t % duration if again and a.action in CYCLES else t, duration) for a in self.first.actors
            ]
        begins, since = self.states(self.at), t - self.at
        return [
            follow(actor, begin, since, self.second.duration)
            for actor, begin in zip(self.second.actors, begins, strict=True)
        ]

    def render_clip(self, times: Sequence[float], size: int) -> np.ndarray:
        """Frames at `times`, uint8 [F, size, size, 3]."""
        names = [(actor.colour, actor.shape) for actor in self.first.actors]
        layers = [[(*name, place) for name, place in zip(names, self.states(t), strict=True)] for t in times]
        return np.stack([world.paint(self.first.background, frame, size) for frame in layers])


def follow(actor: world.Actor, begin: State, t: float, duration: float) -> State:
    """The actor `t` seconds after it began its motion at `begin`; the canvas ends a motion that has no room."""
    u = min(max(t / duration, 0.0), 1.0)
    if actor.action in ("move", "return"):
        way = max(0.0, min(world.PATH, _room(actor, begin)[actor.direction or ""]))
        gone = (
            min(world.PATH * u, way) if actor.action == "move" else way - abs(way - min(2.0 * world.PATH * u, 2 * way))
        )
        dx, dy = TOWARDS[actor.direction or ""]
        return replace(begin, x=begin.x + dx * gone, y=begin.y + dy * gone)
    if actor.action == "circle":
        x, y = _centre(begin)
        turn = 2.0 * math.pi * u * (1.0 if actor.direction == "clockwise" else -1.0)
        angle = math.atan2(begin.y - y, begin.x - x) + turn
        return replace(begin, x=x + world.ORBIT * math.cos(angle), y=y + world.ORBIT * math.sin(angle))
    change = (world.GROWN_R - world.SHRUNK_R) * u
    if actor.action == "grow":
        return replace(begin, r=min(begin.r + change, max(begin.r, _largest(actor, begin))))
    if actor.action == "shrink":
        return replace(begin, r=max(begin.r - change, min(begin.r, world.SHRUNK_R)))
    return world.state(replace(actor, x=begin.x, y=begin.y, r=begin.r), t, duration)


def _room(actor: world.Actor, begin: State) -> dict[str, float]:
    """How far the actor is from each side of the canvas."""
    edge = world.AXIS_EXTENT[actor.shape] * begin.r + world.MARGIN
    return {
        "left": begin.x - edge,
        "right": 1.0 - edge - begin.x,
        "up": begin.y - edge,
        "down": 1.0 - edge - begin.y,
    }


def _centre(begin: State) -> tuple[float, float]:
    """Of the circle through `begin` that reaches towards the middle of the canvas."""
    angle = math.atan2(0.5 - begin.y, 0.5 - begin.x)
    return begin.x + world.ORBIT * math.cos(angle), begin.y + world.ORBIT * math.sin(angle)


def _largest(actor: world.Actor, begin: State) -> float:
    free = min(begin.x, 1.0 - begin.x, begin.y, 1.0 - begin.y) - world.MARGIN
    return min(world.GROWN_R, free / world.AXIS_EXTENT[actor.shape])


def has_room(actor: world.Actor, begin: State) -> bool:
    """Whether the actor's motion, begun at `begin`, can be seen and stays in the canvas."""
    room = _room(actor, begin)
    if actor.action in ("move", "return"):
        return room[actor.direction or ""] >= LEAST_WAY
    if actor.action == "circle":
        x, y = _centre(begin)
        edge = world.AXIS_EXTENT[actor.shape] * begin.r + world.MARGIN + world.ORBIT
        return edge <= min(x, y) and max(x, y) <= 1.0 - edge
    if actor.action == "grow":
        return _largest(actor, begin) - begin.r >= LEAST_GROWTH
    if actor.action == "shrink":
        return begin.r - world.SHRUNK_R >= LEAST_GROWTH
    return actor.action != "bounce" or room["up"] >= world.HOP


def draw_join(
    first: world.Scene,
    rng: np.random.Generator,
    *,
    frames: int,
    known: int,
    weights: Mapping[str, float] | None = None,
    same: float = SAME,
) -> tuple[Join, float]:
    """What follows a scene, and a rate (fps) that shows it.

    Args:
        frames: of a clip, of which the first `known` are of the first scene; the last of those is the join.
        weights: how likely an action is drawn, 1 for one that is not named.
        same: share of the joins under the caption of the first scene.
    """
    if rng.random() < same:
        rate = world.pick(rng, world.keyframe_rates(first, frames))
        return Join(first, first, int(rng.integers(known - 1, round(first.duration * rate) + known)) / rate), rate
    while True:
        speed = world.pick(rng, tuple(world.DURATIONS))
        second = replace(first, speed=speed, duration=world.DURATIONS[speed])
        rate = world.pick(rng, world.keyframe_rates(second, frames))
        join = Join(first, second, _moment(first, rng, (known - 1) / rate))
        begins = join.states(join.at)
        cast = [_draw_motion(a, begin, rng, weights or {}) for a, begin in zip(first.actors, begins, strict=True)]
        if all(actor.action == "still" for actor in cast):
            second = replace(second, speed=None, duration=world.DURATIONS["slowly"])
            if rate not in world.keyframe_rates(second, frames):
                continue
        join = replace(join, second=replace(second, actors=tuple(cast)))
        if len(cast) == 1 or _visible(join):
            return join, rate


def _moment(first: world.Scene, rng: np.random.Generator, shown: float) -> float:
    """When a scene has been seen for `shown` seconds or more: half of the time its end, else an eighth of it."""
    earliest = math.ceil(8.0 * shown / first.duration - 1e-9)
    blinks = any(actor.action == "blink" for actor in first.actors)  # it is whole again at the end
    ended = blinks or earliest >= 8 or rng.random() < 0.5
    return (max(8, earliest) if ended else int(rng.integers(earliest, 8))) * first.duration / 8


def _draw_motion(
    actor: world.Actor, begin: State, rng: np.random.Generator, weights: Mapping[str, float]
) -> world.Actor:
    """The actor with a motion that it has room for, other than its last; as large as it is by now."""
    moved = [replace(actor, action=action, direction=way, x=begin.x, y=begin.y, r=begin.r) for action, way in MOTIONS]
    free = [a for a in moved if has_room(a, begin) and (a.action, a.direction) != (actor.action, actor.direction)]
    action = world.weighted(rng, tuple(dict.fromkeys(a.action for a in free)), weights)
    chosen = world.pick(rng, [a for a in free if a.action == action])
    grows = {"grow", "shrink"} & {actor.action, action}
    return replace(chosen, size=None if grows else actor.size)


def _visible(join: Join) -> bool:
    """Whether at every eighth at least half of the lower actor shows."""
    lower, upper = join.first.actors
    moments = [join.states(join.at + k * join.second.duration / 8) for k in range(9)]
    return all(world.half_visible(lower.shape, a, upper.shape, b) for a, b in moments)
