"""A run goes on from its own checkpoints only, and from whole ones only; what it exports is its own."""

import json
import re
import shutil

import pytest
import torch

from cogstyle.bundle import Bundle, update_bundle
from cogstyle.cli.main import main
from cogstyle.errors import BundleError, FileError
from cogstyle.files import one_writer, read_tensors
from cogstyle.training import footage
from cogstyle.training import loop as loop_module
from cogstyle.training.checkpoint import checkpoints, newest_checkpoint
from cogstyle.training.processes import join
from cogstyle.training.run_folder import BEST, Run
from tests.conftest import debug_recipe, replace_image_model
from tests.training.test_loop import OFTEN, go
from tests.training.tiny import TinyJob

CHANGES = {
    "seed": ("task", "seed = 1\ntask", "seed was 0, is 1"),
    "steps": ("steps = 4", "steps = 8", "optim.steps was 4, is 8"),
    "batch": ("batch = 4", "batch = 8", "optim.batch was 4, is 8"),
    "lr": ("warmup = 2", "warmup = 2\nlr = 0.1", "optim.lr was 0.001, is 0.1"),
    "optimizer": ("warmup = 2", 'warmup = 2\noptimizer = "muon"', 'optim.optimizer was "adamw", is "muon"'),
    "rows": ("rows = 24", "rows = 32", "data.rows was 24, is 32"),
    "scenes": ("rows = 24", "rows = 24\ntwo_actors = 0.5", "data.two_actors was not set, is 0.5"),
    "mean": ("[loop]", "[loop]\nema = 0.5", "loop.ema was 0.0, is 0.5"),
    "precision": ("[loop]", '[engine]\nprecision = "bf16"\n[loop]', 'engine.precision was "auto", is "bf16"'),
    "train": ("task", "pb_relax = true\ntask", "pb_relax was false, is true"),
}


@pytest.fixture
def bundle(debug_bundle, tmp_path):
    return shutil.copytree(debug_bundle, tmp_path / "bundle")


@pytest.fixture
def recipe(bundle, tmp_path):
    return debug_recipe(tmp_path, "keyframes", bundle=bundle)


def cogstyle(capsys, *words):
    """Exit status and what was said."""
    status = main([*map(str, words)])
    said = capsys.readouterr()
    return status, said.out + said.err


def edit(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_another_recipe_of_the_same_name_is_refused(name, recipe, bundle, tmp_path, capsys):
    """Nothing trains and nothing is exported; both values are named, and how to go on."""
    runs = "--runs", tmp_path / "runs", "--quiet"
    assert main(["train", str(recipe), *map(str, runs)]) == 0
    before, text = Bundle(bundle).hashes(), recipe.read_text()
    old, new, said = CHANGES[name]
    edit(recipe, old, new)
    for more in ((), ("--dry-run",)):
        status, found = cogstyle(capsys, "train", recipe, *runs, *more)
        assert status == 2 and found.splitlines()[-1].count(said) == 1, found
        assert "--run NAME" in found and "--continue-run" in found and Bundle(bundle).hashes() == before
    if name == "seed":  # by another name it trains; under the old recipe the old run is what it was
        assert cogstyle(capsys, "train", recipe, *runs, "--run", "other")[0] == 0
        assert Bundle(bundle).hashes()["keyframes.safetensors"] != before["keyframes.safetensors"]
        recipe.write_text(text)
        status, found = cogstyle(capsys, "train", recipe, *runs)
        assert status == 0 and "was done before: 4 steps of " in found and str(recipe) in found
        assert Bundle(bundle).hashes() == before


def test_other_files_under_the_same_names_are_another_recipe(recipe, bundle, debug_bundle, tmp_path, capsys):
    edit(recipe, "task", f'start = "{bundle}"\ntask')
    command = "train", recipe, "--runs", tmp_path / "runs", "--quiet"
    assert cogstyle(capsys, *command)[0] == 0
    assert "was done before" in cogstyle(capsys, *command)[1]  # it has changed its own start: that is no change
    exported = Bundle(bundle).hashes()
    shutil.copy(debug_bundle / "keyframes.safetensors", bundle / "keyframes.safetensors")
    edit(
        bundle / "bundle.toml",
        exported["keyframes.safetensors"],
        Bundle(debug_bundle).hashes()["keyframes.safetensors"],
    )
    assert "was done before" in cogstyle(capsys, *command)[1]
    weights = {key: value + 1.0 for key, value in Bundle(bundle).weights("keyframes").items()}
    changes = {
        "start": lambda: update_bundle(bundle, {"keyframes.safetensors": weights}),
        "stands on.image.safetensors": lambda: replace_image_model(bundle),
    }
    for key, change in changes.items():
        change()
        status, found = cogstyle(capsys, *command)
        assert status == 2 and re.search(rf"{re.escape(key)} was \w{{12}}\.\.\., is \w{{12}}\.\.\.", found), found


def test_what_does_not_change_the_weights_may_change(recipe, tmp_path, capsys):
    runs = "--runs", tmp_path / "runs", "--quiet"
    assert cogstyle(capsys, "train", recipe, *runs)[0] == 0
    edit(recipe, "log_every = 2", "log_every = 1\nkeep = 5\ncheckpoint_minutes = 1.0\nskips = 7")
    edit(recipe, "task", 'licence = "MIT"\nframe_rate = 4.0\nexport = "last"\ntask')
    edit(recipe, "[data]", "[engine]\naccumulate = 2\n[data]")
    status, found = cogstyle(capsys, "train", recipe, *runs)
    assert status == 0 and "was done before" in found


def test_a_run_goes_on_with_another_recipe_on_purpose(recipe, tmp_path, capsys):
    runs = "--runs", tmp_path / "runs", "--quiet"
    assert cogstyle(capsys, "train", recipe, *runs)[0] == 0
    edit(recipe, "warmup = 2", "warmup = 2\nlr = 0.002")
    status, found = cogstyle(capsys, "train", recipe, *runs, "--continue-run")
    assert status == 2 and "has trained 4 steps already; this recipe ends after 4" in found
    edit(recipe, "steps = 4", "steps = 6")
    assert cogstyle(capsys, "train", recipe, *runs, "--continue-run")[0] == 0
    rows = [json.loads(line) for line in (tmp_path / "runs/keyframes/log.jsonl").read_text().splitlines()]
    assert [row["recipe"] for row in rows if "recipe" in row] == [
        "optim.steps was 4, is 6; optim.lr was 0.001, is 0.002"
    ]
    assert rows[-1]["step"] == 5 and newest_checkpoint(tmp_path / "runs/keyframes").step == 6
    assert (
        newest_checkpoint(tmp_path / "runs/keyframes").tensors["optim.layers.0.gate.step"] == 6
    )  # the optimiser's own
    status, found = cogstyle(capsys, "train", recipe, *runs)
    assert status == 0 and "was done before: 6 steps" in found


def test_shards_of_other_videos_are_other_data(tmp_path, monkeypatch):

    monkeypatch.setattr(footage, "read_index", lambda folder: "an index")
    folder = tmp_path / "shards"
    folder.mkdir()
    found = []
    for content in (b"one", b"two", b"one"):
        (folder / "part-00000.safetensors").write_bytes(content)
        found.append(footage.ShardData(str(folder)).identity())
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize("name", ["", ".", "..", "data", "a/b", "x" * 300, "a\nb"])
def test_names_that_are_none_of_a_run(name, recipe, tmp_path, capsys):
    status, found = cogstyle(capsys, "train", recipe, "--runs", tmp_path / "runs", "--run", name)
    assert status == 2 and "cannot name a run" in found and found.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_every_bit_of_a_checkpoint_counts(tmp_path, capsys):
    """Header, metadata and tensors: whichever bit is flipped, the run goes on from the one before, says so, and ends
    as if nothing had been."""
    wanted = go(tmp_path / "run", loop=OFTEN, steps=8).exported
    path = checkpoints(tmp_path / "run")[-1]
    good = path.read_bytes()
    places = {0, 1, 8, 9, 40, len(good) - 1} | {k * len(good) // 60 for k in range(60)}
    for number, place in enumerate(sorted(places)):
        bad = bytearray(good)
        bad[place] ^= 1 << number % 8
        path.write_bytes(bad)
        found = newest_checkpoint(tmp_path / "run")
        assert found.step == 7 and len(found.damaged) == 1 and path.name in found.damaged[0], place
    again = go(tmp_path / "run", steps=8).exported
    assert all(torch.equal(value, wanted[name]) for name, value in again.items())
    assert f"going on from {checkpoints(tmp_path / 'run')[-2].name}" in capsys.readouterr().err
    assert len(checkpoints(tmp_path / "run")) == 2  # what was damaged is aside, and pushes no whole one out


def test_when_all_checkpoints_are_damaged_the_run_stops(tmp_path):
    go(tmp_path)
    for path in checkpoints(tmp_path):
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BundleError, match=r"no checkpoint in .* can be read: .*name a new run"):
        go(tmp_path)
    assert len(checkpoints(tmp_path)) == 2


@pytest.mark.slow
def test_a_resumed_log_is_that_of_an_unbroken_run(tmp_path, monkeypatch):
    """Stopped at any step, between rows and between skipped steps; limits count across the stop."""
    losses = {4: float("nan"), 5: float("nan"), 9: float("nan")}
    loop = loop_module.LoopConfig(log_every=4, sample_every=6, skips=3)
    go(tmp_path / "whole", TinyJob(losses), steps=14, loop=loop)
    plain = loop_module.train_step
    for stop in range(13):

        def step_and_stop(*given, step, stop=stop, **named):
            if step == stop:
                loop_module.signal.raise_signal(loop_module.signal.SIGINT)
            return plain(*given, step=step, **named)

        folder = tmp_path / str(stop)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match=f"after step {stop + 1} of 14"):
            patch.setattr(loop_module, "train_step", step_and_stop)
            go(folder, TinyJob(losses), steps=14, loop=loop)
        go(folder, TinyJob(losses), steps=14, loop=loop)
        rows = [without_clock(name) for name in (folder, tmp_path / "whole")]
        assert rows[0] == rows[1]
    with pytest.raises(Exception, match="step 7: 3 steps in a row"):
        go(tmp_path / "three", TinyJob(losses | {6: float("nan")}), steps=14, loop=loop)


def without_clock(folder):
    clock = ("seconds", "tokens_per_second", "memory_gb")
    rows = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if key not in clock} for row in rows]


class Rising(TinyJob):
    """Its validation loss is lowest after step 4."""

    def validate(self):
        self.seen = getattr(self, "seen", 0) + 1
        return {"validation_loss": [3.0, 1.0, 2.0, 2.5][self.seen - 1]}


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_best_weights_are_exported_unless_the_last_are_asked_for(ema, tmp_path):
    loop = loop_module.LoopConfig(sample_every=2, ema=ema, checkpoint_minutes=0.0, keep=8)
    job = Rising()
    said = loop_module.run(job, loop_optim(), loop, Run(tmp_path / "best", quiet=True), seed=0)
    assert said == "step 4, the best by validation (1.0000; the last, step 8: 2.5000)"
    tensors = read_tensors(tmp_path / "best" / "checkpoint-00000004.safetensors")[0]
    key = "optim.weight.ema" if ema else "module.weight"
    assert torch.equal(job.exported["weight"], tensors[key])
    assert not any("exp_avg" in name for name in read_tensors(tmp_path / "best" / BEST)[0])
    job = Rising()
    said = loop_module.run(job, loop_optim(), loop, Run(tmp_path / "last", keep_best=False, quiet=True), seed=0)
    assert said == "step 8" and not torch.equal(job.exported["weight"], tensors[key])
    data = bytearray((tmp_path / "best" / BEST).read_bytes())
    data[-1] ^= 1
    (tmp_path / "best" / BEST).write_bytes(data)
    said = loop_module.choose(tmp_path / "best", {}, 8, keep_best=True)[1]
    assert said.startswith("step 8, the last (") and "is damaged" in said


def loop_optim():
    return loop_module.OptimConfig(steps=8, batch=4, lr=1e-2, warmup=1)


def test_validation_is_shown(tmp_path, capsys):
    loop_module.run(Rising(), loop_optim(), loop_module.LoopConfig(sample_every=2), Run(tmp_path), seed=0)
    shown = re.findall(r"step (\d): validation_loss (\S+)", capsys.readouterr().err)
    assert shown == [("2", "3.0000"), ("4", "1.0000"), ("6", "2.0000"), ("8", "2.5000")]


def test_two_runs_in_one_folder(recipe, tmp_path, capsys):
    folder = tmp_path / "runs" / "keyframes"
    folder.mkdir(parents=True)
    with one_writer(folder):
        status, found = cogstyle(capsys, "train", recipe, "--runs", tmp_path / "runs", "--quiet")
    assert status == 2 and found.startswith("cogstyle: another process is writing") and found.count("\n") == 1
    assert not checkpoints(folder)


def test_folders_that_cannot_be_made(recipe, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for runs in (tmp_path / "file", "/proc/nothing"):
        for more in ((), ("--dry-run",)):
            status, found = cogstyle(capsys, "train", recipe, "--runs", runs, "--quiet", *more)
            assert status == 2 and "cannot make the folder" in found and found.count("\n") == 1


def test_a_broken_log_is_no_trouble(tmp_path):
    go(tmp_path, steps=8, loop=OFTEN)
    (tmp_path / "log.jsonl").write_text((tmp_path / "log.jsonl").read_text() + 'rubbish}\n{"step": 3, "lo')
    go(tmp_path, steps=8, loop=OFTEN)
    assert [row["step"] for row in without_clock(tmp_path)] == list(range(8))


@pytest.mark.parametrize(("name", "value"), [("WORLD_SIZE", "x"), ("RANK", "1"), ("WORLD_SIZE", "2")])
def test_what_a_launcher_leaves_wrong(name, value, recipe, tmp_path, monkeypatch, capsys):
    for key in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv(name, value)
    status, found = cogstyle(capsys, "train", recipe, "--runs", tmp_path / "runs")
    assert status == 2 and found.count("\n") == 1, found


def test_a_network_that_is_lost_is_one_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")

    def lost(*given, **named):
        raise torch.distributed.DistNetworkError("Failed to recv, got 0 bytes. Connection was likely closed.")

    monkeypatch.setattr(torch.distributed, "init_process_group", lost)
    with pytest.raises(Exception, match="process 0 of 2 lost another one"), join("cpu"):
        pass


def test_a_folder_that_cannot_be_locked_names_itself(tmp_path):
    with pytest.raises(FileError, match="cannot write into"), one_writer(tmp_path / "none"):
        pass
