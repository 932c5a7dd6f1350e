"""The training job of a recipe, and what comes of its weights: a bundle."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from cogstyle.adapter import adapter_from_image
from cogstyle.bundle import Bundle, WeightFile, holds_bundle, share_files, update_bundle
from cogstyle.config import ModelConfig, SuperResConfig
from cogstyle.data import shards
from cogstyle.errors import BundleError, FileError
from cogstyle.files import read_text, write_bytes
from cogstyle.rows import Row
from cogstyle.tokenizers.image import ImageTokenizer
from cogstyle.training.batches import Batches, groups_of, kinds_of
from cogstyle.training.checkpoint import (
    Checkpoint,
    checkpoint_path,
    checkpoints,
    newest_checkpoint,
    peek,
    read_checkpoint,
)
from cogstyle.training.encoding import EncodeVideos, encode_videos
from cogstyle.training.export import TOKENIZERS, Target, choose, export
from cogstyle.training.flow import FlowJob
from cogstyle.training.identity import Identity, differences, fingerprint
from cogstyle.training.job import Job
from cogstyle.training.loss import VideoModel
from cogstyle.training.recipes import (
    AdapterRecipe,
    FlowDecoderRecipe,
    ImageRecipe,
    KeyframesRecipe,
    StageRecipe,
    SuperresRecipe,
    TokenizerRecipe,
    WeightRecipe,
)
from cogstyle.training.run_folder import BEST
from cogstyle.training.sources import Encoding, Pictures, ScenePictures
from cogstyle.training.superres import SHOWN, SuperResolutionJob
from cogstyle.training.tokenizer import TokenizerJob
from cogstyle.training.transformer import TransformerJob, fresh_transformer

RECIPE, DONE = "recipe.toml", "done.json"  # in a run's folder: its recipe, and what was exported of it


def make_job(
    recipe: WeightRecipe,
    *,
    runs: Path = Path(),
    quiet: bool = False,
    encode: shards.Encode | None = shards.encode,
    encode_videos: EncodeVideos = encode_videos,
    into: Path | None = None,
) -> Job:
    """The training job of a recipe; encodes the data it needs under `runs`/data.

    Args:
        encode: gives the rows as `shards.encode` does; None: none are needed, for an export alone.
        encode_videos: gives those of videos.
        into: a bundle to write, in place of the recipe's.
    """
    folder = into or Path(recipe.bundle)
    options: dict[str, Any] = {
        "folder": runs / "data",
        "encode": encode,
        "encode_videos": encode_videos,
        "quiet": quiet,
    }
    job: TokenizerJob | FlowJob | SuperResolutionJob | TransformerJob
    if isinstance(recipe, TokenizerRecipe):
        pictures = None if encode is None else _pictures(recipe, recipe.config.image_size, runs / "data", quiet=quiet)
        decoder_only = recipe.train == "decoder"
        options = {"batch": recipe.optim.batch, "seed": recipe.seed, "bundle": folder}
        job = TokenizerJob(recipe.config, pictures, **options, decoder_only=decoder_only)
    elif isinstance(recipe, FlowDecoderRecipe):
        source = Bundle(recipe.bundle)
        size = source.tokenizer_config.image_size
        pictures = None if encode is None else _pictures(recipe, size, runs / "data", quiet=quiet)
        batch, share = recipe.optim.batch, recipe.from_noise
        job = FlowJob(recipe.flow, source, pictures, batch=batch, seed=recipe.seed, from_noise=share)
    elif isinstance(recipe, SuperresRecipe):
        job = _superres_job(recipe, folder, options)
    else:
        assert isinstance(recipe, ImageRecipe | AdapterRecipe)
        job = _transformer_job(recipe, folder, options)
    if recipe.start is not None and encode is not None:
        job.load_initial_weights(Bundle(recipe.start).weights(recipe.task))
    return job


def _pictures(recipe: TokenizerRecipe | FlowDecoderRecipe, size: int, cache: Path, *, quiet: bool) -> Pictures:
    return ScenePictures(size) if recipe.data is None else recipe.data.pictures(size, cache, quiet=quiet)


def _superres_job(recipe: SuperresRecipe, folder: Path, options: dict[str, Any]) -> SuperResolutionJob:
    source, rows, shown = Bundle(recipe.bundle), None, list[Row]()
    sizes = SuperResConfig(factor=recipe.data.factor, text_span=source.model_config.text_span)
    if options["encode"] is not None:
        how = encoding(source, source.vqvae(), frames=1, factor=sizes.factor, **options)
        rows = recipe.data.read((recipe.task,), how)[recipe.task]
        shown = recipe.data.validation_pictures(recipe.task, how, rows, SHOWN)
    batch, seed, dropout = recipe.optim.batch, recipe.seed, recipe.data.caption_dropout
    given: dict[str, Any] = {"batch": batch, "seed": seed, "caption_dropout": dropout}
    return SuperResolutionJob(source, folder, sizes, rows, shown, copy_output=recipe.copy_output, **given)


def _transformer_job(recipe: ImageRecipe | AdapterRecipe, folder: Path, options: dict[str, Any]) -> TransformerJob:
    base, mix, train_all = None, None, False
    if isinstance(recipe, AdapterRecipe):
        base, mix, train_all = recipe.base, recipe.mix, recipe.train == "all"
    source = Bundle(base or recipe.bundle)
    target = Target(recipe.task, folder, source, train_all=train_all)
    torch.manual_seed(recipe.seed)
    model = (
        new_image_model(source, recipe.architecture(source))
        if isinstance(recipe, ImageRecipe)
        else _adapted(source, recipe)
    )
    config, batches = model.transformer.config, None
    if options["encode"] is not None:
        groups = groups_of(recipe.task, config, recipe.optim.batch, mix)
        rows = recipe.data.read(kinds_of(groups), encoding(source, model.vqvae, frames=config.frames, **options))
        given: dict[str, Any] = {"seed": recipe.seed, "caption_dropout": recipe.data.caption_dropout}
        batches = Batches(groups, rows, mix=mix, steps=recipe.optim.steps, **given)
    return TransformerJob(model, batches, target, train_all=train_all)


def new_image_model(source: Bundle, config: ModelConfig) -> VideoModel:
    """An untrained image model on the tokenizers of a bundle."""
    source.manifest["model"] = asdict(config)
    return VideoModel(fresh_transformer(config), None, source.text(), source.vqvae())


def _adapted(source: Bundle, recipe: AdapterRecipe) -> VideoModel:
    image = source.image_model()
    window = image.config.window if recipe.task == "interpolation" else 0
    adapter = adapter_from_image(image, window=window, copy_output=recipe.copy_output)
    return VideoModel(image, adapter, source.text(), source.vqvae(), pb_relax=recipe.pb_relax)


def encoding(source: Bundle, vqvae: ImageTokenizer, **options: Any) -> Encoding:
    """How rows become tokens of a bundle's tokenizers."""
    return Encoding(source, vqvae, source.text(), source.sha256(WeightFile.TOKENIZER), **options)


def identify(recipe: WeightRecipe, folder: Path, *, forced: bool = False) -> tuple[Identity, Checkpoint | None]:
    """What a recipe trains, and the last checkpoint of its run in `folder` if that has come to its end.

    Raises:
        ConfigError: if the folder holds the run of another recipe.
    """
    ours = _exported(folder).get("files", {}).values()
    identity, meta = Identity(fingerprint(recipe), ours=tuple(ours), forced=forced), peek(folder)
    if meta:
        identity.check(folder, meta, recipe.optim.steps)
        if int(meta["step"]) == recipe.optim.steps:
            last = newest_checkpoint(folder)
            if last is not None and last.step == recipe.optim.steps:
                return identity, last
    return identity, None


def _exported(folder: Path) -> dict[str, Any]:
    """What `note_export` wrote; nothing if it cannot be read."""
    try:
        found = json.loads(read_text(folder / DONE))
        return found if isinstance(found, dict) and isinstance(found.get("files", {}), dict) else {}
    except (FileError, ValueError):
        return {}


def note_export(recipe: WeightRecipe, folder: Path, path: Path) -> None:
    """Write down which recipe was trained to its end, and the sha256 of what was exported."""
    names, hashes = (WeightFile.of(recipe.task), WeightFile.IMAGE), Bundle(recipe.bundle).hashes()
    done = {
        "recipe": str(path),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {name: hashes[name] for name in names if name in hashes},
    }
    write_bytes(folder / DONE, json.dumps(done, indent=1, ensure_ascii=False).encode())


def export_again(recipe: WeightRecipe, folder: Path, last: Checkpoint) -> str:
    """Export a finished run once more, unless its bundle has it; says what it was."""
    done, bundle = _exported(folder), Path(recipe.bundle)
    by = f" of {done['recipe']}, which ended {done.get('ended')}" if "recipe" in done else ""
    before = f"{folder} was done before: {last.step} steps{by}"
    if done.get("files") and holds_bundle(bundle):
        there = Bundle(bundle)
        if all(there.has(name) and there.sha256(name) == digest for name, digest in done["files"].items()):
            update_bundle(bundle, {}, **bundle_tables(recipe, json.loads(last.meta["seen"])))
            return f"{before}; {bundle} has its weights"
    tensors, said = choose(folder, last.tensors, last.step, keep_best=recipe.export == "best")
    _export_run(recipe, tensors, last.meta, None)
    return f"{before}; exported {said} to {bundle} again"


def export_checkpoint(
    recipe: WeightRecipe, folder: Path, into: Path, *, step: int | None = None, best: bool = False
) -> str:
    """Export a checkpoint of a run, whether it ended or not, into a bundle; says what it was.

    Args:
        recipe: of the run, which keeps it as `RECIPE`.
        step: of the checkpoint; default: the newest.
        best: take the best weights by validation.

    Raises:
        BundleError: if there is none, it is damaged, or what the run stands on has changed.
    """
    found = _find(folder, step, best=best)
    before, now = ({k: v for k, v in table.items() if k.startswith("stands on")}
                   for table in (json.loads(found.meta["fingerprint"]), fingerprint(recipe)))  # fmt: skip
    if changes := differences(before, now):
        raise BundleError(f"what {folder} stands on has changed: {changes}")
    _export_run(recipe, found.tensors, found.meta, into)
    damaged = f" ({'; '.join(found.damaged)})" if found.damaged else ""
    return f"step {found.step} of {folder} as {into}{damaged}"


def _find(folder: Path, step: int | None, *, best: bool) -> Checkpoint:
    path = folder / BEST if best else checkpoint_path(folder, step or 0)
    if (best or step is not None) and path.exists():
        return read_checkpoint(path)
    if not best and step is None and (found := newest_checkpoint(folder)) is not None:
        return found
    steps = ", ".join(str(int(there.stem.rpartition("-")[2])) for there in checkpoints(folder))
    there = f"there are {steps}" if steps else "one is written every checkpoint_minutes, and at the end"
    wanted = path.name if best else "checkpoint" if step is None else f"checkpoint of step {step}"
    raise BundleError(f"{folder} has no {wanted}: {there}")


def _export_run(recipe: WeightRecipe, tensors: dict[str, Any], meta: Mapping[str, str], into: Path | None) -> None:
    bundle, source = into or Path(recipe.bundle), getattr(recipe, "base", None) or recipe.bundle
    job = make_job(recipe, encode=None, into=into, quiet=True)
    if isinstance(job, TransformerJob):
        job.seen = json.loads(meta["seen"])
    if recipe.task != "tokenizer" and Bundle(source).folder.resolve() != bundle.resolve():
        own = recipe.task == "image" or getattr(recipe, "train", None) == "all"
        share_files(Bundle(source), bundle, TOKENIZERS if own else (*TOKENIZERS, WeightFile.IMAGE))
    export(job, tensors)
    update_bundle(bundle, {}, **bundle_tables(recipe, json.loads(meta["seen"])))


def bundle_tables(recipe: WeightRecipe, seen: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe and its data say about its bundle beside the weights."""
    tables: dict[str, Any] = {"licence": recipe.licence}
    if isinstance(recipe, KeyframesRecipe) and recipe.frame_rate is not None:
        tables["frame_rate"] = recipe.frame_rate
    if isinstance(recipe, StageRecipe) and recipe.sampling is not None:
        tables["sampling"] = {recipe.task: asdict(recipe.sampling)}
    if "rates" in seen:
        tables["trained_rates"] = {recipe.task: seen["rates"]}
    return tables
