"""A training recipe: one TOML file that says everything about one weight."""

import os
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from cogstyle.bundle import Bundle, update_bundle
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
from cogstyle.data.clips import Emphasis
from cogstyle.data.footage import Footage
from cogstyle.data.mixing import FAMILIES, MixConfig, check_mix
from cogstyle.data.world import ACTIONS
from cogstyle.errors import ConfigError
from cogstyle.files import read_toml
from cogstyle.schema import Seed, Share, Weight
from cogstyle.training.board import Board
from cogstyle.training.engine import EngineConfig
from cogstyle.training.grid import prompt_grid
from cogstyle.training.loop import Grid, LoopConfig, run, write_picture
from cogstyle.training.plan import Plan, make_plan
from cogstyle.training.processes import World, join, launched, which_device
from cogstyle.training.step import Job, OptimConfig
from cogstyle.training.superres import SuperResolutionJob
from cogstyle.training.text import train_text_model
from cogstyle.training.tokenizer import TokenizerJob
from cogstyle.training.transformer import TASKS as SEQUENCE_TASKS
from cogstyle.training.transformer import TransformerJob

TASKS = (*SEQUENCE_TASKS, "superres")  # what trains on token shards
TRAINED = ("adapter", "all", "decoder")
FOOTAGE = "[data] of a tokenizer is footage, of other tasks rows or shards; this is a recipe for {task!r}"


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
            same = len(self.shares) in (0, len(listed(self.footage)))
            require(same, f"shares has {len(self.shares)} numbers for {len(listed(self.footage))} places of footage")
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
        return listed(self.shards)

    @property
    def sources(self) -> tuple[Path, ...]:
        """The folders and manifests of `footage`."""
        return listed(self.footage)


SAMPLES = ("rows", "shards", "validation_rows", "caption_dropout", "two_actors")  # what token shards are made by


def listed(names: str | tuple[str, ...]) -> tuple[Path, ...]:
    """One path or several, ~ being the home folder."""
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
        require(
            self.data is None or self.task in (*TASKS, "tokenizer"), f"[data] has no effect on the task {self.task!r}"
        )
        footage = self.data is not None and bool(self.data.footage)
        require(self.data is None or footage == (self.task == "tokenizer"), FOOTAGE.format(task=self.task))
        require(self.sampling is None or self.task in TASKS, f"[sampling] has no effect on the task {self.task!r}")
        device = EngineConfig(device=self.engine.device) if self.task == "tokenizer" else EngineConfig()
        plain = self.engine == device or self.task in TASKS
        require(plain, f"[engine] has no effect on the task {self.task!r}")
        require(
            self.tokenizer is None or self.task == "tokenizer", f"[tokenizer] has no effect on the task {self.task!r}"
        )
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


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        FileError, ConfigError: for a file that cannot be read, unknown keys, or values out of range.
    """
    table = read_toml(path)
    for key in ("bundle", "base", "start"):
        if isinstance(table.get(key), str):
            table[key] = os.path.expanduser(table[key])
    return from_dict(Recipe, table, str(path))


def make_job(recipe: Recipe, *, runs: Path, quiet: bool = False) -> Job:
    """The training job of a recipe; encodes the data it needs under `runs`/data."""
    job = _new_job(recipe, runs, quiet)
    if recipe.start is not None:
        job.go_on_from(Bundle(recipe.start).weights(recipe.task))
    return job


def _new_job(recipe: Recipe, runs: Path, quiet: bool) -> TokenizerJob | SuperResolutionJob | TransformerJob:
    bundle = Path(recipe.bundle)
    assert recipe.optim is not None
    if recipe.task == "tokenizer":
        config, pictures = tokenizer_config(recipe), None
        if recipe.data is not None:
            cache, data = runs / "data", recipe.data
            pictures = Footage(data.sources, size=config.image_size, cache=cache, shares=data.shares, quiet=quiet)
        return TokenizerJob(
            config,
            batch=recipe.optim.batch,
            seed=recipe.seed,
            bundle=bundle,
            pictures=pictures,
            decoder_only=recipe.train == "decoder",
        )
    assert recipe.data is not None
    options: dict[str, Any] = {
        "rows": recipe.data.rows,
        "validation_rows": recipe.data.validation_rows,
        "caption_dropout": recipe.data.caption_dropout,
        "emphasis": recipe.data.emphasis,
        "bundle": bundle,
        "data": runs / "data",
        "batch": recipe.optim.batch,
        "seed": recipe.seed,
        "copy_output": recipe.copy_output,
        "quiet": quiet,
    }
    if recipe.task == "superres":
        return SuperResolutionJob(**options)
    if recipe.task in FAMILIES:
        options |= {name: getattr(recipe, name) for name in ("base", "pb_relax", "mix")}
        options |= {"train_all": recipe.train == "all", "steps": recipe.optim.steps}
    return TransformerJob(recipe.task, preset(MODELS, recipe.preset), folders=recipe.data.folders, **options)


def tokenizer_config(recipe: Recipe) -> TokenizerConfig:
    """The architecture of the tokenizer to train: the recipe's own, else that of what it starts from, else a preset."""
    if recipe.tokenizer is not None or recipe.start is None:
        return recipe.tokenizer or preset(TOKENIZERS, recipe.preset)
    found = Bundle(recipe.start).tokenizer_config
    if not isinstance(found, TokenizerConfig):
        raise ConfigError(f"start {recipe.start!r}: a tokenizer of kind {found.kind!r} cannot be trained here")
    return found


def train(path: Path, *, runs: Path = Path("runs"), encode_only: bool = False, quiet: bool = False) -> Path:
    """Train a recipe to its end, resuming what `runs` holds of it; returns the run's folder.

    Every process that a launcher starts calls this; the first one writes.
    """
    recipe = load_recipe(path)
    folder = runs / path.stem
    check(recipe)
    if recipe.task == "text":
        update_bundle(
            Path(recipe.bundle),
            {"text.model": train_text_model(preset(MODELS, recipe.preset), seed=recipe.seed)},
            prompts=Prompts(),
        )
        return folder
    engine = recipe.engine if recipe.task in TASKS else replace(recipe.engine, precision="fp32")  # its job has its own
    with join(recipe.engine.device, group=recipe.engine.zero > 0) as world:
        if not world.first:
            world.wait()  # for the first one, which encodes the data
        job = make_job(recipe, runs=runs, quiet=quiet or not world.first)
        if world.first:
            world.wait()
        if not encode_only:
            assert recipe.optim is not None
            options: dict[str, Any] = {"engine": engine, "marks": marks(recipe), "grid": grid(recipe, job)}
            run(job, recipe.optim, recipe.loop, seed=recipe.seed, folder=folder, world=world, quiet=quiet, **options)
            if world.first:
                update_bundle(Path(recipe.bundle), {}, **bundle_tables(recipe))
    return folder


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


def marks(recipe: Recipe) -> dict[str, str]:
    """What the checkpoints of a recipe belong to."""
    if recipe.task not in TASKS:
        return {}
    hashes = Bundle(recipe.base or recipe.bundle).hashes()
    frozen = recipe.task != "image" and recipe.train == "adapter"
    base = {"base_sha256": hashes["image.safetensors"]} if frozen else {}
    return base | {"tokenizer_sha256": hashes["tokenizer.safetensors"]}


def grid(recipe: Recipe, job: Job) -> Grid | None:
    """What draws the recipe's prompts, if it has any."""
    if not recipe.loop.prompts:
        return None
    assert isinstance(job, TransformerJob)
    video = recipe.sampling or SamplingConfig()
    image = video if recipe.task == "image" else Bundle(recipe.base or recipe.bundle).sampling("image")
    rate = recipe.frame_rate or 1.0
    return partial(prompt_grid, job, recipe.loop.prompts, frame_rate=rate, image=image, video=video)


def dry_run(path: Path, *, runs: Path = Path("runs"), processes: int = 1, quiet: bool = False) -> tuple[Plan, Path]:
    """The plan of a recipe and a picture of its first batch; encodes the data, trains nothing.

    Args:
        processes: how many would train.
    """
    recipe = load_recipe(path)
    require(recipe.optim is not None, f"the task {recipe.task!r} has no steps to plan")
    assert recipe.optim is not None
    device = which_device(recipe.engine.device, 0)
    recipe.engine.check(recipe.optim, processes, device)
    job = make_job(recipe, runs=runs, quiet=quiet)
    picture = runs / path.stem / "first-batch.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    write_picture(picture, job.preview())
    world = World(size=processes, device=device)
    return make_plan(job, recipe.optim, recipe.engine, world, ema=recipe.loop.ema > 0), picture


def bundle_tables(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says about its bundle beside the weights."""
    tables: dict[str, Any] = {"licence": recipe.licence}
    if recipe.frame_rate is not None:
        tables["frame_rate"] = recipe.frame_rate
    if recipe.sampling is not None:
        tables["sampling"] = {recipe.task: asdict(recipe.sampling)}
    return tables
