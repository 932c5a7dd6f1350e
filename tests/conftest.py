"""Fixtures: one thread, fixed seeds, a random debug model, and a debug bundle that has been trained for a few steps."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cogstyle.adapter import adapter_from_image
from cogstyle.bundle import Bundle, share_files, update_bundle
from cogstyle.config import MODELS, ModelConfig
from cogstyle.model.temporal import TemporalAdapter
from cogstyle.model.transformer import Transformer
from cogstyle.training.export import TOKENIZERS
from cogstyle.training.run import train
from cogstyle.training.transformer import fresh_transformer

TASKS = ("text", "tokenizer", "image", "keyframes", "interpolation", "superres")


torch.set_num_threads(1)  # threads fight on small machines, and one is exactly repeatable


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    return MODELS["debug"]


def disturb(module: torch.nn.Module, scale: float = 0.2) -> None:
    """Move every parameter away from its special starting value."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)


@pytest.fixture(scope="session")
def model(config: ModelConfig) -> Transformer:
    torch.manual_seed(1)
    transformer = fresh_transformer(config)
    disturb(transformer)
    return transformer.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def adapters(model: Transformer) -> dict[str, TemporalAdapter]:
    torch.manual_seed(2)
    made = {"keyframes": adapter_from_image(model), "interpolation": adapter_from_image(model, window=2)}
    for adapter in made.values():
        disturb(adapter)
        adapter.requires_grad_(False)
    return made


def debug_recipe(folder: Path, task: str, *, steps: int = 4, bundle: Path | None = None) -> Path:
    """Write the debug recipe of a task and return its path."""
    lines = [f'task = "{task}"', f'bundle = "{bundle or folder / "bundle"}"']
    lines += ['preset = "debug"'] if task in ("text", "tokenizer", "image") else []
    if task != "text":
        lines += [
            "[optim]",
            f"steps = {steps}",
            "batch = 4",
            "warmup = 2",
            "[loop]",
            "sample_every = 4",
            "log_every = 2",
        ]
    if task not in ("text", "tokenizer"):
        lines += ["[data]", "rows = 24", "validation_rows = 8"]
    path = folder / f"{task}.toml"
    path.write_text("\n".join(lines))
    return path


def bundle_below(task: str, bundle: Path, folder: Path) -> Path:
    """A copy of a bundle that a task can be trained into: with nothing that stands on what the task makes."""
    if task not in ("tokenizer", "image"):
        return shutil.copytree(bundle, folder)
    share_files(Bundle(bundle), folder, TOKENIZERS if task == "image" else ["text.model"])
    return folder


def replace_image_model(bundle: Path) -> None:
    """Other weights under the same names: of the image model, and so of all that stands on it."""
    names = ("image", "keyframes", "interpolation", "superres")
    old = {name: Bundle(bundle).weights(name) for name in names}
    update_bundle(bundle, {f"{name}.safetensors": {k: v + 1.0 for k, v in old[name].items()} for name in names})


@pytest.fixture(scope="session")
def debug_bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bundle whose weights went through the real recipes, all of them tiny; for reading."""
    folder = tmp_path_factory.mktemp("debug")
    for task in TASKS:
        train(debug_recipe(folder, task), runs=folder / "runs", quiet=True)
    made = Bundle(folder / "bundle").hashes()
    yield folder / "bundle"
    assert Bundle(folder / "bundle").hashes() == made, "a test wrote into the bundle that all share"
