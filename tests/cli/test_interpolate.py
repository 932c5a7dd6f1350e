"""`cogstyle interpolate`, and longer videos by `cogstyle sample --windows` and `--continue`."""

import json

import numpy as np
import pytest
from PIL import Image

from cogstyle.cli.main import main


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for number, path in enumerate(paths):
        Image.fromarray(np.full((32, 32, 3), 100 * number, np.uint8)).save(path)
    return list(map(str, paths))


def fill(images, out, bundle, *options):
    arguments = ["interpolate", *images, "--prompt", "a red circle", "--out", str(out), "--adapter", str(bundle)]
    return main([*arguments, "--quiet", *options])


@pytest.mark.parametrize(("count", "levels", "frames"), [(2, 1, 3), (3, 2, 9), (2, 0, 2)])
def test_images_become_a_video(images, debug_bundle, tmp_path, count, levels, frames):
    out = tmp_path / "frames"
    assert fill(images[:count], out, debug_bundle, "--levels", str(levels), "--frame-rate", "2") == 0
    assert len(list(out.glob("*.png"))) == frames
    info = json.loads((tmp_path / "frames.json").read_text())
    assert info["fps"] == 2 * 2**levels and images[0] in info["given"]["images"]


def test_what_cannot_be_filled_is_said(images, debug_bundle, tmp_path, capsys):
    assert fill(images[:1], tmp_path / "v.mp4", debug_bundle) == 2
    assert "one image has nothing to interpolate to" in capsys.readouterr().err
    assert fill([*images, str(tmp_path / "none.png")], tmp_path / "v.mp4", debug_bundle) == 2
    assert "cannot read image" in capsys.readouterr().err
    assert not (tmp_path / "v.mp4").exists()


def test_longer_videos(images, debug_bundle, tmp_path, capsys):
    given = ["--adapter", str(debug_bundle), "--levels", "1", "--quiet"]
    first, more = str(tmp_path / "first.mp4"), tmp_path / "more"
    assert main(["sample", "a red circle", "--out", first, "--windows", "3", *given]) == 0
    assert json.loads((tmp_path / "first.mp4.json").read_text())["frames"] == 2 * (5 + 2 + 2) - 1
    assert main(["sample", "a red circle", "--out", str(more), "--continue", first, *given]) == 0
    info = json.loads((tmp_path / "more.json").read_text())
    assert info["frames"] == 9 and info["given"] == {"continue_from": first}
    both = ["--continue", first, "--first-frame", images[0]]
    assert main(["sample", "a red circle", "--out", str(tmp_path / "x.mp4"), *both, *given]) == 2
    assert "first_frame and continue_from exclude each other" in capsys.readouterr().err
    assert main(["sample", "a red circle", "--out", str(tmp_path / "x.mp4"), "--windows", "0", *given]) == 2
    assert "windows 0 must be 1 to 100" in capsys.readouterr().err
