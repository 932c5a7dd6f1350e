"""A curriculum trains: from scenes and from shards of several grids, and exactly on after a stop."""

import json
import shutil

import pytest

from cogstyle.bundle import Bundle
from cogstyle.cli.main import main
from cogstyle.files import read_tensors
from tests.conftest import debug_recipe

STAGES = """
[curriculum]
tokens = 360
stages = [
    { until = 3, buckets = { "1@4x4" = 0.5, "5@4x4" = 0.5 } },
    { until = 8, buckets = { "5@4x4" = 0.2, "9@4x4" = 0.4, "5@6x6" = 0.4 } },
]
"""


def recipe(folder, bundle, stages=STAGES, steps=8, data=None, head='train = "all"'):
    path = debug_recipe(folder, "keyframes", steps=steps, bundle=folder / "new")
    text = path.read_text().replace("batch = 4\n", "")
    text = text.replace("[loop]", "[loop]\ncheckpoint_minutes = 0.0\nkeep = 20")
    text = text if data is None else text.replace("rows = 24", data)
    path.write_text(f'base = "{bundle}"\n{head}\n{text}\n{stages}')
    return path


def test_scenes_of_several_sizes_and_an_exact_resume(debug_bundle, tmp_path, capsys):
    path = recipe(tmp_path, debug_bundle)
    runs = tmp_path / "runs"
    assert main(["train", str(path), "--runs", str(runs), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "stage 1              steps 0 to 2: 1@4x4 50 % (22 samples), 5@4x4 50 % (4 samples)" in said
    assert "stage 2              steps 3 to 7: 5@4x4 20 %" in said
    assert main(["train", str(path), "--runs", str(runs), "--quiet"]) == 0
    lines = [json.loads(line) for line in (runs / "keyframes" / "log.jsonl").read_text().splitlines()]
    trained = {
        name.removeprefix("loss_") for line in lines for name in line if name.startswith("loss_") and "@" in name
    }
    assert {"9@4x4", "5@6x6"} <= trained
    checked = {name for line in lines for name in line if name.startswith("validation_loss_")}
    assert checked == {f"validation_loss_{name}" for name in ("1@4x4", "5@4x4", "9@4x4", "5@6x6")}
    assert Bundle(tmp_path / "new").trained_rates("keyframes")
    whole = Bundle(tmp_path / "new").hashes()
    for step in range(5, 9):
        (runs / "keyframes" / f"checkpoint-{step:08d}.safetensors").unlink()
    for name in ("done.json", "best.safetensors"):
        (runs / "keyframes" / name).unlink(missing_ok=True)
    shutil.rmtree(tmp_path / "new")
    assert main(["train", str(path), "--runs", str(runs), "--quiet"]) == 0
    again = Bundle(tmp_path / "new").hashes()
    assert {name: again[name] for name in ("image.safetensors", "keyframes.safetensors")} == {
        name: whole[name] for name in ("image.safetensors", "keyframes.safetensors")
    }
    sizes = {name: value.shape for name, value in read_tensors(tmp_path / "new" / "keyframes.safetensors")[0].items()}
    assert sizes["positions.weight"][0] == 64  # the model's own size, whatever it was trained at


def test_shards_of_several_grids(debug_bundle, tmp_path, capsys):
    world = tmp_path / "world"
    assert main(["world", "--count", "12", "--out", str(world), "--size", "48"]) == 0
    common = ["--bundle", str(debug_bundle), "--workers", "0", "--flip", "no", "--quiet"]
    for name, options in (("small", []), ("large", ["--size", "48"]), ("long", ["--frames", "9"])):
        to = ["--to", str(tmp_path / name)]
        assert main(["encode", str(world / "captions.csv"), *to, *common, "--workers", "1", *options]) == 0
    stages = '[curriculum]\ntokens = 360\nstages = [{ until = 3, buckets = { "9@4x4" = 0.5, "5@6x6" = 0.5 } }]\n'
    places = ", ".join(f'"{tmp_path / name}"' for name in ("small", "large", "long"))
    path = recipe(tmp_path, debug_bundle, stages, 3, f"shards = [{places}]", head="")
    assert main(["train", str(path), "--runs", str(tmp_path / "runs"), "--quiet"]) == 0
    capsys.readouterr()
    path = recipe(tmp_path, debug_bundle, stages, 3, f'shards = "{tmp_path / "small"}"', head="")
    assert main(["train", str(path), "--runs", str(tmp_path / "other"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert (
        "no shards for keyframes of 9 frames of 32 px" in said and "small holds keyframes of 5 frames of 32 px" in said
    )
    to = ["--to", str(tmp_path / "odd"), "--size", "36"]
    assert main(["encode", str(world / "captions.csv"), *to, *common]) == 2
    assert "size 36 must be a multiple of 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("[mix]\ntokens = 80\ntasks = { keyframes = 1 }\n", "[mix] and [curriculum] exclude each other"),
        ("[optim.batch]", "batch"),
    ],
)
def test_one_way_to_say_a_batch(debug_bundle, tmp_path, capsys, extra, message):
    path = recipe(tmp_path, debug_bundle)
    changes = ["--set", "optim.batch=4"] if extra == "[optim.batch]" else []
    path.write_text(path.read_text() + ("" if changes else extra))
    assert main(["train", str(path), "--runs", str(tmp_path / "runs"), *changes]) == 2
    assert message in capsys.readouterr().err
