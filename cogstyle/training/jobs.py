"""The training job of a recipe, and what comes of its weights: a bundle."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogstyle.bundle import Bundle, share_files, update_bundle
from cogstyle.config import MODELS, preset
from cogstyle.data import shards
from cogstyle.data.footage import Footage
from cogstyle.data.mixing import FAMILIES
from cogstyle.errors import BundleError, FileError
from cogstyle.files import read_text, write_bytes
from cogstyle.training.checkpoint import (
    Checkpoint,
    checkpoint_path,
    checkpoints,
    newest_checkpoint,
    peek,
    read_checkpoint,
)
from cogstyle.training.export import choose, export
from cogstyle.training.identity import Identity, differences, fingerprint
from cogstyle.training.job import Job
from cogstyle.training.run_folder import BEST
from cogstyle.training.superres import SuperResolutionJob
from cogstyle.training.tokenizer import TokenizerJob
from cogstyle.training.transformer import TOKENIZERS as TOKENIZER_FILES
from cogstyle.training.transformer import TransformerJob

if TYPE_CHECKING:
    from cogstyle.training.recipe import Recipe

RECIPE, DONE = "recipe.toml", "done.json"  # in a run's folder: its recipe, and what was exported of it


def make_job(
    recipe: "Recipe",
    *,
    runs: Path = Path(),
    quiet: bool = False,
    encode: shards.Encode | None = shards.encode,
    into: Path | None = None,
) -> Job:
    """The training job of a recipe; encodes the data it needs under `runs`/data.

    Args:
        encode: gives the rows as `shards.encode` does; None: none are needed, for an export alone.
        into: a bundle to write, in place of the recipe's.
    """
    job = _new_job(recipe, {"data": runs / "data", "quiet": quiet, "encode": encode}, into)
    if recipe.start is not None and encode is not None:
        job.load_initial_weights(Bundle(recipe.start).weights(recipe.task))
    return job


def _new_job(
    recipe: "Recipe", options: dict[str, Any], into: Path | None
) -> TokenizerJob | SuperResolutionJob | TransformerJob:
    bundle = into or Path(recipe.bundle)
    assert recipe.optim is not None
    if recipe.task == "tokenizer":
        config, pictures = recipe.tokenizer_config, None
        if recipe.data is not None and options["encode"] is not None:
            cache, data = options["data"], recipe.data
            quiet, shares = options["quiet"], data.shares
            pictures = Footage(data.sources, size=config.image_size, cache=cache, shares=shares, quiet=quiet)
        return TokenizerJob(
            config,
            batch=recipe.optim.batch,
            seed=recipe.seed,
            bundle=bundle,
            pictures=pictures,
            decoder_only=recipe.train == "decoder",
        )
    assert recipe.data is not None
    options = options | {
        "rows": recipe.data.rows,
        "validation_rows": recipe.data.validation_rows,
        "caption_dropout": recipe.data.caption_dropout,
        "emphasis": recipe.data.emphasis,
        "bundle": bundle,
        "batch": recipe.optim.batch,
        "seed": recipe.seed,
        "copy_output": recipe.copy_output,
    }
    if recipe.task == "superres":
        job = SuperResolutionJob(**options | {"bundle": Path(recipe.bundle)})
        job.bundle = bundle
        return job
    if recipe.task in FAMILIES:
        options |= {name: getattr(recipe, name) for name in ("pb_relax", "mix")}
        options |= {"train_all": recipe.train == "all", "steps": recipe.optim.steps}
    options["base"] = recipe.base or (recipe.bundle if into else None)
    return TransformerJob(recipe.task, preset(MODELS, recipe.preset), folders=recipe.data.folders, **options)


def identify(recipe: "Recipe", folder: Path, *, forced: bool = False) -> tuple[Identity, Checkpoint | None]:
    """What a recipe trains, and the last checkpoint of its run in `folder` if that has come to its end.

    Raises:
        ConfigError: if the folder holds the run of another recipe.
    """
    assert recipe.optim is not None
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


def note_export(recipe: "Recipe", folder: Path, path: Path) -> None:
    """Write down which recipe was trained to its end, and the sha256 of what was exported."""
    names, hashes = (f"{recipe.task}.safetensors", "image.safetensors"), Bundle(recipe.bundle).hashes()
    done = {
        "recipe": str(path),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {name: hashes[name] for name in names if name in hashes},
    }
    write_bytes(folder / DONE, json.dumps(done, indent=1, ensure_ascii=False).encode())


def export_again(recipe: "Recipe", folder: Path, last: Checkpoint) -> str:
    """Export a finished run once more; says what it was."""
    tensors, said = choose(folder, last.tensors, last.step, keep_best=recipe.export == "best")
    _export_run(recipe, tensors, last.meta, None)
    done = _exported(folder)
    by = f" of {done['recipe']}, which ended {done.get('ended')}" if "recipe" in done else ""
    return f"{folder} was done before: {last.step} steps{by}; exported {said} to {recipe.bundle} again"


def export_checkpoint(
    recipe: "Recipe", folder: Path, into: Path, *, step: int | None = None, best: bool = False
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


def _export_run(recipe: "Recipe", tensors: dict[str, Any], meta: Mapping[str, str], into: Path | None) -> None:
    bundle, source = into or Path(recipe.bundle), recipe.base or recipe.bundle
    job = make_job(recipe, encode=None, into=into, quiet=True)
    if isinstance(job, TransformerJob):
        job.seen = json.loads(meta["seen"])
    if recipe.task != "tokenizer" and Bundle(source).folder.resolve() != bundle.resolve():
        own = recipe.task == "image" or recipe.train == "all"
        share_files(Bundle(source), bundle, TOKENIZER_FILES if own else (*TOKENIZER_FILES, "image.safetensors"))
    export(job, tensors)
    update_bundle(bundle, {}, **bundle_tables(recipe, json.loads(meta["seen"])))


def bundle_tables(recipe: "Recipe", seen: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe and its data say about its bundle beside the weights."""
    tables: dict[str, Any] = {"licence": recipe.licence}
    if recipe.frame_rate is not None:
        tables["frame_rate"] = recipe.frame_rate
    if recipe.sampling is not None:
        tables["sampling"] = {recipe.task: asdict(recipe.sampling)}
    if "rates" in seen:
        tables["trained_rates"] = {recipe.task: seen["rates"]}
    return tables
