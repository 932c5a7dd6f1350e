"""Train one weight from a recipe, resuming where an earlier run of it stopped."""

import argparse
from pathlib import Path

HELP = "train one weight from a TOML recipe"
EXAMPLE = "cogstyle train train/shapes/keyframes.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, help="a recipe, see train/")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where checkpoints, logs and data are kept")
    parser.add_argument("--encode-only", action="store_true", help="encode the recipe's data, then stop")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    import torch

    from cogstyle.training.recipe import train

    torch.set_num_threads(arguments.threads)
    folder = train(arguments.recipe, runs=arguments.runs, encode_only=arguments.encode_only, quiet=arguments.quiet)
    print(f"done: {folder}")
    return 0
