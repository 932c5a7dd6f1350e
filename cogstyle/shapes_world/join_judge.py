"""Whether a video that went on under another caption does what that caption says, and stays in the canvas."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cogstyle.shapes_world import world
from cogstyle.shapes_world.alignment import SLACK
from cogstyle.shapes_world.joins import MOTIONS, Join, follow
from cogstyle.shapes_world.motions import OPACITY_SCALE
from cogstyle.shapes_world.reader import read_clip
from cogstyle.shapes_world.world import State


@dataclass(frozen=True)
class JoinVerdict:
    """Of all actors: action and direction, these at the asked speed, colour and shape with no actor more."""

    motion: bool
    speed: bool
    looks: bool
    inside: bool


def judge_join(frames_FHWC: np.ndarray, rate: float, known: int, join: Join) -> JoinVerdict:
    """Judge frames at `rate` a second, of which the first `known` were given.

    An actor is followed from where it is read in the last given frame; a motion that these frames cannot tell from the
    one that fits best counts as that.
    """
    times = [k / rate for k in range(len(frames_FHWC))]
    reading = read_clip(frames_FHWC, times)
    found = {read.colour: read for read in reading.actors}
    asked = join.second.actors
    motions = [
        _motion_holds(found[actor.colour].track[known - 1 :], rate, actor, join.second.duration)
        for actor in asked
        if actor.colour in found
    ]
    looks = [actor.colour in found and found[actor.colour].shape == actor.shape for actor in asked]
    there = len(motions) == len(asked)
    return JoinVerdict(
        motion=there and all(motion for motion, _ in motions),
        speed=there and all(speed for _, speed in motions),
        looks=all(looks) and len(reading.actors) == len(asked),
        inside=_inside(frames_FHWC[known:], join.first.background),
    )


def _motion_holds(track_F4: np.ndarray, rate: float, actor: world.Actor, duration: float) -> tuple[bool, bool]:
    """Whether a track that begins at the join shows the actor's motion: at any speed, and at its own."""
    begin = State(*(float(value) for value in track_F4[0]))
    errors: dict[tuple[str, str | None, float], float] = {}
    for action, way in MOTIONS:
        for length in {*world.DURATIONS.values()}:
            moved = replace(actor, action=action, direction=way)
            states = [follow(moved, begin, k / rate, length) for k in range(1, len(track_F4))]
            miss_F4 = np.square(np.array([(s.x, s.y, s.r, s.opacity) for s in states]) - track_F4[1:])
            seen_F = np.clip(track_F4[1:, 3] / 0.3, 0.0, 1.0) ** 2
            miss_F = seen_F * miss_F4[:, :3].sum(1) + OPACITY_SCALE**2 * miss_F4[:, 3]
            errors[action, way, length] = float(np.sqrt(miss_F.mean()))
    limit = min(errors.values()) + SLACK
    near = [
        motion for motion, error in errors.items() if error <= limit and motion[:2] == (actor.action, actor.direction)
    ]
    return bool(near), any(actor.action == "still" or length == duration for _, _, length in near)


def _inside(frames_FHWC: np.ndarray, background: str) -> bool:
    """Whether the outermost pixels of all frames are background more than half."""
    off = np.abs(frames_FHWC.astype(np.int16) - np.array(world.BACKGROUNDS[background])).sum(-1)
    ring = np.concatenate([off[:, 0], off[:, -1], off[:, :, 0], off[:, :, -1]], 1)
    base = np.array(world.BACKGROUNDS[background])
    least = min(np.abs(np.array(colour) - base).sum() for colour in world.COLOURS.values())
    return bool(ring.max() <= least / 2) if ring.size else True


def share_right(verdicts: Sequence[JoinVerdict]) -> dict[str, float]:
    """Shares of the joins where each of it holds, and where motion, looks and canvas do."""
    found = {name: [getattr(verdict, name) for verdict in verdicts] for name in ("motion", "speed", "looks", "inside")}
    both = [verdict.motion and verdict.inside for verdict in verdicts]
    return {name: float(np.mean(held)) for name, held in {**found, "motion and inside": both}.items()}
