"""`cogstyle check`: a whole bundle passes, and every check can fail."""

import shutil
from pathlib import Path

import pytest
import torch

from cogstyle.bundle import Bundle, share_files
from cogstyle.cli.main import main
from cogstyle.sampling import pipeline
from cogstyle.sampling.consistency import CHECKS, check_bundle
from cogstyle.sampling.pipeline import load
from tests.conftest import replace_image_model

NAMES = [name for name, _, _ in CHECKS]


def table(capsys) -> dict[str, str]:
    """What the command said of each check."""
    lines = capsys.readouterr().out.splitlines()[1:]
    return {line[:26].strip(): line[26:34].strip() for line in lines}


def test_a_whole_bundle_passes(debug_bundle, tmp_path, capsys):
    assert main(["check", str(debug_bundle)]) == 0
    assert table(capsys) == dict.fromkeys([*NAMES, "fits in memory"], "ok")
    assert main(["check", "--bundle", str(debug_bundle), "--memory", "0.001"]) == 1
    assert [name for name, said in table(capsys).items() if said == "NOT OK"] == ["fits in memory"]
    share_files(Bundle(debug_bundle), tmp_path / "tokenizers", ["tokenizer.safetensors", "text.model"])
    assert main(["check", str(tmp_path / "tokenizers")]) == 0
    assert {name for name, said in table(capsys).items() if said == "ok"} == {"hashes", "tokenizer round trip"}


def test_damaged_files_are_found(debug_bundle, tmp_path, capsys):
    bundle = Path(shutil.copytree(debug_bundle, tmp_path / "bundle"))
    weights = next(bundle.glob("interpolation*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert main(["check", str(bundle)]) == 1
    said = table(capsys)
    assert said["hashes"] == said["given frames stay"] == "NOT OK" and said["tokenizer round trip"] == "ok"
    shutil.copy(debug_bundle / weights.name, weights)
    replace_image_model(bundle)  # and what stands on it; then the old keyframes come back, hash and all
    new, old = (Bundle(folder).sha256("keyframes.safetensors") for folder in (bundle, debug_bundle))
    shutil.copy(Bundle(debug_bundle).path("keyframes.safetensors"), bundle / "keyframes.safetensors")
    (bundle / "bundle.toml").write_text((bundle / "bundle.toml").read_text().replace(new, old))
    assert main(["check", str(bundle)]) == 1
    said = table(capsys)
    assert said["hashes"] == "ok" and said["adapter off = image model"] == "NOT OK"


def base_changed(pipe, patch):
    with torch.no_grad():
        pipe.image_model.norm.weight.mul_(1 + 1e-6)


def layer_differs(pipe, patch):
    pipe.image_model.layers[0].register_forward_hook(lambda layer, given, out: out * 1.1)  # steps go past modules


def future_leaks(pipe, patch):
    pipe.image_model.register_forward_hook(lambda model, given, out: out + out.mean(1, keepdim=True))


def rows_mix(pipe, patch):
    pipe.image_model.embed.register_forward_hook(lambda embed, given, out: out + 0.5 * out.flip(0))


def encoder_dead(pipe, patch):
    with torch.no_grad():
        pipe.vqvae.encoder[-1].weight.zero_()


def given_replaced(pipe, patch):
    patch.setattr(pipeline, "refine", lambda *a, **b: (REFINE(*a, **b) + 1) % pipe.bundle.model_config.codes)


REFINE = pipeline.refine


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        (base_changed, "adapter off = image model"),
        (layer_differs, "teacher forcing = steps"),
        (future_leaks, "cached = full"),
        (rows_mix, "batch of 1 = batch of n"),
        (encoder_dead, "tokenizer round trip"),
        (given_replaced, "given frames stay"),
    ],
)
def test_each_check_can_fail(debug_bundle, monkeypatch, damage, wrong):
    pipe = load(debug_bundle)
    damage(pipe, monkeypatch)
    found = {finding.name: finding.ok for finding in check_bundle(pipe)}
    assert found[wrong] is False and found["hashes"] and list(found) == NAMES
