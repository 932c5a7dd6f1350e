"""Loss curves as a picture, without a plotting library."""

import re
from typing import Any

import cv2
import numpy as np

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 900, 260, 70, 30, 24
INK, FRAME = (60, 60, 60), (200, 200, 200)
FIRST, LAST = np.array([200, 80, 30]), np.array([40, 160, 230])  # colours of the lines of a panel
ARM_COLOURS: list[list[float]] = [[40, 90, 200], [210, 80, 20], [30, 140, 60], [150, 40, 150]]
Line = list[tuple[float, float]]  # (step, value)


def _panel(name: str, lines: list[Line], colours: list[list[float]]) -> np.ndarray:
    panel = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    steps, values = ([point[axis] for line in lines for point in line] for axis in (0, 1))
    first, last, low, high = min(steps), max(steps), min(values), max(values)
    span_x, span_y = max(last - first, 1.0), (high - low) or 1.0
    cv2.rectangle(panel, (LEFT, TOP), (WIDTH - 20, HEIGHT - BOTTOM), FRAME, 1)
    for line, colour in zip(lines, colours, strict=True):
        points = np.asarray(line)
        x = LEFT + (points[:, 0] - first) / span_x * (WIDTH - LEFT - 20)
        y = TOP + (high - points[:, 1]) / span_y * (HEIGHT - TOP - BOTTOM)
        cv2.polylines(panel, [np.stack([x, y], 1).round().astype(np.int32)], False, colour, 1, cv2.LINE_AA)
    for text, place in (
        (name, (LEFT, TOP - 8)),
        (f"{high:.4g}", (4, TOP + 10)),
        (f"{low:.4g}", (4, HEIGHT - BOTTOM)),
        (f"step {first + 1:.0f}", (LEFT, HEIGHT - 8)),
        (f"{last + 1:.0f}", (WIDTH - 80, HEIGHT - 8)),
    ):
        cv2.putText(panel, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1, cv2.LINE_AA)
    return panel


def _shades(count: int) -> list[list[float]]:
    """Colours from the first to the last."""
    return [(FIRST + (LAST - FIRST) * number / max(count - 1, 1)).tolist() for number in range(count)]


def family(name: str) -> tuple[str, float]:
    """Where a figure is drawn, and its number there: `loss_frame_2` -> ("loss_frame", 2)."""
    found = re.fullmatch(r"(.*)_(\d+(?:\.\d+)?)", name)
    return (found[1], float(found[2])) if found else (name, 0.0)


def draw_curves(rows: list[dict[str, Any]]) -> np.ndarray:
    """One panel a figure over the steps: uint8 [height, width, 3]. `rows` are those of log.jsonl.

    Figures that end in a number (frames, layers, rates) share a panel, the first red and the last blue.
    """
    panels: dict[str, dict[float, Line]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in ("step", "seconds") and isinstance(value, int | float):
                title, number = family(name)
                panels.setdefault(title, {}).setdefault(number, []).append((row["step"], value))
    return np.concatenate(
        [_panel(title, [lines[n] for n in sorted(lines)], _shades(len(lines))) for title, lines in panels.items()]
    )


def draw_arms(name: str, arms: dict[str, list[Line]]) -> np.ndarray:
    """One panel: every arm has a colour, a name in the legend, and a line for each of its runs."""
    numbered = list(enumerate(arms.values()))
    panel = _panel(
        name,
        [line for _, lines in numbered for line in lines],
        [ARM_COLOURS[number % len(ARM_COLOURS)] for number, lines in numbered for _ in lines],
    )
    for number, arm in enumerate(arms):
        place = (WIDTH - 360, TOP + 18 * (number + 1))
        cv2.putText(
            panel, arm, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, ARM_COLOURS[number % len(ARM_COLOURS)], 1, cv2.LINE_AA
        )
    return panel
