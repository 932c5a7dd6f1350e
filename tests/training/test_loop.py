"""The loop: exact resume, learning, logs, trouble, and the adapters' frozen base."""

import json
import os
import random
import shutil
import signal
import time
from dataclasses import replace

import pytest
import torch

from cogstyle.bundle import Bundle, share_files
from cogstyle.errors import BundleError, ConfigError, FileError, TrainingError
from cogstyle.files import read_tensors
from cogstyle.training import loop as loop_module
from cogstyle.training.checkpoint import checkpoints, read_checkpoint
from cogstyle.training.engine import EngineConfig, start
from cogstyle.training.export import TOKENIZERS
from cogstyle.training.guard import SETTLED, Guard
from cogstyle.training.job import LoopConfig, OptimConfig
from cogstyle.training.loop import train_step
from cogstyle.training.plain import PlainEngine
from cogstyle.training.processes import Processes, join
from cogstyle.training.run import load_recipe, make_job
from cogstyle.training.run_folder import BEST, Run
from tests.conftest import TASKS, debug_recipe
from tests.training.tiny import OPTIM, TinyJob, fork, fork_all, statuses

OFTEN = LoopConfig(checkpoint_minutes=0.0, log_every=1, sample_every=1000)
CLOCK = ("seconds", "tokens_per_second", "memory_gb")


def logged(folder):
    """Rows of a run's log, without those figures that are not the same twice."""
    rows = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if key not in CLOCK} for row in rows]


def newest(folder):
    return read_tensors(checkpoints(folder)[-1])


def go(folder, job=None, *, steps=8, loop=OFTEN, processes=None, **options):
    """A run of the tiny job."""
    job = job or TinyJob()
    optim = replace(OPTIM, steps=steps)
    loop_module.run(job, optim, loop, Run(folder, processes, quiet=True, **options), seed=0)
    return job


@pytest.mark.slow
@pytest.mark.parametrize(("task", "optimizer"), [*((task, "adamw") for task in TASKS[1:]), ("keyframes", "muon")])
def test_an_interrupted_run_equals_an_uninterrupted_one(task, optimizer, debug_bundle, tmp_path, monkeypatch):
    """Bit for bit: weights, optimiser state, their running mean, and every logged figure that is not of the clock."""
    path = debug_recipe(tmp_path, task, steps=6, bundle=debug_bundle)
    path.write_text(path.read_text().replace("[optim]", f'[optim]\noptimizer = "{optimizer}"'))
    recipe = load_recipe(path)
    loop = replace(recipe.loop, ema=0.9)

    def run(name):
        job = make_job(recipe, runs=tmp_path, quiet=True)
        job.export = lambda: None
        loop_module.run(job, recipe.optim, loop, Run(tmp_path / name, quiet=True), seed=recipe.seed)

    run("whole")
    plain = loop_module.train_step

    def interrupted(*given, step, **named):
        if step == 2:
            signal.raise_signal(signal.SIGINT)  # arrives in the middle of a step, and of a row of the log
        return plain(*given, step=step, **named)

    monkeypatch.setattr(loop_module, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("parts")
    monkeypatch.setattr(loop_module, "train_step", plain)
    assert [path.name for path in checkpoints(tmp_path / "parts")] == ["checkpoint-00000003.safetensors"]
    run("parts")
    whole, parts = (read_tensors(checkpoints(tmp_path / name)[-1])[0] for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and any(key.endswith(".ema") for key in whole)
    for key in whole:
        assert torch.equal(whole[key], parts[key]), key
    assert logged(tmp_path / "whole") == logged(tmp_path / "parts")
    assert (tmp_path / "parts" / "curves.png").exists() and list((tmp_path / "parts").glob("sample-*.png"))


@pytest.mark.parametrize("task", ["image", "keyframes", "interpolation", "superres"])
def test_the_loss_falls_and_the_base_stays(task, debug_bundle, tmp_path):
    recipe = load_recipe(debug_recipe(tmp_path, task, steps=60, bundle=debug_bundle))
    job = make_job(recipe, runs=tmp_path, quiet=True)
    before = {k: v.clone() for k, v in job.transformer.state_dict().items()}
    optim = OptimConfig(steps=60, batch=8, lr=1e-2, warmup=2)
    engine, guard = start(EngineConfig(), job, optim, Processes()), Guard(0.0, 1)
    losses = [train_step(engine, optim, guard, seed=0, step=step)[0]["loss"] for step in range(60)]
    assert sum(losses[-5:]) < sum(losses[:5]) - 0.3
    same = all(torch.equal(v, before[k]) for k, v in job.transformer.state_dict().items())
    assert same == (task != "image")


def test_words_that_images_never_name_become_as_long_as_the_others(debug_bundle, tmp_path):
    """The seconds come with the adapters; their vectors must not be shorter than those of trained words."""
    share_files(Bundle(debug_bundle), tmp_path / "copy", TOKENIZERS)
    job = make_job(load_recipe(debug_recipe(tmp_path, "image", bundle=tmp_path / "copy")), runs=tmp_path, quiet=True)
    weight, (*_, seconds) = job.transformer.embed.weight, job.text.encode("4.0秒")
    words = torch.tensor(sorted({i for caption in job.batches.train.captions for i in job.text.encode(caption)}))
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
    job.batches.train.tokens[:, 0::2, -1] = (job.batches.train.tokens[:, 0::2, -1] + 1) % 32
    same, _ = job.loss(0)
    assert torch.equal(before, same)
    job.batches.train.tokens[:, 1::2, -1] = (job.batches.train.tokens[:, 1::2, -1] + 1) % 32
    other, _ = job.loss(0)
    assert not torch.equal(before, other)


def test_learning_rate_schedule():
    optim = OptimConfig(steps=100, batch=1, lr=1.0, warmup=10)
    assert optim.lr_at(0) == 0.1 and optim.lr_at(9) == 1.0 and optim.lr_at(55) == pytest.approx(0.5)
    assert optim.lr_at(99) < 1e-3
    with pytest.raises(ConfigError, match="warmup 100 must be below steps 100"):
        OptimConfig(steps=100, batch=1, warmup=100)


def test_checkpoints_are_kept_and_older_ones_go(tmp_path):
    job = go(tmp_path, loop=replace(OFTEN, keep=3))
    assert [path.stem[-1] for path in checkpoints(tmp_path)] == ["6", "7", "8"]
    assert torch.equal(newest(tmp_path)[0]["module.weight"], job.exported["weight"])


def test_the_running_mean_is_what_is_exported(tmp_path):
    job = go(tmp_path, loop=replace(OFTEN, ema=0.5))
    tensors, _ = newest(tmp_path)
    for name, value in job.exported.items():
        assert torch.equal(value, tensors[f"optim.{name}.ema"]) and not torch.equal(value, tensors[f"module.{name}"])


def test_what_trains_later_has_a_running_mean_later(tmp_path):
    class Late(TinyJob):
        def loss(self, step, share=None):
            loss, figures = super().loss(step)
            return (loss if step > 3 else self.module.weight.square().sum()), figures

    for name, optimizer in (("a", "adamw"), ("m", "muon")):
        job = Late()
        optim = replace(OPTIM, optimizer=optimizer)
        loop_module.run(job, optim, replace(OFTEN, ema=0.5), Run(tmp_path / name, quiet=True), seed=0)
        assert torch.equal(job.exported["bias"], newest(tmp_path / name)[0]["optim.bias.ema"])


def test_a_loss_that_is_no_number_is_skipped(tmp_path):
    """The weights go on as if the step had not been; the log says so."""
    job = TinyJob({3: float("nan"), 5: float("inf")})
    go(tmp_path, job)
    assert [(row["step"], row["skipped"]) for row in logged(tmp_path) if "skipped" in row] == [
        (3, "the loss is nan"),
        (5, "the loss is inf"),
    ]
    assert newest(tmp_path)[0]["optim.weight.step"] == 6 and job.exported["weight"].isfinite().all()


def test_a_gradient_that_is_no_number_is_skipped(tmp_path):
    class Broken(TinyJob):
        def loss(self, step, share=None):
            loss, figures = super().loss(step)
            return (loss + (self.module.weight * 0).sqrt().sum() if step == 2 else loss), figures

    assert go(tmp_path, Broken()).exported["weight"].isfinite().all()
    assert logged(tmp_path)[2] == {"step": 2, "skipped": "the gradient's norm is nan"}


def test_a_spike_is_skipped_and_many_end_the_run(tmp_path):
    steps = SETTLED + 10
    job = TinyJob({SETTLED + 2: 1e6} | dict.fromkeys(range(SETTLED + 5, steps), 1e6))
    with pytest.raises(
        TrainingError, match=f"step {SETTLED + 8}: 3 steps in a row were skipped.*over 5 times the usual"
    ):
        go(tmp_path, job, steps=steps, loop=replace(OFTEN, skips=3))
    assert "is over 5 times" in logged(tmp_path)[SETTLED + 2]["skipped"]
    assert int(newest(tmp_path)[1]["step"]) == SETTLED + 7  # the next one could not be


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    wanted = go(tmp_path / "whole").exported
    replace_file = os.replace

    def full_disk(scratch, path):
        if path.name == "checkpoint-00000005.safetensors":
            raise OSError(28, "No space left on device")
        replace_file(scratch, path)

    with monkeypatch.context() as patch:
        patch.setattr("cogstyle.files.os.replace", full_disk)
        with pytest.raises(FileError, match=r"cannot write .*checkpoint-00000005.*No space left on device"):
            go(tmp_path / "run")
    assert int(newest(tmp_path / "run")[1]["step"]) == 4
    assert all(torch.equal(value, wanted[name]) for name, value in go(tmp_path / "run").exported.items())


def test_a_disk_without_room_is_named_first(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(BundleError, match=r"has 0\.000 GB left; the checkpoints of this run need"):
        go(tmp_path)


@pytest.mark.slow
def test_kill_9_loses_nothing_but_the_steps_since_the_last_checkpoint(tmp_path):
    """Twenty times at random moments; then the run ends as one that was never killed, to the bit."""
    steps, rng, before = 400, random.Random(0), 0
    often = replace(OFTEN, checkpoint_minutes=5e-5, sample_every=100)

    def at():
        return max((int(path.stem[-8:]) for path in checkpoints(tmp_path / "run")), default=0)

    for attempt in range(20):
        pid = fork(lambda: go(tmp_path / "run", TinyJob(sleep=0.001), steps=steps, loop=often))
        while attempt % 2 and at() == before:  # every second time once there is progress, the others at once
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.02))
        os.kill(pid, signal.SIGKILL)
        assert statuses([pid]) == [-signal.SIGKILL]
        assert at() >= before and (at() == 0 or int(newest(tmp_path / "run")[1]["step"]) == at())
        before = at()
    assert 0 < before < steps
    whole, parts = (go(tmp_path / name, steps=steps, loop=often).exported for name in ("whole", "run"))
    assert all(torch.equal(value, whole[name]) for name, value in parts.items())
    assert logged(tmp_path / "run") == logged(tmp_path / "whole")
    best, wanted = (read_tensors(tmp_path / name / BEST) for name in ("run", "whole"))
    assert best[1]["step"] == wanted[1]["step"] and all(torch.equal(best[0][key], wanted[0][key]) for key in wanted[0])


def in_two(folder, job):
    with join("cpu") as processes:
        go(folder, job, steps=100_000, processes=processes)


def test_when_one_process_dies_the_other_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Dying(TinyJob):
        def loss(self, step, share=None):
            if step == 5 and os.environ["RANK"] == "1":
                os._exit(9)
            return super().loss(step, share)

    assert statuses(fork_all(2, in_two, tmp_path / "run", Dying())) == [2, 9]
    said = (tmp_path / "error-0.txt").read_text()
    assert said.startswith("process 0 of 2 lost another one (") and "goes on from the last checkpoint" in said
    assert int(newest(tmp_path / "run")[1]["step"]) == 5


def test_a_stop_of_one_process_stops_all_after_the_same_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pids = fork_all(2, in_two, tmp_path / "run", TinyJob(sleep=0.001))
    while not checkpoints(tmp_path / "run"):
        time.sleep(0.01)
    os.kill(pids[1], signal.SIGTERM)
    assert statuses(pids) == [130, 130]
    assert int(newest(tmp_path / "run")[1]["step"]) == len(logged(tmp_path / "run"))


def test_overfitting_is_said_once(tmp_path, capsys):
    """When validation has got worse twice; the best weights are kept."""
    run, engine = Run(tmp_path), PlainEngine(TinyJob(), OptimConfig(steps=9, batch=4, warmup=1), Processes())
    for done, loss in enumerate((3.0, 2.0, 2.01, 2.5, 2.6, 2.7), 1):
        run.validated(engine, done, {"validation_loss": loss})
        run.log(done - 1, {"validation_loss": loss})
    said = [line for line in capsys.readouterr().err.splitlines() if "overfitting" in line]
    assert len(said) == 1 and said[0].startswith("step 5: validation was best at step 2 (2.0000)")
    assert read_checkpoint(tmp_path / BEST).step == 2
