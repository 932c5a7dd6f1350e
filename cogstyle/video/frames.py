"""Crop, enlarge and compare frames."""

import cv2
import numpy as np


def square(pixels: np.ndarray, size: int, *, pixel_aspect: float = 1.0, letterbox: bool = False) -> np.ndarray:
    """uint8 [height, width, 3] -> [size, size, 3]: the largest centred square, resized.

    Args:
        pixel_aspect: width of a pixel over its height; video for television has other than square ones.
        letterbox: the whole picture between black bars instead.
    """
    height, width = pixels.shape[:2]
    if letterbox:
        scale = size / max(height, width * pixel_aspect)
        rows, columns = max(1, round(height * scale)), max(1, round(width * pixel_aspect * scale))
        whole = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        top, left = (size - rows) // 2, (size - columns) // 2
        return np.pad(whole, ((top, size - rows - top), (left, size - columns - left), (0, 0)))
    side = min(height, width * pixel_aspect)
    rows, columns = max(1, round(side)), max(1, round(side / pixel_aspect))
    top, left = (height - rows) // 2, (width - columns) // 2
    middle = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
    return cv2.resize(middle, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)


def enlarge(frames: np.ndarray, size: int) -> np.ndarray:
    """uint8 [F, height, width, 3] -> [F, size, size, 3], bicubic."""
    return np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_CUBIC) for frame in frames])


def psnr(frames: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of uint8 frames, from the squared error over all of them."""
    error = np.square(frames.astype(np.float32) - truth).mean()
    return float(10 * np.log10(255.0**2 / max(float(error), 1e-9)))
