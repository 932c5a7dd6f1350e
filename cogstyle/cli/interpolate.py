"""Fill the time between images, at any times: two or more become a video. Or join two videos."""

import argparse
from pathlib import Path

from cogstyle.cli import sample
from cogstyle.cli.bundles import add_bundle_argument, bundles

HELP = "fill the time between images, or join two videos"
EXAMPLE = 'cogstyle interpolate a.png b.png c.png --times 0 0.5 2 --prompt "a red circle moves right" --out circle.mp4'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="two or more, in the order of time")
    parser.add_argument(
        "--times",
        nargs="+",
        type=float,
        metavar="SECONDS",
        help="when each is shown, from 0 on (default: one image every 1 / frame rate seconds)",
    )
    parser.add_argument(
        "--join", action="store_true", help="IMAGE are two videos: write both and what leads from one to the other"
    )
    parser.add_argument("--prompt", required=True, help="what happens, in English or Chinese")
    parser.add_argument("--out", type=Path, required=True, help=".mp4, .gif, .webp or a folder for PNG")
    parser.add_argument("--frame-rate", type=float, help="images a second: 0.25 to 8 (default: the bundle's)")
    parser.add_argument("--levels", type=int, default=3, help="how often the frames are doubled, 0..3")
    parser.add_argument("--seed", type=int, default=0, help="same images, prompt and seed: same video")
    add_bundle_argument(parser)
    parser.add_argument("--preview", action="store_true", help="write FILE.preview.png as levels come")
    sample.add_common_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from cogstyle.config import require
    from cogstyle.sampling.pipeline import load
    from cogstyle.sampling.request import from_values
    from cogstyle.video import check_output

    check_output(arguments.out)
    values = sample.values(arguments)
    if arguments.join:
        require(not arguments.tokens, "--tokens holds the tokens of new frames only; leave out --join")
        values["videos"] = values.pop("images")
    request = from_values(values)
    pipe = load(bundles(arguments), device=arguments.device, dtype=arguments.dtype)
    sample.run_one(pipe, request, arguments)
    return 0
