"""An honest reader of frames: it says what a clip of the shapes world shows, and never sees the caption.

Colours are found by unmixing: a pixel is a mix of the background with an actor's colour, so its share of the
colour is its place on the line between the two (the nearest palette colour would misread every edge: half-mixed
blue on white is nearest purple). Each actor is followed through the frames, and the motion of the action table
that fits its track best is what it does. See WORLD.md, "What the reader of frames measures".

Suffixes: F frames, H height, W width, C the colours asked for, N pixels, 4 = (x, y, r, opacity).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from cogstyle.data import world
from cogstyle.errors import MediaError

Motion = tuple[str, str | None, float]

SIZE = 64  # frames are averaged down to about this size: mixing is linear, so the average of pixels unmixes as well
NEAR = 40.0  # a pixel this close (RGB distance) to a background colour is background
STRAY = 20.0  # a pixel this far from every line is looked at as a mix of two actors
FOREIGN = 90.0  # a pixel this far from every line belongs to no actor
PRESENT = 0.3  # share of a colour from which a pixel counts towards finding the colour
FAINT = 0.15  # opacity below this is too faint to be placed
LEAST = 0.0035  # smallest area (canvas units) of an actor; the smallest rendered one has 0.011
HALF_THERE = 0.4  # opacity from which two parts of one colour are two actors
OPAQUE = 0.85  # measured opacity from here on is full: edges and blur lower it
OPACITY_SCALE = 0.2  # an opacity error of 1 weighs as much as this distance
BLURS = (
    9,
    9,
    5,
    5,
    3,
    3,
)  # pixels: a hidden actor is fitted from coarse to fine, since an edge pulls only from near
PIXEL_NOISE = 0.1  # error of a pixel's share
HIDDEN_R = 0.3  # error (share of r) of a hidden actor's radius as its neighbours in time give it
DURATIONS = (
    *world.DURATIONS.values(),
    8.0,
    0.5,
)  # the last two are no one's: slower and faster than any caption says
MOTIONS: tuple[Motion, ...] = tuple(
    (action, direction, duration)
    for action in ("still", *(a for a in world.ACTIONS if a != "still"))  # the simplest wins a tie
    for direction in world.DIRECTIONS.get(action, (None,))
    for duration in DURATIONS
)


@dataclass(frozen=True)
class ActorReading:
    """One actor as read; `r` is its median radius, `track` float64 [F, 4]: x, y, r, opacity in canvas units."""

    colour: str
    shape: str
    action: str
    direction: str | None
    duration: float
    r: float
    track: np.ndarray


@dataclass(frozen=True)
class Reading:
    """What a clip shows; the actors from the most visible to the least."""

    background: str
    actors: tuple[ActorReading, ...]


def read_clip(frames_FHWC: np.ndarray, times_F: Sequence[float]) -> Reading:
    """Read a clip.

    Args:
        frames_FHWC: uint8 [F, H, W, 3], square.
        times_F: seconds since the start of the action, one a frame, increasing.

    Raises:
        MediaError: frames that are not uint8 [F, H, H, 3], or times that do not go with them.
    """
    _check(frames_FHWC, times_F)
    pixels_FHWC = _shrink(frames_FHWC)
    background, base = find_background(pixels_FHWC)
    offsets_FHWC = pixels_FHWC - base
    colours = find_colours(offsets_FHWC, base)
    layers_CFHW = unmix(offsets_FHWC, base, colours)
    named = [
        (c, part)
        for c, layer in zip(colours, layers_CFHW, strict=True)
        for part in _split(layer, layers_CFHW)
    ]
    total_FHW = sum((layer for _, layer in named), np.zeros(pixels_FHWC.shape[:3], np.float32))
    actors = []
    for colour, layer_FHW in named:
        seen_FHW = np.clip(1.0 - (total_FHW - layer_FHW), 0.0, 1.0)
        shape, track_F4 = _follow(layer_FHW, seen_FHW)
        action, direction, duration = best_motion(motion_errors(track_F4, times_F))
        r = float(_weighted_median(track_F4[:, 2], track_F4[:, 3]))
        actors.append(ActorReading(colour, shape, action, direction, duration, r, track_F4))
    return Reading(background, tuple(actors))


def _check(frames_FHWC: np.ndarray, times_F: Sequence[float]) -> None:
    shape = frames_FHWC.shape
    if (
        frames_FHWC.dtype != np.uint8
        or len(shape) != 4
        or shape[1] != shape[2]
        or shape[3] != 3
        or 0 in shape
    ):
        raise MediaError(f"frames must be uint8 [F, H, H, 3], not {frames_FHWC.dtype} {list(shape)}")
    if len(times_F) != shape[0] or np.any(np.diff(times_F) <= 0) or min(times_F) < 0:
        raise MediaError(f"{shape[0]} frames need as many increasing times from 0 on, not {list(times_F)}")


def _shrink(frames_FHWC: np.ndarray) -> np.ndarray:
    """Average whole blocks of pixels so that frames are not much larger than SIZE: float32 [F, H, W, 3]."""
    frames, height, width, _ = frames_FHWC.shape
    by = max(1, height // SIZE)
    if by == 1 or height % by:
        return frames_FHWC.astype(np.float32)
    blocks = frames_FHWC.reshape(frames, height // by, by, width // by, by, 3)
    return blocks.mean((2, 4), dtype=np.float32)


# ---------------------------------------------------------------- colours


def find_background(pixels_FHWC: np.ndarray) -> tuple[str, np.ndarray]:
    """The background's name and its colour as measured (float32 [3]): the palette colour most pixels are near."""
    pixels_N3 = pixels_FHWC[:, ::2, ::2].reshape(-1, 3)  # a quarter of them is plenty
    names = tuple(world.BACKGROUNDS)
    palette = np.asarray([world.BACKGROUNDS[name] for name in names], np.float32)
    far_BN = np.stack([np.einsum("nc,nc->n", d, d) for d in (pixels_N3 - colour for colour in palette)])
    best = int((far_BN < NEAR**2).sum(1).argmax())
    near_N3 = pixels_N3[far_BN[best] < NEAR**2]
    return names[best], np.median(near_N3, 0).astype(np.float32) if len(near_N3) else palette[best]


def _project(
    offsets_FHWC: np.ndarray, base: np.ndarray, colours: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Share of each colour and squared distance from its line, both float32 [C, F, H, W]."""
    toward_C3 = np.asarray([world.COLOURS[c] for c in colours], np.float32) - base
    length_C1 = np.square(toward_C3).sum(1)[:, None]
    offsets_N3 = offsets_FHWC.reshape(-1, 3)
    dots_CN = toward_C3 @ offsets_N3.T
    share_CN = np.clip(dots_CN / length_C1, 0.0, 1.0)
    far_CN = share_CN * (share_CN * length_C1 - 2.0 * dots_CN) + np.einsum("nc,nc->n", offsets_N3, offsets_N3)
    layout = (len(colours), *offsets_FHWC.shape[:3])
    return share_CN.reshape(layout), np.maximum(far_CN, 0.0).reshape(layout)


def _label(far_CFHW: np.ndarray) -> np.ndarray:
    """Index of each pixel's line, uint8 [F, H, W]; neighbours have a say, since faint pixels fit every line."""
    smooth_CFHW = np.stack([[cv2.blur(frame, (3, 3)) for frame in far_FHW] for far_FHW in far_CFHW])
    return smooth_CFHW.argmin(0).astype(np.uint8)


def _core_areas(mask_FHW: np.ndarray) -> np.ndarray:
    """Area of a mask in each frame (canvas units) without its thin parts, which edges between actors make."""
    kernel = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    opened = [cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel) for mask in mask_FHW]
    return np.asarray([frame.mean() for frame in opened])


def find_colours(offsets_FHWC: np.ndarray, base: np.ndarray) -> tuple[str, ...]:
    """Colours of the actors, the largest first.

    Args:
        offsets_FHWC: pixels less the background, float32 [F, H, W, 3].
        base: the background, float32 [3].

    Where two actors mix, a third colour may appear (half a red over yellow is orange); pixels that the first two
    explain count as a third actor only if they are there in most of the frames.
    """
    names = tuple(world.COLOURS)
    share_CFHW, far_CFHW = _project(offsets_FHWC, base, names)
    label_FHW = _label(far_CFHW)
    masks = [
        (label_FHW == i) & (share_CFHW[i] > PRESENT) & (far_CFHW[i] < FOREIGN**2) for i in range(len(names))
    ]
    areas = [_core_areas(mask) for mask in masks]
    found = [i for i in np.argsort([-area.sum() for area in areas]) if areas[i].max() > LEAST]
    for i in found[2:]:
        pair = [names[k] for k in found[:2]]
        unexplained = masks[i] & (_mix(offsets_FHWC, base, pair)[1] > STRAY**2)
        there_in_most = (areas[i] > LEAST).mean() > 0.5
        if not there_in_most and _core_areas(unexplained).max() <= LEAST:
            found = [k for k in found if k != i]
    return tuple(names[i] for i in found)


def _mix(offsets: np.ndarray, base: np.ndarray, pair: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Shares of two colours that explain pixels [..., 3] best, [2, ...], and the squared distance left, [...]."""
    toward_23 = np.asarray([world.COLOURS[c] for c in pair], np.float32) - base
    shares = np.clip(offsets @ np.linalg.pinv(toward_23), 0.0, 1.0)
    shares /= np.maximum(shares.sum(-1, keepdims=True), 1.0)
    return np.moveaxis(shares, -1, 0), np.square(offsets - shares @ toward_23).sum(-1)


def unmix(offsets_FHWC: np.ndarray, base: np.ndarray, colours: Sequence[str]) -> np.ndarray:
    """Share of each of `colours` in each pixel, float32 [C, F, H, W]; the rest is background.

    A pixel is a mix of the background and one colour, unless two colours explain it clearly better.
    """
    if not colours:
        return np.zeros((0, *offsets_FHWC.shape[:3]), np.float32)
    share_CFHW, far_CFHW = _project(offsets_FHWC, base, colours)
    label_FHW = _label(far_CFHW)
    layers_CFHW = np.where(label_FHW == np.arange(len(colours))[:, None, None, None], share_CFHW, 0.0)
    left_FHW = np.take_along_axis(far_CFHW, label_FHW[None].astype(np.intp), 0)[0]
    stray_FHW = left_FHW > STRAY**2
    stray_N3, left_N = offsets_FHWC[stray_FHW], left_FHW[stray_FHW].copy()
    mixed_CN = layers_CFHW[:, stray_FHW]
    for a in range(len(colours)):
        for b in range(a + 1, len(colours)):
            shares_2N, rest_N = _mix(stray_N3, base, (colours[a], colours[b]))
            better_N = rest_N < 0.5 * left_N
            mixed_CN[:, better_N] = 0.0
            mixed_CN[a, better_N], mixed_CN[b, better_N] = shares_2N[:, better_N]
            left_N[better_N] = rest_N[better_N]
    mixed_CN[:, left_N > FOREIGN**2] = 0.0
    layers_CFHW[:, stray_FHW] = mixed_CN
    return layers_CFHW


# ---------------------------------------------------------------- one layer a actor


def _blobs(mask_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected parts of a mask: labels int32 [H, W] (0 is outside) and areas [parts + 1] in canvas units."""
    _, labels_HW, stats, _ = cv2.connectedComponentsWithStats(mask_HW.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA] / mask_HW.size
    areas[0] = 0.0
    return labels_HW, areas


def _split(layer_FHW: np.ndarray, layers_CFHW: np.ndarray) -> list[np.ndarray]:
    """Tell apart two actors of one colour: the layer itself, or one layer for each.

    Parts that another actor joins are one actor, partly hidden. With two separate parts in a frame, each goes to
    the actor whose last place is nearest; a frame with a single part goes to the actor nearest to it.
    """
    parts_F: list[
        list[tuple[np.ndarray, np.ndarray]]
    ] = []  # for each frame (mask, centre), the largest first
    for layer_HW, all_HW in zip(layer_FHW, layers_CFHW.sum(0), strict=True):
        smooth_HW = cv2.blur(layer_HW, (3, 3))
        opacity = _opacity(smooth_HW)
        limit = max(FAINT, 0.35 * opacity)
        labels_HW, _ = _blobs(cv2.blur(all_HW, (3, 3)) > limit)
        own_HW = np.where(smooth_HW > limit, labels_HW, 0)
        areas = np.bincount(own_HW.ravel(), minlength=2) / own_HW.size
        most = 2 if opacity > HALF_THERE else 1  # what is nearly gone falls apart by noise
        big = [k for k in np.argsort(-areas[1:]) + 1 if areas[k] > LEAST][:most]
        parts_F.append([(labels_HW == k, np.argwhere(own_HW == k).mean(0)) for k in big])
    first = next((f for f, parts in enumerate(parts_F) if len(parts) == 2), None)
    if first is None:
        return [layer_FHW]
    split = np.zeros((2, *layer_FHW.shape), np.float32)
    last = [centre for _, centre in parts_F[first]]
    for f in [*range(first, len(parts_F)), *range(first)]:
        straight, crossed = (
            sum(
                float(np.hypot(*(centre - last[owner])))
                for (_, centre), owner in zip(parts_F[f], way, strict=False)
            )
            for way in ((0, 1), (1, 0))
        )
        owners = (0, 1) if straight <= crossed else (1, 0)
        for (mask_HW, centre), owner in zip(parts_F[f], owners, strict=False):
            split[owner, f] = layer_FHW[f] * mask_HW
            last[owner] = centre
    return list(split)


# ---------------------------------------------------------------- following an actor


@lru_cache(maxsize=1024)
def _template(shape: str, percent: int, size: int) -> np.ndarray:
    """The shape in the middle of the canvas at r = percent / 100, float32 [size, size]."""
    cover_HW = world.coverage(shape, world.State(0.5, 0.5, percent / 100), size)
    cover_HW.setflags(write=False)
    return cover_HW


def _cover(shape: str, x: float, y: float, r: float, size: int) -> np.ndarray:
    """world.coverage by moving and scaling a stored template: much faster, softer by less than a pixel."""
    percent = min(max(round(100 * r), 3), 40)
    scale = 100 * r / percent
    middle = size / 2 - 0.5
    matrix = np.asarray(
        [[scale, 0, x * size - 0.5 - scale * middle], [0, scale, y * size - 0.5 - scale * middle]]
    )
    return cv2.warpAffine(_template(shape, percent, size), matrix, (size, size), flags=cv2.INTER_LINEAR)


def _opacity(layer_HW: np.ndarray) -> float:
    """Share of the colour where there is most of it: a mean that edges, blurred or not, hardly lower."""
    fourth_HW = np.square(np.square(layer_HW))
    return float((fourth_HW * layer_HW).sum() / max(float(fourth_HW.sum()), 1e-9))


def _find(layer_HW: np.ndarray) -> tuple[np.ndarray, float, np.ndarray] | None:
    """The actor in one frame of its layer: (layer without what lies elsewhere, opacity, mask), or None."""
    smooth_HW = cv2.blur(layer_HW, (3, 3))
    labels_HW, areas = _blobs(smooth_HW > max(FAINT, 0.35 * _opacity(smooth_HW)))
    if areas.max() < LEAST:
        return None
    mask_HW = np.isin(labels_HW, np.flatnonzero(areas > 0.15 * areas.max())).astype(np.uint8)
    own_HW = layer_HW * cv2.dilate(mask_HW, np.ones((3, 3), np.uint8))
    opacity = _opacity(own_HW)
    return own_HW, 1.0 if opacity > OPAQUE else opacity, mask_HW


def _follow(layer_FHW: np.ndarray, seen_FHW: np.ndarray) -> tuple[str, np.ndarray]:
    """Shape and track (float64 [F, 4]) of the actor in a layer.

    Args:
        layer_FHW: the actor's share of each pixel.
        seen_FHW: share of each pixel that no other actor takes.
    """
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
        clear_F[f] = not ((seen_HW < 0.7) & (cv2.dilate(mask_HW, np.ones((3, 3), np.uint8)) > 0)).any()
        for s, shape in enumerate(world.SHAPES):
            fit_HW = opacity * _cover(shape, x, y, math.sqrt(moments_F4[f, 2] / world.AREA[shape]), size)
            scores_FS2[f, s] = np.minimum(own_HW, fit_HW).sum(), np.maximum(own_HW, fit_HW).sum()
    scores_FS2 *= np.where(clear_F, 1.0, 0.01)[:, None, None]
    shape = world.SHAPES[
        int((scores_FS2[..., 0].sum(0) / np.maximum(scores_FS2[..., 1].sum(0), 1e-9)).argmax())
    ]
    return shape, _track(layer_FHW, seen_FHW, moments_F4, clear_F, shape)


def _track(
    layer_FHW: np.ndarray, seen_FHW: np.ndarray, moments_F4: np.ndarray, clear_F: np.ndarray, shape: str
) -> np.ndarray:
    """From moments to x, y, r, opacity: hidden frames are fitted, invisible ones lie between their neighbours."""
    size, frames = layer_FHW.shape[-1], np.arange(len(layer_FHW))
    track_F4 = moments_F4.copy()
    track_F4[:, 2] = np.sqrt(moments_F4[:, 2] / world.AREA[shape])
    found_F = ~np.isnan(track_F4[:, 0])
    if not found_F.any():
        return np.tile([0.5, 0.5, 0.0, 0.0], (len(frames), 1))
    known_F = clear_F if clear_F.any() else found_F
    guess_F4 = np.stack([np.interp(frames, frames[known_F], column[known_F]) for column in track_F4.T], 1)
    if known_F.sum() > 1:  # every radius of the action table changes evenly in time
        line = np.polyfit(frames[known_F], track_F4[known_F, 2], 1)
        guess_F4[:, 2] = np.clip(np.polyval(line, frames), world.SHRUNK_R, world.GROWN_R)
    for f in frames:
        if found_F[f] and not clear_F[f]:
            starts = (track_F4[f, :3], guess_F4[f, :3])
            track_F4[f, :3] = _fit_hidden(layer_FHW[f], seen_FHW[f], shape, starts, float(track_F4[f, 3]))
    known_F = found_F
    between_F4 = np.stack([np.interp(frames, frames[known_F], column[known_F]) for column in track_F4.T], 1)
    for f in frames:
        x, y, r, _ = between_F4[f]
        fit_HW = _cover(shape, x, y, r, size) * seen_FHW[f]
        opacity = float((layer_FHW[f] * fit_HW).sum() / max(float(np.square(fit_HW).sum()), 1e-6))
        between_F4[f, 3] = 1.0 if opacity > OPAQUE else opacity
    return between_F4


def _fit_hidden(
    layer_HW: np.ndarray, seen_HW: np.ndarray, shape: str, starts: Sequence[np.ndarray], opacity: float
) -> np.ndarray:
    """Place and radius (x, y, r) of a partly hidden actor: Gauss-Newton on its pixels from the best of the starts.

    The radius is held near that of the last start (the neighbours in time), the place is free.
    """
    size, step = layer_HW.shape[0], 0.5 / layer_HW.shape[0]
    r0 = max(float(starts[-1][2]), 0.02)
    trust = PIXEL_NOISE / (HIDDEN_R * r0)

    def misfit(place: np.ndarray, blur: int) -> np.ndarray:
        fit_HW = opacity * seen_HW * _cover(shape, place[0], place[1], max(float(place[2]), 0.02), size)
        return np.append(cv2.blur(fit_HW - layer_HW, (blur, blur)).ravel(), (place[2] - r0) * trust)

    place = min(starts, key=lambda start: float(np.square(misfit(start, BLURS[0])).sum()))
    for blur in BLURS:
        miss_N = misfit(place, blur)
        slopes_N3 = np.stack([(misfit(place + step * axis, blur) - miss_N) / step for axis in np.eye(3)], 1)
        normal_33 = slopes_N3.T @ slopes_N3 + 1e-6 * np.eye(3)
        move = np.linalg.solve(normal_33 + 1e-3 * np.diag(np.diag(normal_33)), slopes_N3.T @ miss_N)
        place = np.clip(place - np.clip(move, -0.1, 0.1), 0.02, 0.98)
    return place


def _weighted_median(values_F: np.ndarray, weights_F: np.ndarray) -> float:
    order = np.argsort(values_F)
    total = np.cumsum(np.maximum(weights_F[order], 1e-9))
    return values_F[order][np.searchsorted(total, total[-1] / 2)]


# ---------------------------------------------------------------- motions


@lru_cache(maxsize=64)
def _laws(times_F: tuple[float, ...]) -> np.ndarray:
    """Track of each of MOTIONS with the free parameters at the middle, float64 [M, F, 4]."""
    actors = [world.Actor("red", "circle", action, way, None, 0.15, 0.5, 0.5) for action, way, _ in MOTIONS]
    states = [[world.state(a, t, m[2]) for t in times_F] for a, m in zip(actors, MOTIONS, strict=True)]
    return np.asarray([[(s.x, s.y, s.r, s.opacity) for s in row] for row in states])


def _free(action: str, direction: str | None) -> tuple[bool, bool, bool, bool]:
    """Which of x, y, r, opacity an action leaves free."""
    if action in ("move", "return"):
        return direction in ("up", "down"), direction in ("left", "right"), True, False
    sizes = action in ("grow", "shrink")
    return action != "circle", action != "circle", not sizes, False


def motion_errors(track_F4: np.ndarray, times_F: Sequence[float]) -> dict[Motion, float]:
    """How far a track lies from each of MOTIONS, its free parameters fitted.

    Args:
        track_F4: x, y, r, opacity of an actor, canvas units, [F, 4].
        times_F: seconds since the start of the action, one a frame.

    Returns:
        {(action, direction, duration): root mean square distance in canvas units}. Place and radius count where
        the actor can be seen; an error of opacity counts by OPACITY_SCALE.
    """
    weight_F = np.clip(track_F4[:, 3] / 0.3, 0.0, 1.0) ** 2
    fit_MF4 = _laws(tuple(float(t) for t in times_F)).copy()
    circles = [m for m, motion in enumerate(MOTIONS) if motion[0] == "circle"]
    law_MF = (fit_MF4[circles, :, :2] - 0.5) @ np.asarray(
        [1, 1j]
    )  # the start angle is free: turn to fit best
    turn_M = np.angle(law_MF.conj() @ (weight_F * ((track_F4[:, :2] - 0.5) @ np.asarray([1, 1j]))))
    turned_MF = law_MF * np.exp(1j * turn_M)[:, None]
    fit_MF4[circles, :, :2] = 0.5 + np.stack([turned_MF.real, turned_MF.imag], -1)
    shift_M4 = np.einsum("f,mfk->mk", weight_F, track_F4 - fit_MF4) / max(float(weight_F.sum()), 1e-9)
    fit_MF4 += np.where([_free(action, way) for action, way, _ in MOTIONS], shift_M4, 0.0)[:, None]
    miss_MF4 = np.square(fit_MF4 - track_F4)
    miss_MF = weight_F * miss_MF4[..., :3].sum(-1) + OPACITY_SCALE**2 * miss_MF4[..., 3]
    return dict(zip(MOTIONS, np.sqrt(miss_MF.mean(1)).tolist(), strict=True))


def best_motion(errors: dict[Motion, float]) -> Motion:
    """The motion of the least error; among equals the simplest and slowest (the order of MOTIONS)."""
    return min(MOTIONS, key=lambda motion: round(errors[motion], 6))
