"""Pictures of a zoo scene: emoji over a background that is made from the scene's seed."""

from pathlib import Path

import cv2
import numpy as np
from nouns import NOUNS
from PIL import Image, ImageDraw, ImageFont
from scenes import Scene, State, state

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
POINTS, CANVAS = 109, 160  # the one size that the font's bitmaps have, and room for them
NEEDED = "Noto Color Emoji is needed, in Debian's fonts-noto-color-emoji"
SUPERSAMPLE = 2


class Font:
    """The emoji of a font.

    Raises:
        ValueError: if it has no colour pictures.
    """

    def __init__(self, path: Path) -> None:
        self.glyphs: dict[tuple[str, str], np.ndarray] = {}
        try:
            self.font = ImageFont.truetype(str(path), POINTS)
        except OSError as error:
            raise ValueError(f"cannot use font {path}: {error}; {NEEDED}") from None
        missing = [name for name, noun in NOUNS.items() if self._bare(noun.emoji) is None]
        if missing:
            several = f"{len(missing)} of {len(NOUNS)} nouns ({', '.join(missing[:3])}, ...)"
            raise ValueError(f"font {path} has no colour glyphs for {several}; {NEEDED}")

    def _bare(self, emoji: str) -> np.ndarray | None:
        """Premultiplied float RGBA, cut to what is not clear; None for a glyph without colours."""
        image = Image.new("RGBA", (CANVAS, CANVAS))
        ImageDraw.Draw(image).text((8, 8), emoji, font=self.font, embedded_color=True, fill=(0, 0, 0, 255))
        pixels = np.asarray(image, np.float32) / 255
        rows, columns = (np.flatnonzero(pixels[..., 3].any(axis)) for axis in (1, 0))
        if not len(rows) or pixels[..., :3].max() == 0.0:
            return None
        pixels[..., :3] *= pixels[..., 3:]
        return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    def glyph(self, noun: str, faces: str) -> np.ndarray:
        """A square picture of a noun, centred, looking left or right."""
        if (noun, faces) not in self.glyphs:
            self.glyphs[noun, faces] = self._square(noun, faces)
        return self.glyphs[noun, faces]

    def _square(self, noun: str, faces: str) -> np.ndarray:
        bare, natural = self._bare(NOUNS[noun].emoji), NOUNS[noun].faces
        height, width = bare.shape[:2]
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        square = np.pad(bare, ((top, side - height - top), (left, side - width - left), (0, 0)))
        return np.ascontiguousarray(square[:, ::-1] if natural and natural != faces else square)


def paste(canvas: np.ndarray, glyph: np.ndarray, at: State) -> None:
    """Lay a glyph over float [size, size, 3]."""
    size = len(canvas)
    side = 2.0 * at.half * size
    if side < 1.0 or at.opacity <= 0.0:
        return
    near = max(1, round(side))
    small = cv2.resize(glyph, (near, near), interpolation=cv2.INTER_AREA if near < len(glyph) else cv2.INTER_CUBIC)
    scale = side / near
    corner = [(centre - at.half) * size + 0.5 * (scale - 1.0) for centre in (at.x, at.y)]
    place = np.array([[scale, 0.0, corner[0]], [0.0, scale, corner[1]]])
    layer = cv2.warpAffine(small, place, (size, size), flags=cv2.INTER_LINEAR).clip(0.0, 1.0) * at.opacity
    canvas *= 1.0 - layer[..., 3:]
    canvas += layer[..., :3]


def frames(scene: Scene, times: list[float], size: int, font: Font) -> np.ndarray:
    """uint8 [F, size, size, 3]; later actors lie on top."""
    large = SUPERSAMPLE * size
    behind = background(scene, large)
    made = []
    for t in times:
        canvas = behind.copy()
        for number, actor in enumerate(scene.actors):
            place = state(scene, number, t)
            paste(canvas, font.glyph(actor.noun, place.faces), place)
        small = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
        made.append(np.rint(small.clip(0.0, 1.0) * 255).astype(np.uint8))
    return np.stack(made)


# ---------------------------------------------------------------- backgrounds

SKIES = {  # colours at the top and at the horizon
    "meadow": ((90, 150, 225), (190, 220, 245)), "sea": ((80, 140, 220), (200, 225, 245)),
    "sand": ((100, 165, 230), (215, 230, 240)), "snow": ((105, 145, 200), (165, 190, 220)),
    "night": ((8, 10, 35), (40, 45, 90)),
}  # fmt: skip
GROUNDS = {  # at the horizon and at the bottom
    "meadow": ((110, 165, 70), (55, 125, 40)), "sea": ((50, 120, 170), (20, 75, 125)),
    "sand": ((225, 200, 150), (205, 170, 110)), "snow": ((232, 240, 250), (246, 249, 253)),
    "night": ((18, 24, 30), (10, 14, 18)),
}  # fmt: skip
GRAIN = {  # contrast, and how many grains lie along the width and the height
    "meadow": (0.10, 90, 40), "sea": (0.08, 9, 45), "sand": (0.05, 60, 60), "snow": (0.03, 40, 14),
    "night": (0.03, 30, 20),
}  # fmt: skip


def background(scene: Scene, size: int) -> np.ndarray:
    """float [size, size, 3] in 0..1: horizon, colours, light and grain vary with the seed."""
    rng, kind = np.random.default_rng([scene.seed, 11]), scene.background
    horizon = rng.uniform(0.3, 0.55) if kind != "night" else rng.uniform(0.7, 0.88)
    ys, xs = np.mgrid[0:size, 0:size].astype(np.float32) / size
    edge = horizon + 0.02 * (_noise(rng, size, 5, 1)[:1] if kind != "sea" else 0.0)
    tint, light = 1.0 + rng.uniform(-0.06, 0.06, 3), rng.uniform(0.8, 1.04)
    sky = _gradient(SKIES[kind], ys / horizon)
    down = (ys - horizon) / (1.0 - horizon)
    contrast, along, across = GRAIN[kind]
    grain = _noise(rng, size, along, across) * (0.4 + down.clip(0, 1))
    ground = _gradient(GROUNDS[kind], down) * (1.0 + contrast * grain)[..., None]
    sky += 0.05 * np.maximum(_noise(rng, size, 4, 8), 0.0)[..., None] * (kind != "night")
    if kind == "night":
        _stars(rng, sky)
    soft = ((ys - edge) * size / SUPERSAMPLE + 0.5).clip(0.0, 1.0)[..., None]
    shade = 1.0 + rng.uniform(-0.12, 0.12) * (xs - 0.5) * 2.0
    picture = (sky * (1.0 - soft) + ground * soft) * tint * light * shade[..., None]
    return picture.clip(0.0, 1.0).astype(np.float32)


def _gradient(ends: tuple[tuple[int, ...], tuple[int, ...]], u: np.ndarray) -> np.ndarray:
    first, last = (np.array(colour, np.float32) / 255 for colour in ends)
    return first + (last - first) * u.clip(0.0, 1.0)[..., None]


def _noise(rng: np.random.Generator, size: int, along: int, across: int) -> np.ndarray:
    """Smooth noise of about unit size, float [size, size], with so many bumps along the width and the height."""
    return cv2.resize(
        rng.standard_normal((across + 1, along + 1)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    )


def _stars(rng: np.random.Generator, sky: np.ndarray) -> None:
    size = len(sky)
    for x, y, bright in rng.random((int(rng.integers(20, 60)), 3)):
        cv2.circle(sky, (int(x * size), int(y * size)), max(1, size // 150), (0.4 + 0.6 * bright,) * 3, -1, cv2.LINE_AA)
    if rng.random() < 0.5:
        x, y, r = rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.3), rng.uniform(0.03, 0.06)
        cv2.circle(sky, (int(x * size), int(y * size)), int(r * size), (0.95, 0.93, 0.8), -1, cv2.LINE_AA)
