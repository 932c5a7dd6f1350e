"""What users build on: __all__, flags, state-dict names. A change here is a change for them."""

import argparse
import subprocess
import sys

import pytest

import cogstyle
from cogstyle.cli.main import build_parser
from cogstyle.config import MODELS

SERVER = {
    "--data", "--host", "--port", "--bundle", "--token", "--queue", "--longest-prompt", "--largest-body",
    "--time-limit", "--keep", "--device", "--dtype",
}  # fmt: skip
FLAGS = {
    "sample": {
        "--prompts", "--out", "--frame-rate", "--seed", "--guidance", "--temperature", "--clusters", "--top-k",
        "--top-p", "--levels", "--first-frame", "--bundle", "--adapter", "--sheet", "--upscale", "--device", "--dtype",
        "--compat", "--tokens", "--windows", "--continue", "--memory", "--quiet", "--level-rates", "--preview",
        "--resume", "--join", "--decoder", "--flow-steps", "--llm",
        "--best-of", "--judge", "--engine", "--workers", "--shard", "--negative-prompt", "--recaption",
    },
    "grow": {"--how", "--blocks", "--part", "--bypass", "--out", "--quiet"},
    "upscale": {"--out", "--prompt", "--seed", "--bundle", "--adapter", "--memory", "--device", "--dtype", "--quiet"},
    "interpolate": {
        "--prompt", "--out", "--frame-rate", "--levels", "--seed", "--bundle", "--adapter", "--sheet", "--tokens",
        "--upscale", "--device", "--dtype", "--preview", "--resume", "--quiet", "--decoder", "--flow-steps",
        "--times", "--join", "--recaption",
    },
    "encode": {
        "--to", "--for", "--bundle", "--adapter", "--caption", "--clip-seconds", "--extra-rates", "--factor", "--fit",
        "--flip",
        "--frames-per-video", "--workers", "--shard", "--engine", "--max-bad",
        "--retry", "--llm", "--template",
        "--split-cuts", "--split-long", "--entries-per-part", "--quiet", "--quality", "--judge", "--scorer",
        "--size", "--frames",
    },
    "train": {
        "--runs", "--run", "--set", "--continue-run", "--encode-only", "--dry-run", "--processes", "--threads",
        "--quiet",
    },
    "world": {"--count", "--out", "--first-seed", "--size", "--fps"},
    "import": {"--to", "--role", "--start-of-image", "--pad", "--t5", "--heads", "--image-size", "--quiet"},
    "export": {"--bundle", "--adapter", "--to", "--role", "--step", "--best"},
    "push": {"--private"},
    "bundles": set(),
    "check": {"--bundle", "--adapter", "--device", "--dtype", "--memory"},
    "recipes": {"--to"},
    "start": {"--videos", "--caption", "--size", "--base"},
    "inspect": {"--bundle", "--adapter", "--batch", "--device", "--start-of-image", "--pad"},
    "evaluate": {
        "--bundle", "--adapter", "--count", "--actors", "--held-out", "--first-seed", "--levels", "--upscale",
        "--sweep", "--phrasings", "--parts", "--batch", "--device", "--out", "--quiet", "--judge", "--prompts",
        "--best-of", "--recaption",
    },
    "serve": SERVER, "web": SERVER,
    "fvd": {
        "--real", "--fake", "--extractor", "--save-stats", "--any-balance", "--batch", "--device", "--out", "--quiet",
    },
}  # fmt: skip


def test_all():
    assert cogstyle.__all__ == ["CogstyleError", "Options", "Pipeline", "Video", "__version__", "load"]
    assert all(getattr(cogstyle, name) is not None for name in cogstyle.__all__)
    with pytest.raises(AttributeError):
        _ = cogstyle.nothing


def test_flags():
    parser = build_parser()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    found = {
        name: {flag for action in command._actions for flag in action.option_strings} - {"-h", "--help"}
        for name, command in commands.items()
    }
    assert found == FLAGS
    for command in commands.values():
        assert "example: cogstyle " in command.format_help()


def test_import_and_help_are_light():
    """Neither loads torch: that is what makes them quick."""
    code = "import sys, cogstyle, cogstyle.cli.main as m; m.build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_state_dict_names(model, adapters):
    assert {name for name in model.state_dict() if not name.startswith("layers.1.")} == {
        "embed.weight", "positions.weight", "norm.weight", "norm.bias",
        *(f"layers.0.{part}.{kind}" for part in
          ("norm1", "norm2", "norm3", "norm4", "qkv", "dense", "up", "down") for kind in ("weight", "bias")),
    }  # fmt: skip
    assert {name for name in adapters["keyframes"].state_dict() if not name.startswith("layers.1.")} == {
        "positions.weight", "layers.0.gate",
        *(f"layers.0.{part}.{kind}" for part in ("qkv", "dense") for kind in ("weight", "bias")),
    }  # fmt: skip


def test_presets():
    assert set(MODELS) == {"debug", "shapes", "cogvideo-9b", "llama-debug", "llama-shapes", "llamagen-xl"}
