"""Pictures <-> files: one reader, which sees them as a viewer shows them; one PNG writer; frames of moving pictures."""

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from cogstyle.errors import FileError, MediaError
from cogstyle.files import expect_regular, read_text, whole_file

LARGEST = 100_000_000  # pixels of a picture: more is a decompression bomb, or a map
KINDS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
MOVING = ("AVIF", "GIF", "PNG", "WEBP")  # those whose further frames are no previews and no other pages
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
ORIENTATION = 0x0112  # the EXIF tag whose values these are
UNSAID = 0.1  # seconds that browsers show a frame of a GIF whose delay is 0 or 10 ms


def read_picture(path: Path) -> np.ndarray:
    """A picture as a viewer shows it, uint8 [height, width, 3].

    It is turned as its EXIF says, laid over white where it is transparent, and scaled to 8 bits where it has 16. Of a
    moving picture it is the first frame.

    Raises:
        MediaError: if it cannot be read, is of another kind, or has more than LARGEST pixels.
    """
    with _opened(path) as image:
        return _pixels(image)


def is_picture(path: Path) -> bool:
    """Whether a file begins as a picture does, moving or not."""
    try:
        with _opened(path):
            return True
    except MediaError:
        return False


def read_frames(path: Path) -> Iterator[tuple[np.ndarray, float | None]]:
    """The frames of a moving picture (GIF, WebP, APNG, AVIF) or of a folder of PNG files in the order of their numbers.

    Yields:
        A frame, uint8 [height, width, 3], and for how many seconds it is shown: None in a folder without the json that
        `Video.save` writes beside it.

    Raises:
        MediaError: if one cannot be read, or is of another size than the first.
    """
    size = None
    for frame, seconds in _folder(path) if path.is_dir() else _animation(path):
        if size not in (None, frame.shape):
            sizes = " and ".join(f"{one[1]} x {one[0]}" for one in (size, frame.shape))
            raise MediaError(f"cannot read video {path}: it has frames of several sizes ({sizes})")
        size = frame.shape
        yield frame, seconds
    if size is None:
        raise MediaError(f"cannot read video {path}: it has no frames")


def _folder(path: Path) -> Iterator[tuple[np.ndarray, float | None]]:
    fps = read_marker(path).get("fps")
    for file in sorted(path.iterdir(), key=natural):
        if file.suffix.lower() == ".png" and not file.name.startswith("."):
            yield read_picture(file), 1 / fps if fps else None


def _animation(path: Path) -> Iterator[tuple[np.ndarray, float | None]]:
    with _opened(path) as image:
        frames = ImageSequence.Iterator(image) if image.format in MOVING else [image]
        for number, frame in enumerate(frames):
            pixels = _pixels(frame)
            if number or not image.info.get("default_image"):  # of an APNG: for viewers that cannot show the others
                milliseconds = frame.info.get("duration", 0)
                yield pixels, milliseconds / 1000 if milliseconds > 10 else UNSAID


def read_marker(folder: Path) -> dict[str, Any]:
    """FOLDER.json, which says that a folder of PNG files is a video of ours: its "fps" and "frames"; {} without it."""
    with suppress(FileError, ValueError, RecursionError):
        marker = json.loads(read_text(marker_path(folder)))
        if isinstance(marker, dict) and all(_is_positive(marker.get(key)) for key in ("fps", "frames")):
            return marker
    return {}


def marker_path(folder: Path) -> Path:
    """The json beside a folder of PNG files."""
    return folder.with_name(folder.name + ".json")


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and 1e-3 < value < 1e9


def natural(path: Path) -> list[tuple[int, str]]:
    """A sorting key by which frame2 comes before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def write_png(path: Path, picture_HWC: np.ndarray, *, software: str | None = None) -> None:
    """Write uint8 [height, width, 3] whole or not at all.

    Args:
        software: what made it, for the file to say.

    Raises:
        FileError: if it cannot be written.
    """
    said = PngInfo()
    if software is not None:
        said.add_text("Software", software)
    with whole_file(path) as file:
        Image.fromarray(picture_HWC).save(file, "png", pnginfo=said)


@contextmanager
def naming(kind: str, path: Path) -> Iterator[None]:
    """Turn every error of decoding into a MediaError that names the file."""
    try:
        yield
    except MediaError:
        raise
    except FileError as error:
        raise MediaError(str(error).replace("cannot read ", f"cannot read {kind} ", 1)) from None
    except UnidentifiedImageError:
        raise MediaError(f"cannot read {kind} {path}: it is no {', '.join(KINDS)} that can be decoded") from None
    except Image.DecompressionBombError:
        raise MediaError(f"cannot read {kind} {path}: it has more than {LARGEST:,} pixels") from None
    except Exception as error:  # decoders of damaged files raise whatever they stumble on
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise MediaError(f"cannot read {kind} {path}: {reason}") from None


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with naming("image", path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged tags, and of sizes that are refused below
        expect_regular(path)
        Image.init()
        kinds = [kind for kind in KINDS if kind in Image.OPEN]
        with path.open("rb") as file, Image.open(file, formats=kinds) as image:
            if image.width * image.height > LARGEST:
                raise Image.DecompressionBombError
            yield image


def _pixels(image: Image.Image) -> np.ndarray:
    """The current frame of an opened picture, uint8 [height, width, 3]."""
    image.load()
    turn = 1
    with suppress(Exception):  # damaged EXIF turns nothing
        turn = image.getexif().get(ORIENTATION, 1)
    if image.mode[0] in "IF":
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    return np.asarray(image.transpose(TURNS[turn]) if turn in TURNS else image)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of up to 16 bits in 8 of them."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError("its values are no 8 or 16 bit ones, so nothing says which of them is white")
    grey = Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    if isinstance(clear := image.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey
