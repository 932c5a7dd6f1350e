"""Grow a bundle: the same videos from more layers, which then have room to learn."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from cogstyle.bundle.manifest import IMAGE, LANGUAGE, WeightFile
from cogstyle.bundle.read import ADAPTERS, Bundle
from cogstyle.bundle.write import new_bundle, share_files, update_bundle
from cogstyle.config import require
from cogstyle.errors import BundleError
from cogstyle.files import read_tensors
from cogstyle.growth_config import Grown, Growth
from cogstyle.model.grown import deeper, new_layers, shallower

TEMPORAL = ("keyframes", "interpolation")
NAMES = {"image": "image model"}
PARTS = ("adapter", "image")
KEPT = (
    "sampling",
    "superres",
    "trained_rates",
    "words",
    "frame_rate",
    "decoder",
    "growth",
    "lora",
    "language",
    "model",
    "world",
    "recaption",
)


def grow_bundle(
    source: Bundle,
    folder: Path,
    growth: Growth,
    *,
    part: str = "adapter",
    progress: Callable[[int], None] = lambda size: None,
) -> list[str]:
    """Write `source` with more layers, which add nothing until they train; returns the files that differ.

    Args:
        folder: of the new bundle.
        part: "adapter": each temporal adapter brings layers along, and the image model stays as it is; "image": the
            image model is deeper, and all adapters with it.
        progress: called with the bytes of every tensor that is written.

    Raises:
        ConfigError: if the new layers cannot be shared out evenly, or the part has grown already.
        FileError: if `source` is damaged, or `folder` exists or cannot be written.
    """
    require(part in PARTS, f"part {part!r} must be one of {', '.join(PARTS)}")
    config = source.model_config
    tables = [source.growth, source.lora]
    grown = [stage for stage in TEMPORAL if any(getattr(table, stage) is not None for table in tables)]
    require(not grown, f"the {' and '.join(grown)} of {source.folder} have grown already, or have low-rank additions")
    after, weights = growth.after(config.layers), _weights(source)
    listed = asdict(Grown(growth.how, growth.blocks, after))
    if part == "adapter":
        stages = [stage for stage in TEMPORAL if stage in weights]
        require(bool(stages), f"bundle {source.folder} has neither keyframes nor interpolation to grow")
        new = {stage: weights[stage] | new_layers(weights["image"], weights[stage], config, after) for stage in stages}
        return _write(source, folder, new, {"growth": dict.fromkeys(stages, listed)}, progress)
    require(not config.grown, f"the image model of {source.folder} has grown already")
    _expect_no_language(source)
    larger = replace(config, layers=config.layers + growth.blocks, grown=after)
    new = {stage: deeper(tensors, config, after) for stage, tensors in weights.items()}
    return _write(source, folder, new, {"model": asdict(larger), "growth": {"image": listed}}, progress)


def bypass_bundle(source: Bundle, folder: Path, *, progress: Callable[[int], None] = lambda size: None) -> list[str]:
    """Write `source` without the layers that were added to it: what it was, if only these have trained since.

    Raises:
        ConfigError: if nothing was added, or more than that has trained.
        FileError: if `source` is damaged, or `folder` exists or cannot be written.
    """
    config, weights = source.model_config, _weights(source)
    added = {stage: grown for stage in ("image", *TEMPORAL) if (grown := getattr(source.growth, stage)) is not None}
    low_rank = [stage for stage in TEMPORAL if getattr(source.lora, stage) is not None]
    require(bool(config.grown or added or low_rank), f"bundle {source.folder} has no grown layers to take out")
    for stage, grown in added.items():
        require(
            grown.trained in ("nothing", "new"),
            f"the {NAMES.get(stage, stage)} of {source.folder} trained {grown.trained!r}: without its new layers it is "
            "not the old",
        )
    new = {stage: shallower(tensors, config) for stage, tensors in weights.items()}
    if not config.grown:
        new = {stage: tensors for stage, tensors in new.items() if stage in added or stage in low_rank}
    if config.grown:
        _expect_no_language(source)
    smaller = replace(config, layers=config.layers - len(config.grown), grown=())
    nothing = dict.fromkeys(TEMPORAL)
    tables = {"model": asdict(smaller), "growth": {"image": None, **nothing}, "lora": nothing}
    return _write(source, folder, new, tables, progress)


def _expect_no_language(source: Bundle) -> None:
    """What listens to a language model stands on an image model of its own depth."""
    there = [name for name in LANGUAGE if source.has(name)]
    require(not there, f"{', '.join(there)} of {source.folder} stand on its image model, whose depth would change")


def _weights(source: Bundle) -> dict[str, dict[str, Tensor]]:
    """Those of the image model and of all that stands on it, as the files hold them."""
    source.check_foundations()
    found: dict[str, dict[str, Tensor]] = {}
    for stage in ("image", *(stage for stage in ADAPTERS if source.has(WeightFile.of(stage)))):
        found[stage], meta = read_tensors(source.file(WeightFile.of(stage)))
        if stage != "image" and meta.get("base_sha256") != source.sha256(IMAGE):
            raise BundleError(f"{source.path(WeightFile.of(stage))} was trained on another image model")
    return found


def said_of(source: Bundle, folder: Path) -> dict[str, Any]:
    """What the manifest of `source` says beside its files, for a copy in `folder`."""
    said = {key: source.manifest[key] for key in KEPT if key in source.manifest}
    text = source.manifest.get("text", {}).get("t5")
    if text is not None and not Path(text).is_absolute() and (source.folder / text).is_dir():  # it lies beside
        beside = os.path.relpath((source.folder / text).resolve(), folder.resolve())
        said["text"] = {**source.manifest["text"], "t5": beside}
    return said


def _write(
    source: Bundle,
    folder: Path,
    weights: Mapping[str, Mapping[str, Tensor]],
    tables: Mapping[str, Mapping[str, Any]],
    progress: Callable[[int], None],
) -> list[str]:
    """A bundle as `source` but for these weights and tables."""
    files = {str(WeightFile.of(stage)): tensors for stage, tensors in weights.items()}
    said = said_of(source, folder)
    for key, table in tables.items():
        said[key] = {**said.get(key, {}), **table}
    with new_bundle(folder) as scratch:
        share_files(source, scratch, [name for name in source.hashes() if name not in files])
        update_bundle(scratch, files, half=False, progress=progress, **said, name=folder.resolve().name)
    return list(files)
