"""Preference: recipe, rewards, GRPO and pairs, what is resumed, the new adapter beside the old, and bad rewards."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from cogstyle.bundle import Bundle, update_bundle
from cogstyle.cli.main import main
from cogstyle.errors import CogstyleError, ConfigError, PromptError, TrainingError
from cogstyle.sampling.pipeline import load
from cogstyle.training import pairs
from cogstyle.training.checkpoint import checkpoint_path, newest_checkpoint
from cogstyle.training.job import Share, seed_step
from cogstyle.training.jobs import make_job
from cogstyle.training.policy import advantages
from cogstyle.training.recipes import load_recipe
from cogstyle.training.run import dry_run, train
from cogstyle.training.run_folder import LOG
from tests.conftest import replace_image_model
from tests.pretend import pretended_gpu
from tests.training.tiny import fork, statuses

BRIGHT = "tests.training.rewards:brightness"
RECIPE = """
task = "preference"
bundle = "{folder}/new"
start = "{start}"
[preference]
group = 4
most_kl = 0.0
method = "{method}"
{more}
[data]
scenes = 50
validation_prompts = 4
[optim]
steps = {steps}
batch = 8
warmup = 0
lr = {lr}
[loop]
log_every = 1
sample_every = {steps}
checkpoint_minutes = 0.0
keep = 99
[[reward]]
call = "{call}"
"""


@pytest.fixture(scope="module")
def sharp(debug_bundle, tmp_path_factory):
    """The debug bundle with an output that can tell ids apart: a few steps leave it nearly even."""
    folder = shutil.copytree(debug_bundle, tmp_path_factory.mktemp("sharp") / "bundle")
    found = {name: Bundle(folder).weights(name) for name in ("image", "keyframes", "interpolation", "superres")}
    found["image"]["embed.weight"] *= 10.0
    update_bundle(folder, {f"{name}.safetensors": tensors for name, tensors in found.items()})
    return folder


def recipe(folder: Path, start: Path, method="grpo", *, steps=3, lr=1e-2, call=BRIGHT, more="") -> Path:
    path = folder / "r.toml"
    values = {"folder": folder, "start": start, "method": method, "steps": steps, "lr": lr, "call": call, "more": more}
    path.write_text(RECIPE.format(**values))
    return path


def job_of(path: Path):
    return make_job(load_recipe(path), runs=path.parent / "runs", quiet=True)


def log(folder: Path, name="r"):
    return [json.loads(line) for line in (folder / "runs" / name / LOG).read_text().splitlines()]


def weights(path: Path):
    found = newest_checkpoint(path)
    assert found is not None
    return found.tensors


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_grpo_raises_the_reward_and_leaves_the_old_adapter(sharp, tmp_path):
    before = Bundle(sharp).hashes()
    path = recipe(tmp_path, sharp, steps=10, more="beta = 0.0")
    said = train(path, runs=tmp_path / "runs", quiet=True)
    rows = log(tmp_path)
    assert np.mean([row["reward"] for row in rows[-3:]]) > rows[0]["reward"] + 0.004 and "exported" in said
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-6) and rows[-1]["kl"] > 1e-3
    assert 0.0 < rows[0]["deciding"] <= 1.0 and rows[0]["ratio_spread"] == pytest.approx(0.0, abs=1e-5)
    assert Bundle(sharp).hashes() == before
    assert "was done before" in train(path, runs=tmp_path / "runs", quiet=True)
    export = ["export", "checkpoint", str(tmp_path / "runs/r"), "--step", "10", "--to", str(tmp_path / "again")]
    new = Bundle(tmp_path / "new").hashes()
    assert main(export) == 0 and Bundle(tmp_path / "again").hashes().keys() == new.keys()
    assert new["keyframes.safetensors"] != before["keyframes.safetensors"]
    assert new["image.safetensors"] == before["image.safetensors"]
    old, pipe = load(sharp), load([sharp, f"keyframes={tmp_path / 'new'}"])
    assert pipe.bundle.sampling("keyframes") == old.bundle.sampling("keyframes")
    prompts, seeds = ["a red circle"] * 8, list(range(8))
    bright = [np.mean([pipe_.decode(t) for t in pipe_.keyframes(prompts, seeds)]) for pipe_ in (old, pipe)]
    assert bright[1] > bright[0]


def test_the_first_gradient_is_that_of_the_policy(sharp, tmp_path):
    """At ratio 1 and KL 0 the gradient is that of - advantage * log share, over the tokens that decide."""
    job = job_of(recipe(tmp_path, sharp))
    loss, figures = job.loss(0)
    loss.backward()
    found = job.adapter.layers[0].qkv.weight.grad.clone()
    kept, asked = job.kept, job.asked(0)
    log_BPV = job.policy.log_shares(job.adapter, asked, kept.tokens)
    chances_BP = log_BPV.gather(-1, kept.tokens[:, 1:].flatten(1).long()[..., None])[..., 0]
    torch.testing.assert_close(chances_BP, kept.chances)
    entropy_BP = torch.distributions.Categorical(logits=log_BPV).entropy()
    decides = (entropy_BP > 0.05) & (kept.advantages != 0)[:, None]
    assert torch.equal(decides.float(), kept.weights)
    job.module.zero_grad()
    (-(chances_BP * kept.advantages[:, None])[decides].mean()).backward()
    torch.testing.assert_close(job.adapter.layers[0].qkv.weight.grad, found, atol=1e-6, rtol=1e-3)
    assert figures["kl"] == pytest.approx(0.0, abs=1e-6) and loss.item() == pytest.approx(
        -float((kept.advantages[:, None] * kept.weights).sum() / kept.weights.sum()), abs=1e-5
    )


def test_draws_share_a_first_frame_and_are_those_of_a_batch_of_one(sharp, tmp_path):
    job = job_of(recipe(tmp_path, sharp))
    asked = job.asked(5)
    assert asked == job.asked(5) and asked != job.asked(6) and len({one.seed for one in asked}) == 8
    tokens = job.policy.draw(job.adapter, asked, job.device)
    assert torch.equal(tokens[:4, 0], tokens[:1, 0].expand(4, -1))
    assert torch.equal(tokens[6:7], job.policy.draw(job.adapter, asked[6:7], job.device))


def test_parts_of_a_batch_make_the_whole(sharp, tmp_path):
    for method in ("grpo", "dpo"):
        job = job_of(recipe(tmp_path, sharp, method))
        whole, _ = job.loss(0)
        parts = [job.loss(0, Share(index, 2))[0] for index in range(2)]
        assert sum(parts).item() / 2 == pytest.approx(whole.item(), abs=1e-5)


def test_advantages():
    found = advantages(np.array([[0.0, 2.0, 1.0, 1.0], [1.5] * 4]))
    np.testing.assert_allclose(found, [[-1 / (0.5**0.5 + 1e-4), 1 / (0.5**0.5 + 1e-4), 0, 0], [0] * 4])


@pytest.mark.parametrize(("method", "more"), [("grpo", "updates = 2"), ("dpo", "pairs = 16")])
def test_a_killed_run_goes_on_exactly(sharp, tmp_path, method, more, monkeypatch):
    """Killed while it draws, in the middle of a step; grpo also between two updates of one drawing."""
    monkeypatch.setattr(pairs, "PART", 8)
    runs = {}
    for name, clips in (("whole", 10**9), ("killed", 20 if method == "grpo" else 40)):
        folder = tmp_path / name
        folder.mkdir()
        path = recipe(folder, sharp, method, steps=5, more=more, call="tests.training.rewards:dies")
        monkeypatch.setenv("CLIPS", str(clips))
        status = statuses([fork(lambda path=path, folder=folder: train(path, runs=folder / "runs", quiet=True))])
        if name == "killed":
            assert status == [-9]
            if method != "grpo":
                assert newest_checkpoint(folder / "runs/r").step == 1
            else:
                assert newest_checkpoint(folder / "runs/r").step == 4
                checkpoint_path(folder / "runs/r", 4).unlink()  # step 3 lies between two updates
            monkeypatch.setenv("CLIPS", str(10**9))
            status = statuses([fork(lambda path=path, folder=folder: train(path, runs=folder / "runs", quiet=True))])
        assert status == [0]
        runs[name] = weights(folder / "runs/r"), [row["loss"] for row in log(folder)]
    assert runs["whole"][1] == runs["killed"][1] and len(runs["whole"][1]) == 5
    assert same(runs["whole"][0], runs["killed"][0])
    if method == "grpo":
        assert log(tmp_path / "whole")[1]["ratio_spread"] > 1e-4  # the second update of a drawing


def test_dpo_prefers_the_better_draw(sharp, tmp_path):
    train(recipe(tmp_path, sharp, "dpo", steps=8, more="pairs = 8"), runs=tmp_path / "runs", quiet=True)
    rows = log(tmp_path)
    assert rows[0]["margin"] == pytest.approx(0.0, abs=1e-5) and rows[-1]["margin"] > 0.05 and rows[0]["gap"] > 0.0
    assert rows[-1]["preferred"] > 0.8 and rows[-1]["loss"] < rows[0]["loss"]


def test_best_trains_on_what_is_good_enough(sharp, tmp_path):
    job = job_of(recipe(tmp_path, sharp, "best", more="pairs = 8"))
    rewards = torch.stack([job._part(0)[1][k] for k in range(8)])[:, 0]
    least = rewards.sort().values[4].item()
    job = job_of(recipe(tmp_path, sharp, "best", more=f"pairs = 8\nleast = {least}"))
    loss, _ = job.loss(0)
    good = [k for k in range(8) if rewards[k] >= least]
    asked, tokens = [job._asked(k, 1)[0] for k in good], torch.stack([job._part(0)[0][k, 0] for k in good])
    log_BPV = job.policy.log_shares(job.adapter, asked, tokens)
    wanted = torch.nn.functional.cross_entropy(log_BPV.flatten(0, 1), tokens[:, 1:].flatten().long())
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5) and 0 < len(good) < 8
    assert list((tmp_path / "runs/data").glob("preference-*/pairs-00000.safetensors"))


BAD = {
    "fails": "fails: no such colour (on ",
    "nothing": "gives None, which is no finite number",
    "not_a_number": "gives nan, which is no finite number",
    "equal": "for 2 drawings in a row nothing told the draws of a prompt apart (rewards from 1 to 1)",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_reward_is_one_line_and_leaves_the_last_checkpoint(sharp, tmp_path, name, capsys):
    path = recipe(tmp_path, sharp, steps=2)
    command = ["train", str(path), "--runs", str(tmp_path / "runs"), "--quiet"]
    assert main(command) == 0
    text = path.read_text().replace("steps = 2", "steps = 9").replace("[data]", "patience = 2\n[data]")
    path.write_text(text.replace(BRIGHT, f"tests.training.rewards:{name}"))
    capsys.readouterr()
    assert main([*command, "--continue-run"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert BAD[name] in said and "the last checkpoint is good" in said and "Traceback" not in said
    assert newest_checkpoint(tmp_path / "runs/r").step == (3 if name == "equal" else 2)


def test_too_far_from_the_reference(sharp, tmp_path):
    path = recipe(tmp_path, sharp, steps=9)
    path.write_text(path.read_text().replace("most_kl = 0.0", "most_kl = 0.001"))
    with pytest.raises(TrainingError, match=r"nats a token from its reference, most_kl is 0\.001"):
        train(path, runs=tmp_path / "runs", quiet=True)
    assert newest_checkpoint(tmp_path / "runs/r") is not None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("group = 4", "group = 3", "batch 8 is no whole number of groups of 3"),
        ("group = 4", "group = 1", "group 1 must be greater than or equal to 2"),
        ('method = "grpo"', 'method = "ppo"', "method 'ppo' must be 'grpo', 'dpo' or 'best'"),
        ('start = "', 'base = "', "needs a start"),
        ("[[reward]]", "[reward]", r"must be a list of tables, \[\[reward\]\]"),
        (f'call = "{BRIGHT}"', 'call = "http://example.org/x"', "a server on this machine"),
        (f'call = "{BRIGHT}"', 'call = "https://127.0.0.1/x"', "a server on this machine"),
        (f'call = "{BRIGHT}"', 'call = "nowhere"', "no reward 'nowhere'; give shapes, module:function"),
        (f'call = "{BRIGHT}"', 'call = "os:nowhere"', "os has no function nowhere"),
        (f'call = "{BRIGHT}"', 'call = "nowhere.pt"', "no extractor nowhere.pt"),
        (f'call = "{BRIGHT}"', f'call = "{BRIGHT}"\ncolour = 1', "unknown key colour"),
        ("[loop]", "[engine]\nzero = 1\n[loop]", "preference trains in one process"),
        ("scenes = 50", "scenes = 50\nactions = { fly = 1.0 }", "unknown action 'fly'"),
        ("scenes = 50", 'prompts = "nowhere.txt"', "nowhere.txt"),
        ("/new", "/old", "needs a folder beside the old"),
    ],
)
def test_wrong_recipes(sharp, tmp_path, old, new, said):
    path = recipe(tmp_path, sharp)
    text = path.read_text()
    assert old in text
    new = str(sharp) if new == "/old" else new
    path.write_text(text.replace(f"{tmp_path}/new" if old == "/new" else old, new, 1))
    with pytest.raises(CogstyleError, match=said):
        train(path, runs=tmp_path / "runs", quiet=True)


def test_a_reference_on_another_base(sharp, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(sharp, other)
    replace_image_model(other)
    path = recipe(tmp_path, sharp)
    path.write_text(path.read_text().replace("task =", f'base = "{other}"\ntask ='))
    with pytest.raises(CogstyleError, match=r"stand on another image\.safetensors"):
        train(path, runs=tmp_path / "runs", quiet=True)


def test_prompts_of_a_file(sharp, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a red circle"}\n\n{"prompt": "a blue star", "seed": 1}\n')
    path = recipe(tmp_path, sharp)
    text = path.read_text().replace("scenes = 50", f'prompts = "{tmp_path}/p.jsonl"')
    path.write_text(text)
    job = job_of(path)
    assert {one.caption for one in job.asked(0)} == {"a red circle"} and job.prompts.count == job.held_back.count == 1
    assert job.held_back.at(0) == ("a blue star", None) and job.asked(0)[0].rate == Bundle(sharp).frame_rate
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "red " * 99}))
    with pytest.raises(PromptError):
        job_of(path)
    (tmp_path / "p.jsonl").write_text("[1]\n")
    with pytest.raises(ConfigError, match="line 1: must be an object with a text under prompt"):
        job_of(path)


def test_a_plan_draws_and_keeps_nothing(sharp, tmp_path):
    plan, picture = dry_run(recipe(tmp_path, sharp, "dpo"), runs=tmp_path / "runs")
    assert plan.trained > 0 and picture.exists() and not (tmp_path / "runs/data").exists()


def test_seeds_of_torch_change_no_rollout(sharp, tmp_path):
    job = job_of(recipe(tmp_path, sharp))
    drawn = []
    for seed in range(2):
        seed_step(seed, 0)
        job.roll_out(0)
        drawn.append(job.kept.tokens.clone())
    assert torch.equal(*drawn)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grpo", "dpo"])
def test_on_a_gpu_it_finds_the_same(sharp, tmp_path, method):
    losses = {}
    for device in ("cpu", "cuda"):
        folder = tmp_path / device
        folder.mkdir()
        path = recipe(folder, sharp, method, steps=2, more="pairs = 8")
        path.write_text(path.read_text() + f'[engine]\ndevice = "{device}"\naccumulate = 2\n')
        with pretended_gpu() if device == "cuda" else nullcontext():
            train(path, runs=folder / "runs", quiet=True)
        losses[device] = [[row["loss"], row["reward"]] for row in log(folder)]
    np.testing.assert_allclose(losses["cuda"][0], losses["cpu"][0], rtol=1e-3, atol=1e-5)  # pixels round otherwise
