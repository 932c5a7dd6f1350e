"""Sample captions of validation scenes, read the frames, and report what the videos show, part by part.

A stopped evaluation resumes: sections that the folder has of the same weights and settings are kept.
"""

import argparse
import shlex
import sys
from pathlib import Path

from cogstyle.cli.bundles import add_bundle_argument, bundles

HELP = "measure whether videos show what their captions say"
EXAMPLE = "cogstyle evaluate shapes --count 20 --out evaluation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", nargs="?", metavar="BUNDLE", help="a bundle's name or folder")
    add_bundle_argument(parser)
    parser.add_argument("--count", type=int, default=20, help="captions of each kind of scene")
    parser.add_argument("--actors", type=int, choices=(1, 2), help="only scenes of so many actors (default: both)")
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="only colour-shape pairs that training never shows (default: these and the others)",
    )
    parser.add_argument("--first-seed", type=int, default=1_000_000, help="seed of the first scene, 1000000 or more")
    parser.add_argument("--levels", type=int, default=3, help="refinement levels of the clips that are judged")
    parser.add_argument("--upscale", action="store_true", help="judge clips after super-resolution of every frame")
    parser.add_argument(
        "--sweep", type=float, nargs="*", metavar="SCALE", help="also try guidance scales, on scenes of their own"
    )
    parser.add_argument("--parts", nargs="+", default=[], metavar="NAME", help="only these parts (default: all)")
    parser.add_argument("--batch", type=int, default=10, help="videos sampled side by side")
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--out", type=Path, default=Path("evaluation"), help="folder for report.json, .md and pictures")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from cogstyle.sampling.pipeline import load
    from cogstyle.shapes_report import report
    from cogstyle.shapes_report.sections import GUIDANCES, Evaluation

    sweep = GUIDANCES if arguments.sweep == [] else tuple(arguments.sweep or ())
    plan = Evaluation(
        count=arguments.count,
        first_seed=arguments.first_seed,
        actors=(1, 2) if arguments.actors is None else (arguments.actors,),
        held_out=(True,) if arguments.held_out else (False, True),
        levels=arguments.levels,
        upscale=arguments.upscale,
        sweep=sweep,
    )
    work = sum(part.work for part in report.chosen_sections(plan, arguments.parts))
    pipe = load(bundles(arguments), device=arguments.device)
    layout = "{desc}: {percentage:3.0f}% |{bar}| {elapsed} < {remaining}"
    with tqdm(total=work, bar_format=layout, disable=arguments.quiet) as bar:
        report.evaluate(
            pipe,
            plan,
            arguments.out,
            batch=arguments.batch,
            names=arguments.parts,
            command=shlex.join(["cogstyle", *sys.argv[1:]]),
            progress=bar.update,
            begun=bar.set_description,
        )
    print((arguments.out / report.MARKDOWN).read_text("utf-8"))
    return 0
