"""A folder of recipes: trained in order into one bundle, which then gets a sheet of samples and a card."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cogstyle.bundle import Bundle, WeightFile
from cogstyle.config import require
from cogstyle.errors import CogstyleError
from cogstyle.files import fingerprint, read_text, write_bytes
from cogstyle.pictures import write_png
from cogstyle.sampling.options import Options
from cogstyle.sampling.pipeline import Pipeline
from cogstyle.shipped import shipped_recipe
from cogstyle.training.recipes import RECIPES, Recipe, WeightRecipe, has_key, load_recipe
from cogstyle.training.run import train
from cogstyle.training.run_folder import LOG, read_log, run_folder, score

CARD, SHEET = "README.md", "samples.png"  # in the bundle
SHOWN = 6  # captions that the sheet draws
MARK = "<!-- cogstyle train "  # begins the last line of our cards


@dataclass(frozen=True)
class Step:
    """A recipe of the folder, and the changes that concern it."""

    path: Path
    recipe: Recipe
    changes: tuple[str, ...]


def read_steps(folder: Path, changes: Sequence[str] = ()) -> list[Step]:
    """The recipes of a folder in the order in which a bundle needs them.

    Args:
        changes: `KEY=VALUE` for all that have the key.

    Raises:
        ConfigError: if there are none, one is wrong, or they write several bundles; if none has a key.
    """
    paths = sorted(shipped_recipe(folder).glob("*.toml"))
    require(bool(paths), f"{folder} holds no recipes (.toml); cogstyle start writes some")
    for change in changes:
        require(any(has_key(path, change) for path in paths), f"--set {change}: no recipe of {folder} has such a key")
    steps = []
    for path in paths:
        own = tuple(change for change in changes if has_key(path, change))
        steps.append(Step(path, load_recipe(path, own), own))
    bundles = sorted({step.recipe.bundle for step in steps})
    require(len(bundles) == 1, f"the recipes of {folder} write several bundles: {', '.join(bundles)}")
    return sorted(steps, key=lambda step: list(RECIPES).index(step.recipe.task))


def train_folder(
    folder: Path, *, runs: Path | None = None, changes: Sequence[str] = (), quiet: bool = False
) -> Iterator[str]:
    """Train what is not trained yet, one recipe after the other, and yield what came of each, in one line.

    Args:
        runs: where checkpoints, logs and data are kept; default: `runs` in the folder.
        changes: see `read_steps`.
    """
    steps, runs = read_steps(folder, changes), runs or folder / "runs"
    for step in steps:
        yield train(step.path, runs=runs, changes=step.changes, quiet=quiet)
    yield describe(steps, runs)


def describe(steps: Sequence[Step], runs: Path) -> str:
    """Write the card of the bundle and a sheet of samples, unless they are there; says where."""
    bundle = Bundle(steps[0].recipe.bundle)
    path, mark = bundle.folder / CARD, f"{MARK}{fingerprint(bundle.hashes(), bundle.manifest)} -->"
    text = read_text(path) if path.exists() else ""
    if text and MARK not in text:
        return f"{path} is another's card and stays as it is"
    if not text.rstrip().endswith(mark):
        captions = some_captions(steps) if bundle.has(WeightFile.IMAGE) else []
        if captions:
            write_png(bundle.folder / SHEET, sheet(bundle, captions))
        write_bytes(path, f"{card(bundle, steps, runs, captions)}\n{mark}\n".encode())
    return f"{path} says what the bundle is, and shows samples"


def some_captions(steps: Sequence[Step]) -> list[str]:
    """Captions spread over what the bundle was trained on."""
    for step in steps:
        data = getattr(step.recipe, "data", None)
        found: list[str] = getattr(data, "captions_of", list)()
        if found:
            return found[:: -(-len(found) // SHOWN)]
    return []


def sheet(bundle: Bundle, captions: Sequence[str]) -> np.ndarray:
    """What the bundle draws of captions: keyframes, a row each, or pictures side by side, uint8 [height, width, 3]."""
    pipeline, options, seeds = Pipeline(bundle), Options(levels=0), [0] * len(captions)
    videos = bundle.has(WeightFile.KEYFRAMES)
    rows = []
    for part in pipeline.stream(captions, seeds, options):
        if not videos or part.whole:
            rows = [np.concatenate(list(pipeline.decode(tokens_FL)), 1) for tokens_FL in part.tokens_BFL]
            break
    return np.concatenate(rows, 0 if videos else 1)


def card(bundle: Bundle, steps: Sequence[Step], runs: Path, captions: Sequence[str]) -> str:
    """What the bundle is, in Markdown."""
    tokenizer = bundle.tokenizer_config
    side = tokenizer.image_size // tokenizer.rate
    lines = [f"# {bundle.name}", "", "A bundle of cogstyle, made by `cogstyle train`.", ""]
    lines += [f"- {tokenizer.image_size} x {tokenizer.image_size} px, {side} x {side} of {tokenizer.codes:,} codes"]
    if bundle.has_model:
        model = bundle.model_config
        lines += [f"- image model of {model.layers} layers, width {model.width}, {model.heads} heads"]
    lines += [f"- licence of the weights: {bundle.manifest['licence']}"] if "licence" in bundle.manifest else []
    lines += ["", "| recipe | steps | hours | validation |", "|---|---:|---:|---|"]
    for step in steps:
        if isinstance(step.recipe, WeightRecipe) and not getattr(step.recipe, "frozen", False):
            lines.append(_row(step, run_folder(runs, step.path.stem)))
    if captions:
        lines += ["", f"![samples]({SHEET})", "", "Drawn with seed 0, from top to bottom or left to right, of:", ""]
        lines += [f"{number}. {caption}" for number, caption in enumerate(captions, 1)]
    return "\n".join([*lines, ""])


def _row(step: Step, folder: Path) -> str:
    assert isinstance(step.recipe, WeightRecipe)
    steps, changed = step.recipe.optim.steps, "".join(f", {change}" for change in step.changes)
    rows = read_log(folder / LOG, steps)
    hours = rows[-1]["seconds"] / 3600 if rows else 0.0
    judged = [row for row in rows if score(row) is not None]
    best = min(judged, key=lambda row: score(row) or 0.0) if judged else {}
    names = [name for name in best if name in ("psnr", "ssim") or name == "validation_loss"]
    found = ", ".join(f"{name} {best[name]:.3f}" for name in names)
    return f"| {step.path.name}{changed} | {steps:,} | {hours:.2f} | {found} |"


def check_folder(folder: Path) -> None:
    """Raise ConfigError if a folder cannot be begun in: it holds something."""
    try:
        there = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise CogstyleError(f"cannot write to {folder}: {error.strerror or error}") from None
    require(not there, f"{folder} holds {', '.join(there[:3])} already: name a new folder")
