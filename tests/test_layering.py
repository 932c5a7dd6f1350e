"""Imports look down only, and each outside dependency stays in its room."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "cogstyle"
LEVELS = {
    "errors": -2, "schema": -1, "shapes": 0, "config": 0, "files": 0,
    "layout": 1, "pictures": 1,
    "tokenizers": 2, "model": 2, "video": 2,
    "adapter": 3, "bundle": 3,
    "interop": 4, "data": 4, "sampling": 4,
    "training": 5, "evaluation": 5,
    "cli": 6,
}  # fmt: skip
SIDEWAYS = {("training", "data")}  # allowed although both are high up
OWNERS = {
    "argparse": "cli",
    "av": "video",
    "deepspeed": "training/engine.py",
    "sat": "interop/sat_model.py",
    "icetk": "interop",
}


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module if node.module != "cogstyle" else f"cogstyle.{node.names[0].name}"


FILES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_look_down(path):
    here = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "cogstyle":
            there = parts[1]
            below = LEVELS[there] < LEVELS[here]
            assert there == here or below or (here, there) in SIDEWAYS, f"{path} imports {name}"
        elif parts[0] in OWNERS:
            assert str(path.relative_to(ROOT)).startswith(OWNERS[parts[0]]), f"{path} imports {name}"


def test_files_stay_readable():
    for path in FILES:
        limit = 350 if room(path) == "model" else 400
        assert len(path.read_text("utf-8").splitlines()) <= limit, path


def test_print_is_the_cli_s_alone():
    for path in FILES:
        calls = [
            n.func.id
            for n in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        ]
        assert "print" not in calls or room(path) == "cli", path
