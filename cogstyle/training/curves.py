"""Loss curves as a picture, without a plotting library."""

import cv2
import numpy as np

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 900, 260, 70, 30, 24
INK, FRAME = (60, 60, 60), (200, 200, 200)


def _panel(name: str, steps: list[float], values: list[float]) -> np.ndarray:
    panel = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    low, high = min(values), max(values)
    span_x, span_y = max(steps[-1] - steps[0], 1.0), (high - low) or 1.0
    x = LEFT + (np.asarray(steps) - steps[0]) / span_x * (WIDTH - LEFT - 20)
    y = TOP + (high - np.asarray(values)) / span_y * (HEIGHT - TOP - BOTTOM)
    cv2.rectangle(panel, (LEFT, TOP), (WIDTH - 20, HEIGHT - BOTTOM), FRAME, 1)
    cv2.polylines(panel, [np.stack([x, y], 1).round().astype(np.int32)], False, (200, 80, 30), 1, cv2.LINE_AA)
    for text, place in (
        (name, (LEFT, TOP - 8)),
        (f"{high:.4g}", (4, TOP + 10)),
        (f"{low:.4g}", (4, HEIGHT - BOTTOM)),
        (f"step {steps[0] + 1:.0f}", (LEFT, HEIGHT - 8)),
        (f"{steps[-1] + 1:.0f}", (WIDTH - 80, HEIGHT - 8)),
    ):
        cv2.putText(panel, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1, cv2.LINE_AA)
    return panel


def draw_curves(rows: list[dict[str, float]]) -> np.ndarray:
    """One panel a figure over the steps: uint8 [height, width, 3]. `rows` are those of log.jsonl."""
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in ("step", "seconds")]
    panels = []
    for name in names:
        points = [(row["step"], row[name]) for row in rows if name in row]
        panels.append(_panel(name, [p[0] for p in points], [p[1] for p in points]))
    return np.concatenate(panels)
