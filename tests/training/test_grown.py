"""Adapters that grow before they train: what trains, what stays, what the bundle says."""

import shutil
import tomllib

import pytest
import torch

from cogstyle.bundle import Bundle, WeightFile, bypass_bundle, grow_bundle
from cogstyle.errors import ConfigError
from cogstyle.growth_config import Growth
from cogstyle.training.run import train
from tests.conftest import debug_recipe, replace_image_model

NEW = 'growth = {how = "insert", blocks = 2, train = "new"}'
MORE = 'growth = {how = "suffix", blocks = 1}'
ALL = 'growth = {how = "prefix", blocks = 1, train = "all"}'
LORA = "lora = {rank = 2, alpha = 2.0}"


def grown(folder, start, said, *, base=None, steps=4):
    """Train the keyframes of `start`, grown so, into a new bundle."""
    path = debug_recipe(folder, "keyframes", steps=steps)
    path.write_text(f'{said}\nstart = "{start}"\nbase = "{base or start}"\n' + path.read_text())
    train(path, runs=folder / "runs", quiet=True)
    return Bundle(folder / "bundle")


@pytest.mark.parametrize(("said", "old_trains"), [(NEW, False), (MORE, True), (ALL, True), (LORA, True)])
def test_what_trains_and_what_stays(debug_bundle, tmp_path, said, old_trains):
    bundle, old = grown(tmp_path, debug_bundle, said), Bundle(debug_bundle)
    before, after = old.weights("keyframes"), bundle.weights("keyframes")
    new = {name: value for name, value in after.items() if name not in before}
    assert new and all(name.startswith(("grown.", "lora.")) for name in new)
    moved = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert bool(moved) == old_trains
    silent = [v for name, v in new.items() if name.endswith(("block.norm3.bias", "block.norm4.weight", ".up.weight"))]
    assert any(value.abs().sum() > 0 for value in silent)
    same = bundle.sha256(WeightFile.IMAGE) == old.sha256(WeightFile.IMAGE)
    assert same == (said is not ALL)
    adapter = bundle.adapter("keyframes")
    assert len(adapter.stack(bundle.image_model().layers)) == 2 + len(adapter.grown)
    listed = bundle.growth.keyframes
    assert bundle.lora.keyframes is not None if said is LORA else listed is not None
    if said is NEW:
        assert (listed.after, listed.trained) == ((1, 2), "new")
        bypass_bundle(bundle, tmp_path / "back")
        back = Bundle(tmp_path / "back")
        assert back.sha256(WeightFile.KEYFRAMES) == old.sha256(WeightFile.KEYFRAMES)
    if said is MORE:
        with pytest.raises(ConfigError, match="trained 'new\\+adapter'"):
            bypass_bundle(bundle, tmp_path / "back")
        assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("said", [NEW, LORA])
def test_a_stopped_run_resumes_to_the_bit(debug_bundle, tmp_path, said):
    parts = tmp_path / "parts"
    for folder in (tmp_path / "whole", parts):
        folder.mkdir()
    whole = grown(tmp_path / "whole", debug_bundle, said)
    path = debug_recipe(parts, "keyframes")
    path.write_text(f'{said}\nstart = "{debug_bundle}"\nbase = "{debug_bundle}"\n' + path.read_text())
    train(path, runs=parts / "runs", quiet=True, changes=["loop.checkpoint_minutes=0.0", "loop.keep=9"])
    run = parts / "runs/keyframes"
    for checkpoint in sorted(run.glob("checkpoint-*"))[1:]:
        checkpoint.unlink()
    shutil.rmtree(parts / "bundle")
    (run / "best.safetensors").unlink(missing_ok=True)
    train(path, runs=parts / "runs", quiet=True, changes=["loop.checkpoint_minutes=0.0", "loop.keep=9"])
    again = Bundle(parts / "bundle").weights("keyframes")
    assert all(torch.equal(value, again[name]) for name, value in whole.weights("keyframes").items())


def test_a_grown_adapter_trains_on_and_an_old_one_takes_its_place(debug_bundle, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = grown(tmp_path / "first", debug_bundle, NEW)
    second = grown(tmp_path / "second", first.folder, "", base=debug_bundle)
    assert second.growth.keyframes.trained == "new+adapter" and second.growth.keyframes.after == (1, 2)
    shutil.rmtree(tmp_path / "second/runs")
    grown(tmp_path / "second", debug_bundle, "", steps=5)
    table = tomllib.loads((tmp_path / "second/bundle/bundle.toml").read_text())
    assert not table.get("growth") and Bundle(tmp_path / "second/bundle").adapter("keyframes")


@pytest.mark.parametrize("said", ['train = "new"\n', ""])
def test_a_deeper_image_model_learns_with_its_new_layers_or_whole(debug_bundle, tmp_path, said):
    deeper, old = tmp_path / "deeper", Bundle(debug_bundle)
    grow_bundle(old, deeper, Growth("suffix", 1), part="image")
    path = debug_recipe(tmp_path, "image", steps=3)
    path.write_text(f'{said}start = "{deeper}"\n' + path.read_text().replace('preset = "debug"\n', ""))
    train(path, runs=tmp_path / "runs", quiet=True)
    bundle, back = Bundle(tmp_path / "bundle"), tmp_path / "back"
    before, after = Bundle(deeper).weights("image"), bundle.weights("image")
    moved = {name.split(".")[1] for name, value in before.items() if not torch.equal(value, after[name])}
    assert bundle.growth.image.trained == ("new" if said else "all")
    if said:
        assert moved == {"2"}
        bypass_bundle(bundle, back)
        assert Bundle(back).sha256(WeightFile.IMAGE) == old.sha256(WeightFile.IMAGE)
    else:
        assert {"0", "1", "2", "weight"} <= moved
        with pytest.raises(ConfigError, match=r"image model of .* trained 'all'"):
            bypass_bundle(bundle, back)


def test_what_cannot_grow_is_said_before_anything_is_written(debug_bundle, tmp_path):
    other = shutil.copytree(debug_bundle, tmp_path / "other")
    replace_image_model(other)
    cases = {
        "3 blocks cannot be inserted evenly into 2 layers": ('growth = {how = "insert", blocks = 3}', debug_bundle),
        "stand on another image model": (MORE, other),
        "exclude each other": (f"{MORE}\n{LORA}", debug_bundle),
    }
    for words, (said, base) in cases.items():
        with pytest.raises(ConfigError, match=words):
            grown(tmp_path, debug_bundle, said, base=base)
    assert not (tmp_path / "bundle").exists()
    path = debug_recipe(tmp_path, "keyframes")
    path.write_text(f"{MORE}\n" + path.read_text())
    with pytest.raises(ConfigError, match="need a start"):
        train(path, runs=tmp_path / "runs", quiet=True)
    path = debug_recipe(tmp_path, "image")
    path.write_text(f'train = "new"\nstart = "{debug_bundle}"\n' + path.read_text())
    with pytest.raises(ConfigError, match=r'train "new": the image model of start .* has not grown'):
        train(path, runs=tmp_path / "runs", quiet=True)
