"""Every shipped recipe loads; wrong ones are refused by name."""

from pathlib import Path

import pytest

from cogstyle.errors import ConfigError
from cogstyle.training.recipe import load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "train").rglob("*.toml"))


def test_there_are_recipes():
    assert {path.stem for path in RECIPES} >= {"text", "tokenizer", "image", "keyframes", "interpolation", "superres"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_load(path):
    recipe = load_recipe(path)
    assert recipe.task == path.stem or path.parent.name != "shapes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task = 'image'\nbundle = 'x'\ncolour = 1", "unknown key colour"),
        ("task = 'image'\nbundle = 'x'\n[optim]\nsteps = 200\nbatch = 1\nspeed = 2", r"\[optim\]: unknown key speed"),
        ("task = 'sing'\nbundle = 'x'", "unknown task 'sing'"),
        ("task = 'image'\nbundle = 'x'", r"needs an \[optim\] table"),
        ("task = 'keyframes'\nbundle = 'x'\n[optim]\nsteps = 200\nbatch = 1", r"needs a \[data\] table"),
        ("task = 'tokenizer'\nbundle = 'x'\n[optim]\nsteps = 200\nbatch = 1\n[data]\nrows = 5", "no effect"),
        ("task = 'image'\nbundle = 'x'\n[data]\nrows = 2000000", "rows 2000000 must be 1 to 1,000,000"),
        (
            "task = 'image'\nbundle = 'x'\n[data]\nrows = 5\nshards = 's'\n[optim]\nsteps = 200\nbatch = 1",
            "set one of them",
        ),
        ("task = 'image'\nbundle = 'x'\n[data]\nshards = [1]\n[optim]\nsteps = 200", r"shards \(1,\) must be names"),
        ("task = 'image'\nbundle = 'x'\n[data]\nshards = 1\n[optim]\nsteps = 200", r"\[data\]: 'int' object"),
        ("bundle = 'x'", "missing 1 required positional argument: 'task'"),
        ("task = ", "cannot read recipe"),
    ],
)
def test_wrong_recipes_are_refused(tmp_path, text, message):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_recipe(path)
