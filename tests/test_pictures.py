"""Pictures are seen as a viewer shows them; what cannot be is refused in one line."""

import json
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from cogstyle.errors import MediaError
from cogstyle.pictures import LARGEST, read_frames, read_picture, write_png

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 180, 30), (30, 30, 220), (255, 255, 255)


@pytest.fixture
def picture():
    """Four colours in its quarters, wider than high, so that no two orientations look alike."""
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:16, :24], picture[:16, 24:], picture[16:, :24], picture[16:, 24:] = RED, GREEN, BLUE, WHITE
    return picture


SHOWN = {  # EXIF orientation: which rows and columns of the file are seen, by the standard's own words
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p[::-1].swapaxes(0, 1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: p[:, ::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", SHOWN)
def test_orientation(tmp_path, picture, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {"quality": 98} if suffix == "jpg" else {}
    Image.fromarray(picture).save(tmp_path / f"p.{suffix}", exif=exif, **options)
    found, wanted = read_picture(tmp_path / f"p.{suffix}"), SHOWN[orientation](picture)
    assert found.shape == wanted.shape and np.abs(found.astype(int) - wanted).mean() < 3


def test_what_is_transparent_is_white(tmp_path, picture):
    clear = np.dstack([picture, np.full((32, 48), 255, np.uint8)])
    clear[:16, :24, 3], clear[:16, 24:, 3] = 0, 102  # red hidden, green at 40 %
    Image.fromarray(clear).save(tmp_path / "rgba.png")
    found = read_picture(tmp_path / "rgba.png")
    assert tuple(found[4, 4]) == WHITE and tuple(found[20, 4]) == BLUE
    assert np.abs(found[4, 40].astype(int) - [165, 225, 165]).max() <= 1
    key = Image.fromarray(picture)
    key.save(tmp_path / "key.png", transparency=RED)
    key.quantize(8).save(tmp_path / "palette.png", transparency=key.quantize(8).getpixel((0, 0)))
    Image.fromarray(np.dstack([picture[..., 0], clear[..., 3]])).save(tmp_path / "la.png")
    for name in ("key", "palette", "la"):
        assert tuple(read_picture(tmp_path / f"{name}.png")[4, 4]) == WHITE, name
    grey16 = struct.pack(">3H", 1000, 21845, 65535)  # the first of three pixels is the transparent one
    (tmp_path / "grey.png").write_bytes(png(3, 1, 16, 0, b"\0" + grey16, clear=grey16[:2]))
    assert read_picture(tmp_path / "grey.png")[0, :, 0].tolist() == [255, 85, 255]


@pytest.mark.parametrize("name", ["grey.png", "colour.png", "grey.tiff", "colour.tiff", "grey.pgm", "colour.ppm"])
def test_sixteen_bits_are_scaled(tmp_path, name):
    values = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    cv2.imwrite(str(tmp_path / name), values if "grey" in name else np.dstack([values] * 3))
    assert np.abs(read_picture(tmp_path / name)[..., 1].astype(int) - values / 257).max() <= 1


@pytest.mark.parametrize("mode", ["CMYK", "P", "YCbCr", "1"])
def test_other_colour_models(tmp_path, picture, mode):
    image = Image.fromarray(picture)
    image = image.quantize(8) if mode == "P" else image.convert(mode)
    image.save(tmp_path / ("p.png" if mode in "P1" else "p.jpg"), quality=98)
    found = read_picture(next(tmp_path.iterdir())).astype(int)
    if mode == "1":
        assert tuple(found[20, 40]) == WHITE
    else:
        assert np.abs(found[[4, 4, 20, 20], [4, 40, 4, 40]] - [RED, GREEN, BLUE, WHITE]).max() <= 8


def png(width: int, height: int, bits: int, colour: int, rows: bytes, clear: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    key = chunk(b"tRNS", clear) if clear else b""
    return b"\x89PNG\r\n\x1a\n" + head + key + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_what_cannot_be_read_is_one_line(tmp_path, picture):
    large, small = Image.fromarray(picture).resize((64, 64)), Image.fromarray(picture)
    for name in ("k.dds", "k.icns", "k.eps", "k.pdf", "k.tga"):
        large.save(tmp_path / name)
    small.save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-40])
    (tmp_path / "k.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "float.tiff"), np.full((4, 4), 0.5, np.float32))
    Image.fromarray(np.full((4, 4), 100_000, np.int32)).save(tmp_path / "whole_numbers.tiff")
    for name, side in (("bomb.png", 60_000), ("large.png", 10_001)):
        (tmp_path / name).write_bytes(png(side, side, 8, 2, b"\0"))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "whole.jpg").unlink()
    paths = [*tmp_path.iterdir(), tmp_path / "none.png", tmp_path / ("n" * 300), Path("a\0b"), Path("/dev/zero")]
    for path in [*paths, Path("/proc/cpuinfo"), Path("/dev/stdin")]:
        with pytest.raises(MediaError, match="cannot read image ") as caught:
            read_picture(path)
        assert path.name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(MediaError, match=f"more than {LARGEST:,} pixels"):
        read_picture(tmp_path / "large.png")
    with pytest.raises(MediaError, match="nothing says which of them is white"):
        read_picture(tmp_path / "float.tiff")


def test_newer_kinds_are_read(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "p.jp2")
    Image.fromarray(picture).save(tmp_path / "p.avif", quality=95)
    for name in ("p.jp2", "p.avif"):
        assert np.abs(read_picture(tmp_path / name).astype(int) - picture).mean() < 3


# ---------------------------------------------------------------- moving pictures

LEVELS = [0, 50, 50, 50, 200]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_moving_pictures(tmp_path, suffix):
    frames = [Image.fromarray(np.full((8, 8, 3), level + k, np.uint8)) for k, level in enumerate(LEVELS)]
    options = {"lossless": True} if suffix == "webp" else {}
    delays = [100, 20, 10, 50, 400]
    frames[0].save(tmp_path / f"m.{suffix}", save_all=True, append_images=frames[1:], duration=delays, **options)
    found = list(read_frames(tmp_path / f"m.{suffix}"))
    assert np.abs([int(frame.mean()) - level for (frame, _), level in zip(found, LEVELS, strict=True)]).max() <= 6
    assert [seconds for _, seconds in found] == [0.1, 0.02, 0.1, 0.05, 0.4]  # browsers show for 100 ms what says 10


def test_the_default_image_of_an_apng_is_no_frame(tmp_path):
    poster, *frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (255, 10, 90)]
    poster.save(tmp_path / "m.png", save_all=True, append_images=frames, default_image=True, duration=100)
    assert [int(frame.mean()) for frame, _ in read_frames(tmp_path / "m.png")] == [10, 90]


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    for number in (1, 2, 10, 9, 33):
        write_png(folder / f"frame{number}.png", np.full((8, 8, 3), number, np.uint8))
    (folder / "._frame1.png").write_bytes(b"what Finder leaves")
    (folder / "notes.txt").write_text("no frame")
    assert [(int(f.mean()), s) for f, s in read_frames(folder)] == [(n, None) for n in (1, 2, 9, 10, 33)]
    (tmp_path / "v.json").write_text(json.dumps({"fps": 4, "frames": 5}))
    assert {seconds for _, seconds in read_frames(folder)} == {0.25}
    for text in ("[]", '{"fps": "4"}', '{"fps": 0, "frames": 5}', "no json", '{"fps": NaN, "frames": 5}', "[" * 99_999):
        (tmp_path / "v.json").write_text(text)
        assert {seconds for _, seconds in read_frames(folder)} == {None}
    write_png(folder / "frame34.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(MediaError, match="several sizes"):
        list(read_frames(folder))


TRIALS = Path(__file__).parents[2] / "shared" / "trials"


@pytest.mark.skipif(not TRIALS.exists(), reason="no trial files here")
def test_trial_files():
    corners = {
        name: read_picture(TRIALS / name)[[2, 2, -3], [2, -3, 2]].tolist() for name in ("semi.png", "exif_o2.jpg")
    }
    assert corners["semi.png"][0] == [127, 127, 127]
    assert read_picture(TRIALS / "cutout_hidden_green.png")[0, 0].tolist() == [255, 255, 255]
    assert 100 < read_picture(TRIALS / "grey16.png").mean() < 150
    with pytest.raises(MediaError, match="pixels"):
        read_picture(TRIALS / "bomb.png")
