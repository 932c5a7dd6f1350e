"""Write a bundle with more layers: the same videos at first, and room to learn; or take grown layers out again."""

import argparse

from cogstyle.cli.import_ import new_path
from cogstyle.growth_config import HOW

HELP = "add layers to a bundle, which change nothing until they train"
EXAMPLE = "cogstyle grow shapes --how insert --blocks 2 --out bundles/grown"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="BUNDLE", help="a bundle's name or folder")
    parser.add_argument(
        "--how",
        choices=HOW,
        help="insert: copies of the last layer of each group behind it; prefix: of the first layer in front; suffix: "
        "of the last one behind (default: insert)",
    )
    parser.add_argument("--blocks", type=int, metavar="P", help="new layers; to insert them they must divide evenly")
    parser.add_argument(
        "--part",
        choices=("adapter", "image"),
        help="adapter: the temporal adapters grow beside the frozen image model; image: the image model, and all that "
        "stands on it (default: adapter)",
    )
    parser.add_argument("--bypass", action="store_true", help="take the grown layers out again: the old bundle")
    parser.add_argument("--out", type=new_path, required=True, metavar="BUNDLE", help="folder of the bundle to make")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from cogstyle.bundle import bypass_bundle, grow_bundle, open_bundle
    from cogstyle.config import from_dict, require
    from cogstyle.growth_config import Growth

    given = [name for name in ("how", "blocks", "part") if getattr(arguments, name) is not None]
    require(
        not arguments.bypass or not given, f"--bypass takes layers out; --{', --'.join(given)} have no effect on it"
    )
    require(arguments.bypass or arguments.blocks is not None, "--blocks says how many layers to add; give it")
    source = open_bundle([arguments.source])
    with tqdm(unit="B", unit_scale=True, disable=arguments.quiet, desc=source.name, delay=0.5) as bar:
        if arguments.bypass:
            made = bypass_bundle(source, arguments.out, progress=bar.update)
        else:
            growth = from_dict(Growth, {"how": arguments.how or "insert", "blocks": arguments.blocks}, "grow")
            part = arguments.part or "adapter"
            made = grow_bundle(source, arguments.out, growth, part=part, progress=bar.update)
    print(f"{', '.join(made)} in {arguments.out}")
    return 0
