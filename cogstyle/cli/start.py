"""Look at your videos, and write a folder of recipes that train a whole bundle on them."""

import argparse
from pathlib import Path

from cogstyle.cli.train import duration

HELP = "write recipes that fit your videos, and say what training them takes"
EXAMPLE = "cogstyle start mine --videos clips/captions.csv"
SIZES = (64, 96, 128, 160, 256)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a new folder for recipes, runs and the bundle")
    parser.add_argument(
        "--videos",
        type=Path,
        required=True,
        metavar="MANIFEST",
        help="what `cogstyle encode` reads: a table or a folder",
    )
    parser.add_argument("--caption", default="", metavar="TEXT", help="caption of whatever has none")
    parser.add_argument("--size", type=int, choices=SIZES, help="pixels of a frame (default: as in BASE)")
    parser.add_argument(
        "--base",
        metavar="BUNDLE",
        help="stand on its image tokenizer, and on its image model if it has one (default: pictures)",
    )


def run(arguments: argparse.Namespace) -> int:
    import torch

    from cogstyle.training.start import start

    torch.set_num_threads(1)  # as `cogstyle train` does
    plan = start(
        arguments.folder, arguments.videos, size=arguments.size, base=arguments.base, caption=arguments.caption
    )
    print("\n".join(plan.survey.lines(plan.size)))
    print(f"\n{'recipe':<24}{'rows':>9}{'trains':>14}{'steps':>8}{'encoding':>10}{'training':>10}")
    for part in plan.parts:
        figures = f"{part.plan.rows:>9,}{part.plan.trained:>14,}{part.plan.steps:>8,}"
        print(f"{part.name:<24}{figures}{duration(part.plan.encoding_seconds):>10}{duration(part.seconds):>10}")
    print(f"\ntogether {duration(plan.seconds)} on this machine, from one timed step of each;")
    print(f"memory about {plan.memory / 1e9 + 0.6:.1f} GB, disk about {plan.disk / 1e9:.2f} GB")
    print(f"\n{arguments.folder} holds the recipes. Next: cogstyle train {arguments.folder}")
    return 0
