"""Does a clip show what its caption says? A reading judged against the scene that was asked for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from cogstyle.shapes_world import world
from cogstyle.shapes_world.motions import Motion, motion_errors
from cogstyle.shapes_world.reader import ActorReading, Reading, read_clip
from cogstyle.shares import share

SMALL_BELOW = 0.155  # nominal radius between small (0.12) and large (0.20)
SPEED_FACTOR = math.sqrt(2.0)
SLACK = 0.01  # motions whose errors (canvas units) differ by less cannot be told apart by these frames
ATTRIBUTES = ("count", "colour", "shape", "background", "size", "action", "direction", "speed")
PAIRED = "action_and_direction"


@dataclass(frozen=True)
class Verdict:
    """What of a caption a clip shows; attributes that the caption does not name are True."""

    count: bool
    colour: bool
    shape: bool
    background: bool
    size: bool
    action: bool
    direction: bool
    speed: bool

    @property
    def all(self) -> bool:
        """Every attribute holds."""
        return all(getattr(self, name) for name in ATTRIBUTES)


def judge(frames_FHWC: np.ndarray, times_F: Sequence[float], scene: world.Scene) -> Verdict:
    """Judge frames (uint8 [F, H, H, 3] at `times_F` seconds from the action's start) against a scene.

    Raises:
        MediaError: see `read_clip`.
    """
    return judge_reading(read_clip(frames_FHWC, times_F), times_F, scene)


def judge_reading(reading: Reading, times_F: Sequence[float], scene: world.Scene) -> Verdict:
    """Judge what was read. Actors are matched by colour, and then so that the most holds.

    A captioned actor with no match fails in every attribute that its caption names; a read actor too many
    fails `count`.
    """
    marks = {
        (i, j): _actor_marks(read, times_F, actor, scene)
        for i, actor in enumerate(scene.actors)
        for j, read in enumerate([*reading.actors, None])
    }
    none = len(reading.actors)
    choices = permutations([*range(none), *(none for _ in scene.actors)], len(scene.actors))
    rows = [[marks[i, j] for i, j in enumerate(choice)] for choice in choices]
    best = max(rows, key=lambda row: (sum(mark["colour"] for mark in row), sum(sum(m.values()) for m in row)))
    holds = {name: all(mark[name] for mark in best) for name in best[0]}
    return Verdict(
        count=len(reading.actors) == len(scene.actors),
        background=not scene.says_background or reading.background == scene.background,
        **holds,
    )


def _actor_marks(
    read: ActorReading | None, times_F: Sequence[float], actor: world.Actor, scene: world.Scene
) -> dict[str, bool]:
    """Which attributes of one captioned actor hold in one read actor."""
    action, direction, speed = _motion_marks(read, times_F, actor, scene.duration)
    return {
        "colour": read is not None and read.colour == actor.colour,
        "shape": read is not None and read.shape == actor.shape,
        "size": actor.size is None or (read is not None and (read.r < SMALL_BELOW) == (actor.size == "small")),
        "action": action,
        "direction": direction,
        "speed": speed,
    }


def _motion_marks(
    read: ActorReading | None, times_F: Sequence[float], actor: world.Actor, duration: float
) -> tuple[bool, bool, bool]:
    """Whether action, direction and speed hold together.

    The motions that the frame times cannot tell from the best one are narrowed down by what the caption says,
    so that all three hold only if one and the same motion has them all. Speed comes first: at another speed
    nearly every motion passes for another (bounces seen once a hop stay still).
    """
    still = actor.action == "still"
    if read is None:
        return False, actor.direction is None, still
    errors = motion_errors(read.track, times_F)
    limit = min(errors.values()) + SLACK
    motions = [motion for motion, error in errors.items() if error <= limit]
    return marks_of(motions, actor.action, actor.direction, duration)


def marks_of(motions: Sequence[Motion], action: str, direction: str | None, duration: float) -> tuple[bool, bool, bool]:
    """Whether action, direction and speed hold of one and the same of these motions; speed narrows them down first."""
    marks = []
    for holds in (
        lambda motion: action == "still" or 1 / SPEED_FACTOR < motion[2] / duration < SPEED_FACTOR,
        lambda motion: motion[0] == action,
        lambda motion: direction is None or motion[1] == direction,
    ):
        narrowed = [motion for motion in motions if holds(motion)]
        marks.append(bool(narrowed))
        motions = narrowed or motions
    speed_holds, action_holds, direction_holds = marks
    return action_holds, direction_holds, speed_holds


# ---------------------------------------------------------------- many clips


def summarise(verdicts: Sequence[Verdict]) -> dict[str, dict[str, float]]:
    """Share of the clips in which each attribute, "action_and_direction" and "all" hold, as `share` gives it."""
    summary = {}
    for name in (*ATTRIBUTES, PAIRED, "all"):
        held = sum((v.action and v.direction) if name == PAIRED else getattr(v, name) for v in verdicts)
        summary[name] = share(held, len(verdicts))
    return summary
