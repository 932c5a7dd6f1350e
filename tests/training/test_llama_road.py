"""The whole road on the Llama family, all of it tiny: image model, adapters, a video; and a run that goes on."""

import json

import pytest
import torch

import cogstyle
from cogstyle.bundle import Bundle, share_files
from cogstyle.cli.main import main
from cogstyle.errors import BundleError, ConfigError
from cogstyle.sampling.options import Options
from cogstyle.training.run import train
from tests.conftest import debug_recipe
from tests.interop.llamagen_files import write_t5

TASKS = ("image", "keyframes", "interpolation")


@pytest.fixture(scope="module")
def road(debug_bundle, tmp_path_factory):
    """A bundle whose image model reads a T5 that lies inside of it."""
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("llama")
    write_t5(folder / "bundle" / "t5")
    share_files(Bundle(debug_bundle), folder / "bundle", ["tokenizer.safetensors"])
    assert main(["import", "t5", str(folder / "bundle" / "t5"), "--to", str(folder / "bundle")]) == 0
    for task in TASKS:
        recipe = debug_recipe(folder, task)
        recipe.write_text(recipe.read_text().replace('"debug"', '"llama-debug"'))
        train(recipe, runs=folder / "runs", quiet=True)
    return folder


def test_a_video_of_every_stage(road, tmp_path):
    bundle = Bundle(road / "bundle")
    assert bundle.model_config.family == "llama" and bundle.manifest["text"]["t5"] == "t5"
    moved = (road / "bundle").rename(road / "moved")  # the T5 moves with it
    moved.rename(road / "bundle")
    command = ["sample", "a red circle moves right", "--bundle", str(road / "bundle"), "--out", str(tmp_path / "v.gif")]
    assert main([*command, "--levels", "1", "--seed", "3", "--quiet"]) == 0
    assert json.loads((tmp_path / "v.gif.json").read_text())["fps"] == 2 * bundle.frame_rate
    assert set(bundle.hashes()) == {f"{name}.safetensors" for name in ("tokenizer", *TASKS)}


def test_guidance_and_rates_reach_the_tokens(road):
    pipe = cogstyle.load(road / "bundle")
    with torch.no_grad():
        for adapter in (pipe.adapter("keyframes"),):
            adapter.rates.weight.add_(torch.randn_like(adapter.rates.weight))
    first = torch.randint(32, (1, 1, 16))
    drawn = {
        (rate, scale): pipe.keyframes(["a dog"], [1], Options(frame_rate=rate, guidance=scale), first_BFL=first)
        for rate, scale in ((1.0, 1.0), (4.0, 1.0), (1.0, 9.0))
    }
    assert len({str(tokens.tolist()) for tokens in drawn.values()}) == 3
    again = pipe.keyframes(
        ["a dog", "a red circle"], [1, 2], Options(frame_rate=1.0, guidance=1.0), first_BFL=first.repeat(2, 1, 1)
    )
    assert torch.equal(again[:1], drawn[1.0, 1.0])


def test_what_the_family_has_not_is_said(road, debug_bundle, tmp_path, capsys):
    pipe = cogstyle.load(road / "bundle")
    with pytest.raises(ConfigError, match="compat 'released' is CogVideo's"):
        next(pipe.stream(["a dog"], [0], Options(compat="released")))
    assert main(["export", "sat", str(road / "bundle"), "--to", str(tmp_path / "sat")]) == 2
    assert "is of the llama family, which SAT lacks" in capsys.readouterr().err
    superres = debug_recipe(tmp_path, "superres", bundle=road / "bundle")
    with pytest.raises(ConfigError, match="learned positions"):
        train(superres, runs=tmp_path / "runs", quiet=True)
    share_files(Bundle(debug_bundle), tmp_path / "b", ["tokenizer.safetensors"])
    recipe = debug_recipe(tmp_path, "image", bundle=tmp_path / "b")
    recipe.write_text(recipe.read_text().replace('"debug"', '"llama-debug"'))
    with pytest.raises(BundleError, match="names no language model"):
        train(recipe, runs=tmp_path / "runs", quiet=True)
