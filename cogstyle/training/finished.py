"""Runs and what came of them: whether one has come to its end, and its checkpoints as weights of a bundle."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cogstyle.bundle import Bundle, WeightFile, holds_bundle, share_files, update_bundle
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
from cogstyle.training.export import TOKENIZERS, choose, export
from cogstyle.training.identity import Identity, differences, fingerprint
from cogstyle.training.jobs import make_job
from cogstyle.training.preference_recipe import PreferenceRecipe
from cogstyle.training.recipes import WeightRecipe
from cogstyle.training.run_folder import BEST
from cogstyle.training.sources import SceneData
from cogstyle.training.stage_recipes import KeyframesRecipe, StageRecipe
from cogstyle.training.transformer import TransformerJob

RECIPE, DONE = "recipe.toml", "done.json"  # in a run's folder: its recipe, and what was exported of it


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
    bundle, source = into or Path(recipe.bundle), recipe.source
    job = make_job(recipe, encode=None, into=into, quiet=True)
    if isinstance(job, TransformerJob):
        job.seen = json.loads(meta["seen"])
    alone = ("tokenizer", "language_model", "language_image", "language_keyframes")  # write what they stand on
    if recipe.task not in alone and Bundle(source).folder.resolve() != bundle.resolve():
        own = recipe.task == "image" or getattr(recipe, "train_all", False)
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
    if isinstance(recipe, PreferenceRecipe):
        old = Bundle(recipe.start or "")
        tables["frame_rate"] = old.frame_rate
        tables["sampling"] = {"keyframes": asdict(recipe.sampling or old.sampling("keyframes"))}
        tables["trained_rates"] = {"keyframes": list(old.trained_rates("keyframes"))}
    if isinstance(recipe, StageRecipe) and isinstance(recipe.data, SceneData):
        tables["world"] = "shapes"
    if "rates" in seen:
        tables["trained_rates"] = {recipe.task: seen["rates"]}
    return tables
