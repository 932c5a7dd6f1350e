"""`cogstyle interpolate`, and longer videos by `cogstyle sample --windows` and `--continue`."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import cogstyle
from cogstyle.cli.main import main
from cogstyle.files import read_tensors
from cogstyle.video import Video


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


@pytest.mark.parametrize(("times", "numbers"), [("0 0.5 2", [0, 2, 8]), ("0 0.26 3.5", [0, 1, 14])])
def test_images_at_any_times_stay_as_they_are(images, debug_bundle, tmp_path, times, numbers):
    """Every given frame is what the tokenizer makes of it, in tokens and pixels, and the json says where it is."""
    out = tmp_path / "frames"
    more = ["--times", *times.split(), "--frame-rate", "2", "--levels", "1", "--tokens"]
    assert fill(images, out, debug_bundle, *more) == 0
    info = json.loads((tmp_path / "frames.json").read_text())
    assert info["given_frames"] == numbers and info["frames"] == numbers[-1] + 1 and info["fps"] == 4
    pipe, tokens_FL = cogstyle.load(debug_bundle), read_tensors(tmp_path / "frames.tokens.safetensors")[0]["tokens"]
    for image, number in zip(images, numbers, strict=True):
        given_1L = pipe.encode_image(image)
        assert torch.equal(tokens_FL[number].long(), given_1L[0])
        assert (np.asarray(Image.open(out / f"{number:04d}.png")) == pipe.decode(given_1L)[0]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--times", "0", "1"], "2 times for 3 images"),
        (["--times", "0", "1", "1"], "times 0, 1, 1 must rise from 0"),
        (["--times", "1", "2", "3"], "times 1, 2, 3 must rise from 0"),
        (["--times", "0", "1", "nan"], "must rise from 0"),
        (["--times", "0", "1", "1.05"], "times 1 and 1.05 are one frame at 8 frames a second"),
        (["--times", "0", "1", "3600"], "3600 s are 28,801 frames, at most 20,000"),
        (["--join"], "3 videos to join; give two"),
    ],
)
def test_wrong_times_are_said_before_anything_is_drawn(images, debug_bundle, tmp_path, capsys, options, message):
    assert fill(images, tmp_path / "v.mp4", debug_bundle, "--frame-rate", "1", *options) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "v.mp4").exists()


def test_two_videos_are_joined(debug_bundle, tmp_path):
    """The old frames as they were, and between them as many new ones as the time takes."""
    ends = {}
    for name, level in (("a", 40), ("b", 200)):
        frames = np.arange(4, dtype=np.uint8)[:, None, None, None] + np.full((4, 32, 32, 3), level, np.uint8)
        Video(frames, 8.0).save(tmp_path / name)
        ends[name] = frames
    videos = [str(tmp_path / name) for name in "ab"]
    more = ["--join", "--times", "0", "2", "--frame-rate", "4", "--levels", "1"]
    assert fill(videos, tmp_path / "both", debug_bundle, *more) == 0
    info = json.loads((tmp_path / "both.json").read_text())
    made = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "both").glob("*.png"))])
    assert info["joined"] == [4, 4] and info["given"] == {"videos": videos} and len(made) == 4 + 15 + 4
    assert (made[:4] == ends["a"]).all() and (made[-4:] == ends["b"]).all()


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
