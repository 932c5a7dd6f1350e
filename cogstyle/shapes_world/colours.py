"""Which colours a clip of the shapes world shows, and how much of each is in every pixel.

Colours are found by unmixing: a pixel is a mix of the background with an actor's colour, so its share of the
colour is its place on the line between the two (the nearest palette colour would misread every edge:
half-mixed blue on white is nearest purple).

Suffixes: F frames, H height, W width, C colours asked for, N pixels, P parts, B backgrounds.
"""

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np
from numpy import ndarray

from cogstyle.shapes_world import world

Pair = tuple[ndarray, ndarray]

NEAR = 40.0  # a pixel this close (RGB distance) to a background colour is background
STRAY = 20.0  # a pixel this far from every line is looked at as a mix of two actors
FOREIGN = 90.0  # a pixel this far from every line belongs to no actor
PRESENT = 0.5  # share of a colour from which a pixel counts towards finding the colour
LEAST = 0.0035  # smallest area (canvas units) of an actor; the smallest rendered one has 0.011
OFTEN = 0.35  # share of the frames; a blinking actor is more than half there in 0.4 of them
MUCH = 0.02  # area of an actor that is found though it always touches a larger one


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
        parts_HW = connected_parts(any_HW)
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


def off_palette(frames_FHWC: ndarray) -> float:
    """Share of the pixels that are no background which lie far from every line between it and a palette colour."""
    pixels_FHWC = frames_FHWC.astype(np.float32)
    _, base = find_background(pixels_FHWC)
    offsets_FHWC = pixels_FHWC - base
    far_FHW = _project(offsets_FHWC, base, tuple(world.COLOURS))[1].min(0)
    seen_FHW = np.square(offsets_FHWC).sum(-1) > NEAR**2
    return float((far_FHW[seen_FHW] > NEAR**2).mean()) if seen_FHW.any() else 0.0


def connected_parts(mask_HW: ndarray) -> ndarray:
    """Label each connected part of a mask with a number of its own, int32 [H, W]; 0 is outside."""
    return cv2.connectedComponents(mask_HW.astype(np.uint8))[1]
