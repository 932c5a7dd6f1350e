"""LlamaGen's released files into a bundle: the text-to-image GPT, its VQ tokenizer, and the T5 that it reads."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cogstyle.bundle import WeightFile, update_bundle
from cogstyle.config import (
    LlamaGenVQConfig,
    ModelConfig,
    Prompts,
    SamplingConfig,
    TextEncoderConfig,
    llama_config,
    require,
)
from cogstyle.errors import BundleError, FileError
from cogstyle.files import is_file, read_text
from cogstyle.interop.huggingface import digest, find_model
from cogstyle.interop.torch_file import read_weights
from cogstyle.model.transformer import Transformer
from cogstyle.tokenizers.llamagen import LlamaGenVQ

KEYS = ("model", "module", "state_dict", "")  # where a file may have its weights, in the order of the released scripts
HEADS = {  # of the released sizes, by width and layers: a file does not say it
    (768, 12): 12, (1024, 24): 16, (1280, 36): 20, (1536, 48): 24, (2048, 22): 32, (2560, 48): 40, (3200, 24): 32,
    (4096, 32): 32,
}  # fmt: skip
SIDES = (256, 384, 512)  # pixels of the released models
NAMES = {  # of the released weights: ours
    r"tok_embeddings\.weight": "embed.weight",
    r"output\.weight": "head.weight",
    r"norm\.weight": "norm.weight",
    r"cls_embedding\.uncond_embedding": "caption.unconditional",
    r"cls_embedding\.cap_proj\.(fc[12])\.weight": r"caption.\1.weight",
    r"layers\.(\d+)\.attention\.wqkv\.weight": r"layers.\1.qkv.weight",
    r"layers\.(\d+)\.attention\.wo\.weight": r"layers.\1.dense.weight",
    r"layers\.(\d+)\.feed_forward\.w1\.weight": r"layers.\1.gate.weight",
    r"layers\.(\d+)\.feed_forward\.w2\.weight": r"layers.\1.down.weight",
    r"layers\.(\d+)\.feed_forward\.w3\.weight": r"layers.\1.up.weight",
    r"layers\.(\d+)\.attention_norm\.weight": r"layers.\1.norm1.weight",
    r"layers\.(\d+)\.ffn_norm\.weight": r"layers.\1.norm2.weight",
}
STRAY = re.compile(r"freqs_cis|layers\.\d+\.attention\.kv_cache\.[kv]_cache|quantize\.codebook_used")
PROMPTS = Prompts(  # the T5 reads English words, and takes <n> for a tag
    image="{prompt}", image_guide="", video="{seconds} seconds. {prompt}", video_guide="{seconds} seconds."
)
SAMPLING = SamplingConfig(guidance=7.5, top_k=1000)  # as the released script has it


def read_gpt(path: Path, *, heads: int | None = None, grid: int | None = None) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The config and weights of a text-to-image GPT, under our names.

    Args:
        heads, grid: what the file does not say; default: what a json of its name beside it says (`args`), or what is
            known of the released sizes and names.

    Raises:
        BundleError: if it is no such file, its shapes do not fit together, or it is a class-to-image model.
        ConfigError: if heads or grid must be given.
    """
    found = read_weights(path, *KEYS)
    if "cls_embedding.embedding_table.weight" in found:
        raise BundleError(f"{path} is a class-to-image model: it reads no text")
    weights = {_our_name(path, name): value for name, value in found.items() if not STRAY.fullmatch(name)}
    try:
        (codes, width), (inner, _) = weights["embed.weight"].shape, weights["layers.0.gate.weight"].shape
        span, caption_width = weights["caption.unconditional"].shape
        layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
        fused = len(weights["layers.0.qkv.weight"])
    except (LookupError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else "its weights have other axes"
        raise BundleError(f"{path} is no text-to-image GPT of LlamaGen: {what}") from None
    said = _said_beside(path)
    heads = heads or said.get("n_head") or HEADS.get((width, layers), 0)
    require(heads > 0, f"{path} does not say how many heads its {layers} layers of width {width} have: --heads")
    side = grid or isqrt(said.get("block_size", 0)) or _grid_of(path, found.get("freqs_cis"), span)
    sizes = {"layers": layers, "width": width, "heads": heads, "inner": inner, "text_span": span}
    window = 0 if side % 2 else side // 2
    config = llama_config(codes, **sizes, grid=(side, side), window=window, caption_width=caption_width)
    groups, rest = divmod((fused - width) // 2, config.head_width)
    if groups < 1 or rest or heads % groups or fused != width + 2 * groups * config.head_width:
        raise BundleError(f"{path}: wqkv has {fused} rows, which {heads} heads of width {width} do not divide")
    weights = {k: _each_head(v, config, groups) if k.endswith("qkv.weight") else v for k, v in weights.items()}
    with torch.device("meta"):
        _check_shapes(path, weights, Transformer(config))
    return config, weights


def _our_name(path: Path, name: str) -> str:
    for pattern, ours in NAMES.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(ours)
    raise BundleError(f"{path} is no text-to-image GPT of LlamaGen: it holds {name!r:.80}")


def _said_beside(path: Path) -> dict[str, int]:
    """`n_head` and `block_size` out of GPT.json beside GPT.pt, if there is one that says them."""
    beside = path.with_suffix(".json")
    try:
        said = json.loads(read_text(beside))["args"] if is_file(beside) else {}
        return {key: value for key, value in said.items() if type(value) is int and value > 0}
    except (FileError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _grid_of(path: Path, freqs_cis: Tensor | None, span: int) -> int:
    if freqs_cis is not None and freqs_cis.dim() and len(freqs_cis) > span:
        return isqrt(len(freqs_cis) - span)
    sides = [int(number) for number in re.findall(r"\d+", path.stem) if int(number) in SIDES]
    require(len(sides) == 1, f"{path} does not say how large its pictures are: --image-size, in pixels")
    return sides[0] // 16


def _each_head(fused_ED: Tensor, config: ModelConfig, groups: int) -> Tensor:
    """Rows of wqkv with keys and values for every head: those of a group of heads are repeated."""
    if groups == config.heads:
        return fused_ED
    size = groups * config.head_width
    q_ED, k_ED, v_ED = fused_ED.split([len(fused_ED) - 2 * size, size, size])
    repeated = (x.unflatten(0, (groups, -1)).repeat_interleave(config.heads // groups, 0) for x in (k_ED, v_ED))
    return torch.cat([q_ED, *(x.flatten(0, 1) for x in repeated)])


def _check_shapes(path: Path, weights: dict[str, Tensor], module: torch.nn.Module) -> None:
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    for name in sorted(wanted.keys() | weights.keys()):
        found = tuple(weights[name].shape) if name in weights else "missing"
        if found != wanted.get(name):
            raise BundleError(f"{path}: {name} is {found}, must be {wanted.get(name, 'missing')}")


def read_vq(path: Path, *, grid: int | None = None) -> tuple[LlamaGenVQConfig, dict[str, Tensor]]:
    """The config and weights of a VQ tokenizer, as float32; `grid` tokens are a frame's side (16).

    Raises:
        BundleError: if it is no such file.
        ConfigError: for sizes that no tokenizer can have.
    """
    weights = {k: v.float() for k, v in read_weights(path, *KEYS).items() if not STRAY.fullmatch(k)}

    def widths(side: str) -> Iterator[int]:
        level = 0
        while (first := weights.get(f"{side}.conv_blocks.{level}.res.0.conv1.weight")) is not None:
            yield len(first)
            level += 1

    first = re.compile(r"encoder\.conv_blocks\.0\.res\.\d+\.norm1\.bias")
    try:
        codes, code_width = weights["quantize.embedding.weight"].shape
        latent, channels = len(weights["encoder.conv_out.weight"]), len(weights["encoder.conv_in.weight"])
    except (LookupError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else "its weights have other axes"
        raise BundleError(f"{path} is no VQ tokenizer of LlamaGen: {what}") from None
    encoder = tuple(widths("encoder"))
    if not encoder:
        raise BundleError(f"{path} is no VQ tokenizer of LlamaGen: it has no encoder.conv_blocks")
    config = LlamaGenVQConfig(
        codes=codes,
        code_width=code_width,
        latent=latent,
        channels=channels,
        encoder_channels=encoder,
        decoder_channels=tuple(widths("decoder"))[::-1],
        blocks=sum(first.fullmatch(name) is not None for name in weights),
        image_size=(grid or 16) * 2 ** (len(encoder) - 1),
    )
    with torch.device("meta"):
        _check_shapes(path, weights, LlamaGenVQ(config))
    return config, weights


def text_encoder(name: str | Path, bundle: Path, width: int | None = None) -> TextEncoderConfig:
    """What a bundle says of the T5 in a folder; one inside the bundle's own moves with it.

    Raises:
        BundleError: if there is none, or its states are not `width` wide.
    """
    folder = find_model(name)
    try:
        found = json.loads(read_text(folder / "config.json")).get("d_model")
    except (ValueError, AttributeError):
        found = None
    if type(found) is not int:
        raise BundleError(f"{folder} holds no T5: its config.json says no d_model")
    if width is not None and found != width:
        raise BundleError(
            f"the states of {folder} are {found} wide, the GPT reads {width}: it was trained on another T5"
        )
    folder, inside = folder.resolve(), bundle.resolve()
    named = folder.relative_to(inside) if folder.is_relative_to(inside) else folder
    return TextEncoderConfig(str(named), digest(folder))


def import_t5(name: str | Path, target: Path) -> list[str]:
    """Name the T5 that a new image model of the bundle `target` will read."""
    update_bundle(target, {}, text=text_encoder(name, target), prompts=PROMPTS)
    return ["bundle.toml"]


def import_llamagen(
    gpt: Path,
    vq: Path,
    target: Path,
    *,
    t5: str | Path,
    heads: int | None = None,
    image_size: int | None = None,
    progress: Callable[[int], None] = lambda size: None,
) -> list[str]:
    """Bring a GPT, its tokenizer and the name of its T5 into a bundle; returns the files made.

    Args:
        heads, image_size: what the files do not say, see `read_gpt`.

    Raises:
        BundleError, ConfigError: if one is damaged or they do not fit together; nothing is written.
    """
    tokenizer, codes = read_vq(vq)
    require(
        image_size is None or image_size % tokenizer.rate == 0,
        f"image size {image_size} is no multiple of the tokenizer's rate {tokenizer.rate}",
    )
    config, weights = read_gpt(gpt, heads=heads, grid=image_size and image_size // tokenizer.rate)
    if tokenizer.codes != config.codes:
        raise BundleError(f"{vq} has {tokenizer.codes} codes, {gpt} draws {config.codes}: they do not belong together")
    tokenizer, codes = read_vq(vq, grid=config.grid[0])
    update_bundle(
        target,
        {WeightFile.TOKENIZER: codes, WeightFile.IMAGE: weights},
        half=False,
        progress=progress,
        model=config,
        tokenizer=tokenizer,
        text=text_encoder(t5, target, config.caption_width),
        prompts=PROMPTS,
        licence="MIT",
        frame_rate=1.0,
        sampling={stage: asdict(SAMPLING) for stage in ("image", "keyframes", "interpolation")},
    )
    made: list[Any] = [WeightFile.TOKENIZER, WeightFile.IMAGE]
    return made
