"""The transformer jobs: mixes, everything trained, and a finetune from an image bundle into another one."""

import json
import math
import re
import shutil
import signal
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from cogstyle.bundle import Bundle, share_files, update_bundle
from cogstyle.config import Prompts
from cogstyle.errors import BundleError, ConfigError
from cogstyle.files import read_tensors, sha256
from cogstyle.interop.sat_bundle import import_sat
from cogstyle.sampling.keyframes import OVERLAP
from cogstyle.training import loop as loop_module
from cogstyle.training.export import TOKENIZERS
from cogstyle.training.job import Share
from cogstyle.training.loss import token_loss
from cogstyle.training.run import load_recipe, make_job, train
from cogstyle.training.run_folder import Run
from tests.conftest import debug_recipe, disturb
from tests.interop.sat_folder import write
from tests.interop.test_sat_bundle import IDS

IMAGES = "images = [0.5, 0.5]"


def recipe_of(folder, bundle, *keys, mix=(), steps=4):
    """The debug keyframe recipe with more keys, and a mix of 4 clips a step if any line of one is given."""
    path = debug_recipe(folder, "keyframes", steps=steps, bundle=bundle)
    text = "\n".join([*keys, path.read_text()])
    if mix:
        lines = ["[mix]", "tokens = 320", "tasks = { keyframes = 2, image_to_video = 1, continuation = 3 }", *mix]
        text = "\n".join([text.replace("batch = 4\n", ""), *lines])
    path.write_text(text)
    return path


def contents(folder):
    """Every file of a folder by its name, and what it holds."""
    return {path.name: sha256(path) for path in folder.iterdir()}


@pytest.fixture
def mixed(debug_bundle, tmp_path):
    """A job that trains everything on images, keyframes and continuation."""
    path = recipe_of(tmp_path, tmp_path / "new", 'train = "all"', f'base = "{debug_bundle}"', mix=[IMAGES])
    return make_job(load_recipe(path), runs=tmp_path, quiet=True)


def step_of(job, name):
    """The first step that trains a group."""
    return next(step for step in range(100) if job.batches.groups[job.batches.group(step)].name == name)


def test_images_train_the_image_model_and_not_the_adapter(mixed):
    for name, reached in (("image", [True, False]), ("keyframes", [True, True]), ("continuation_3", [True, True])):
        mixed.module.zero_grad(set_to_none=True)
        mixed.loss(step_of(mixed, name))[0].backward()
        found = [
            any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
            for part in (mixed.transformer, mixed.adapter)
        ]
        assert found == reached, name
    gates = [layer.gate.grad for layer in mixed.adapter.layers]
    assert all(gate.abs().sum() > 0 for gate in gates)


def test_processes_share_a_step(mixed):
    """One group for all; equal parts whose mean is the whole; what a token budget cannot share out is left."""
    for step in range(8):
        whole, figures = mixed.loss(step)
        parts = [mixed.loss(step, Share(index, 2)) for index in range(2)]
        torch.testing.assert_close(sum(loss for loss, _ in parts) / 2, whole)
        assert sum(part["tokens"] for _, part in parts) == figures["tokens"] == 320
        tasks = [{name for name in part if name.startswith("loss_")} for part in (figures, *(p for _, p in parts))]
        assert tasks[0] == tasks[1] | tasks[2]
    three = [mixed.loss(step_of(mixed, "keyframes"), Share(index, 3))[1]["tokens"] for index in range(3)]
    assert three == [80, 80, 80]


def test_figures_are_what_the_batch_holds(mixed):
    seen = []
    mixed.transformer.register_forward_pre_hook(lambda module, given: seen.append(given))
    for name in ("keyframes", "continuation_3", "image"):
        loss, figures = mixed.loss(step_of(mixed, name))
        text_BS, layout = seen[-1][0], seen[-1][2]
        empty = sum(row.count(mixed.config.pad) for row in text_BS.tolist())
        assert "padding" not in figures and figures["text_padding"] == pytest.approx(empty / text_BS.numel())
        frames = [value for name, value in figures.items() if name.startswith("loss_frame_")]
        times = [int(name[11:]) for name in figures if name.startswith("loss_frame_")]
        assert times == (list(range(layout.known + 1, 6)) if layout.frames > 1 else [])
        assert np.mean(frames or [figures["loss_image"]]) == pytest.approx(loss.item(), rel=1e-5)
    assert {name for name in mixed.validate() if name.startswith("validation")} == {
        f"validation_loss_{group.name}" for group in mixed.batches.groups
    }
    assert mixed.picture().shape == (8 * 2 * 32, 5 * 32, 3)


def test_image_to_video_reads_no_caption(debug_bundle, tmp_path):
    path = recipe_of(tmp_path, debug_bundle, mix=["#"])
    path.write_text(path.read_text().replace("keyframes = 2, ", "").replace(", continuation = 3", ""))
    job = make_job(load_recipe(path), runs=tmp_path, quiet=True)
    job.batches.dropout = 0.0
    loss, figures = job.loss(0)
    job.batches.rows["keyframes"][0].captions[:] = ["a red star grows"] * 24
    assert torch.equal(job.loss(0)[0], loss) and figures["loss_image_to_video"] == pytest.approx(loss.item())


@pytest.mark.slow
def test_an_interrupted_mix_equals_an_uninterrupted_one(debug_bundle, tmp_path, monkeypatch):
    keys = 'train = "all"', f'base = "{debug_bundle}"'
    recipe = load_recipe(recipe_of(tmp_path, tmp_path / "new", *keys, mix=[IMAGES], steps=6))

    def run(name):
        job = make_job(recipe, runs=tmp_path, quiet=True)
        job.export = lambda: None
        loop_module.run(job, recipe.optim, recipe.loop, Run(tmp_path / name, quiet=True), seed=recipe.seed)

    run("whole")
    plain = loop_module.train_step

    def interrupted(*given, step, **named):
        if step == 3:
            signal.raise_signal(signal.SIGINT)
        return plain(*given, step=step, **named)

    monkeypatch.setattr(loop_module, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("parts")
    monkeypatch.setattr(loop_module, "train_step", plain)
    run("parts")
    whole, parts = (read_tensors(tmp_path / name / "checkpoint-00000006.safetensors")[0] for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[key], parts[key]) for key in whole)
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "parts")]
    assert [json.loads(row)["loss"] for row in logs[0]] == [json.loads(row)["loss"] for row in logs[1]]
    assert any("loss_image" in row for row in logs[0]) and any("loss_rate_" in row for row in logs[0])


def test_a_finetune_writes_an_adapter_into_another_bundle(debug_bundle, tmp_path):
    path = recipe_of(tmp_path, tmp_path / "new", f'base = "{debug_bundle}"', "pb_relax = true", "copy_output = false")
    job = make_job(load_recipe(path), runs=tmp_path, quiet=True)
    base, length = job.transformer, job.config.tokens
    for layer, block in zip(job.adapter.layers, base.layers, strict=True):
        assert torch.equal(layer.qkv.weight, block.qkv.weight) and not torch.equal(
            layer.dense.weight, block.dense.weight
        )
    first = base.positions.weight[job.config.text_positions :][:length]
    assert torch.equal(job.adapter.positions.weight, first.repeat(4, 1))
    train(path, runs=tmp_path, quiet=True)
    new, old = Bundle(tmp_path / "new"), Bundle(debug_bundle)
    assert set(new.hashes()) == {
        *("image.safetensors", "tokenizer.safetensors", "clusters.safetensors", "text.model", "keyframes.safetensors")
    }
    assert (new.folder / "image.safetensors").samefile(old.folder / "image.safetensors")
    assert new.manifest["name"] == "new" and new.model_config == old.model_config and new.prompts == old.prompts
    trained, started = new.adapter("keyframes"), old.adapter("keyframes")
    assert not torch.equal(trained.layers[0].qkv.weight, started.layers[0].qkv.weight)
    train(path, runs=tmp_path / "again", quiet=True)  # the same base: the adapter is written anew
    with torch.no_grad():
        base.norm.weight += 1
    other = tmp_path / "other"
    share_files(old, other, TOKENIZERS)
    update_bundle(other, {"image.safetensors": base.state_dict()})
    path.write_text(path.read_text().replace(str(debug_bundle), str(other)))
    with pytest.raises(BundleError, match=r"new has another image\.safetensors than .*other; name a new folder"):
        train(path, runs=tmp_path / "third", quiet=True)


def test_everything_trained_leaves_the_base_bundle_alone(debug_bundle, tmp_path):
    before = contents(debug_bundle)
    keys = 'train = "all"', f'base = "{debug_bundle}"'
    train(recipe_of(tmp_path, tmp_path / "new", *keys, mix=[IMAGES]), runs=tmp_path, quiet=True)
    new = Bundle(tmp_path / "new")
    assert contents(debug_bundle) == before
    assert new.hashes()["image.safetensors"] != Bundle(debug_bundle).hashes()["image.safetensors"]
    assert new.adapter("keyframes").config == new.image_model().config
    with pytest.raises(ConfigError, match=r"in .*bundle interpolation, superres stand on it; name a new folder"):
        train(recipe_of(tmp_path, debug_bundle, 'train = "all"'), runs=tmp_path / "again", quiet=True)


@pytest.mark.parametrize("key", ['pb_relax = true\n[engine]\nprecision = "fp16"', 'train = "all"'])
def test_a_finetune_from_a_sat_checkpoint(key, model, adapters, debug_bundle, tmp_path):
    """Three steps; what comes of them is a bundle whose base is the imported one, bit for bit, unless it trained."""
    sat = tmp_path / "imported"
    write(tmp_path / "folder", model, adapters["keyframes"], dtype=torch.float32)
    import_sat(tmp_path / "folder", sat, **IDS)
    debug = Bundle(debug_bundle)
    files = {"text.model": debug.file("text.model").read_bytes()}
    files["tokenizer.safetensors"] = read_tensors(debug.file("tokenizer.safetensors"))[0]
    update_bundle(sat, files, tokenizer=debug.tokenizer_config, prompts=Prompts())  # released ones are too long here
    before, image = contents(sat), Bundle(sat).hashes()["image.safetensors"]
    key, _, engine = key.partition("\n")
    path = recipe_of(tmp_path, tmp_path / "new", key, f'base = "{sat}"', steps=3)
    path.write_text(f"{path.read_text()}\n{engine}")
    train(path, runs=tmp_path / "runs", quiet=True)
    losses = [json.loads(row)["loss"] for row in (tmp_path / "runs/keyframes/log.jsonl").read_text().splitlines()]
    new = Bundle(tmp_path / "new")
    assert np.isfinite(losses).all() and new.sampling("image").clusters == 16
    assert (new.hashes()["image.safetensors"] == image) == ("all" not in key)
    assert contents(sat) == before
    fresh = make_job(load_recipe(path), runs=tmp_path / "runs", quiet=True).adapter
    for name, value in new.adapter("keyframes").state_dict().items():
        assert not torch.equal(value, fresh.state_dict()[name].half().float()), name


def test_pb_relax_is_equal_and_half_precision_close(debug_bundle, tmp_path):
    losses, given = [], []
    for relax in ("false", "true"):
        job = make_job(load_recipe(recipe_of(tmp_path, debug_bundle, f"pb_relax = {relax}")), runs=tmp_path, quiet=True)
        job.transformer.register_forward_pre_hook(lambda _, args, options: given.append(options), with_kwargs=True)
        torch.manual_seed(0)
        disturb(job.adapter)
        losses.append(job.loss(0)[0].item())
    assert [options["pb_relax"] for options in given] == [False, True]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    for part in (job.transformer, job.adapter):
        part.half()
    assert job.loss(0)[0].item() == pytest.approx(losses[0], rel=0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('train = "some"', "train 'some' must be 'adapter' or 'all'"),
        ('base = "nowhere"', "no bundle 'nowhere'"),
    ],
)
def test_wrong_recipes_are_refused(text, message, debug_bundle, tmp_path):
    with pytest.raises((ConfigError, BundleError), match=message):
        train(recipe_of(tmp_path, debug_bundle, text), runs=tmp_path, quiet=True)


def test_a_batch_size_and_a_token_budget_exclude_each_other(debug_bundle, tmp_path):
    path = recipe_of(tmp_path, debug_bundle, mix=["#"])
    path.write_text(path.read_text().replace("warmup = 2", "warmup = 2\nbatch = 4"))
    either = r"batch 4: a recipe needs either \[optim\] batch or tokens of \[mix\] or \[curriculum\]"
    with pytest.raises(ConfigError, match=either):
        load_recipe(path)
    image = debug_recipe(tmp_path, "image")
    image.write_text('train = "all"\n' + image.read_text())
    with pytest.raises(ConfigError, match="train 'all' must be 'new'"):
        load_recipe(image)


@pytest.mark.parametrize("task", ["tokenizer", "image", "interpolation", "superres"])
def test_training_goes_on_from_the_weights_of_a_bundle(task, debug_bundle, tmp_path):
    shutil.copytree(debug_bundle, tmp_path / "new")
    path = debug_recipe(tmp_path, task, bundle=tmp_path / "new")
    anew = make_job(load_recipe(path), runs=tmp_path, quiet=True).validate()
    path.write_text(f'start = "{debug_bundle}"\n' + path.read_text())
    job = make_job(load_recipe(path), runs=tmp_path, quiet=True)
    trained = Bundle(debug_bundle).weights(task)
    taken = {name: value for name, value in job.module.state_dict().items() if name != "codebook.sums"}
    assert all(torch.equal(value, trained[name]) for name, value in taken.items())
    assert all(parameter.requires_grad for parameter in job.trained())
    assert job.validate() != anew
    with pytest.raises(BundleError, match="another architecture"):
        job.load_initial_weights({"gate": torch.zeros(1)})


def test_training_scenes_can_have_two_actors_more_often(debug_bundle, tmp_path):
    path = debug_recipe(tmp_path, "image", bundle=debug_bundle)
    text, found, held_back = path.read_text(), {}, []
    for share in (None, 0.0, 1.0):
        path.write_text(text if share is None else f"{text}\ntwo_actors = {share}")
        job = make_job(load_recipe(path), runs=tmp_path, quiet=True)
        found[share] = np.mean(
            [bool(re.search("and an? |一个.*一个", caption)) for caption in job.batches.train.captions]
        )
        held_back.append(job.batches.held_back.captions)
    assert found[0.0] == 0.0 < found[None] < found[1.0] == 1.0
    assert held_back[0] == held_back[1] == held_back[2]


def test_training_scenes_can_have_an_action_more_often(debug_bundle, tmp_path):
    path = debug_recipe(tmp_path, "keyframes", bundle=debug_bundle)
    text, found, held_back = path.read_text(), {}, []
    for weight in (1.0, 1000.0):
        path.write_text(f"{text}\nactions = {{ circle = {weight} }}")
        job = make_job(load_recipe(path), runs=tmp_path, quiet=True)
        found[weight] = np.mean(
            [bool(re.search("circles .*clockwise|转圈", caption)) for caption in job.batches.train.captions]
        )
        held_back.append(job.batches.held_back.captions)
    assert found[1.0] < 0.5 < 0.9 < found[1000.0]
    assert held_back[0] == held_back[1]


def test_a_share_of_the_keyframe_steps_goes_on_from_another_motion(debug_bundle, tmp_path):
    path = debug_recipe(tmp_path, "keyframes", bundle=debug_bundle)
    path.write_text(f"{path.read_text()}\ncontinuation = 0.5\ntwo_actors = 0.0")
    job = make_job(load_recipe(path), runs=tmp_path, quiet=True)
    met = Counter(job.batches.at(step).group.layout.known for step in range(60))
    assert set(met) == {1, OVERLAP} and min(met.values()) > 15
    step = next(step for step in range(60) if job.batches.at(step).group.layout.known == OVERLAP)
    assert math.isfinite(job.loss(step)[0].item())
    assert {"validation_loss_keyframes", "validation_loss_continuation"} <= set(job.validate())


def test_resampled_tokens_are_seen_and_the_true_ones_predicted(debug_bundle, tmp_path):
    """Of the places seen a share holds another code of the cluster; halves of a batch see what the whole does."""
    labels = Bundle(debug_bundle).cluster_labels()
    keys = f'base = "{debug_bundle}"', "resample = 0.25"
    job = make_job(load_recipe(recipe_of(tmp_path, tmp_path / "new", *keys)), runs=tmp_path, quiet=True)
    batches = [job.batches.at(step) for step in range(20)]
    true, seen = (torch.cat(parts) for parts in zip(*((b.tokens(), b.seen(b.tokens())) for b in batches), strict=True))
    assert torch.equal(labels[seen], labels[true])
    of_more = labels.bincount()[labels[true]].float()  # of its n members one is itself
    assert (seen != true).float().mean() == pytest.approx((0.25 * (1 - 1 / of_more)).mean().item(), abs=0.02)
    halves = [job.batches.at(3, Share(rank, 2)) for rank in range(2)]
    assert torch.equal(torch.cat([half.seen(half.tokens()) for half in halves]), batches[3].seen(batches[3].tokens()))
    held_back = next(job.batches.validation(job.batches.shown))
    assert torch.equal(held_back.seen(held_back.tokens()), held_back.tokens())

    text_BS, true_BFL, h_BPD = job.model.hidden(batches[0], torch.device("cpu"))
    layout = replace(batches[0].group.layout, text=text_BS.shape[1])
    shown = job.model.transformer(text_BS, batches[0].seen(true_BFL), layout, job.model.adapter)
    assert torch.equal(h_BPD, shown) and torch.equal(true_BFL, batches[0].tokens())
    places = job.model.transformer.logits(h_BPD[:, layout.known * layout.tokens :])
    expected = token_loss(places, true_BFL[:, layout.known :].flatten(1))
    assert torch.equal(job.model.losses(batches[0], torch.device("cpu"))[0].flatten(1), expected)


def test_resampling_needs_clusters(debug_bundle, tmp_path):
    bare = shutil.copytree(debug_bundle, tmp_path / "bare")
    table = bare / "bundle.toml"
    table.write_text(re.sub(r'"clusters.safetensors" = .*\n', "", table.read_text()))
    (bare / "clusters.safetensors").unlink()
    keys = f'base = "{bare}"', "resample = 0.1"
    with pytest.raises(BundleError, match=r"resample 0\.1 draws within clusters"):
        make_job(load_recipe(recipe_of(tmp_path, tmp_path / "new", *keys)), runs=tmp_path, quiet=True)
