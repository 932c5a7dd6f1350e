"""Bring other people's weights into a bundle: SwissArmyTransformer checkpoints, icetk's assets, LlamaGen's files."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

HELP = "import official weights into a bundle"
EXAMPLE = "cogstyle import sat cogvideo-stage1 --to bundles/cogvideo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "format",
        choices=("sat", "icetk", "llamagen", "t5"),
        help="sat: a checkpoint folder; icetk: a folder of assets; llamagen: GPT.pt VQ.pt; t5: a Hugging Face folder, "
        "for an image model that is trained on it",
    )
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="what to read")
    parser.add_argument("--to", type=new_path, required=True, metavar="BUNDLE", help="bundle to make, or to add to")
    parser.add_argument("--role", choices=("keyframes", "interpolation", "superres"), help="what a checkpoint must be")
    parser.add_argument("--start-of-image", type=int, default=150_000, help="id of <start_of_image> in the checkpoint")
    parser.add_argument("--pad", type=int, default=20_003, help="id of <pad> in the checkpoint")
    parser.add_argument("--t5", metavar="FOLDER", help="llamagen: the T5 that wrote its captions (flan-t5-xl)")
    parser.add_argument("--heads", type=int, help="llamagen: attention heads, if the size is no released one")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="llamagen: side of the pictures it draws")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def new_path(text: str) -> Path:
    """A path to write to; nothing would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; . is the current folder")
    return Path(text).expanduser()


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from cogstyle.config import require

    kind, paths = arguments.format, arguments.paths
    count = 2 if kind == "llamagen" else 1
    require(len(paths) == count, f"import {kind} reads {count} path{'s' * (count > 1)}, not {len(paths)}")
    require(kind == "sat" or arguments.role is None, f"--role has no effect on import {kind}")
    for name in ("t5", "heads", "image_size"):
        given = getattr(arguments, name) is not None
        require(kind == "llamagen" or not given, f"--{name.replace('_', '-')} has no effect on import {kind}")
    with tqdm(unit="B", unit_scale=True, disable=arguments.quiet, desc=paths[0].name, delay=0.5) as bar:
        made = import_from(arguments, bar.update)
    print(f"{', '.join(made)} in {arguments.to}")
    return 0


def import_from(arguments: argparse.Namespace, progress: Callable[..., Any]) -> list[str]:
    """The files made."""
    kind, paths, target = arguments.format, arguments.paths, arguments.to
    if kind == "sat":
        from cogstyle.interop.sat_bundle import import_sat

        ids = {"pad": arguments.pad, "start_of_image": arguments.start_of_image}
        return import_sat(paths[0], target, role=arguments.role, progress=progress, **ids)
    if kind == "icetk":
        from cogstyle.interop.icetk import import_icetk

        return import_icetk(paths[0], target, progress=progress)
    from cogstyle.config import require
    from cogstyle.interop.llamagen import import_llamagen, import_t5

    if kind == "t5":
        return import_t5(paths[0], target)
    require(arguments.t5 is not None, "import llamagen needs --t5 FOLDER, the language model that the GPT reads")
    return import_llamagen(
        paths[0],
        paths[1],
        target,
        t5=arguments.t5,
        heads=arguments.heads,
        image_size=arguments.image_size,
        progress=progress,
    )
