"""A starting point for somebody's footage, and what is wrong with footage, said before anything is written."""

import numpy as np
import pytest

from cogstyle.bundle import Bundle, update_bundle
from cogstyle.cli.main import main
from cogstyle.files import read_tensors
from cogstyle.pictures import write_png
from cogstyle.training.recipes import load_recipe
from tests.training.test_footage import footage  # noqa: F401  (a fixture)
from tests.videos import write_clock


def start(folder, *arguments):
    return main(["start", str(folder), *map(str, arguments)])


@pytest.fixture(scope="module")
def tokenizer(debug_bundle, tmp_path_factory):
    """A bundle of an image tokenizer alone."""
    folder, whole = tmp_path_factory.mktemp("tokenizer") / "only", Bundle(debug_bundle)
    names = ("tokenizer.safetensors", "clusters.safetensors")
    update_bundle(folder, {name: read_tensors(whole.file(name))[0] for name in names}, tokenizer=whole.tokenizer_config)
    return folder


def test_from_nothing(footage, tokenizer, tmp_path, capsys):  # noqa: F811
    """The recipes are tried before they are written, and train as they are."""
    folder = tmp_path / "mine"
    assert start(folder, "--videos", footage, "--base", tokenizer) == 0
    said = capsys.readouterr().out
    for words in (
        "12 videos and pictures; 0 of them",
        "captions         18 (zh)",
        "read from        videos from file_name, captions from caption and caption_zh",
        " s, median 2.",
        "frames a second",
        "together",
        "disk about",
    ):
        assert words in said
    names = ["1-text.toml", "2-image.toml", "3-keyframes.toml", "4-interpolation.toml", "5-superres.toml"]
    assert sorted(path.name for path in folder.iterdir()) == names
    recipes = [load_recipe(folder / name) for name in names]
    assert {recipe.bundle for recipe in recipes} == {str(folder / "bundle")} and recipes[2].frame_rate == 2.0
    assert all(recipe.data.videos == str(footage) for recipe in recipes[1:])
    assert [recipe.export for recipe in recipes[1:4]] == ["last"] * 3  # so few: validation says nothing
    changes = ["optim.steps=2", "optim.warmup=1", "optim.batch=2", "model.layers=1", "model.width=16", "model.heads=2"]
    assert main(["train", str(folder), "--quiet", *[word for change in changes for word in ("--set", change)]]) == 0
    assert Bundle(folder / "bundle").has("superres.safetensors") and (folder / "bundle/samples.png").exists()
    assert start(folder, "--videos", footage) == 2 and "holds 1-text.toml, " in capsys.readouterr().err


@pytest.mark.parametrize("frozen", [True, False])
def test_on_an_image_model(frozen, footage, debug_bundle, tmp_path, capsys):  # noqa: F811
    """It stays as it is, or learns the footage first; the adapters go on from those of the base either way."""
    folder, whole = tmp_path / "mine", Bundle(debug_bundle)
    assert start(folder, "--videos", footage, "--base", debug_bundle) == 0
    names = ["1-image.toml", "2-keyframes.toml", "3-interpolation.toml", "4-superres.toml"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert load_recipe(folder / "2-keyframes.toml").start == str(debug_bundle)
    (folder / names[3]).unlink()
    changes = [f"frozen={str(frozen).lower()}", "optim.steps=1", "optim.warmup=0", "optim.batch=2", "optim.lr=1e-5"]
    command = ["train", str(folder), "--quiet", *[word for change in changes for word in ("--set", change)]]
    assert main(command) == 0
    made = Bundle(folder / "bundle")
    assert (made.sha256("image.safetensors") == whole.sha256("image.safetensors")) == frozen
    before, after = whole.weights("keyframes"), made.weights("keyframes")
    assert all(abs(after[name] - before[name]).max() < 1e-3 for name in before)  # it began with those
    capsys.readouterr()
    assert main(command) == 0 and "was done before" in capsys.readouterr().out


def test_mixed_footage(footage, tokenizer, tmp_path, capsys):  # noqa: F811
    """Pictures, also most of the files, do not count as short videos; what cannot be used is said, with what helps."""
    (tmp_path / "v").mkdir()
    for k, video in enumerate(sorted(footage.glob("*.mp4"))[:4]):
        (tmp_path / f"v/{k}.MP4").symlink_to(video)
        (tmp_path / f"v/{k}.txt").write_text("a dog walks")
    for k, side in enumerate([16, 64, 64, 64, 64, 64, 64]):
        write_png(tmp_path / f"v/🐕\n{k}.png", np.zeros((side, side, 3), np.uint8))
        (tmp_path / f"v/🐕\n{k}.txt").write_text("一只狗")
    (tmp_path / "v/none.mp4").symlink_to(next(footage.glob("*.mp4")))
    assert start(tmp_path / "mine", "--videos", tmp_path / "v", "--base", tokenizer) == 0
    said = capsys.readouterr().out
    for words in (
        "12 videos and pictures; 1 of",
        "no caption       1; --caption",
        "too small        1 of 11",
        "length           2.",
    ):
        assert words in said
    assert load_recipe(tmp_path / "mine/3-keyframes.toml").frame_rate == 2.0


def test_an_image_model_of_another_size(footage, debug_bundle, tmp_path, capsys):  # noqa: F811
    assert start(tmp_path / "x", "--videos", footage, "--base", debug_bundle, "--size", "64") == 2
    assert "size 64: the image model of" in capsys.readouterr().err


def test_pictures_alone(tokenizer, tmp_path, capsys):
    """They train a text tokenizer, an image model and super-resolution; long videos are cut."""
    (tmp_path / "p").mkdir()
    rng = np.random.default_rng(0)
    for k in range(6):
        write_png(tmp_path / f"p/{k}.png", rng.integers(0, 255, (70, 80, 3), np.uint8))
    assert start(tmp_path / "mine", "--videos", tmp_path / "p", "--base", tokenizer, "--caption", 'a "thing"\n') == 0
    names = ["1-text.toml", "2-image.toml", "3-superres.toml"]
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == names
    assert load_recipe(tmp_path / "mine/2-image.toml").data.caption == 'a "thing"\n'


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, (), "holds no videos"),
        ({"a.mp4": None}, (), "no video in"),
        ({"a.mp4": None, "a.txt": " "}, (), "none of the 1 lines of"),
        ({"a.mp4": "nothing", "a.txt": "a dog"}, (), "can be read; the first: cannot read video"),
        ({"a.mp4": None, "a.txt": "a dog"}, ("--size", "128"), "all pictures are smaller than a frame of 128 px"),
        ({"a.mp4": None, "a.txt": "a dog"}, (), "1 videos leave none to check on"),
        ({"a.mp4": None, "a.txt": "a dog"}, ("--base", "nowhere"), "no bundle 'nowhere'"),
    ],
)
def test_footage_that_does_not_serve(files, options, message, tokenizer, tmp_path, capsys):
    (tmp_path / "v").mkdir()
    for name, text in files.items():
        path = tmp_path / "v" / name
        path.write_text(text) if text else write_clock(path, [k / 8 for k in range(17)], size=(64, 64))
    options = ("--base", tokenizer, *options) if "--base" not in options else options
    assert start(tmp_path / "mine", "--videos", tmp_path / "v", *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and not (tmp_path / "mine").exists()


def test_a_nowhere(tokenizer, tmp_path, capsys):
    assert start(tmp_path / "mine", "--videos", tmp_path / "nothing", "--base", tokenizer) == 2
    assert "nothing" in capsys.readouterr().err and not (tmp_path / "mine").exists()
