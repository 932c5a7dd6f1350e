"""Bring other people's weights into a bundle: SwissArmyTransformer checkpoints, icetk's assets."""

import argparse
from pathlib import Path

HELP = "import official weights into a bundle"
EXAMPLE = "cogstyle import sat cogvideo-stage1 --to bundles/cogvideo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("format", choices=("sat", "icetk"), help="sat: a checkpoint folder; icetk: a folder of assets")
    parser.add_argument("folder", type=Path, metavar="DIR", help="what to read")
    parser.add_argument("--to", type=new_path, required=True, metavar="BUNDLE", help="bundle to make, or to add to")
    parser.add_argument("--role", choices=("keyframes", "interpolation", "superres"), help="what a checkpoint must be")
    parser.add_argument("--start-of-image", type=int, default=150_000, help="id of <start_of_image> in the checkpoint")
    parser.add_argument("--pad", type=int, default=20_003, help="id of <pad> in the checkpoint")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def new_path(text: str) -> Path:
    """A path to write to; nothing would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; . is the current folder")
    return Path(text).expanduser()


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from cogstyle.config import require
    from cogstyle.interop.icetk import import_icetk
    from cogstyle.interop.sat_bundle import import_sat

    sat = arguments.format == "sat"
    require(sat or arguments.role is None, "--role has no effect on icetk's assets")
    with tqdm(unit="B", unit_scale=True, disable=arguments.quiet, desc=arguments.folder.name, delay=0.5) as bar:
        if not sat:
            made = import_icetk(arguments.folder, arguments.to, progress=bar.update)
        else:
            made = import_sat(
                arguments.folder,
                arguments.to,
                role=arguments.role,
                pad=arguments.pad,
                start_of_image=arguments.start_of_image,
                progress=bar.update,
            )
    print(f"{', '.join(made)} in {arguments.to}")
    return 0
