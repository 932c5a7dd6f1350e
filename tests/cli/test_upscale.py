"""`cogstyle upscale` as a user meets it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cogstyle
from cogstyle.bundle import Bundle
from cogstyle.cli.main import main
from cogstyle.files import read_tensors, sha256, write_tensors
from cogstyle.video import Video, open_video


@pytest.fixture
def run(debug_bundle, tmp_path, monkeypatch, capsys):
    """In a folder that holds v.tokens.safetensors and i.png."""
    monkeypatch.chdir(tmp_path)
    video = cogstyle.load(debug_bundle)("a red circle", levels=0, seed=3)
    Image.fromarray(video.frames[0]).resize((50, 40)).save("i.png")
    assert main(["sample", "a red circle", "--seed", "3", "--levels", "0", "--tokens", "--out", "v",
                 "--adapter", str(debug_bundle), "--quiet"]) == 0  # fmt: skip
    capsys.readouterr()

    def call(*arguments: str) -> tuple[int, str]:
        status = main(["upscale", *arguments, "--adapter", str(debug_bundle), "--quiet"])
        return status, capsys.readouterr().err

    return call


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_token_file_gives_what_sampling_with_upscale_gives(run, debug_bundle):
    assert run("v.tokens.safetensors", "i.png", "--out", "large", "--memory", "0.002")[0] == 0
    wanted = cogstyle.load(debug_bundle)("a red circle", levels=0, seed=3, upscale=True)
    found = np.stack([pixels(f"large/v/{k:04d}.png") for k in range(5)])
    assert found.shape == (5, 96, 96, 3) and (found == wanted.frames).all()
    assert pixels("large/i.png").shape == (96, 96, 3)
    videos, images = (json.loads(Path(f"large/{name}.json").read_text()) for name in ("v", "i.png"))
    assert (videos["prompt"], videos["seed"], videos["frames"]) == ("a red circle", 3, 5)
    assert images["prompt"] is None and images["source"] == "i.png"


@pytest.mark.parametrize(("name", "out"), [("m.gif", "m.gif"), ("m.webp", "m.webp"), ("m.mp4", "m.mp4"), ("m", "m")])
def test_every_frame_of_a_video_is_upscaled(run, name, out):
    frames = np.stack([np.full((40, 50, 3), 20 * k, np.uint8) for k in range(7)])
    Video(frames, 5.0).save(name)
    assert run(name, "--out", "large")[0] == 0
    with open_video(Path("large") / out) as video:
        found = list(video.frames())
        assert len(found) == 7 and found[0].shape == (96, 96, 3) and video.rate == pytest.approx(5.0, abs=0.01)
    assert json.loads(Path(f"large/{out}.json").read_text())["frames"] == 7


def change(name: str, bundle: Path) -> None:
    """Damage v.tokens.safetensors in some way."""
    path = Path("v.tokens.safetensors")
    tensors, meta = read_tensors(path)
    tokens = tensors["tokens"].clone()
    if name == "tokenizer":
        meta["tokenizer_sha256"] = "0" * 64
    elif name == "meta":
        meta.pop("prompt")
    elif name == "number":
        meta["seed"] = "many"
    elif name == "shape":
        tokens = tokens[:, 1:]
    elif name == "ids":
        tokens[0, 0] = 32
    write_tensors(path, {"tokens": tokens}, meta)
    if name == "cut":
        path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("tokenizer", "belongs to another tokenizer (sha256 000000000000...)"),
        ("meta", "is no token file"),
        ("number", "is damaged: invalid literal"),
        ("shape", "holds tokens int32 [5, 15], expected int32 [frames, 16]"),
        ("ids", "to 32, expected 0 to 31"),
        ("cut", "cannot read v.tokens.safetensors"),
    ],
)
def test_bad_token_files(run, debug_bundle, damage, message):
    change(damage, debug_bundle)
    status, error = run("i.png", "v.tokens.safetensors", "--out", "large")
    assert status == 2 and message in error and error.count("\n") == 1 and not Path("large").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png"], "cannot read image none.png"),
        (["v.json"], "cannot read image v.json"),
        (["none.tokens.safetensors"], "cannot read none.tokens.safetensors"),
        (["i.png", "i.png"], "is an input, or written by another one"),
        (["i.png", "--prompt", " "], "the prompt is empty"),
        (["i.png", "--prompt", "word " * 60], "the text span holds 48"),
        (["i.png", "--seed", "-1"], "seed -1 must be 0 or more"),
        (["i.png", "--memory", "0"], "memory 0.0 must be positive"),
        (["i.png", "--memory", "0.0001"], "the budget is 0.1 MB"),
    ],
)
def test_bad_input(run, arguments, message):
    status, error = run(*arguments, "--out", "large")
    assert status == 2 and message in error and error.count("\n") == 1 and not Path("large").exists()


def test_an_input_is_never_written_over(run):
    before = Path("i.png").read_bytes()
    status, error = run("i.png", "--out", ".")
    assert status == 2 and "is an input" in error and Path("i.png").read_bytes() == before


def test_an_adapter_of_another_image_model(run, debug_bundle, tmp_path, capsys):
    other = shutil.copytree(debug_bundle, tmp_path / "other")
    tensors, _ = read_tensors(debug_bundle / "superres.safetensors")
    write_tensors(other / "superres.safetensors", tensors, {"base_sha256": "0" * 64})
    manifest = (other / "bundle.toml").read_text()
    hashes = [sha256(folder / "superres.safetensors") for folder in (debug_bundle, other)]
    (other / "bundle.toml").write_text(manifest.replace(*hashes))
    for command in (["upscale", "i.png"], ["sample", "a red circle", "--upscale"]):
        assert main([*command, "--out", "large", "--adapter", str(other), "--quiet"]) == 2
        assert "was trained on another image model" in capsys.readouterr().err and not Path("large").exists()


def test_missing_adapter(run, debug_bundle, monkeypatch):
    monkeypatch.setattr(Bundle, "has", lambda self, file: file != "superres.safetensors")
    status, error = run("i.png", "--out", "large")
    assert status == 2 and "has no superres.safetensors" in error and not Path("large").exists()
