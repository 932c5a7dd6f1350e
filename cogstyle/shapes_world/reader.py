"""An honest reader of frames: it says what a clip of the shapes world shows, and never sees the caption.

Colours are found by unmixing (`colours`), each actor is followed through the frames, and the motion of the action
table that fits its track best (`motions`) is what it does. See docs/shapes_world.md, "What the reader reads".

Suffixes: F frames, H height, W width, C colours asked for, M motions, N pixels, 4 = (x, y, r, opacity).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy import ndarray

from cogstyle.errors import MediaError
from cogstyle.shapes_world import world
from cogstyle.shapes_world.colours import LEAST, Pair, connected_parts, find_background, find_colours, unmix
from cogstyle.shapes_world.motions import best_motion, motion_errors

SIZE = 64  # frames are averaged down to about this: mixing is linear, so averages unmix as pixels do
FAINT = 0.15  # opacity below this is too faint to be placed
HALF_THERE = 0.4  # opacity from which two parts of one colour are two actors
OPAQUE = 0.85  # measured opacity from here on is full: edges and blur lower it
TRUST = 0.3  # error of a pixel over relative error of a hidden radius guessed from its neighbours in time
BLURS = (9, 9, 5, 5, 3, 3)  # pixels: hidden actors are fitted from coarse to fine


@dataclass(frozen=True)
class ActorReading:
    """One actor as read: `r` is its median radius, `track` [F, 4] its x, y, r, opacity in canvas units."""

    colour: str
    shape: str
    action: str
    direction: str | None
    duration: float
    r: float
    track: ndarray


@dataclass(frozen=True)
class Reading:
    """What a clip shows; the actors from the most visible to the least."""

    background: str
    actors: tuple[ActorReading, ...]


def read_clip(frames_FHWC: ndarray, times_F: Sequence[float]) -> Reading:
    """Read a clip.

    Args:
        frames_FHWC: uint8 [F, H, W, 3], square.
        times_F: seconds since the start of the action, one a frame, increasing.

    Raises:
        MediaError: frames that are not uint8 [F, H, H, 3], or times that do not go with them.
    """
    pixels_FHWC = _pixels(frames_FHWC, times_F)
    background, base = find_background(pixels_FHWC)
    offsets_FHWC = pixels_FHWC - base
    colours = find_colours(offsets_FHWC, base)
    if not colours:
        return Reading(background, ())
    layers_CFHW = unmix(offsets_FHWC, base, colours)
    split = [_split(layer_FHW, layers_CFHW.sum(0)) for layer_FHW in layers_CFHW]
    named = [(colour, part) for colour, parts in zip(colours, split, strict=True) for part in parts]
    total_FHW = sum(part for _, part in named)
    actors = []
    for colour, layer_FHW in named:
        shape, track_F4 = _follow(layer_FHW, np.clip(1.0 - (total_FHW - layer_FHW), 0.0, 1.0))
        r = float(np.median(track_F4[track_F4[:, 3] >= 0.5 * track_F4[:, 3].max(), 2]))
        motion = best_motion(motion_errors(track_F4, times_F))
        actors.append(ActorReading(colour, shape, *motion, r, track_F4))
    return Reading(background, tuple(actors))


def _pixels(frames_FHWC: ndarray, times_F: Sequence[float]) -> ndarray:
    """Frames, checked, as float32 [F, H, W, 3]; whole blocks of pixels averaged down to about SIZE."""
    kind, shape = frames_FHWC.dtype, frames_FHWC.shape
    if kind != np.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3 or 0 in shape:
        raise MediaError(f"frames must be uint8 [F, H, H, 3], not {kind} {list(shape)}")
    if len(times_F) != shape[0] or np.any(np.diff(times_F) <= 0) or min(times_F) < 0:
        raise MediaError(f"{shape[0]} frames need as many increasing times from 0 on, not {list(times_F)}")
    by = next(k for k in (max(1, shape[1] // SIZE), 1) if shape[1] % k == 0)
    blocks = frames_FHWC.reshape(shape[0], shape[1] // by, by, shape[2] // by, by, 3)
    return blocks.mean((2, 4), dtype=np.float32)


def _areas(labels_HW: ndarray) -> ndarray:
    """Area of each label in canvas units; label 0 is outside and has none."""
    areas = np.bincount(labels_HW.ravel(), minlength=2) / labels_HW.size
    areas[0] = 0.0
    return areas


def _split(layer_FHW: ndarray, all_FHW: ndarray) -> list[ndarray]:
    """Tell apart two actors of one colour: the layer itself, or one layer for each.

    Parts that another actor joins (in `all_FHW`, the sum of the layers) are one actor, partly hidden. The largest
    part of a frame goes to the actor whose last place is nearest, another part to the other actor.
    """
    parts_F: list[list[Pair]] = []  # of each frame: (mask, centre) of its parts, the largest first
    for layer_HW, all_HW in zip(layer_FHW, all_FHW, strict=True):
        opacity = _opacity(smooth_HW := cv2.blur(layer_HW, (3, 3)))
        limit = max(FAINT, 0.35 * opacity)
        labels_HW = connected_parts(cv2.blur(all_HW, (3, 3)) > limit)
        own_HW = np.where(smooth_HW > limit, labels_HW, 0)
        areas = _areas(own_HW)
        most = 2 if opacity > HALF_THERE else 1  # what is nearly gone falls apart by noise
        big = [k for k in np.argsort(-areas)[:most] if areas[k] > LEAST]
        parts_F.append([(labels_HW == k, np.argwhere(own_HW == k).mean(0)) for k in big])
    first = next((f for f, parts in enumerate(parts_F) if len(parts) == 2), None)
    if first is None:
        return [layer_FHW]
    split = np.zeros((2, *layer_FHW.shape), np.float32)
    last = [centre for _, centre in parts_F[first]]
    for f in [*range(first, len(parts_F)), *range(first)]:
        far = [np.hypot(*(parts_F[f][0][1] - place)) if parts_F[f] else 0.0 for place in last]
        for (mask_HW, centre), owner in zip(parts_F[f], np.argsort(far), strict=False):
            split[owner, f] = layer_FHW[f] * mask_HW
            last[owner] = centre
    return list(split)


@lru_cache(maxsize=1024)
def _template(shape: str, percent: int, size: int) -> ndarray:
    """The shape in the middle of the canvas at r = percent / 100, float32 [size, size]."""
    return world.coverage(shape, world.State(0.5, 0.5, percent / 100), size)


def _cover(shape: str, x: float, y: float, r: float, size: int) -> ndarray:
    """world.coverage by moving and scaling a stored template: much faster, softer by less than a pixel."""
    percent = min(max(round(100 * r), 3), 40)
    scale = 100 * r / percent
    middle = size / 2 - 0.5
    right, down = (place * size - 0.5 - scale * middle for place in (x, y))
    matrix = np.asarray([[scale, 0.0, right], [0.0, scale, down]])
    return cv2.warpAffine(_template(shape, percent, size), matrix, (size, size))


def _opacity(layer_HW: ndarray) -> float:
    """Share of the colour where there is most of it: a mean that edges, blurred or not, hardly lower."""
    return float(np.average(layer_HW, weights=np.square(np.square(layer_HW)) + 1e-12))


def _find(layer_HW: ndarray) -> tuple[ndarray, float, ndarray] | None:
    """The actor in one frame of its layer: (layer without what lies elsewhere, opacity, mask), or None."""
    smooth_HW = cv2.blur(layer_HW, (3, 3))
    labels_HW = connected_parts(smooth_HW > max(FAINT, 0.35 * _opacity(smooth_HW)))
    if (areas := _areas(labels_HW)).max() < LEAST:
        return None
    main_HW = (areas > 0.15 * areas.max())[labels_HW]
    mask_HW = cv2.dilate(main_HW.astype(np.uint8), np.ones((3, 3)))
    own_HW = layer_HW * mask_HW
    opacity = _opacity(own_HW)
    return own_HW, 1.0 if opacity > OPAQUE else opacity, mask_HW


def _follow(layer_FHW: ndarray, seen_FHW: ndarray) -> tuple[str, ndarray]:
    """Shape and track [F, 4] of the actor in a layer; `seen_FHW` is the share that no other actor takes."""
    size = layer_FHW.shape[-1]
    grid = (np.arange(size) + 0.5) / size
    moments_F4 = np.full((len(layer_FHW), 4), np.nan)  # x, y, area, opacity
    clear_F = np.zeros(len(layer_FHW), bool)
    scores_FS2 = np.zeros((len(layer_FHW), len(world.SHAPES), 2))
    for f, (layer_HW, seen_HW) in enumerate(zip(layer_FHW, seen_FHW, strict=True)):
        if (found := _find(layer_HW)) is None:
            continue
        own_HW, opacity, mask_HW = found
        mass = float(own_HW.sum())
        x, y = float(own_HW.sum(0) @ grid) / mass, float(own_HW.sum(1) @ grid) / mass
        moments_F4[f] = x, y, mass / opacity / size**2, opacity
        clear_F[f] = not ((seen_HW < 0.7) & (mask_HW > 0)).any()
        for s, shape in enumerate(world.SHAPES):
            fit_HW = opacity * _cover(shape, x, y, math.sqrt(moments_F4[f, 2] / world.AREA[shape]), size)
            scores_FS2[f, s] = np.minimum(own_HW, fit_HW).sum(), np.maximum(own_HW, fit_HW).sum()
    scores_FS2 *= np.where(clear_F, 1.0, 0.01)[:, None, None]
    shared_S, joined_S = np.moveaxis(scores_FS2.sum(0), -1, 0)
    shape = world.SHAPES[int((shared_S / np.maximum(joined_S, 1e-9)).argmax())]
    return shape, _track(layer_FHW, seen_FHW, moments_F4, clear_F, shape)


def _between(track_F4: ndarray, known_F: ndarray) -> ndarray:
    """The track with the frames that are not known put between those that are."""
    frames = np.arange(len(track_F4))
    return np.stack([np.interp(frames, frames[known_F], column[known_F]) for column in track_F4.T], 1)


def _track(layer_FHW: ndarray, seen_FHW: ndarray, moments_F4: ndarray, clear_F: ndarray, shape: str) -> ndarray:
    """From moments to x, y, r, opacity: hidden frames are fitted, invisible ones lie between the others."""
    size, frames = layer_FHW.shape[-1], np.arange(len(layer_FHW))
    track_F4 = moments_F4.copy()
    track_F4[:, 2] = np.sqrt(moments_F4[:, 2] / world.AREA[shape])
    found_F = ~np.isnan(track_F4[:, 0])
    if not found_F.any():
        return np.tile([0.5, 0.5, 0.0, 0.0], (len(frames), 1))
    guess_F4 = _between(track_F4, known_F := clear_F if clear_F.any() else found_F)
    if known_F.sum() > 1:  # every radius of the action table changes evenly in time
        line = np.polyfit(frames[known_F], track_F4[known_F, 2], 1)
        guess_F4[:, 2] = np.clip(np.polyval(line, frames), world.SHRUNK_R, world.GROWN_R)
    for f in frames[found_F & ~clear_F]:
        starts, opacity = (track_F4[f, :3], guess_F4[f, :3]), float(track_F4[f, 3])
        track_F4[f, :3] = _fit_hidden(layer_FHW[f], seen_FHW[f], shape, starts, opacity)
    track_F4 = _between(track_F4, found_F)
    for f, (x, y, r, _) in enumerate(track_F4):
        whole_HW = _cover(shape, x, y, r, size)
        fit_HW = whole_HW * seen_FHW[f]
        if (weight := float(np.square(fit_HW).sum())) > 0.1 * float(np.square(whole_HW).sum()):
            opacity = float((layer_FHW[f] * fit_HW).sum()) / weight
            track_F4[f, 3] = 1.0 if opacity > OPAQUE else opacity
    return track_F4


def _fit_hidden(layer_HW: ndarray, seen_HW: ndarray, shape: str, starts: Sequence[ndarray], opacity: float) -> ndarray:
    """x, y, r of a partly hidden actor: Gauss-Newton from the better start, r held loosely to the last start's."""
    size, step = layer_HW.shape[0], 0.5 / layer_HW.shape[0]
    r0 = max(float(starts[-1][2]), 0.02)

    def misfit(place: ndarray, blur: int) -> ndarray:
        fit_HW = opacity * seen_HW * _cover(shape, place[0], place[1], max(float(place[2]), 0.02), size)
        return np.append(cv2.blur(fit_HW - layer_HW, (blur, blur)).ravel(), (place[2] / r0 - 1.0) * TRUST)

    place = min(starts, key=lambda start: float(np.square(misfit(start, BLURS[0])).sum()))
    for blur in BLURS:
        miss_N = misfit(place, blur)
        slopes_N3 = np.stack([(misfit(place + step * axis, blur) - miss_N) / step for axis in np.eye(3)], 1)
        normal_33 = slopes_N3.T @ slopes_N3 + 1e-6 * np.eye(3)
        move = np.linalg.solve(normal_33 + 1e-3 * np.diag(np.diag(normal_33)), slopes_N3.T @ miss_N)
        place = np.clip(place - np.clip(move, -0.1, 0.1), 0.02, 0.98)
    return place
