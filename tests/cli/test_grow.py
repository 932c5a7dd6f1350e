"""`cogstyle grow` as a user types it: the same video, byte for byte, and the old bundle back."""

import json

import pytest

from cogstyle.bundle import Bundle, update_bundle
from cogstyle.cli.main import main
from cogstyle.files import read_tensors
from cogstyle.interop.sat_bundle import export_sat
from tests.conftest import replace_image_model

SAMPLE = ["--levels", "1", "--seed", "3", "--upscale", "--quiet"]


def sample(bundle, out, *more):
    prompt = "a red circle moves right"
    assert main(["sample", prompt, "--bundle", str(bundle), "--out", str(out), *SAMPLE, *more]) == 0
    return out.read_bytes()


@pytest.fixture(scope="module")
def before(debug_bundle, tmp_path_factory):
    return sample(debug_bundle, tmp_path_factory.mktemp("before") / "v.mp4")


@pytest.mark.parametrize("part", ["adapter", "image"])
@pytest.mark.parametrize("how", ["insert", "prefix", "suffix"])
def test_a_grown_bundle_draws_the_same_file(debug_bundle, before, tmp_path, capsys, part, how):
    old, grown, back = Bundle(debug_bundle), tmp_path / "grown", tmp_path / "back"
    grow = ["grow", str(debug_bundle), "--how", how, "--blocks", "2", "--part", part, "--out", str(grown), "--quiet"]
    assert main(grow) == 0
    assert sample(grown, tmp_path / "v.mp4") == before
    said = json.loads((tmp_path / "v.mp4.json").read_text())
    assert said["files"]["keyframes.safetensors"] != old.sha256("keyframes.safetensors")
    new = Bundle(grown)
    assert (new.sha256("image.safetensors") == old.sha256("image.safetensors")) == (part == "adapter")
    assert new.model_config.layers == (2 if part == "adapter" else 4)
    meta = read_tensors(new.file("keyframes.safetensors"))[1]
    assert meta["base_sha256"] == new.sha256("image.safetensors")
    assert new.manifest["world"] == old.manifest["world"] == "shapes"  # prompts are rewritten alike
    assert main(["inspect", str(grown)]) == 0 and "2 grown layers, behind layers" in capsys.readouterr().out
    assert main(["grow", str(grown), "--bypass", "--out", str(back), "--quiet"]) == 0
    assert Bundle(back).hashes() == old.hashes() and Bundle(back).model_config == old.model_config


def test_growth_that_cannot_be_is_one_line_and_leaves_nothing(debug_bundle, tmp_path, capsys):
    grown, there = tmp_path / "grown", tmp_path / "there"
    there.mkdir()
    grow = ["grow", str(debug_bundle), "--quiet"]
    assert main([*grow, "--blocks", "2", "--out", str(grown)]) == 0
    cases = {
        "3 blocks cannot be inserted evenly into 2 layers": [*grow, "--blocks", "3", "--out", "x"],
        "blocks 0 must be greater": [*grow, "--blocks", "0", "--out", "x"],
        "--blocks says how many": [*grow, "--out", "x"],
        "exists": [*grow, "--blocks", "2", "--out", str(there)],
        "have grown already": ["grow", str(grown), "--blocks", "2", "--out", "x"],
        "no grown layers to take out": [*grow, "--bypass", "--out", "x"],
        "takes layers out": [*grow, "--bypass", "--blocks", "2", "--out", "x"],
        "for which SAT has no place": ["export", "sat", str(grown), "--to", "x"],
    }
    for words, command in cases.items():
        command = [str(tmp_path / "x") if word == "x" else word for word in command]
        capsys.readouterr()
        assert main(command) == 2, command
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1, error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grown", "there"] and not list(there.iterdir())


def test_a_grown_adapter_is_taken_by_others_on_its_base_alone(debug_bundle, before, tmp_path, capsys):
    grown, other = tmp_path / "grown", tmp_path / "other"
    for out in (grown, other):
        assert main(["grow", str(debug_bundle), "--blocks", "2", "--out", str(out), "--quiet"]) == 0
    assert sample(debug_bundle, tmp_path / "v.mp4", "--bundle", f"keyframes={grown}") == before
    replace_image_model(other)
    arguments = ["--bundle", str(other), "--bundle", f"keyframes={grown}", "--out", str(tmp_path / "w.mp4")]
    capsys.readouterr()
    assert main(["sample", "a red circle moves right", *arguments, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert "another image.safetensors" in error and error.count("\n") == 1
    update_bundle(grown, {}, growth={"keyframes": None})  # its weights say more than its manifest
    assert main(["sample", "a red circle moves right", "--bundle", str(grown), "--out", "w.mp4", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert "does not fit its config" in error and error.count("\n") == 1


def test_a_deeper_image_model_goes_to_sat(debug_bundle, tmp_path):
    assert main(["grow", str(debug_bundle), "--blocks", "2", "--part", "image", "--out", str(tmp_path / "g")]) == 0
    export_sat(Bundle(tmp_path / "g"), tmp_path / "sat")
    said = json.loads((tmp_path / "sat/model_config.json").read_text())
    assert said["num_layers"] == 4
    with pytest.raises(Exception, match="every second window moves"):
        export_sat(Bundle(tmp_path / "g"), tmp_path / "two", role="interpolation")
    assert not (tmp_path / "two").exists()
