"""Fill the time between images: two or more become a video."""

import argparse
from pathlib import Path

from cogstyle.cli import sample
from cogstyle.cli.bundles import add_bundle_argument, bundles

HELP = "fill the time between two or more images"
EXAMPLE = 'cogstyle interpolate a.png b.png c.png --prompt "a red circle moves right" --out circle.mp4'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="two or more, in the order of time")
    parser.add_argument("--prompt", required=True, help="what happens, in English or Chinese")
    parser.add_argument("--out", type=Path, required=True, help=".mp4, .gif, .webp or a folder for PNG")
    parser.add_argument("--frame-rate", type=float, help="images a second: 0.25 to 8 (default: the bundle's)")
    parser.add_argument("--levels", type=int, default=3, help="how often the frames are doubled, 0..3")
    parser.add_argument("--seed", type=int, default=0, help="same images, prompt and seed: same video")
    add_bundle_argument(parser)
    parser.add_argument("--preview", action="store_true", help="write FILE.preview.png as levels come")
    sample.add_common_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from cogstyle.sampling.pipeline import load
    from cogstyle.sampling.request import from_values
    from cogstyle.video import check_output

    check_output(arguments.out)
    request = from_values(sample.values(arguments))
    pipe = load(bundles(arguments), device=arguments.device, dtype=arguments.dtype)
    sample.run_one(pipe, request, arguments)
    return 0
