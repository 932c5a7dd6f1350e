"""An honest reader of frames: it says what a clip of the shapes world shows, and never sees the caption.

Colours are found by unmixing: a pixel is a mix of the background with an actor's colour, so its share of the
colour is its place on the line between the two (the nearest palette colour would misread every edge:
half-mixed blue on white is nearest purple). Each actor is followed through the frames, and the motion of the
action table that fits its track best is what it does. See docs/shapes_world.md, "What the reader reads".

Suffixes: F frames, H height, W width, C colours asked for, M motions, N pixels, 4 = (x, y, r, opacity).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import cv2
import numpy as np
from numpy import ndarray

from cogstyle.errors import MediaError
from cogstyle.shapes_world import world

Motion = tuple[str, str | None, float]
Pair = tuple[ndarray, ndarray]

SIZE = 64  # frames are averaged down to about this: mixing is linear, so averages unmix as pixels do
NEAR = 40.0  # a pixel this close (RGB distance) to a background colour is background
STRAY = 20.0  # a pixel this far from every line is looked at as a mix of two actors
FOREIGN = 90.0  # a pixel this far from every line belongs to no actor
PRESENT = 0.5  # share of a colour from which a pixel counts towards finding the colour
FAINT = 0.15  # opacity below this is too faint to be placed
LEAST = 0.0035  # smallest area (canvas units) of an actor; the smallest rendered one has 0.011
OFTEN = 0.35  # share of the frames; a blinking actor is more than half there in 0.4 of them
MUCH = 0.02  # area of an actor that is found though it always touches a larger one
HALF_THERE = 0.4  # opacity from which two parts of one colour are two actors
OPAQUE = 0.85  # measured opacity from here on is full: edges and blur lower it
OPACITY_SCALE = 0.2  # an opacity error of 1 weighs as much as this distance
TRUST = 0.3  # error of a pixel over relative error of a hidden radius guessed from its neighbours in time
BLURS = (9, 9, 5, 5, 3, 3)  # pixels: hidden actors are fitted from coarse to fine
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


def find_background(pixels_FHWC: ndarray) -> tuple[str, ndarray]:
    """Name of the background colour that most pixels are near, and the background as measured [3]."""
    pixels_N3 = pixels_FHWC[:, ::2, ::2].reshape(-1, 3)  # a quarter of them is plenty
    names = tuple(world.BACKGROUNDS)
    palette = np.asarray([world.BACKGROUNDS[name] for name in names], np.float32)
    far_BN = np.stack([np.einsum("nc,nc->n", d, d) for d in (pixels_N3 - colour for colour in palette)])
    best = int((far_BN < NEAR**2).sum(1).argmax())
    near_N3 = pixels_N3[far_BN[best] < NEAR**2]
    return names[best], np.median(near_N3, 0).astype(np.float32) if len(near_N3) else palette[best]


def _project(offsets_FHWC: ndarray, base: ndarray, colours: Sequence[str]) -> Pair:
    """Share of each colour and squared distance from its line, both float32 [C, F, H, W]."""
    toward_C3 = np.asarray([world.COLOURS[c] for c in colours], np.float32) - base
    length_C1 = np.square(toward_C3).sum(1)[:, None]
    offsets_N3 = offsets_FHWC.reshape(-1, 3)
    dots_CN = toward_C3 @ offsets_N3.T
    share_CN = np.clip(dots_CN / length_C1, 0.0, 1.0)
    far_CN = share_CN * (share_CN * length_C1 - 2.0 * dots_CN) + np.einsum("nc,nc->n", offsets_N3, offsets_N3)
    layout = (len(colours), *offsets_FHWC.shape[:3])
    return share_CN.reshape(layout), np.maximum(far_CN, 0.0).reshape(layout)


def _label(far_CFHW: ndarray) -> ndarray:
    """Index of each pixel's line, [F, H, W]; neighbours have a say, since a faint pixel fits every line."""
    return np.stack([[cv2.blur(frame, (3, 3)) for frame in far_FHW] for far_FHW in far_CFHW]).argmin(0)


def _core_areas(mask_FHW: ndarray) -> ndarray:
    """Area of a mask in each frame (canvas units) without its thin parts, which edges between actors make."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return np.asarray([cv2.morphologyEx(m.astype(np.uint8), cv2.MORPH_OPEN, cross).mean() for m in mask_FHW])


def _own(mask_FHW: ndarray, any_FHW: ndarray) -> ndarray:
    """A colour's mask, less its patches in blobs (of any colour) that are mostly of other colours."""
    own_FHW = mask_FHW.copy()
    for own_HW, any_HW in zip(own_FHW, any_FHW, strict=True):
        parts_HW = _parts(any_HW)
        share_P = np.bincount(parts_HW.ravel(), own_HW.ravel()) / np.maximum(np.bincount(parts_HW.ravel()), 1)
        own_HW &= share_P[parts_HW] > 0.5
    return own_FHW


def find_colours(offsets_FHWC: ndarray, base: ndarray) -> tuple[str, ...]:
    """Colours of the actors, the largest first, from pixels less the background (float32 [F, H, W, 3]).

    A colour counts if it makes up most of a blob (a smeared orange ring has yellow patches; half a red over yellow
    is orange, but explained by the two) in a tenth of the frames, or if there is much of it often.
    """
    names = tuple(world.COLOURS)
    share_CFHW, far_CFHW = _project(offsets_FHWC, base, names)
    label_FHW = _label(far_CFHW)
    clear_CFHW = (share_CFHW > PRESENT) & (far_CFHW < FOREIGN**2)
    masks_CFHW = clear_CFHW & (label_FHW == np.arange(len(names))[:, None, None, None])
    any_FHW = masks_CFHW.any(0)
    areas_CF = np.stack([_core_areas(mask_FHW) for mask_FHW in masks_CFHW])
    found: list[int] = []
    for i in np.argsort(-areas_CF.sum(1)):
        own_FHW = _own(masks_CFHW[i], any_FHW)
        if len(found) > 1:
            own_FHW &= _mix(offsets_FHWC, base, [names[k] for k in found[:2]])[1] > STRAY**2
        beside_F = (areas_CF[found] > LEAST).all(0)  # where another is missing, this may be that one misread
        often = (areas_CF[i] > (MUCH if found else LEAST)).mean() > OFTEN
        if often or (beside_F & (_core_areas(own_FHW) > LEAST)).sum() > len(label_FHW) // 10:
            found.append(int(i))
    return tuple(names[i] for i in found)


def _mix(offsets: ndarray, base: ndarray, pair: Sequence[str]) -> Pair:
    """Shares of two colours that explain pixels [..., 3] best, [2, ...], and the squared distance left."""
    toward_23 = np.asarray([world.COLOURS[c] for c in pair], np.float32) - base
    shares = np.clip(offsets @ np.linalg.pinv(toward_23), 0.0, 1.0)
    shares /= np.maximum(shares.sum(-1, keepdims=True), 1.0)
    return np.moveaxis(shares, -1, 0), np.square(offsets - shares @ toward_23).sum(-1)


def unmix(offsets_FHWC: ndarray, base: ndarray, colours: Sequence[str]) -> ndarray:
    """Share of each of `colours` in each pixel, float32 [C, F, H, W]; the rest is background.

    A pixel is a mix of the background and one colour, unless two colours explain it clearly better.
    """
    share_CFHW, far_CFHW = _project(offsets_FHWC, base, colours)
    label_FHW = _label(far_CFHW)
    layers_CFHW = np.where(label_FHW == np.arange(len(colours))[:, None, None, None], share_CFHW, 0.0)
    left_FHW = np.take_along_axis(far_CFHW, label_FHW[None], 0)[0]
    stray_FHW = left_FHW > STRAY**2
    stray_N3, left_N = offsets_FHWC[stray_FHW], left_FHW[stray_FHW].copy()
    mixed_CN = layers_CFHW[:, stray_FHW]
    for a, b in combinations(range(len(colours)), 2):
        shares_2N, rest_N = _mix(stray_N3, base, (colours[a], colours[b]))
        better_N = rest_N < 0.5 * left_N
        mixed_CN[:, better_N] = 0.0
        mixed_CN[a, better_N], mixed_CN[b, better_N] = shares_2N[:, better_N]
        left_N[better_N] = rest_N[better_N]
    mixed_CN[:, left_N > FOREIGN**2] = 0.0
    layers_CFHW[:, stray_FHW] = mixed_CN
    return layers_CFHW


def _parts(mask_HW: ndarray) -> ndarray:
    """Label each connected part of a mask with a number of its own, int32 [H, W]; 0 is outside."""
    return cv2.connectedComponents(mask_HW.astype(np.uint8))[1]


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
        labels_HW = _parts(cv2.blur(all_HW, (3, 3)) > limit)
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
    labels_HW = _parts(smooth_HW > max(FAINT, 0.35 * _opacity(smooth_HW)))
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
