"""Every shipped recipe loads; wrong ones are refused by name."""

from pathlib import Path

import pytest

from cogstyle.config import MODELS
from cogstyle.data.mixing import make_groups
from cogstyle.errors import CogstyleError
from cogstyle.training.folder import read_steps
from cogstyle.training.recipes import load_recipe

STEPS, ROWS = "[optim]\nsteps = 200\nbatch = 8\n", "[data]\nrows = 50\n"
RECIPES = sorted((Path(__file__).parents[2] / "train").rglob("*.toml"))


def test_there_are_recipes():
    assert {path.stem for path in RECIPES} >= {"text", "tokenizer", "image", "keyframes", "interpolation", "superres"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_load(path):
    recipe = load_recipe(path)
    assert recipe.task == path.stem or path.parent.name != "shapes" or path.stem.startswith("grown_")


@pytest.mark.parametrize("world", ["shapes", "zoo"])
def test_a_folder_is_a_whole_bundle_from_nothing(world):
    steps = read_steps(Path(__file__).parents[2] / "train" / world)
    whole = ["text", "tokenizer", "image", "keyframes", "interpolation", "superres"]
    assert [step.recipe.task for step in steps] == whole
    assert all(getattr(step.recipe, key, None) is None for step in steps for key in ("start", "base"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_recipes_divide_by_eight_and_leave_the_shipped_weights_alone(path):
    recipe = load_recipe(path)
    assert (
        recipe.bundle.startswith("bundles/")
        and "pretrained" not in f"{getattr(recipe, 'base', None)} {getattr(recipe, 'start', None)}"
    )
    alone = recipe.task in ("text", "tokenizer", "flow_decoder")  # they train in one process
    assert alone or recipe.optim.batch % 8 == 0
    if getattr(recipe, "mix", None) is not None:
        samples = [group.samples for group in make_groups(recipe.mix, MODELS["shapes"])]
        assert all(count % 8 == 0 for count in samples)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task = 'image'\nbundle = 'x'\ncolour = 1", "unknown key colour"),
        (
            "task = 'image'\nbundle = 'x'\n[data]\nrows = 5\n[optim]\nsteps = 200\nbatch = 1\nspeed = 2",
            r"\[optim\]: unknown key speed",
        ),
        ("task = 'sing'\nbundle = 'x'", "unknown task 'sing'"),
        ("task = 'image'\nbundle = 'x'", "missing key optim, data"),
        ("task = 'keyframes'\nbundle = 'x'\n[optim]\nsteps = 200\nbatch = 1", "missing key data"),
        (
            "task = 'tokenizer'\nbundle = 'x'\n[optim]\nsteps = 200\nbatch = 1\n[data]\nrows = 5",
            "unknown key rows; known are footage",
        ),
        (
            f"task = 'image'\nbundle = 'x'\n{STEPS}[data]\nrows = 2000000",
            "rows 2000000 must be less than or equal to 1000000",
        ),
        (
            "task = 'image'\nbundle = 'x'\n[data]\nrows = 5\nshards = 's'\n[optim]\nsteps = 200\nbatch = 1",
            "unknown key shards; known are rows",
        ),
        (
            f"task = 'tokenizer'\nbundle = 'x'\n{STEPS}[engine]\nzero = 1",
            r"\[engine\]: unknown key zero; known are device",
        ),
        (
            f"task = 'superres'\nbundle = 'x'\n{STEPS}{ROWS}[engine]\nactivation_checkpointing = true",
            "unknown key activation",
        ),
        (f"task = 'interpolation'\nbundle = 'x'\n{STEPS}{ROWS}[loop]\nprompts = ['a']", "unknown key prompts"),
        (f"task = 'image'\nbundle = 'x'\n{STEPS}{ROWS}[loop]\nprompts = ['a']\n[engine]\nzero = 3", "with zero 3"),
        (f"task = 'image'\nbundle = 'x'\n{STEPS}{ROWS}[loop]\nema = 1.0", r"ema 1.0 must be less than 1"),
        (f"task = 'image'\nbundle = 'x'\n{STEPS}{ROWS}[loop]\nspike = 0.5", "spike 0.5 must be above 1"),
        (f"task = 'image'\nbundle = 'x'\n{STEPS}{ROWS}[loop]\nkeep = 0", "keep 0 must be greater than or equal to 1"),
        (
            "task = 'image'\nbundle = 'x'\n[data]\nshards = [1]\n[optim]\nsteps = 200",
            r"shards\[0\] 1 must be a valid string",
        ),
        (
            "task = 'image'\nbundle = 'x'\n[data]\nshards = 1\n[optim]\nsteps = 200",
            r"\[data\]: shards 1 must be a valid string",
        ),
        (f"task = 'image'\nbundle = 'x'\nexport = 'first'\n{STEPS}{ROWS}", "export 'first' must be 'best' or 'last'"),
        ("task = 'text'\nbundle = 'x'\nstart = 'y'", "unknown key start; known are task, bundle, seed, preset"),
        (f"task = 'image'\nbundle = 'x'\ntrain = 'decoder'\n{STEPS}{ROWS}", "train 'decoder' must be 'new'"),
        (f"task = 'tokenizer'\nbundle = 'x'\ntrain = 'decoder'\n{STEPS}", 'train "decoder" needs a start'),
        (f"task = 'tokenizer'\nbundle = 'x'\ntrain = 'all'\n{STEPS}", "train 'all' must be 'decoder'"),
        (
            f"task = 'image'\nbundle = 'x'\n{STEPS}{ROWS}two_actors = 1.5",
            r"two_actors 1.5 must be less than or equal to 1",
        ),
        (f"task = 'image'\nbundle = 'x'\n{STEPS}{ROWS}continuation = 0.2", "continuation is of keyframes alone"),
        (
            f"task = 'image'\nbundle = 'x'\n{STEPS}[data]\nshards = 's'\ntwo_actors = 0.5",
            "unknown key two_actors; known are shards",
        ),
        (
            f"task = 'image'\nbundle = 'x'\n{STEPS}{ROWS}actions = {{ fly = 2.0 }}",
            "unknown action 'fly'; known are move",
        ),
        (
            f"task = 'image'\nbundle = 'x'\n{STEPS}{ROWS}actions = {{ circle = 0.0 }}",
            "actions.circle 0.0 must be greater than 0",
        ),
        (
            f"task = 'image'\nbundle = 'x'\n{STEPS}[data]\nshards = 's'\nactions = {{ circle = 2.0 }}",
            "unknown key actions; known are shards",
        ),
        ("bundle = 'x'", "missing key task"),
        ("task = ", "r.toml: Invalid value"),
    ],
)
def test_wrong_recipes_are_refused(tmp_path, text, message):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(CogstyleError, match=message):
        load_recipe(path)
