"""What frames are like: sharp, moving, lettered, barred, seen before. Small measures with OpenCV."""

from itertools import pairwise
from typing import Any

import cv2
import numpy as np

LETTERS = 256  # pixels along the side of the frames in which letters are looked for
MOVING, FOREGROUND = 128, 0.05  # pixels along the side of the frames whose flow is measured, share that moves most
DARK, EDGE = 24, 0.6  # the brightest that a bar is (of 255), and share of the line beside it that is brighter
THUMB = 32  # pixels along the side of the frame whose lowest frequencies are the hash


def grey(frame_HWC: np.ndarray) -> np.ndarray:
    """uint8 [height, width]."""
    return cv2.cvtColor(np.ascontiguousarray(frame_HWC), cv2.COLOR_RGB2GRAY)


def sharpness(frames_FHWC: np.ndarray) -> float:
    """Variance of the Laplacian of the brightness, the median of the frames; low: blurred, or empty."""
    return float(np.median([cv2.Laplacian(grey(frame), cv2.CV_64F).var() for frame in frames_FHWC]))


def flow(frames_FHWC: np.ndarray, rate: float) -> float:
    """How fast the foreground moves, in sides of the frame a second: the median of the pairs of frames.

    Of a pair it is the mean of the twentieth of the places that moves most, by OpenCV's DIS: what covers less is
    background, and what fades moves little. One frame: not a number.

    Args:
        rate: frames a second.
    """
    small = [cv2.resize(grey(f), (MOVING, MOVING), interpolation=cv2.INTER_AREA) for f in frames_FHWC]
    network: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    most, speeds = max(1, round(FOREGROUND * MOVING**2)), []
    for before, after in pairwise(small):
        if np.array_equal(before, after):
            speeds.append(0.0)
            continue
        moved = np.linalg.norm(network.calc(before, after, None), axis=-1).ravel()
        speeds.append(float(np.partition(moved, -most)[-most:].mean()))
    return float(np.median(speeds)) / MOVING * rate if speeds else float("nan")


def text_boxes(frames_FHWC: np.ndarray) -> int:
    """How many lines of letters stand in a frame, the median of the frames.

    Found: level lines of three letters or more that stand out from what is behind them, as subtitles and watermarks
    do. Not found: single letters, tilted or upright lines, letters larger than a quarter of the frame or smaller than
    a fortieth of it. A fence or a keyboard may count as a line.
    """
    return int(np.median([len(_lines(frame)) for frame in frames_FHWC]))


def _lines(frame_HWC: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Left, top, width and height of each line, in a frame of LETTERS x LETTERS pixels."""
    enlarges = len(frame_HWC) < LETTERS
    pixels = cv2.resize(
        grey(frame_HWC), (LETTERS, LETTERS), interpolation=cv2.INTER_CUBIC if enlarges else cv2.INTER_AREA
    )
    edges = cv2.morphologyEx(pixels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    strong = ((edges > max(32.0, 2 * float(edges.mean()))) * 255).astype(np.uint8)
    joined = cv2.morphologyEx(strong, cv2.MORPH_CLOSE, np.ones((1, LETTERS // 20), np.uint8))
    joined = cv2.morphologyEx(joined, cv2.MORPH_OPEN, np.ones((3, LETTERS // 16), np.uint8))
    contours, _ = cv2.findContours(joined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    boxes = [cv2.boundingRect(contour) for contour in contours]
    return [(x, y, width, height) for x, y, width, height in boxes if _is_line(pixels, joined, x, y, width, height)]


def _is_line(pixels: np.ndarray, joined: np.ndarray, left: int, top: int, width: int, height: int) -> bool:
    """Whether a box is as flat and full as a line of letters, and crossed by as many strokes."""
    if not (LETTERS // 40 <= height <= LETTERS // 4 and width >= 1.8 * height):
        return False
    inside = np.s_[top : top + height, left : left + width]
    if (joined[inside] > 0).mean() < 0.5:
        return False
    middle = pixels[top + height // 4 : top + max(height * 3 // 4, height // 4 + 1), left : left + width].astype(int)
    low, high = np.percentile(middle, [5, 95])
    if high - low < 40:
        return False
    bright = middle > (low + high) / 2
    strokes = np.abs(np.diff(bright.astype(int), axis=1)).sum(1)  # of each row of pixels: changes of side
    return bool(np.median(strokes) >= 6 and np.median(strokes) >= 1.2 * width / height)


def bars(frames_FHWC: np.ndarray) -> float:
    """Share of a frame that black bars at its edges cover, the median of the frames.

    A bar ends at a straight edge: a dark background does not, and is none.
    """
    found = []
    for frame_HWC in frames_FHWC:
        lit = frame_HWC.max(-1) > DARK
        found.append(1.0 - (1.0 - _bars(lit)) * (1.0 - _bars(lit.T)))
    return float(np.median(found))


def _bars(lit: np.ndarray) -> float:
    """Share of the rows that lie in bars above and below."""
    found = 0
    for lines in (lit, lit[::-1]):
        first = int(lines.any(1).argmax())
        found += first if lines[first].mean() >= EDGE else 0
    return found / len(lit)


def look(frames_FHWC: np.ndarray) -> np.ndarray:
    """What a clip looks like, int64 [4]: perceptual hashes of the first, middle and last frame, and the mean colour.

    A hash has a bit for each of the lowest 8 x 8 frequencies of the brightness: above their median or not.
    """
    picks = (0, len(frames_FHWC) // 2, len(frames_FHWC) - 1)
    red, green, blue = frames_FHWC.mean((0, 1, 2)).round().astype(np.int64).tolist()
    return np.array([*(_hash(frames_FHWC[k]) for k in picks), red << 16 | green << 8 | blue], np.int64)


def _hash(frame_HWC: np.ndarray) -> np.int64:
    small = cv2.resize(grey(frame_HWC), (THUMB, THUMB), interpolation=cv2.INTER_AREA).astype(np.float32)
    lowest = cv2.dct(small)[:8, :8].ravel()
    bits = lowest > np.median(lowest[1:])
    return np.packbits(bits).view(np.int64)[0]
