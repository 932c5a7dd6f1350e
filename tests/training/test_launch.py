"""A recipe under torchrun: two processes, DeepSpeed, and everything that a run writes down."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from cogstyle.bundle import Bundle
from cogstyle.cli.main import main
from cogstyle.files import read_tensors
from cogstyle.training.checkpoint import checkpoints
from tests.conftest import debug_recipe

ROOT = Path(__file__).parents[2]
LOOP = '[loop]\nema = 0.9\ntensorboard = true\nprompts = ["a red circle moves right", "一个蓝色正方形"]'


@pytest.fixture
def recipe(debug_bundle, tmp_path):
    return debug_recipe(tmp_path, "keyframes", bundle=shutil.copytree(debug_bundle, tmp_path / "bundle"))


@pytest.mark.slow
def test_torchrun_trains_a_recipe(recipe, tmp_path):
    recipe.write_text(recipe.read_text().replace("[loop]", LOOP) + "\n[engine]\nzero = 2\naccumulate = 2")
    before = Bundle(tmp_path / "bundle").hashes()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "train/launch.py", str(recipe), "--runs", str(tmp_path / "runs"), "--quiet"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    after, folder = Bundle(tmp_path / "bundle"), tmp_path / "runs" / "keyframes"
    assert after.hashes()["keyframes.safetensors"] != before["keyframes.safetensors"]
    assert after.hashes()["image.safetensors"] == before["image.safetensors"]
    mean = read_tensors(checkpoints(folder)[-1])[0]["optim.layers.0.gate.ema"]
    assert (after.adapter("keyframes").layers[0].gate - mean).abs().max() < 1e-3  # float16
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 3] and rows[-1].keys() >= {
        "loss", "grad_norm", "lr", "tokens_per_second", "memory_gb", "validation_loss", "spatial_gate_layer_2",
    }  # fmt: skip
    assert cv2.imread(str(folder / "grid-000004.png")).shape == (2 * 32, 5 * 32, 3)
    assert (folder / "grid-000004.gif").exists()
    assert scalars(folder / "tensorboard") >= {"loss", "lr", "spatial_gate_layer/2", "tokens_per_second"}


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    assert "sample" in events.Tags()["images"] and "grid" in events.Tags()["images"]
    return set(events.Tags()["scalars"])


def test_a_tokenizer_trains_in_one_process(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", str(debug_recipe(tmp_path, "tokenizer"))]) == 2
    assert "the task 'tokenizer' trains in one process; 2 were started" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "processes", "message"),
    [
        ("", 3, "batch 4 does not divide among 3 processes x accumulate 1"),
        ("[engine]\nzero = 3\n[sampling]\ntop_k = 1", 5, "batch 4 does not divide among 5 processes"),
        ("[engine]\nstages = 3", 1, "[engine]: unknown key stages; known are device, zero, offload"),
    ],
)
def test_what_cannot_train_is_said_at_once(table, processes, message, recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    recipe.write_text(recipe.read_text() + "\n" + table)
    assert main(["train", str(recipe), "--runs", str(tmp_path / "runs")]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "runs").exists()
