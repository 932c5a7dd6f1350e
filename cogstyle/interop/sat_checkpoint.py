"""Reading SwissArmyTransformer checkpoint folders: the only place that knows their names.

A folder holds `latest` (the name of a subfolder), `model_config.json`, and in that subfolder one file of torch.save
for each tensor-parallel rank (see `torch_file`). Tensors stay memory-mapped until they are used.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cogstyle.config import ModelConfig, SuperResConfig
from cogstyle.errors import BundleError, FileError
from cogstyle.files import is_file, read_text
from cogstyle.interop.torch_file import read_weights
from cogstyle.model.superres import COARSE_WINDOW, FINE_WINDOW

LARGEST_JSON = 1 << 20  # bytes
MOST = 10_000_000
WHOLE_NUMBERS = {  # of model_config.json, and their limits
    "num_layers": (1, 10_000),
    "num_attention_heads": (1, 10_000),
    "model_parallel_size": (1, 1_000),
    "window_size": (-1, 10_000),
    "image_codes": (1, MOST),
    "text_positions": (0, MOST),
    "cogvideo_stage": (0, 2),
}

LAYER_NAMES = {
    "input_layernorm": "norm1",
    "attention.query_key_value": "qkv",
    "attention.dense": "dense",
    "third_layernorm": "norm3",
    "post_attention_layernorm": "norm2",
    "mlp.dense_h_to_4h": "up",
    "mlp.dense_4h_to_h": "down",
    "fourth_layernorm": "norm4",
}
ADAPTER_NAMES = {"query_key_value": "qkv", "dense": "dense"}
WEIGHT_OF_A_GATE = "mixins.attention_plus.attn_distribution."
EXTRA_POSITIONS = "mixins.extra_position_embedding.position_embeddings.weight"
TOP_NAMES = {"word_embeddings": "embed", "position_embeddings": "positions", "final_layernorm": "norm"}
KINDS = ("weight", "bias")
NAMES = {  # SAT's name of a weight, # for the number of its layer -> the side it is on, and our name
    **{
        f"transformer.layers.#.{theirs}.{k}": ("base", f"layers.#.{ours}.{k}")
        for theirs, ours in LAYER_NAMES.items()
        for k in KINDS
    },
    **{f"transformer.{theirs}.{k}": ("base", f"{ours}.{k}") for theirs, ours in TOP_NAMES.items() for k in KINDS},
    **{
        f"mixins.attention_plus.{theirs}.#.{k}": ("adapter", f"layers.#.{ours}.{k}")
        for theirs, ours in ADAPTER_NAMES.items()
        for k in KINDS
    },
    f"{WEIGHT_OF_A_GATE}#": ("adapter", "layers.#.gate"),
    EXTRA_POSITIONS: ("adapter", "positions.weight"),
}
SAT_NAMES = {place: name for name, place in NAMES.items()}
NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


@dataclass(frozen=True)
class SatCheckpoint:
    """A checkpoint folder, its tensor-parallel ranks merged: SAT's names, whole tensors."""

    config: dict[str, Any]
    weights: dict[str, Tensor]


def read_checkpoint(folder: Path) -> SatCheckpoint:
    """Read a checkpoint folder.

    Raises:
        BundleError: for missing files or ranks, damaged files, or shards that do not fit together.
    """
    config, step = _described(folder), _text(folder, "latest").strip()
    if Path(step).name != step or not step:
        raise BundleError(f"{folder / 'latest'} must hold the name of a folder beside it, not {step[:40]!r}")
    count = config.get("model_parallel_size", 1)
    paths = [folder / step / f"mp_rank_{rank:02d}_model_states.pt" for rank in range(count)]
    missing = [str(path) for path in paths if not is_file(path)]
    if missing:
        more = ", ..." if len(missing) > 3 else ""
        raise BundleError(f"checkpoint of {count} ranks lacks {', '.join(missing[:3])}{more}")
    ranks = [read_weights(path) for path in paths]
    for path, rank in zip(paths, ranks, strict=True):
        if rank.keys() != ranks[0].keys():
            raise BundleError(f"{path} has other weights than rank 0: {sorted(rank.keys() ^ ranks[0].keys())[:3]}")
    weights = {}
    for name in ranks[0]:
        try:
            weights[name] = merge(name, [rank[name] for rank in ranks])
        except (RuntimeError, ValueError, IndexError):
            shapes = ", ".join(str(tuple(rank[name].shape)) for rank in ranks)
            raise BundleError(f"{folder}: the ranks' shares of {name} do not fit together: {shapes}") from None
    return SatCheckpoint(config, weights)


def _text(folder: Path, name: str) -> str:
    try:
        return read_text(folder / name, LARGEST_JSON)
    except FileError as error:
        raise BundleError(f"{folder} is no SAT checkpoint: {error}") from None


def _described(folder: Path) -> dict[str, Any]:
    """Read `model_config.json` and validate what we use of it.

    Raises:
        BundleError: if it is missing or damaged, or a value is out of range.
    """
    try:
        config = json.loads(_text(folder, "model_config.json"))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{folder} is no SAT checkpoint: model_config.json: {error}") from None
    if not isinstance(config, dict):
        raise BundleError(f"{folder / 'model_config.json'} holds a {type(config).__name__}, not a table")
    for key, (least, most) in WHOLE_NUMBERS.items():
        value = config.get(key, most)
        if type(value) is not int or not least <= value <= most:
            raise BundleError(
                f"{folder / 'model_config.json'}: {key} {str(value)[:40]} must be a whole number, {least} to {most:,}"
            )
    layout = config.get("layout", [0, 1, 1])
    numbers = isinstance(layout, list) and len(layout) == 3 and all(type(value) is int for value in layout)
    if not numbers or not 0 <= layout[0] < layout[1] <= layout[2] <= MOST:
        raise BundleError(
            f"{folder / 'model_config.json'}: layout {str(layout)[:40]} must be three whole numbers: where the text, "
            f"the first frame and all frames end, at most {MOST:,}"
        )
    return config


def shared_axis(name: str) -> tuple[int, int] | None:
    """(axis, parts) by which tensor-parallel ranks share a weight, each part on its own; None: each holds it whole."""
    if "query_key_value" in name:
        return 0, 3
    if "dense_h_to_4h" in name or name == "transformer.word_embeddings.weight":
        return 0, 1
    row_parallel = "dense_4h_to_h" in name or "attention.dense" in name or "attention_plus.dense" in name
    return (1, 1) if row_parallel and name.endswith("weight") else None


def merge(name: str, shards: list[Tensor]) -> Tensor:
    """One tensor from its shards."""
    shared = shared_axis(name)
    if len(shards) == 1 or shared is None:
        return shards[0]
    axis, parts = shared
    each = zip(*(shard.chunk(parts, axis) for shard in shards), strict=True)
    return torch.cat([torch.cat(part, axis) for part in each], axis)


def split(name: str, whole: Tensor, ranks: int) -> list[Tensor]:
    """The inverse of `merge`."""
    shared = shared_axis(name)
    if ranks == 1 or shared is None:
        return [whole] * ranks
    axis, parts = shared
    each = zip(*(part.chunk(ranks, axis) for part in whole.chunk(parts, axis)), strict=True)
    return [torch.cat(pieces, axis) for pieces in each]


def our_name(name: str) -> tuple[str, str]:
    """SAT's name of a weight -> ("base" or "adapter", our name).

    Raises:
        BundleError: for a name that is neither.
    """
    layer = NUMBER.search(name)
    pattern = NUMBER.sub("#", name)
    if pattern not in NAMES:
        raise BundleError(f"unknown weight {name} in the checkpoint")
    side, ours = NAMES[pattern]
    return side, ours.replace("#", layer[0] if layer else "#")


def sat_name(side: str, name: str) -> str:
    """The inverse of `our_name`."""
    layer = NUMBER.search(name)
    return SAT_NAMES[side, NUMBER.sub("#", name)].replace("#", layer[0] if layer else "#")


def split_weights(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """SAT weights -> (weights of the image model, weights of its adapter) under our names."""
    sides: dict[str, dict[str, Tensor]] = {"base": {}, "adapter": {}}
    for name, value in weights.items():
        side, ours = our_name(name)
        sides[side][ours] = value
    return sides["base"], sides["adapter"]


def model_config(
    checkpoint: SatCheckpoint,
    *,
    codes: int = 20_000,
    pad: int = 20_003,
    start_of_image: int = 150_000,
    text_positions: int = 512,
) -> ModelConfig:
    """Our config of a checkpoint; token ids are icetk's and positions the release's unless given.

    A checkpoint made by us says `image_codes` and `text_positions` itself.

    Raises:
        BundleError: if the checkpoint does not say its sizes.
        ConfigError: if they do not fit together.
    """
    given, weights = checkpoint.config, checkpoint.weights
    try:
        span, first, whole = given["layout"]
        layers, heads = given["num_layers"], given["num_attention_heads"]
        vocabulary, width = weights["transformer.word_embeddings.weight"].shape
        positions = weights["transformer.position_embeddings.weight"].shape[0]
        extra = weights[EXTRA_POSITIONS].shape[0]
    except (LookupError, ValueError) as error:
        raise BundleError(f"the checkpoint does not say its sizes: {error}") from None
    if layers > len(weights):
        raise BundleError(f"the checkpoint says {layers} layers and has {len(weights)} weights")
    tokens = first - span
    side = round(tokens**0.5)
    if side**2 != tokens:
        raise BundleError(f"layout {given['layout']} has frames of {tokens} tokens, which is no square")
    several = f"{WEIGHT_OF_A_GATE}0" in weights  # super-resolution has one frame, and fine positions instead
    temporal = {"frames": (whole - span) // tokens, "extra_positions": extra} if several else {}
    return ModelConfig(
        layers=layers,
        width=width,
        heads=heads,
        vocabulary=vocabulary,
        codes=given.get("image_codes", codes),
        start_of_image=start_of_image,
        pad=pad,
        grid=(side, side),
        text_span=span,
        text_positions=given.get("text_positions", text_positions),
        positions=positions,
        window=max(given.get("window_size", -1), 0) or (0 if given.get("cogvideo_stage") == 2 else side // 2),
        **temporal,
    )


def factor(checkpoint: SatCheckpoint) -> int:
    """Fine tokens along the side of a coarse one, of a super-resolution checkpoint."""
    span, first, whole = checkpoint.config["layout"]
    return round(((whole - first) / (first - span)) ** 0.5)


def describe(config: ModelConfig, role: str, superres: SuperResConfig) -> dict[str, Any]:
    """`model_config.json` of one role."""
    described: dict[str, Any] = {
        "model_class": "DsrModel" if role == "superres" else "CogVideoModel",
        "num_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "vocab_size": config.vocabulary,
        "hidden_dropout": 0.1,
        "attention_dropout": 0.1,
        "layernorm_order": "sandwich",
        "model_parallel_size": 1,
        "max_sequence_length": config.positions,
    }
    if role == "superres":
        span, fine = superres.text_span, config.tokens * superres.factor**2
        return described | {
            "kernel_size": COARSE_WINDOW[0],
            "kernel_size2": FINE_WINDOW[1],
            "layout": [span, span + config.tokens, span + config.tokens + fine],
            "new_sequence_length": config.positions + fine,
        }
    span = config.text_span
    return described | {
        "layout": [span, span + config.tokens, span + config.frames * config.tokens],
        "window_size": (config.window if role == "interpolation" else 0) or -1,
        "additional_seqlen": config.extra_positions,
        "image_codes": config.codes,
        "text_positions": config.text_positions,
        "cogvideo_stage": 2 if role == "interpolation" else 1,
    }
