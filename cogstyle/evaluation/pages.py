"""Pages of pictures: a row a clip, with what was asked, what was seen, and whether it is right."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL, GAP, LINE, BAR = 128, 2, 18, 6  # pixels: a picture, around it, a line of text, the mark at the left
COLUMNS = 9  # pictures of a row: the keyframes and the frames halfway, of a clip of any length
ROWS = 20  # of a page
RIGHT, WRONG, PLAIN = (30, 130, 60), (200, 40, 40), (90, 90, 90)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
INK, PAPER = (30, 30, 30), (255, 255, 255)


@dataclass(frozen=True)
class PageRow:
    """Frames uint8 [F, height, width, 3], a title, a note under it, and whether all is right (None: not judged)."""

    frames: np.ndarray
    title: str
    note: str = ""
    right: bool | None = None


def _cell(frame: np.ndarray) -> np.ndarray:
    """A frame at the size of a page's pictures."""
    grow = frame.shape[0] < CELL
    small = cv2.resize(frame, (CELL, CELL), interpolation=cv2.INTER_NEAREST if grow else cv2.INTER_AREA)
    return np.pad(small, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)


def page(rows: Sequence[PageRow], *, title: str = "", columns: int = COLUMNS) -> np.ndarray:
    """Rows under each other, uint8 [height, width, 3]; a clip shows at most `columns` of its frames, evenly spread."""
    font, width = ImageFont.load_default(13), BAR + columns * (CELL + 2 * GAP)
    parts = [_text([(title, INK)], width, font)] if title else []
    for row in rows:
        colour = {True: RIGHT, False: WRONG, None: PLAIN}[row.right]
        parts.append(_text([(row.title, INK), (row.note, colour)] if row.note else [(row.title, INK)], width, font))
        shown = np.linspace(0, len(row.frames) - 1, min(columns, len(row.frames))).round().astype(int)
        strip = np.concatenate([_cell(frame) for frame in row.frames[shown]], 1)
        bar = np.full((len(strip), BAR, 3), colour, np.uint8)
        rest = np.full((len(strip), width - BAR - strip.shape[1], 3), 255, np.uint8)
        parts.append(np.concatenate([bar, strip, rest], 1))
    return np.concatenate(parts)


def _text(lines: Sequence[tuple[str, tuple[int, int, int]]], width: int, font: Font) -> np.ndarray:
    """Lines of (text, colour), cut at the page's edge, uint8 [height, width, 3]."""
    image = Image.new("RGB", (width, LINE * len(lines) + GAP), PAPER)
    draw = ImageDraw.Draw(image)
    for number, (text, colour) in enumerate(lines):
        while text and draw.textlength(text, font=font) > width - BAR - 2:
            text = text[:-1]
        draw.text((BAR + 2, LINE * number), text, fill=colour, font=font)
    return np.asarray(image)
