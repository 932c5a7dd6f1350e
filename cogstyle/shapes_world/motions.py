"""Which motion of the action table fits a track best.

Suffixes: F frames, M motions, 4 = (x, y, r, opacity).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy import ndarray

from cogstyle.shapes_world import world

Motion = tuple[str, str | None, float]

OPACITY_SCALE = 0.2  # an opacity error of 1 weighs as much as this distance
# Seconds; the last two are in no caption: what is that slow or fast must not pass for the nearest that is.
DURATIONS = (*world.DURATIONS.values(), 8.0, 0.5)
MOTIONS: tuple[Motion, ...] = tuple(
    (action, direction, duration)
    for action in ("still", *(a for a in world.ACTIONS if a != "still"))  # the simplest wins a tie
    for direction in world.DIRECTIONS.get(action, (None,))
    for duration in DURATIONS
)
FREE_M4 = [  # which of x, y, r, opacity a motion leaves free; a circle's place is free by its start angle only
    (way in (None, "up", "down"), way in (None, "left", "right"), action not in ("grow", "shrink"), False)
    for action, way, _ in MOTIONS
]


@lru_cache(maxsize=64)
def _laws(times_F: tuple[float, ...]) -> ndarray:
    """Track of each of MOTIONS with the free parameters at the middle, float64 [M, F, 4]."""
    actors = [world.Actor("red", "circle", action, way, None, 0.15, 0.5, 0.5) for action, way, _ in MOTIONS]
    states = [[world.state(a, t, m[2]) for t in times_F] for a, m in zip(actors, MOTIONS, strict=True)]
    return np.asarray([[(s.x, s.y, s.r, s.opacity) for s in row] for row in states])


def motion_errors(track_F4: ndarray, times_F: Sequence[float]) -> dict[Motion, float]:
    """How far a track lies from each of MOTIONS, its free parameters fitted.

    Args:
        track_F4: x, y, r, opacity of an actor, canvas units, [F, 4].
        times_F: seconds since the start of the action, one a frame.

    Returns:
        {motion: root mean square distance in canvas units}; place and radius count where the actor is seen.
    """
    weight_F = np.clip(track_F4[:, 3] / 0.3, 0.0, 1.0) ** 2
    fit_MF4 = _laws(tuple(float(t) for t in times_F)).copy()
    circles = [m for m, motion in enumerate(MOTIONS) if motion[0] == "circle"]
    law_MF, seen_F = ((xy[..., :2] - 0.5) @ np.asarray([1, 1j]) for xy in (fit_MF4[circles], track_F4))
    turn_M = np.angle(law_MF.conj() @ (weight_F * seen_F))  # the start angle is free: turn to fit best
    turned_MF = law_MF * np.exp(1j * turn_M)[:, None]
    fit_MF4[circles, :, :2] = 0.5 + np.stack([turned_MF.real, turned_MF.imag], -1)
    shift_M4 = np.einsum("f,mfk->mk", weight_F, track_F4 - fit_MF4) / max(float(weight_F.sum()), 1e-9)
    fit_MF4 += np.where(FREE_M4, shift_M4, 0.0)[:, None]
    miss_MF4 = np.square(fit_MF4 - track_F4)
    miss_MF = weight_F * miss_MF4[..., :3].sum(-1) + OPACITY_SCALE**2 * miss_MF4[..., 3]
    return dict(zip(MOTIONS, np.sqrt(miss_MF.mean(1)).tolist(), strict=True))


def best_motion(errors: dict[Motion, float]) -> Motion:
    """The motion of the least error; among equals the simplest and slowest (the order of MOTIONS)."""
    return min(MOTIONS, key=lambda motion: round(errors[motion], 6))
