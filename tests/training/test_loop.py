"""The loop: exact resume, learning, logs, and the adapters' frozen base."""

import json
import shutil
import signal

import pytest
import torch

from cogstyle.bundle import Bundle
from cogstyle.errors import ConfigError
from cogstyle.files import read_tensors
from cogstyle.training import loop as loop_module
from cogstyle.training.recipe import load_recipe, make_job, train
from cogstyle.training.step import OptimConfig, seed_step, train_step
from tests.conftest import TASKS, debug_recipe


@pytest.mark.parametrize(("task", "optimizer"), [*((task, "adamw") for task in TASKS[1:]), ("keyframes", "muon")])
def test_an_interrupted_run_equals_an_uninterrupted_one(task, optimizer, debug_bundle, tmp_path, monkeypatch):
    """Bit for bit: weights, optimiser state and every logged figure but the clock."""
    path = debug_recipe(tmp_path, task, steps=6, bundle=debug_bundle)
    path.write_text(path.read_text().replace("[optim]", f'[optim]\noptimizer = "{optimizer}"'))
    recipe = load_recipe(path)

    def run(name):
        job = make_job(recipe, runs=tmp_path, quiet=True)
        job.export = lambda: None
        loop_module.run(job, recipe.optim, recipe.loop, seed=recipe.seed, folder=tmp_path / name, quiet=True)

    run("whole")
    plain = loop_module.train_step

    def interrupted(job, optimizer, optim, step):
        if step == 3:
            signal.raise_signal(signal.SIGINT)  # arrives in the middle of a step
        return plain(job, optimizer, optim, step)

    monkeypatch.setattr(loop_module, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("parts")
    monkeypatch.setattr(loop_module, "train_step", plain)
    assert read_tensors(tmp_path / "parts" / "checkpoint.safetensors")[1]["step"] == "4"
    run("parts")
    whole, parts = (read_tensors(tmp_path / name / "checkpoint.safetensors")[0] for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and any(key.startswith("optim.") for key in whole)
    for key in whole:
        assert torch.equal(whole[key], parts[key]), key
    logs = []
    for name in ("whole", "parts"):
        rows = map(json.loads, (tmp_path / name / "log.jsonl").read_text().splitlines())
        logs.append([{key: value for key, value in row.items() if key != "seconds"} for row in rows])
    assert logs[0] == logs[1]
    assert (tmp_path / "parts" / "curves.png").exists() and list((tmp_path / "parts").glob("sample-*.png"))


@pytest.mark.parametrize("task", ["image", "keyframes", "interpolation", "superres"])
def test_the_loss_falls_and_the_base_stays(task, debug_bundle, tmp_path):
    recipe = load_recipe(debug_recipe(tmp_path, task, steps=60, bundle=debug_bundle))
    job = make_job(recipe, runs=tmp_path, quiet=True)
    before = {k: v.clone() for k, v in job.transformer.state_dict().items()}
    optim = OptimConfig(steps=60, batch=8, lr=1e-2, warmup=2)
    optimizer = torch.optim.AdamW(list(job.trained()), lr=optim.lr)
    losses = []
    for step in range(60):
        seed_step(0, step)
        losses.append(train_step(job, optimizer, optim, step)["loss"])
    assert sum(losses[-5:]) < sum(losses[:5]) - 0.3
    same = all(torch.equal(v, before[k]) for k, v in job.transformer.state_dict().items())
    assert same == (task != "image")


def test_words_that_images_never_name_become_as_long_as_the_others(debug_bundle, tmp_path):
    """The seconds come with the adapters; their vectors must not be shorter than those of trained words."""
    bundle = shutil.copytree(debug_bundle, tmp_path / "copy")
    job = make_job(load_recipe(debug_recipe(tmp_path, "image", bundle=bundle)), runs=tmp_path, quiet=True)
    weight, (seconds,) = job.transformer.embed.weight, job.text.encode("4.0秒")
    words = torch.tensor(sorted({i for caption in job.train.captions for i in job.text.encode(caption)}))
    with torch.no_grad():
        weight[words] *= 7.0
    before = weight.detach().clone()
    job.export()
    torch.testing.assert_close(weight[seconds].norm(), before[words].norm(dim=1).mean())
    assert torch.equal(weight[words], before[words])
    assert torch.equal(weight[: job.config.codes], before[: job.config.codes])


def test_loss_is_on_generated_frames_only(debug_bundle, tmp_path):
    """Changing the last token of a given frame (never an input, and a target only of that frame) moves no loss."""
    recipe = load_recipe(debug_recipe(tmp_path, "interpolation", bundle=debug_bundle))
    job = make_job(recipe, runs=tmp_path, quiet=True)
    before, _ = job.loss(0)
    job.train.tokens[:, 0::2, -1] = (job.train.tokens[:, 0::2, -1] + 1) % 32
    same, _ = job.loss(0)
    assert torch.equal(before, same)
    job.train.tokens[:, 1::2, -1] = (job.train.tokens[:, 1::2, -1] + 1) % 32
    other, _ = job.loss(0)
    assert not torch.equal(before, other)


def test_a_checkpoint_of_another_recipe_is_refused(debug_bundle, tmp_path):
    train(debug_recipe(tmp_path, "keyframes", bundle=debug_bundle), runs=tmp_path, quiet=True)
    (tmp_path / "keyframes").rename(tmp_path / "image")
    with pytest.raises(Exception, match="belongs to another recipe"):
        train(debug_recipe(tmp_path, "image", bundle=debug_bundle), runs=tmp_path, quiet=True)
    assert Bundle(debug_bundle).has("image.safetensors")


def test_learning_rate_schedule():
    optim = OptimConfig(steps=100, batch=1, lr=1.0, warmup=10)
    assert optim.lr_at(0) == 0.1 and optim.lr_at(9) == 1.0 and optim.lr_at(55) == pytest.approx(0.5)
    assert optim.lr_at(99) < 1e-3
    with pytest.raises(ConfigError, match="warmup 100 must be below steps 100"):
        OptimConfig(steps=100, batch=1, warmup=100)
