"""A starting point for footage: recipes that fit it, tried on a few of its rows, with the plan of the whole."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from cogstyle.bundle import STAGES, Bundle, WeightFile
from cogstyle.config import FRAME_RATES, require
from cogstyle.data.manifest import read_manifest
from cogstyle.devices import find_device
from cogstyle.files import write_bytes
from cogstyle.tokenizers.text import read_pieces
from cogstyle.training.dry_run import DryRun, FirstRows, estimate
from cogstyle.training.folder import check_folder
from cogstyle.training.jobs import make_job
from cogstyle.training.plain import PlainEngine
from cogstyle.training.processes import Processes
from cogstyle.training.recipes import TextRecipe, WeightRecipe, load_recipe
from cogstyle.training.run import engine_of, take_image_model
from cogstyle.training.stage_recipes import ImageRecipe
from cogstyle.training.starters import Choices, recipe_texts
from cogstyle.training.survey import Survey, survey
from cogstyle.training.text import check_size, learn_pieces, make_text_tokenizer

FEW = 100  # videos: a tenth of less says nothing by validation
SMALL, LARGE = 2_000, 50_000  # pictures that decide how large a model fits
LONG = 16.0  # seconds of a video that shows one thing, as its caption says
TRIED = 4  # samples of a step that is timed on a CPU
CHECKPOINTS, STATES = 3, 3  # on disk at once; numbers that each keeps of a parameter


@dataclass(frozen=True)
class Part:
    """The plan of one recipe."""

    name: str
    plan: DryRun
    seconds: float  # of all its steps


@dataclass(frozen=True)
class Plan:
    """What `cogstyle train FOLDER` will do."""

    survey: Survey
    size: int  # pixels of a frame
    parts: list[Part]
    weights: int  # parameters of the bundle

    @property
    def seconds(self) -> float:
        """Of everything, encoding included."""
        return sum(part.seconds + part.plan.encoding_seconds for part in self.parts)

    @property
    def memory(self) -> int:
        """Bytes that the largest step needs."""
        return max(sum(part.plan.memory.values()) for part in self.parts)

    @property
    def disk(self) -> int:
        """Bytes of the bundle in half precision, of checkpoints and of rows."""
        checkpoints = sum(4 * STATES * CHECKPOINTS * part.plan.trained for part in self.parts)
        return 2 * self.weights + checkpoints + sum(part.plan.row_bytes for part in self.parts)


def start(folder: Path, videos: Path, *, size: int | None, base: str | None, caption: str = "") -> Plan:
    """Write recipes for a manifest or folder of videos into `folder`, and say what training them will take.

    Args:
        size: pixels of a frame; default: as in `base`.
        base: the bundle to stand on; default: the shipped image tokenizer alone.
        caption: of whatever has none.

    Raises:
        CogstyleError: before anything is written, if the footage or the bundle does not serve.
    """
    check_folder(folder)
    found, bundle = survey(read_manifest(videos, caption=caption)), Bundle(base or "pictures")
    size = size or bundle.tokenizer_config.image_size
    check_size(bundle, size)
    require(found.sides[-1] >= size, f"{videos}: all pictures are smaller than a frame of {size} px; give a --size")
    trained = tuple(stage for stage in STAGES if bundle.has(WeightFile.of(stage)))
    own = bundle.tokenizer_config.image_size
    require(not trained or size == own, f"size {size}: the image model of {bundle.folder} draws frames of {own} px")
    choices = choose(found, size, Choices(str(videos), str(folder / "bundle"), base or "pictures", caption=caption))
    texts = recipe_texts(replace(choices, trained=trained), found.videos)
    with TemporaryDirectory() as scratch:
        parts = rehearse(texts, Path(scratch))
        weights = sum(part.plan.trained for part in parts) + (parts[0].plan.frozen if trained and found.videos else 0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_bytes(folder / name, text.encode())
    return Plan(found, size, parts, weights)


def choose(found: Survey, size: int, choices: Choices) -> Choices:
    """Sizes that fit the footage."""
    captions = len(found.captions)
    pieces = 1000 if captions < SMALL else 4000 if captions < LARGE else 16_000
    learned = read_pieces(learn_pieces(found.captions, pieces=pieces, kind="unigram"), "the captions")
    longest = max(len(ids) for ids in learned.encode(list(found.captions))) + 3  # the seconds and a line break
    layers, width, heads = (
        (4, 192, 6) if found.entries < SMALL else (6, 256, 8) if found.entries < LARGE else (12, 512, 8)
    )
    pieces_of = LONG / 2 if found.seconds[-1] > LONG else 0.0
    length = min(median(found.lengths or [LONG]), pieces_of or LONG)
    lowest = next((rate for rate in FRAME_RATES if 4 / rate <= length), FRAME_RATES[-1])
    rows, few = 2 * found.entries, found.entries < FEW
    return replace(
        choices,
        size=size,
        pieces=pieces,
        text_span=max(32, -(-longest // 16) * 16),
        sizes=(layers, width, heads),
        frame_rate=lowest,
        clip_seconds=pieces_of,
        steps=(
            clamp(2 * rows, 400, 6000),
            clamp(3 * rows, 800 if few else 400, 5000),
            clamp(2 * rows, 300, 4000),
            clamp(rows, 300, 1500),
        ),
        batches=(8, 4) if few else (16, 8),
        by_heart=few,
        superres=median(found.sides) >= 2 * size,
        interpolation=found.rate >= 1.8 * lowest,
    )


def clamp(value: int, low: int, high: int) -> int:
    """The nearest number from `low` to `high`, in hundreds."""
    return round(min(max(value, low), high), -2)


def rehearse(texts: dict[str, str], scratch: Path) -> list[Part]:
    """Try each recipe on a few rows, in order, with untrained weights of those before it; a step of each is timed."""
    parts: list[Part] = []
    for name, text in texts.items():
        path = scratch / name
        write_bytes(path, text.encode())
        changes = [f"bundle={scratch / 'bundle'}"]
        recipe = load_recipe(path, changes)
        if isinstance(recipe, TextRecipe):
            make_text_tokenizer(recipe, scratch / "text")
        elif isinstance(recipe, ImageRecipe) and recipe.frozen:
            take_image_model(recipe)
        else:
            assert isinstance(recipe, WeightRecipe)
            parts.append(try_out(name, path, recipe, changes, scratch))
    return parts


def try_out(name: str, path: Path, recipe: WeightRecipe, changes: Sequence[str], scratch: Path) -> Part:
    """The plan of a recipe, from one step of a few samples."""
    engine = engine_of(recipe)
    device = find_device(engine.device)
    batch = min(recipe.optim.batch, TRIED) if device.type == "cpu" else recipe.optim.batch
    small = load_recipe(path, [*changes, f"optim.batch={batch}"])
    assert isinstance(small, WeightRecipe)
    times, processes = recipe.optim.batch / batch, Processes(device=device)
    with FirstRows.kept_nowhere() as rows:
        job = make_job(small, runs=scratch, quiet=True, encode=rows.encode, encode_videos=rows.encode_videos)
    plan = estimate(job, small.optim, engine, processes, ema=recipe.loop.ema > 0)
    runner = PlainEngine(job, small.optim, processes, precision=engine.precision_on(device))
    seconds = []
    for step in range(2):
        began = time.monotonic()
        runner.backward(step)
        runner.update(step, skip=False)
        seconds.append(time.monotonic() - began)
    job.module.cpu()
    job.export()
    memory = plan.memory | {"activations": round(plan.memory["activations"] * times)}
    plan = replace(plan, steps=recipe.optim.steps, memory=memory, rows=rows.missing, encoding_seconds=rows.seconds)
    plan = replace(plan, row_bytes=rows.bytes)
    return Part(name, plan, min(seconds) * times * recipe.optim.steps)
