"""The flow decoder's road: recipe, training, bundle, sampling."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cogstyle.bundle import Bundle, WeightFile, update_bundle
from cogstyle.cli.main import main
from cogstyle.data.footage import Footage
from cogstyle.errors import BundleError
from cogstyle.training.flow import flicker
from cogstyle.training.run import train
from cogstyle.video import Video

RECIPE = """
task = "flow_decoder"
bundle = "{bundle}"
from_noise = 0.5
[flow]
layers = 2
width = 32
heads = 2
frames = 4
[optim]
optimizer = "muon"
steps = {steps}
batch = 2
warmup = 1
lr = 3e-2
[loop]
log_every = 1
"""


def trained(debug_bundle: Path, tmp_path: Path, steps: int = 3) -> Path:
    bundle = shutil.copytree(debug_bundle, tmp_path / "bundle")
    (tmp_path / "flow.toml").write_text(RECIPE.format(bundle=bundle, steps=steps))
    train(tmp_path / "flow.toml", runs=tmp_path / "runs", quiet=True)
    return bundle


def test_from_recipe_to_video(debug_bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bundle = trained(debug_bundle, tmp_path, steps=30)
    rows = [json.loads(line) for line in Path("runs/flow/log.jsonl").read_text().splitlines()]
    assert rows[-1]["psnr"] > rows[-1]["plain_psnr"] + 0.5  # the plain decoder has had four steps
    sample = ["sample", "a red circle", "--bundle", str(bundle), "--quiet", "--levels", "1", "--out"]
    assert main([*sample, "flow.mp4", "--decoder", "flow", "--tokens"]) == 0
    assert main([*sample, "plain.mp4", "--tokens"]) == 0
    flow, plain = (json.loads(Path(f"{name}.mp4.json").read_text()) for name in ("flow", "plain"))
    assert (flow["decoder"], plain["decoder"]) == ("flow", "plain")
    assert Path("flow.mp4").read_bytes() != Path("plain.mp4").read_bytes()
    update_bundle(bundle, {}, decoder="flow")
    assert main([*sample, "default.mp4"]) == 0
    assert Path("default.mp4").read_bytes() == Path("flow.mp4").read_bytes()
    for given, said in (
        (["--flow-steps", "0"], "flow_steps 0 must be 1 to 100"),
        (["--flow-steps", "2", "--decoder", "plain"], "flow_steps are of the flow decoder"),
        (["--decoder", "flow", "--upscale"], "upscale decodes fine tokens"),
    ):
        capsys.readouterr()
        assert main([*sample, "x.mp4", *given]) == 2 and said in capsys.readouterr().err


def test_a_bundle_without_one_says_so(debug_bundle, tmp_path, capsys):
    arguments = ["sample", "a red circle", "--bundle", str(debug_bundle), "--out", str(tmp_path / "x.mp4")]
    assert main([*arguments, "--decoder", "flow"]) == 2
    assert "has no flow.safetensors" in capsys.readouterr().err


def test_it_stands_on_its_tokenizer(debug_bundle, tmp_path):
    bundle = trained(debug_bundle, tmp_path)
    tensors = Bundle(bundle).weights("tokenizer")
    tensors["codebook.vectors"] += 1.0
    with pytest.raises(BundleError, match=r"flow\.safetensors"):
        update_bundle(bundle, {WeightFile.TOKENIZER: tensors})
    update_bundle(bundle, {WeightFile.TOKENIZER: tensors}, same_codes=True)
    with pytest.raises(BundleError, match="beside another tokenizer"):
        Bundle(bundle).flow()


def test_moving_clips_of_footage(tmp_path):
    for number in range(3):
        frames = np.full((9, 40, 48, 3), 40 * number, np.uint8) + np.arange(9, dtype=np.uint8)[:, None, None, None]
        Video(frames, 8.0).save(tmp_path / f"{number}.mp4")
    footage = Footage([tmp_path], size=32, cache=tmp_path / "cache", quiet=True)
    clips, rates = footage.moving(np.random.default_rng(0), 4, 5)
    assert clips.shape == (4, 5, 32, 32, 3) and set(rates) <= {2.0, 4.0, 8.0, 16.0, 32.0}
    assert len(footage.videos[False]) == 2 and len(footage.videos[True]) == 1


def test_flicker_is_change_where_nothing_changes():
    true = np.zeros((1, 3, 4, 4, 3), np.uint8)
    true[0, 1:, 0, 0] = 200
    made = true.copy()
    made[0, 1, 3, 3] += 8
    still = 2 * 16 - 1
    assert flicker(made, true) == pytest.approx(2 * 8 / still) and flicker(true, true) == 0.0
