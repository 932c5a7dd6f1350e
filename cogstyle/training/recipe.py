"""A training recipe: one TOML file that says everything about one weight."""

import os
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from cogstyle.bundle import Bundle, check_replaced, update_bundle
from cogstyle.config import (
    FRAME_RATES,
    MODELS,
    TOKENIZERS,
    Prompts,
    SamplingConfig,
    TokenizerConfig,
    from_dict,
    preset,
    require,
)
from cogstyle.data.mixing import FAMILIES, MixConfig, check_mix
from cogstyle.errors import ConfigError
from cogstyle.files import read_bytes, read_toml, write_bytes
from cogstyle.pictures import write_png
from cogstyle.schema import Seed, Share, Weight
from cogstyle.shapes_world.rows import Emphasis
from cogstyle.shapes_world.world import ACTIONS
from cogstyle.shipped import shipped_recipe
from cogstyle.training.board import Board
from cogstyle.training.checkpoint import checkpoints
from cogstyle.training.dry_run import DryRun, FirstRows, estimate
from cogstyle.training.engine import EngineConfig
from cogstyle.training.grid import prompt_grid
from cogstyle.training.identity import Identity
from cogstyle.training.job import Job, OptimConfig
from cogstyle.training.jobs import RECIPE, bundle_tables, export_again, identify, make_job, note_export
from cogstyle.training.loop import Grid, LoopConfig, run
from cogstyle.training.processes import Processes, join, launched, which_device
from cogstyle.training.run_folder import claimed, make_folder, run_folder
from cogstyle.training.text import train_text_model
from cogstyle.training.transformer import TASKS as SEQUENCE_TASKS
from cogstyle.training.transformer import TransformerJob

TASKS = (*SEQUENCE_TASKS, "superres")  # what trains on token shards
TRAINED = ("adapter", "all", "decoder")
FOOTAGE = "[data] of a tokenizer is footage, of other tasks rows or shards; this is a recipe for {task!r}"
SAMPLES = ("rows", "shards", "validation_rows", "caption_dropout", "two_actors")  # what token shards are made by
EXPORTED = ("best", "last")


@dataclass(frozen=True)
class DataConfig:
    """Scenes of the shapes world, encoded once and kept; or shards of own videos. One of `rows` and `shards` is set.

    For a tokenizer it is `footage`, with `shares` if some of it is to be seen more often.
    """

    rows: Annotated[int, Interval(ge=0, le=1_000_000)] = 0  # training samples, each another scene
    shards: str | tuple[str, ...] = ()  # folders that cogstyle encode wrote
    # samples from validation seeds; of own rows at most a tenth, from videos of their own
    validation_rows: Annotated[int, Interval(ge=8, le=1_000_000)] = 256
    caption_dropout: Annotated[float, Interval(ge=0.0, lt=1.0)] = 0.1  # share of the samples whose caption is left out
    two_actors: Share | None = None  # share of the scenes with two actors; default: as the world draws them
    actions: dict[str, Weight] = field(default_factory=dict)  # how likely scenes draw one, 1 if not named
    footage: str | tuple[str, ...] = ()  # tokenizer: folders of pictures and videos, or manifests that name them
    shares: tuple[Weight, ...] = ()  # how often a picture comes from each of them; default: all alike

    def __post_init__(self) -> None:
        if self.footage:
            others = [name for name in SAMPLES if getattr(self, name) != getattr(DataConfig, name)]
            others += ["actions"] if self.actions else []
            require(not others, f"{', '.join(others)} has no effect on footage")
            same = len(self.shares) in (0, len(self.sources))
            require(same, f"shares has {len(self.shares)} numbers for {len(self.sources)} places of footage")
            return
        require(not self.shares, "shares has no effect without footage")
        require(not (self.rows and self.shards), "[data] has rows and shards; set one of them")
        require(bool(self.shards) or self.rows > 0, "rows 0 must be 1 to 1,000,000 (the training seeds)")
        two = self.two_actors
        require(two is None or not self.shards, "two_actors has no effect on shards of own videos")
        require(not self.actions or not self.shards, "actions have no effect on shards of own videos")
        for name in self.actions:
            require(name in ACTIONS, f"unknown action {name!r}; known are {', '.join(ACTIONS)}")

    @property
    def emphasis(self) -> Emphasis:
        """The scenes to train on more often."""
        return Emphasis(self.two_actors, dict(sorted(self.actions.items())))

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of `shards`."""
        return _paths(self.shards)

    @property
    def sources(self) -> tuple[Path, ...]:
        """The folders and manifests of `footage`."""
        return _paths(self.footage)


def _paths(names: str | tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(Path(os.path.expanduser(name)) for name in ((names,) if isinstance(names, str) else names))


@dataclass(frozen=True)
class Recipe:
    """What to train, on what, how long, and into which bundle it goes."""

    task: str  # "text", "tokenizer", "image", "keyframes", "interpolation" or "superres"
    bundle: str  # folder of the bundle: read for what the task stands on, written at the end
    preset: str = "shapes"  # architecture of a new tokenizer or image model
    seed: Seed = 0
    base: str | None = None  # another bundle to take the image model and tokenizers from
    start: str | None = None  # bundle whose weights for this task are gone on from; default: begin anew
    train: str = "adapter"  # or "all": the image model too; of a tokenizer gone on from "decoder": its codes stay
    pb_relax: bool = False  # keyframes, interpolation: the order of the temporal scores that half precision survives
    copy_output: bool = True  # adapters: start the output projection as a copy, not random
    licence: str = "Apache-2.0"  # of the weights
    export: str = "best"  # weights by validation, or the "last" ones
    frame_rate: float | None = None  # keyframes: the rate that sampling uses unless it is told another
    sampling: SamplingConfig | None = None  # how sampling draws by default
    optim: OptimConfig | None = None
    loop: LoopConfig = LoopConfig()  # noqa: RUF009  (frozen)
    data: DataConfig | None = None
    tokenizer: TokenizerConfig | None = None  # a new tokenizer's architecture, instead of a preset's
    mix: MixConfig | None = None  # tasks that take turns
    engine: EngineConfig = EngineConfig()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        known = ("text", "tokenizer", *TASKS)
        require(self.task in known, f"unknown task {self.task!r}; known are {', '.join(known)}")
        require(self.task == "text" or self.optim is not None, f"a recipe for {self.task!r} needs an [optim] table")
        require(self.task not in TASKS or self.data is not None, f"a recipe for {self.task!r} needs a [data] table")
        own = self.data is not None and bool(self.data.shards)
        require(not own or self.task in SEQUENCE_TASKS, f"[data] shards has no effect on the task {self.task!r}")
        require(self.data is None or self.task != "text", f"[data] has no effect on the task {self.task!r}")
        footage = self.data is not None and bool(self.data.footage)
        require(self.data is None or footage == (self.task == "tokenizer"), FOOTAGE.format(task=self.task))
        require(
            self.tokenizer is None or self.task == "tokenizer", f"[tokenizer] has no effect on the task {self.task!r}"
        )
        require(self.sampling is None or self.task in TASKS, f"[sampling] has no effect on the task {self.task!r}")
        device = EngineConfig(device=self.engine.device) if self.task == "tokenizer" else EngineConfig()
        plain = self.engine == device or self.task in TASKS
        require(plain, f"[engine] has no effect on the task {self.task!r}")
        again = self.engine.activation_checkpointing and self.task not in SEQUENCE_TASKS
        require(not again, f"activation_checkpointing has no effect on the task {self.task!r}")
        drawn = not self.loop.prompts or self.task in ("image", "keyframes")
        require(drawn, f"prompts have no effect on the task {self.task!r}")
        whole = not self.loop.prompts or self.engine.zero < 3
        require(whole, "prompts cannot be drawn with zero 3: no process has the whole weights")
        only = self.frame_rate is None or self.task == "keyframes"
        require(only, f"frame_rate has no effect on the task {self.task!r}")
        require(
            self.frame_rate is None or self.frame_rate in FRAME_RATES,
            f"frame_rate {self.frame_rate} must be one of {FRAME_RATES}",
        )
        require(self.export in EXPORTED, f"export {self.export!r} must be {' or '.join(EXPORTED)}")
        require(self.train in TRAINED, f"train {self.train!r} must be {' or '.join(TRAINED)}")
        decoder = self.train == "decoder"
        require(not decoder or self.task == "tokenizer", f'train "decoder" has no effect on the task {self.task!r}')
        require(not decoder or self.start is not None, 'train "decoder" needs a start: the bundle that has the codes')
        require(self.start is None or self.task != "text", f"start has no effect on the task {self.task!r}")
        for name in ("base", "pb_relax", *(() if decoder else ("train",))):
            given = getattr(self, name) != getattr(Recipe, name)
            require(not given or self.task in FAMILIES, f"{name} has no effect on the task {self.task!r}")
        if self.mix is not None:
            check_mix(self.mix, self.task, train_all=self.train == "all")
        batch = 0 if self.optim is None else self.optim.batch
        sized = self.optim is None or (batch > 0) != (self.mix is not None)
        require(sized, f"batch {batch}: a recipe needs either [optim] batch or [mix] tokens, not both")

    @property
    def tokenizer_config(self) -> TokenizerConfig:
        """Of the tokenizer to train: the recipe's own, else that of what it starts from, else a preset.

        Raises:
            ConfigError: if that is of a kind that is not trained here.
        """
        if self.tokenizer is not None or self.start is None:
            return self.tokenizer or preset(TOKENIZERS, self.preset)
        found = Bundle(self.start).tokenizer_config
        if not isinstance(found, TokenizerConfig):
            raise ConfigError(f"start {self.start!r}: a tokenizer of kind {found.kind!r} cannot be trained here")
        return found


REPLACED = {"tokenizer": "tokenizer.safetensors", "image": "image.safetensors"}  # files that others stand on


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        FileError, ConfigError: for a file that cannot be read, unknown keys, or values out of range.
    """
    table = read_toml(shipped_recipe(path))
    for key in ("bundle", "base", "start"):
        if isinstance(table.get(key), str):
            table[key] = os.path.expanduser(table[key])
    return from_dict(Recipe, table, str(path))


def train(
    path: Path,
    *,
    runs: Path = Path("runs"),
    name: str | None = None,
    continue_run: bool = False,
    encode_only: bool = False,
    quiet: bool = False,
) -> str:
    """Train a recipe to its end, resuming what `runs` holds of it; returns what came of it, in one line.

    Every process that a launcher starts calls this; the first one writes.

    Args:
        name: of the run; default: the recipe's, without `.toml`.
        continue_run: go on from what the run has trained with another recipe.
    """
    recipe, folder = load_recipe(path), run_folder(runs, path.stem if name is None else name)
    check(recipe)
    if recipe.task in REPLACED and recipe.train != "decoder" and not checkpoints(folder):
        check_replaced(Path(recipe.bundle), [REPLACED[recipe.task]])
    if recipe.task == "text":
        model = train_text_model(preset(MODELS, recipe.preset), seed=recipe.seed)
        update_bundle(Path(recipe.bundle), {"text.model": model}, prompts=Prompts())
        return f"text.model in {recipe.bundle}"
    assert recipe.optim is not None
    engine = recipe.engine if recipe.task in TASKS else replace(recipe.engine, precision="fp32")  # its job has its own
    with (
        join(recipe.engine.device, group=recipe.engine.zero > 0) as processes,
        nullcontext() if encode_only else claimed(folder, processes),
    ):
        look = processes.first and not encode_only
        identity, said = processes.gather(_look(recipe, folder, continue_run) if look else (Identity(), ""))[0]
        if said:
            return said
        if not processes.first:
            processes.wait()  # for the first one, which encodes the data
        job = make_job(recipe, runs=runs, quiet=quiet or not processes.first)
        if processes.first:
            processes.wait()
        if encode_only:
            return f"the data of {path} in {runs / 'data'}"
        identity = replace(identity, seen=job.seen if isinstance(job, TransformerJob) else {})
        if processes.first:
            write_bytes(folder / RECIPE, read_bytes(path))
        options: dict[str, Any] = {"engine": engine, "identity": identity, "grid": grid(recipe, job)}
        options |= {"keep_best": recipe.export == "best", "processes": processes, "quiet": quiet}
        said = run(job, recipe.optim, recipe.loop, seed=recipe.seed, folder=folder, **options)
        if processes.first:
            update_bundle(Path(recipe.bundle), {}, **bundle_tables(recipe, identity.seen))
            note_export(recipe, folder, path)
    return f"{folder}: {recipe.optim.steps} steps; exported {said} to {recipe.bundle}"


def _look(recipe: Recipe, folder: Path, continue_run: bool) -> tuple[Identity, str]:
    """What the recipe trains; of a run that has ended, what it was: it is exported again."""
    identity, last = identify(recipe, folder, forced=continue_run)
    return identity, "" if last is None else export_again(recipe, folder, last)


def check(recipe: Recipe) -> None:
    """What can be known about a run before anything is computed.

    Raises:
        ConfigError: naming what does not fit, or is not installed.
    """
    processes, local = launched()
    alone = recipe.task in TASKS or processes == 1
    require(alone, f"the task {recipe.task!r} trains in one process; {processes} were started")
    if recipe.optim is not None and recipe.task in TASKS:
        recipe.engine.check(recipe.optim, processes, which_device(recipe.engine.device, local))
    if recipe.loop.tensorboard:
        Board.check()


def grid(recipe: Recipe, job: Job) -> Grid | None:
    """What draws the recipe's prompts, if it has any."""
    if not recipe.loop.prompts:
        return None
    assert isinstance(job, TransformerJob)
    video = recipe.sampling or SamplingConfig()
    image = video if recipe.task == "image" else Bundle(recipe.base or recipe.bundle).sampling("image")
    rate = recipe.frame_rate or 1.0
    return partial(prompt_grid, job, recipe.loop.prompts, frame_rate=rate, image=image, video=video)


def dry_run(
    path: Path, *, runs: Path = Path("runs"), name: str | None = None, processes: int = 1
) -> tuple[DryRun, Path]:
    """The plan of a recipe and a picture of its first batch; trains nothing, and encodes a few rows at most.

    Args:
        name: of the run.
        processes: how many would train.
    """
    recipe, folder = load_recipe(path), run_folder(runs, path.stem if name is None else name)
    require(recipe.optim is not None, f"the task {recipe.task!r} has no steps to plan")
    assert recipe.optim is not None
    device = which_device(recipe.engine.device, 0)
    recipe.engine.check(recipe.optim, processes, device)
    identify(recipe, folder)
    rows = FirstRows()
    job = make_job(recipe, runs=runs, encode=rows.encode)
    picture = folder / "first-batch.png"
    make_folder(folder)
    write_png(picture, job.preview())
    plan = estimate(job, recipe.optim, recipe.engine, Processes(size=processes, device=device), ema=recipe.loop.ema > 0)
    return replace(plan, rows=rows.missing, encoding_seconds=rows.seconds), picture
