"""What a bundle or a SAT checkpoint folder holds, and the memory that sampling with it takes."""

import argparse
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cogstyle.cli.bundles import add_bundle_argument, bundles

if TYPE_CHECKING:
    import torch

    from cogstyle.bundle import Bundle
    from cogstyle.config import ModelConfig

    Parts = dict[str, dict[str, torch.Tensor]]  # part -> its weights, memory-mapped

HELP = "parameters, dtypes and memory of a bundle or checkpoint"
EXAMPLE = "cogstyle inspect shapes --batch 4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", nargs="?", metavar="BUNDLE|DIR", help="a bundle's name or folder, or a SAT checkpoint folder"
    )
    add_bundle_argument(parser)
    parser.add_argument("--batch", type=int, default=1, help="videos sampled at once")
    parser.add_argument("--device", default="auto", help="device whose memory is compared")
    parser.add_argument("--start-of-image", type=int, default=150_000, help="id of <start_of_image> in a checkpoint")
    parser.add_argument("--pad", type=int, default=20_003, help="id of <pad> in a checkpoint")


def run(arguments: argparse.Namespace) -> int:
    from cogstyle import native
    from cogstyle.config import require
    from cogstyle.files import human

    named = bundles(arguments)
    require(arguments.batch > 0, f"batch {arguments.batch} must be positive")
    room = capacity(arguments.device)
    folder, config, parts, bundle = read(arguments, named)
    if config is None:
        assert bundle is not None
        print_tokenizer(bundle)
    else:
        print(f"{folder}: {config.layers} layers, width {config.width}, {config.heads} heads")
        print(f"vocabulary {config.vocabulary:,}, of it {config.codes:,} image codes")
        print(f"{config.frames} frames of {config.grid[0]} x {config.grid[1]} tokens, window {config.window}\n")
        print_growth(config, bundle)
    print(f"{'part':<16}{'parameters':>16}{'size':>12}  dtype")
    for name, weights in parts.items():
        values = weights.values()
        dtypes = ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in values}))
        number = sum(value.numel() for value in values)
        print(f"{name:<16}{number:>16,}{human(sum(v.numel() * v.element_size() for v in values)):>12}  {dtypes}")
    if config is None:
        return 0
    steps = "torch" if (library := native.library()) is None else f"native {library.name}"
    print(f"\ndecode steps on the CPU: {steps}")
    print(f"\nto sample {arguments.batch} at once, guided; {arguments.device} has {human(room)}")
    print(f"{'':<36}{'float32':>12}{'bfloat16':>12}")
    needs = {size: needed(config, parts, arguments.batch, size, bundle) for size in (4, 2)}
    for row in needs[4]:
        print(f"{row:<36}" + "".join(f"{human(needs[size][row]):>12}" for size in needs))
    fits = ["yes" if sum(need.values()) <= room else "NO" for need in needs.values()]
    print(f"{'fits':<36}{fits[0]:>12}{fits[1]:>12}")
    if bundle is not None:
        print_training(bundle)
    return 0


def print_tokenizer(bundle: "Bundle") -> None:
    """What a bundle without image model is for."""
    tokenizer = bundle.tokenizer_config
    side = tokenizer.image_size // tokenizer.rate
    print(f"{bundle.folder}: no image model; it holds {', '.join(bundle.hashes())}")
    frame = f"{tokenizer.image_size} x {tokenizer.image_size} px"
    print(f"image tokenizer: {frame}, {side} x {side} of {tokenizer.codes:,} codes\n")


def print_growth(config: "ModelConfig", bundle: "Bundle | None") -> None:
    """Where layers were added."""
    added = {"image model": list(config.grown)}
    if bundle is not None:
        grown = {"keyframes": bundle.growth.keyframes, "interpolation": bundle.growth.interpolation}
        added |= {name: list(one.after) for name, one in grown.items() if one is not None}
    for name, after in added.items():
        if after:
            print(f"{name}: {len(after)} grown layers, behind layers {', '.join(map(str, after))}")


def print_training(bundle: "Bundle") -> None:
    """What the weights were trained with: frame rates, and the words of the captions."""
    for stage in ("keyframes", "interpolation"):
        if trained := bundle.trained_rates(stage):
            print(f"\n{stage}: trained at {', '.join(f'{rate:g}' for rate in trained)} frames a second", end="")
    if bundle.words.groups:
        print("\n\nwords of the training captions; others give something else")
    for name, words in bundle.words.groups.items():
        print(f"{name:<16}{', '.join(words)}")


def read(arguments: argparse.Namespace, named: list[str]) -> "tuple[Path, ModelConfig | None, Parts, Bundle | None]":
    """The folder, the image model's config, the weights of each part, and the bundle, if it is one."""
    from cogstyle.files import is_file, read_tensors

    folder = Path(arguments.source or "").expanduser()
    if arguments.source is not None and is_file(folder / "latest"):
        from cogstyle.interop import sat_bundle, sat_checkpoint

        checkpoint = sat_checkpoint.read_checkpoint(folder)
        config = sat_checkpoint.model_config(checkpoint, pad=arguments.pad, start_of_image=arguments.start_of_image)
        names = ("image", sat_bundle.role_of(checkpoint))
        return folder, config, dict(zip(names, sat_checkpoint.split_weights(checkpoint.weights), strict=True)), None
    from cogstyle.bundle import WeightFile, open_bundle

    bundle = open_bundle(named)
    files = [name for name in bundle.hashes() if name.endswith(".safetensors")]
    parts = {name.removesuffix(".safetensors"): read_tensors(bundle.file(name))[0] for name in files}
    alone = not bundle.has_model and bundle.has(WeightFile.TOKENIZER)
    return bundle.folder, None if alone else bundle.model_config, parts, bundle


def needed(
    config: "ModelConfig", parts: "Parts", batch: int, itemsize: int, bundle: "Bundle | None" = None
) -> dict[str, int]:
    """Bytes of weights and of keys and values, by name; other activations are small beside them."""
    import torch

    from cogstyle.growth_config import GrownWeights
    from cogstyle.model.superres import SuperResolution
    from cogstyle.sampling import cost
    from cogstyle.sampling.options import Options
    from cogstyle.sampling.upscale import frame_bytes

    upscaling = {}
    if "superres" in parts:
        factor = math.isqrt(len(parts["superres"]["positions.weight"]) // config.tokens)
        with torch.device("meta"):
            upscaler = SuperResolution(config, factor=factor)
        upscaling = {"super-resolution: one frame": frame_bytes(upscaler, config.text_span, itemsize)}
    options = Options()
    growth = GrownWeights() if bundle is None else bundle.growth
    need = cost.stage_memory(config, itemsize, options, growth=growth)
    return {
        "weights": sum(value.numel() * itemsize for weights in parts.values() for value in weights.values()),
        "keyframes: keys and values": 2 * batch * need["keyframes"],
        f"interpolation: {cost.groups(config, options)} groups at once": 2 * batch * need["interpolation"],
        **upscaling,
    }


def capacity(device: str) -> int:
    """Bytes of memory that a device has."""
    import torch

    from cogstyle.devices import find_device

    place = find_device(device)
    if place.type == "cuda":
        return torch.cuda.get_device_properties(place).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
