"""SAT checkpoint folders into bundles and back: one frozen base, any number of adapters on it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cogstyle.bundle import Bundle, WeightFile, holds_bundle, update_bundle, writing
from cogstyle.config import ModelConfig, Prompts, SamplingConfig, SuperResConfig
from cogstyle.errors import BundleError
from cogstyle.files import read_tensors, whole_folder
from cogstyle.interop import sat_checkpoint as sat
from cogstyle.model.superres import SuperResolution
from cogstyle.model.temporal import TemporalAdapter, layer_windows
from cogstyle.model.transformer import Transformer

ROLES = ("keyframes", "interpolation", "superres")
TEMPORAL = ("window", "text_span", "frames", "extra_positions")  # what a temporal role says of the model, not the base
PROMPTS = Prompts(
    image="{prompt} 高清摄影",
    image_guide="高清摄影",
    video="{seconds}秒<n>{prompt} 视频",
    video_guide="{seconds}秒<n>视频",
)
SAMPLING = {  # as the released scripts draw
    "image": SamplingConfig(clusters=16, text_bias=1.4),
    "keyframes": SamplingConfig(guidance=3.0, temperature=1.05, clusters=12, text_bias=1.4),
    "interpolation": SamplingConfig(temperature=1.05, clusters=12, text_bias=1.4),
    "superres": SamplingConfig(clusters=6, inner_temperature=0.6),
}
BLOCK = 1 << 22  # numbers that are compared at a time
COARSE_OFFSET = 1  # CogView2's super-resolution counts its coarse positions from 513


def role_of(checkpoint: sat.SatCheckpoint) -> str:
    """What the checkpoint is, by the weights beside its base.

    Raises:
        BundleError: if there are none that we know.
    """
    if "mixins.attention_plus.query_key_value.0.weight" not in checkpoint.weights:
        raise BundleError("the checkpoint has no mixins.attention_plus: it is no CogVideo or CogView2-dsr model")
    if "mixins.attention_plus.attn_distribution.0" not in checkpoint.weights:
        return "superres"
    config = checkpoint.config
    second = config.get("window_size", -1) > 0 or config.get("cogvideo_stage") == 2
    return "interpolation" if second else "keyframes"


def new_module(role: str, config: ModelConfig, superres: SuperResConfig) -> nn.Module:
    """An adapter on the meta device, for names and shapes."""
    with torch.device("meta"):
        if role == "superres":
            return SuperResolution(config, factor=superres.factor, coarse_offset=superres.coarse_offset)
        return TemporalAdapter(config, window=config.window if role == "interpolation" else 0)


def check_weights(found: Mapping[str, Tensor], module: nn.Module, what: str) -> None:
    """Validate that `found` has exactly the module's names and shapes; else raise BundleError."""
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if names := sorted(wanted.keys() ^ found.keys()):
        raise BundleError(f"{what}: {len(names)} weights too few or too many: {', '.join(names[:5])}")
    for name, shape in wanted.items():
        if tuple(found[name].shape) != shape:
            raise BundleError(f"{what}: {name} is {tuple(found[name].shape)}, its config says {shape}")


def import_sat(
    folder: Path,
    target: Path,
    *,
    role: str | None = None,
    codes: int = 20_000,
    pad: int = 20_003,
    start_of_image: int = 150_000,
    text_positions: int = 512,
    progress: Callable[[int], None] = lambda size: None,
) -> list[str]:
    """Bring one checkpoint into the bundle `target`; returns the files made. Weights keep their dtype.

    Args:
        role: what the checkpoint must be; default: whatever it is.
        codes, pad, start_of_image, text_positions: icetk's ids and the release's positions unless given.
        progress: called with the bytes of every tensor that is written.

    Raises:
        BundleError: if the checkpoint is damaged or of another role, or stands on another base than the
            bundle's; the bundle is left as it was.
    """
    checkpoint = sat.read_checkpoint(folder)
    found = role_of(checkpoint)
    if role is not None and role != found:
        raise BundleError(f"{folder} holds the {found} model, not {role}")
    config = sat.model_config(
        checkpoint, codes=codes, pad=pad, start_of_image=start_of_image, text_positions=text_positions
    )
    superres = SuperResConfig(coarse_offset=COARSE_OFFSET)
    if found == "superres":
        superres = replace(superres, factor=sat.factor(checkpoint), text_span=config.text_span)
    base, adapter = sat.split_weights(checkpoint.weights)
    with torch.device("meta"):
        check_weights(base, Transformer(config), f"{folder}, image model")
    check_weights(adapter, new_module(found, config, superres), f"{folder}, {found}")
    files: dict[str, Any] = {WeightFile.of(found): adapter}
    tables: dict[str, Any] = {"sampling": {found: asdict(SAMPLING[found])}}
    if found == "superres":
        tables["superres"] = superres
    with writing(target):  # what is there stays so until it is added to
        if holds_bundle(target) and (bundle := Bundle(target)).has(WeightFile.IMAGE):
            config = _merged(bundle, config, base, found)
        else:
            files = {WeightFile.IMAGE: base, **files}
            tables["sampling"]["image"] = asdict(SAMPLING["image"])
            tables |= {"prompts": PROMPTS, "frame_rate": 1.0}
        update_bundle(target, files, half=False, progress=progress, model=config, **tables)
    return list(files)


def _merged(bundle: Bundle, config: ModelConfig, base: Mapping[str, Tensor], role: str) -> ModelConfig:
    """The bundle's config with what the new role adds; the base must be the one that is there."""
    old = bundle.model_config
    added = {"keyframes": TEMPORAL[1:], "interpolation": TEMPORAL, "superres": ()}[role]
    new = replace(old, **{name: getattr(config, name) for name in added})
    differing = [k for k, v in asdict(config).items() if k not in TEMPORAL and v != getattr(old, k)]
    if differing:
        values = ", ".join(f"{k} {getattr(config, k)} (bundle: {getattr(old, k)})" for k in differing)
        raise BundleError(f"the checkpoint does not fit the bundle {bundle.folder}: {values}")
    kept, _ = read_tensors(bundle.file(WeightFile.IMAGE))
    names = [name for name in sorted(base) if not equal_values(base[name], kept[name])]
    if names:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise BundleError(
            f"the checkpoint's image model is another than that of {bundle.folder}: {len(names)} of {len(base)} "
            f"weights differ ({shown}); import it into a bundle of its own"
        )
    return new


def equal_values(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, whatever their dtypes; a block of them is widened at a time."""
    if one.shape != other.shape:
        return False
    wide = torch.promote_types(one.dtype, other.dtype)
    pairs = zip(one.flatten().split(BLOCK), other.flatten().split(BLOCK), strict=True)
    return all(torch.equal(ours.to(wide), theirs.to(wide)) for ours, theirs in pairs)


def _check_layers(source: Bundle, role: str) -> None:
    """Raise BundleError unless SAT can run the layers of a bundle, one after the other."""
    config = source.model_config
    if getattr(source.growth, role, None) is not None or getattr(source.lora, role, None) is not None:
        raise BundleError(
            f"the {role} of {source.folder} bring weights of their own beside the image model's layers, for which SAT "
            "has no place; what it can hold is a deeper image model (cogstyle grow --part image)"
        )
    window = config.window if role == "interpolation" else 0
    if layer_windows(config.layers, window, config.grown) != layer_windows(config.layers, window):
        raise BundleError(
            f"the grown layers of {source.folder} have the windows of what they copy; in SAT every second window moves"
        )


def export_sat(source: Bundle, folder: Path, *, role: str = "keyframes", ranks: int = 1) -> None:
    """Write the image model and one adapter of a bundle as a SAT checkpoint folder.

    Args:
        ranks: tensor-parallel processes that the weights are split for.

    Raises:
        FileError: if the bundle has no such adapter or cannot be split so, or `folder` exists or cannot be written.
    """
    if role not in ROLES:
        raise BundleError(f"unknown role {role!r}; known are {', '.join(ROLES)}")
    config = source.model_config
    if config.family != "sandwich":
        raise BundleError(f"the image model of {source.folder} is of the {config.family} family, which SAT lacks")
    _check_layers(source, role)
    if ranks < 1 or config.heads % ranks or config.vocabulary % ranks:
        raise BundleError(f"{config.heads} heads and {config.vocabulary} ids cannot be split evenly for {ranks} ranks")
    with whole_folder(folder) as scratch:
        sides = {"base": WeightFile.IMAGE, "adapter": WeightFile.of(role)}
        weights: dict[str, Tensor] = {}
        for side, name in sides.items():
            tensors, _ = read_tensors(source.file(name))
            # cloned: torch.save would write the whole mapped file for each of its tensors
            weights |= {sat.sat_name(side, ours): value.clone() for ours, value in tensors.items()}
        described = sat.describe(config, role, source.superres_config) | {"model_parallel_size": ranks}
        (scratch / "1").mkdir()
        (scratch / "latest").write_text("1")
        (scratch / "model_config.json").write_text(json.dumps(described, indent=4))
        for rank in range(ranks):
            module = {name: sat.split(name, value, ranks)[rank] for name, value in weights.items()}
            try:
                torch.save({"module": module, "iteration": 1}, scratch / "1" / f"mp_rank_{rank:02d}_model_states.pt")
            except RuntimeError as error:  # what torch makes of a full disk
                raise BundleError(f"cannot write {folder}: {str(error).splitlines()[0]}") from None
