"""Temporal quality of one clip: does what stands still stand still, and does what moves go its way?

None stands for what a clip does not show (no actor, no interpolated frame).
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy import ndarray

from cogstyle.shapes_world import world
from cogstyle.shapes_world.colours import NEAR, find_background
from cogstyle.shapes_world.motions import MOTIONS, motion_errors
from cogstyle.shapes_world.reader import Reading

SLACK = 0.02  # canvas units that an interpolated actor may lie outside its neighbours: 1.3 pixels of 64
FADE = 0.15  # the same for opacity

Figures = dict[str, float | None]


def still_flicker(frames_FHWC: ndarray) -> float | None:
    """Mean absolute difference (8-bit levels) of successive frames where both show plain background.

    Places next to anything else are left out: edges that move are no flicker.
    """
    pixels_FHWC = frames_FHWC.astype(np.float32)
    _, base = find_background(pixels_FHWC)
    plain_FHW = np.square(pixels_FHWC - base).sum(-1) < NEAR**2
    kernel = np.ones((3, 3), np.uint8)
    plain_FHW = np.stack([cv2.erode(mask.astype(np.uint8), kernel, borderValue=1) > 0 for mask in plain_FHW])
    still = plain_FHW[1:] & plain_FHW[:-1]
    return float(np.abs(np.diff(pixels_FHWC, axis=0))[still].mean()) if still.any() else None


def repeated_tokens(tokens_FL: ndarray | None) -> float | None:
    """Share of the tokens that equal the token at the same place one frame before."""
    if tokens_FL is None or len(tokens_FL) < 2:
        return None
    return float((tokens_FL[1:] == tokens_FL[:-1]).mean())


def lie_between(reading: Reading, step: int) -> float | None:
    """Share of the frames step, 3 step, 5 step, ... in which an actor lies between those `step` before and after.

    Place, radius and opacity each lie between those of the neighbours, give or take SLACK. Curved paths and actions
    that turn back leave the chord by right, so this is to be read beside the share of true clips.
    """
    marks = []
    for actor in reading.actors:
        inner = np.arange(step, len(actor.track) - step, 2 * step)
        track, before, after = (actor.track[inner + shift] for shift in (0, -step, step))
        slack = np.array([SLACK, SLACK, SLACK, FADE])
        low, high = np.minimum(before, after) - slack, np.maximum(before, after) + slack
        marks.append(((track >= low) & (track <= high)).all(1))
    found = np.concatenate(marks) if marks else np.zeros(0)
    return float(found.mean()) if found.size else None


def distance_from_motion(reading: Reading, times_F: Sequence[float], scene: world.Scene) -> float | None:
    """Root mean square distance (canvas units) of the actors from where the asked motions have them at each time.

    What a caption leaves open (start place, radius, start angle) is fitted. Actors are found by colour; None if one
    is missing.
    """
    errors = []
    for actor in scene.actors:
        read = next((a for a in reading.actors if a.colour == actor.colour), None)
        motion = (actor.action, actor.direction, scene.duration)
        if read is None or motion not in MOTIONS:
            return None
        errors.append(motion_errors(read.track, times_F)[motion])
    return float(np.mean(errors))


def unevenness(reading: Reading) -> float | None:
    """Mean length (canvas units) of the second difference of the actors' places: 0 for even motion."""
    tracks = [actor.track[:, :2] for actor in reading.actors if len(actor.track) > 2]
    bends = [np.hypot(*np.diff(track, n=2, axis=0).T).mean() for track in tracks]
    return float(np.mean(bends)) if bends else None


def figures(
    frames_FHWC: ndarray,
    times_F: Sequence[float],
    scene: world.Scene,
    reading: Reading,
    *,
    levels: int,
    tokens_FL: ndarray | None = None,
) -> Figures:
    """All figures of one clip that was refined `levels` times."""
    return {
        "flicker": still_flicker(frames_FHWC),
        "repeated_tokens": repeated_tokens(tokens_FL),
        **{f"between_{level}": lie_between(reading, 2 ** (levels - level)) for level in range(1, levels + 1)},
        "distance_from_motion": distance_from_motion(reading, times_F, scene),
        "unevenness": unevenness(reading),
    }


def mean_figures(rows: Sequence[Figures]) -> dict[str, dict[str, float | None]]:
    """{figure: {"mean", "error" (standard error of the mean), "n"}} over the clips that have the figure."""
    found: dict[str, dict[str, float | None]] = {}
    for name in rows[0] if rows else ():
        values = np.array([row[name] for row in rows if row[name] is not None], float)
        error = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
        found[name] = {"mean": float(values.mean()) if len(values) else None, "error": error, "n": len(values)}
    return found
