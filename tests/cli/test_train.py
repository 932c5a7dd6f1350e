"""`cogstyle train`: from a recipe to a bundle, and what it says when it cannot."""

import shutil

from cogstyle.bundle import Bundle
from cogstyle.cli.main import main
from tests.conftest import debug_recipe


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


def test_errors_are_one_line(tmp_path, capsys):
    assert main(["train", str(tmp_path / "none.toml")]) == 2
    recipe = debug_recipe(tmp_path, "image", bundle=tmp_path / "empty")
    assert main(["train", str(recipe), "--runs", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "none.toml: No such file" in lines[0] and "no bundle" in lines[1]
