"""From a recipe to a bundle: a whole run, or a plan of it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import tomli_w

from cogstyle.bundle import Bundle, WeightFile, check_replaced, share_files, update_bundle
from cogstyle.config import SamplingConfig, require
from cogstyle.devices import find_device, launched
from cogstyle.files import read_bytes, write_bytes
from cogstyle.pictures import write_png
from cogstyle.shipped import shipped_recipe
from cogstyle.training.board import Board
from cogstyle.training.checkpoint import checkpoints
from cogstyle.training.dry_run import DryRun, FirstRows, estimate
from cogstyle.training.engine import ProcessConfig
from cogstyle.training.export import TOKENIZERS
from cogstyle.training.finished import RECIPE, bundle_tables, export_again, identify, note_export
from cogstyle.training.grid import prompt_grid
from cogstyle.training.identity import Identity
from cogstyle.training.job import DrawingLoopConfig, Job
from cogstyle.training.jobs import make_job
from cogstyle.training.loop import Grid
from cogstyle.training.loop import run as train_job
from cogstyle.training.processes import Processes, join
from cogstyle.training.recipes import TextRecipe, WeightRecipe, load_recipe, read_recipe
from cogstyle.training.run_folder import Run, claimed, make_folder, run_folder
from cogstyle.training.stage_recipes import ImageRecipe, KeyframesRecipe, LanguageRecipe, StageRecipe
from cogstyle.training.text import make_text_tokenizer
from cogstyle.training.transformer import TransformerJob

REPLACED = {"tokenizer": WeightFile.TOKENIZER, "image": WeightFile.IMAGE}  # files that others stand on
KEPT = "rows.json"  # in a run's folder: of each stratum the rows that there are, and those that train
ALONE = "the task {task!r} trains in one process; {processes} were started"


def train(
    path: Path,
    *,
    runs: Path = Path("runs"),
    name: str | None = None,
    changes: Sequence[str] = (),
    continue_run: bool = False,
    encode_only: bool = False,
    quiet: bool = False,
) -> str:
    """Train a recipe to its end, resuming what `runs` holds of it; returns what came of it, in one line.

    Every process that a launcher starts calls this; the first one writes.

    Args:
        name: of the run; default: the recipe's, without `.toml`.
        changes: laid over the recipe, see `load_recipe`.
        continue_run: go on from what the run has trained with another recipe.
    """
    recipe, folder = load_recipe(path, changes), run_folder(runs, path.stem if name is None else name)
    if isinstance(recipe, TextRecipe):
        require(launched().size == 1, ALONE.format(task=recipe.task, processes=launched().size))
        make_folder(folder)
        return make_text_tokenizer(recipe, folder / "done.txt")
    assert isinstance(recipe, WeightRecipe)
    if isinstance(recipe, ImageRecipe) and recipe.frozen:
        return take_image_model(recipe)
    check(recipe, folder)
    engine = engine_of(recipe)
    with join(engine.device, group=engine.zero > 0) as processes:
        if encode_only:
            _job_in_turn(recipe, processes, runs, quiet=quiet)
            return f"the data of {path} in {runs / 'data'}"
        with claimed(folder, processes):
            look = _look(recipe, folder, continue_run) if processes.first else (Identity(), "")
            identity, said = processes.gather(look)[0]
            if said:
                return said
            job = _job_in_turn(recipe, processes, runs, quiet=quiet)
            identity = replace(identity, seen=job.seen if isinstance(job, TransformerJob) else {})
            if processes.first:
                _note(folder, path, changes, job)
            this = Run(folder, processes, identity=identity, keep_best=recipe.export == "best", quiet=quiet)
            drawn = grid(recipe, job)
            said = train_job(job, recipe.optim, recipe.loop, this, seed=recipe.seed, engine=engine, grid=drawn)
            if processes.first:
                update_bundle(Path(recipe.bundle), {}, **bundle_tables(recipe, identity.seen))
                note_export(recipe, folder, path)
    return f"{folder}: {recipe.optim.steps} steps; exported {said} to {recipe.bundle}"


def take_image_model(recipe: ImageRecipe) -> str:
    """Give the recipe's bundle the image model of its start, with the tokenizers; says so.

    Raises:
        BundleError: if the start has none, or the bundle another one.
    """
    assert recipe.start is not None
    start = Bundle(recipe.start)
    start.path(WeightFile.IMAGE)
    share_files(start, Path(recipe.bundle), (*TOKENIZERS, WeightFile.IMAGE))
    return f"{recipe.bundle} stands on the image model of {start.folder}, which stays as it is"


def _note(folder: Path, path: Path, changes: Sequence[str], job: Job) -> None:
    """What trains: the recipe, and the rows that were chosen."""
    write_bytes(folder / RECIPE, _noted(path, changes))
    if kept := getattr(job, "rows_kept", {}):
        write_bytes(folder / KEPT, json.dumps(kept, indent=1, ensure_ascii=False).encode())


def _job_in_turn(recipe: WeightRecipe, processes: Processes, runs: Path, *, quiet: bool) -> Job:
    """The job of each process: the first one encodes its data while the others wait."""
    if not processes.first:
        processes.wait()
    job = make_job(recipe, runs=runs, quiet=quiet or not processes.first)
    if processes.first:
        processes.wait()
    return job


def _noted(path: Path, changes: Sequence[str]) -> bytes:
    """The text of a recipe as it trains."""
    if not changes:
        return read_bytes(shipped_recipe(path))
    said = "".join(f"\n# --set {change}" for change in changes)
    return f"# {path} with{said}\n{tomli_w.dumps(read_recipe(path, changes))}".encode()


def _look(recipe: WeightRecipe, folder: Path, continue_run: bool) -> tuple[Identity, str]:
    """What the recipe trains; of a run that has ended, what it was: it is exported again."""
    identity, last = identify(recipe, folder, forced=continue_run)
    return identity, "" if last is None else export_again(recipe, folder, last)


def engine_of(recipe: WeightRecipe) -> ProcessConfig:
    """How the recipe's steps are computed; a tokenizer's job has a precision of its own."""
    if isinstance(recipe.engine, ProcessConfig):
        return recipe.engine
    return ProcessConfig(recipe.engine.device, precision="fp32")


def check(recipe: WeightRecipe, folder: Path) -> None:
    """What can be known about a run in `folder` before anything is computed.

    Raises:
        ConfigError: naming what does not fit, or is not installed.
        BundleError: if other weights stand on what it would replace.
    """
    processes = launched().size
    alone = isinstance(recipe, StageRecipe) or processes == 1
    require(alone, ALONE.format(task=recipe.task, processes=processes))
    if isinstance(recipe.engine, ProcessConfig):
        recipe.engine.check(recipe.optim, processes, find_device(recipe.engine.device))
    if recipe.task in REPLACED and getattr(recipe, "train", None) != "decoder" and not checkpoints(folder):
        check_replaced(Path(recipe.bundle), [REPLACED[recipe.task]])
    if recipe.loop.tensorboard:
        Board.check()


def grid(recipe: WeightRecipe, job: Job) -> Grid | None:
    """What draws the recipe's prompts, if it has any."""
    if not isinstance(recipe.loop, DrawingLoopConfig) or not recipe.loop.prompts:
        return None
    assert isinstance(recipe, StageRecipe) and isinstance(job, TransformerJob)
    image = video = recipe.sampling or SamplingConfig()
    rate = 1.0
    if isinstance(recipe, LanguageRecipe):
        source = Bundle(recipe.source)
        image, video, rate = source.sampling("image"), source.sampling("keyframes"), source.frame_rate
    if isinstance(recipe, KeyframesRecipe):
        image, rate = Bundle(recipe.source).sampling("image"), recipe.frame_rate or rate
    return partial(prompt_grid, job, recipe.loop.prompts, frame_rate=rate, image=image, video=video)


def dry_run(
    path: Path,
    *,
    runs: Path = Path("runs"),
    name: str | None = None,
    changes: Sequence[str] = (),
    processes: int = 1,
) -> tuple[DryRun, Path]:
    """The plan of a recipe and a picture of its first batch; trains nothing, and encodes a few rows at most.

    Args:
        name: of the run.
        processes: how many would train.
    """
    recipe, folder = load_recipe(path, changes), run_folder(runs, path.stem if name is None else name)
    trains = isinstance(recipe, WeightRecipe) and not getattr(recipe, "frozen", False)
    require(trains, f"{path}: the task {recipe.task!r} has no steps to plan")
    assert isinstance(recipe, WeightRecipe)
    engine = engine_of(recipe)
    device = find_device(engine.device)
    engine.check(recipe.optim, processes, device)
    identify(recipe, folder)
    picture = folder / "first-batch.png"
    with FirstRows.kept_nowhere() as rows:
        job = make_job(recipe, runs=runs, encode=rows.encode, encode_videos=rows.encode_videos)
    make_folder(folder)
    write_png(picture, job.preview())
    plan = estimate(job, recipe.optim, engine, Processes(size=processes, device=device), ema=recipe.loop.ema > 0)
    curriculum = getattr(recipe, "curriculum", None)
    stages = () if curriculum is None else tuple(curriculum.plan())
    return replace(plan, rows=rows.missing, encoding_seconds=rows.seconds, stages=stages), picture
