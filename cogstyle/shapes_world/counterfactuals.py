"""Scenes that differ from another in one attribute, which a reader must notice; and scenes with the same caption."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cogstyle.shapes_world import world

Change = Callable[[world.Scene, np.random.Generator], world.Scene | None]  # None: this scene has no such change


def swap(scene: world.Scene, **changes: object) -> world.Scene:
    """The scene with its first actor changed."""
    first = replace(scene.actors[0], **changes)  # type: ignore[arg-type]
    return replace(scene, actors=(first, *scene.actors[1:]))


def other_colour(scene: world.Scene, rng: np.random.Generator) -> world.Scene:
    used = {actor.colour for actor in scene.actors}
    return swap(scene, colour=str(rng.choice([c for c in world.COLOURS if c not in used])))


def other_shape(scene: world.Scene, rng: np.random.Generator) -> world.Scene:
    return swap(scene, shape=str(rng.choice([s for s in world.SHAPES if s != scene.actors[0].shape])))


def other_action(scene: world.Scene, rng: np.random.Generator) -> world.Scene:
    actor = scene.actors[0]
    action = str(rng.choice([a for a in world.ACTIONS if a != actor.action]))
    direction = str(rng.choice(world.DIRECTIONS[action])) if action in world.DIRECTIONS else None
    y = max(actor.y, 1.15 * actor.r + world.HOP) if action == "bounce" else actor.y
    return swap(scene, action=action, direction=direction, y=y)


def other_direction(scene: world.Scene, rng: np.random.Generator) -> world.Scene | None:
    actor = scene.actors[0]
    if actor.direction is None:
        return None
    others = [d for d in world.DIRECTIONS[actor.action] if d != actor.direction]
    return swap(scene, direction=str(rng.choice(others)))


def other_speed(scene: world.Scene, rng: np.random.Generator) -> world.Scene | None:
    if all(actor.action == "still" for actor in scene.actors):
        return None
    return replace(scene, duration=scene.duration * float(rng.choice([0.5, 2.0])))


def other_background(scene: world.Scene, rng: np.random.Generator) -> world.Scene | None:
    others = [b for b in world.BACKGROUNDS if b != scene.background]
    return replace(scene, background=str(rng.choice(others))) if scene.says_background else None


def other_size(scene: world.Scene, rng: np.random.Generator) -> world.Scene | None:
    size = scene.actors[0].size
    return swap(scene, r=world.LARGE_R if size == "small" else world.SMALL_R) if size else None


def _never_meet(a: world.Actor, b: world.Actor, duration: float) -> bool:
    """Whether two actors stay apart at every eighth of the action."""
    for k in range(9):
        p, q = (world.state(actor, k * duration / 8, duration) for actor in (a, b))
        reach = world.REACH[a.shape] * p.r + world.REACH[b.shape] * q.r
        if math.hypot(p.x - q.x, p.y - q.y) < reach + world.GAP:
            return False
    return True


def _added(scene: world.Scene, rng: np.random.Generator, colour: str | None) -> world.Scene | None:
    used = {actor.colour for actor in scene.actors}
    for _ in range(100):
        extra = world.draw_actor(rng)
        extra = extra if colour is None else replace(extra, colour=colour)
        if (colour is not None or extra.colour not in used) and all(
            _never_meet(actor, extra, scene.duration) for actor in scene.actors
        ):
            return replace(scene, actors=(*scene.actors, extra))
    return None


def actor_added(scene: world.Scene, rng: np.random.Generator) -> world.Scene | None:
    return _added(scene, rng, None)


def twin_added(scene: world.Scene, rng: np.random.Generator) -> world.Scene | None:
    """One more actor of a colour that is there already."""
    return _added(scene, rng, scene.actors[0].colour)


def actor_removed(scene: world.Scene, rng: np.random.Generator) -> world.Scene:
    return replace(scene, actors=scene.actors[1:])


CHANGES: dict[str, tuple[str, Change]] = {  # name: the attribute that it breaks, and the change
    "other colour": ("colour", other_colour),
    "other shape": ("shape", other_shape),
    "other action": ("action", other_action),
    "other direction": ("direction", other_direction),
    "other speed": ("speed", other_speed),
    "other background": ("background", other_background),
    "other size": ("size", other_size),
    "an actor more": ("count", actor_added),
    "a twin more": ("count", twin_added),
    "an actor less": ("count", actor_removed),
}


def same_caption(scene: world.Scene, rng: np.random.Generator) -> world.Scene:
    """Another one-actor scene that the caption of `scene` describes as well: what it leaves open is drawn anew."""
    asked = scene.actors[0]
    while True:
        actor = world.draw_actor(rng)
        if (actor.action, actor.shape, actor.size) == (asked.action, asked.shape, asked.size):
            break
    background = scene.background if scene.says_background else str(rng.choice(list(world.BACKGROUNDS)))
    actor = replace(actor, colour=asked.colour, direction=asked.direction)
    return replace(scene, background=background, actors=(actor,))
