"""`cogstyle train`: from a recipe to a bundle, and what it says when it cannot."""

import re
import shutil
import signal

import pytest

from cogstyle.bundle import Bundle
from cogstyle.cli.main import main
from cogstyle.shapes_world import rows
from cogstyle.training import loop
from cogstyle.training.run import load_recipe, make_job
from tests.conftest import bundle_below, debug_recipe, replace_image_model


def test_a_recipe_becomes_a_bundle(debug_bundle, tmp_path, capsys):
    bundle = shutil.copytree(debug_bundle, tmp_path / "bundle")
    recipe = debug_recipe(tmp_path, "keyframes", bundle=bundle)
    recipe.write_text(
        'seed = 1\nframe_rate = 4\nlicence = "MIT"\n' + recipe.read_text() + "\n[sampling]\nguidance = 2.5\n"
    )
    runs = tmp_path / "runs"
    before = Bundle(bundle).hashes()
    assert main(["train", str(recipe), "--runs", str(runs), "--dry-run", "--processes", "2", "--quiet"]) == 0
    planned = capsys.readouterr().out
    assert "steps                4 in 2 processes" in planned and "image tokens a step  320" in planned
    assert "10,560 trained, 41,632 frozen" in planned and "first batch" in planned
    assert (runs / "keyframes" / "first-batch.png").exists() and Bundle(bundle).hashes() == before
    assert "to encode first      32 rows, about 0 s" in planned and not (runs / "data").exists()
    shutil.rmtree(runs)
    assert main(["train", str(recipe), "--runs", str(runs), "--encode-only", "--quiet"]) == 0
    assert list((runs / "data").glob("keyframes-*/part-00000.safetensors")) and not (runs / "keyframes").exists()
    assert Bundle(bundle).hashes() == before
    assert main(["train", str(recipe), "--runs", str(runs), "--quiet"]) == 0
    after = Bundle(bundle)
    assert after.hashes()["keyframes.safetensors"] != before["keyframes.safetensors"]
    assert after.hashes()["image.safetensors"] == before["image.safetensors"]
    assert after.frame_rate == 4.0 and after.manifest["licence"] == "MIT"
    assert after.sampling("keyframes").guidance == 2.5
    assert {path.name for path in (runs / "keyframes").iterdir()} >= {
        "checkpoint-00000004.safetensors",
        "curves.png",
        "log.jsonl",
    }
    assert "done:" in capsys.readouterr().out
    assert after.manifest["trained_rates"]["keyframes"] == sorted(
        {4 / seconds for seconds in make_job(load_recipe(recipe), runs=runs, quiet=True).batches.train.seconds}
    )


def test_a_plan_needs_a_few_rows_only(debug_bundle, tmp_path, monkeypatch, capsys):
    """However many there are to encode; once they are encoded, the plan is made from them."""
    recipe, made = debug_recipe(tmp_path, "keyframes", bundle=debug_bundle), []
    plain = rows.keyframe_row

    def counted(seed, **options):
        made.append(seed)
        return plain(seed, **options)

    monkeypatch.setattr(rows, "keyframe_row", counted)
    recipe.write_text(recipe.read_text().replace("rows = 24", "rows = 90_000"))
    command = ["train", str(recipe), "--runs", str(tmp_path / "runs"), "--dry-run"]
    assert main(command) == 0
    assert len(made) < 200 and re.search(r"to encode first +90,008 rows, about [1-9]", capsys.readouterr().out)
    recipe.write_text(recipe.read_text().replace("rows = 90_000", "rows = 24"))
    assert main(["train", str(recipe), "--runs", str(tmp_path / "runs"), "--encode-only", "--quiet"]) == 0
    made.clear()
    assert main(command) == 0 and not made and "to encode" not in capsys.readouterr().out


@pytest.mark.parametrize("task", ["tokenizer", "image", "keyframes", "interpolation", "superres"])
def test_a_stopped_run_says_how_to_go_on_and_gives_a_bundle(task, debug_bundle, tmp_path, monkeypatch, capsys):
    """The checkpoint of a stopped run becomes a bundle that equals what the run itself would export."""
    bundle = bundle_below(task, debug_bundle, tmp_path / "bundle")
    before = Bundle(bundle).hashes()
    recipe = debug_recipe(tmp_path, task, steps=6, bundle=bundle)
    recipe.write_text("seed = 5\n" + recipe.read_text())
    command = ["train", str(recipe), "--runs", str(tmp_path / "runs"), "--quiet"]
    plain = loop.train_step

    def stop(*given, step, **named):
        if step == 3:
            signal.raise_signal(signal.SIGTERM)
        return plain(*given, step=step, **named)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", stop)
        assert main(command) == 130
    said, folder = capsys.readouterr().err.splitlines()[-1], tmp_path / "runs" / task
    assert said.startswith("cogstyle: stopped after step 4 of 6") and "the same command resumes it" in said
    export, name = ["export", "checkpoint", str(folder), "--to"], f"{task}.safetensors"
    assert main([*export, str(tmp_path / "halfway")]) == 0 and main([*export, str(tmp_path / "best"), "--best"]) == 0
    assert Bundle(bundle).hashes() == before  # the run's own is not touched
    halfway = Bundle(tmp_path / "halfway")
    assert halfway.hashes()[name] not in Bundle(bundle).hashes().values()
    for file in halfway.hashes():
        assert halfway.file(file)
    assert main(command) == 0 and main([*export, str(tmp_path / "end"), "--step", "6"]) == 0
    assert Bundle(tmp_path / "end").hashes()[name] != halfway.hashes()[name]
    if task in ("keyframes", "interpolation"):
        assert Bundle(tmp_path / "end").manifest["trained_rates"][task]
        assert halfway.adapter(task) is not None
    capsys.readouterr()
    assert main([*export, str(tmp_path / "none"), "--step", "5"]) == 2
    assert "has no checkpoint of step 5: there are 4, 6" in capsys.readouterr().err
    assert main(["export", "checkpoint", str(tmp_path), "--to", str(tmp_path / "none")]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_an_adapter_is_not_exported_beside_another_image_model(debug_bundle, tmp_path, capsys):
    bundle = shutil.copytree(debug_bundle, tmp_path / "bundle")
    recipe = debug_recipe(tmp_path, "keyframes", bundle=bundle)
    assert main(["train", str(recipe), "--runs", str(tmp_path / "runs"), "--quiet"]) == 0
    replace_image_model(bundle)
    assert main(["export", "checkpoint", str(tmp_path / "runs/keyframes"), "--to", str(tmp_path / "new")]) == 2
    assert "stands on has changed: stands on.image.safetensors was" in capsys.readouterr().err


def test_errors_are_one_line(tmp_path, capsys):
    assert main(["train", str(tmp_path / "none.toml")]) == 2
    recipe = debug_recipe(tmp_path, "image", bundle=tmp_path / "empty")
    assert main(["train", str(recipe), "--runs", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "none.toml: No such file" in lines[0] and "no bundle" in lines[1]


@pytest.mark.parametrize(("task", "standing"), [("image", "keyframes"), ("tokenizer", "image"), ("text", "image")])
def test_what_others_stand_on_is_not_trained_anew(task, standing, debug_bundle, tmp_path, capsys):
    """Refused before the first step, and the bundle samples as before."""
    bundle, runs = shutil.copytree(debug_bundle, tmp_path / "bundle"), tmp_path / "runs"
    path = debug_recipe(tmp_path, task, bundle=bundle)
    path.write_text("seed = 5\n" + path.read_text())
    before = Bundle(bundle).hashes()
    assert main(["train", str(path), "--runs", str(runs), "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{standing}.safetensors" in line and "name a new folder" in line
    assert Bundle(bundle).hashes() == before and not list(runs.glob("*/checkpoint*"))
