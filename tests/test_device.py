"""Sampling, upscaling and training run on a device that is not the CPU, and find there what the CPU finds."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from cogstyle import load
from cogstyle.training.run import train
from tests.conftest import bundle_below, debug_recipe
from tests.pretend import pretended_gpu

pytestmark = pytest.mark.slow


def test_a_tensor_left_on_the_cpu_is_seen():
    with pretended_gpu():
        there = torch.ones(2, device="cuda")
        assert str(there.device) == "cuda:0" and (there + there).tolist() == [2.0, 2.0]
        with pytest.raises(RuntimeError, match="meets tensors"):
            there + torch.ones(2)
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_clip_is_drawn(dtype, debug_bundle):
    options = {"levels": 1, "guidance": 2.0, "clusters": 2, "upscale": True}
    with pretended_gpu():
        made = load(debug_bundle, device="cuda", dtype=dtype)("a red circle moves right", **options)
    if dtype == "float32":
        np.testing.assert_array_equal(made.frames, load(debug_bundle)("a red circle moves right", **options).frames)
    assert made.frames.shape[0] == 9


@pytest.mark.parametrize(
    ("task", "precision"),
    [("image", "fp32"), ("keyframes", "fp32"), ("keyframes", "bf16"), ("interpolation", "fp32"), ("superres", "fp32")],
)
def test_training_finds_the_same_losses(task, precision, debug_bundle, tmp_path):
    compare(task, f'precision = "{precision}"\naccumulate = 2\n', precision, debug_bundle, tmp_path)


def test_tokenizers_train_there_too(debug_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("cogstyle.training.tokenizer.has_bfloat16", lambda device: False)  # none of the pretended
    compare("tokenizer", "", "fp32", debug_bundle, tmp_path)


def compare(task, engine, precision, debug_bundle, tmp_path):
    losses = {}
    for device in ("cpu", "cuda"):
        bundle = bundle_below(task, debug_bundle, tmp_path / device / "bundle")
        recipe = debug_recipe(tmp_path / device, task, steps=3, bundle=bundle)
        lines = f'[engine]\ndevice = "{device}"\n{engine}[loop]\n'
        lines += 'prompts = ["a red circle"]\n' if task in ("image", "keyframes") and precision == "fp32" else ""
        text = recipe.read_text().replace("[loop]\n", lines)
        with pretended_gpu() if device == "cuda" else nullcontext():
            for steps in (3, 4):  # the second goes on from the checkpoint of the first
                recipe.write_text(text.replace("steps = 3", f"steps = {steps}"))
                train(recipe, runs=tmp_path / device, continue_run=True, quiet=True)
        rows = [json.loads(line) for line in (tmp_path / device / task / "log.jsonl").read_text().splitlines()]
        losses[device] = [row[name] for row in rows for name in ("loss", "validation_loss", "psnr") if name in row]
    assert rows[-1]["step"] == 3 and len(losses["cpu"]) > 3
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=1e-5 if precision == "fp32" else 1e-2)
