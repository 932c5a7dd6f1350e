"""Sample captions, read the frames, and report what the videos show: scenes of the shapes world, or prompts of yours.

`--judge FILE.py:FUNCTION --prompts FILE.jsonl` judges videos of any world by a function of yours (docs/evaluation.md).
A stopped evaluation resumes: what the folder has of the same weights and settings is kept.
"""

import argparse
import shlex
import sys
from pathlib import Path

from cogstyle.cli import sample
from cogstyle.cli.bundles import add_bundle_argument, bundles

HELP = "measure whether videos show what their captions say"
EXAMPLE = "cogstyle evaluate shapes --count 20 --out evaluation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", nargs="?", metavar="BUNDLE", help="a bundle's name or folder")
    add_bundle_argument(parser)
    parser.add_argument(
        "--judge",
        default="shapes",
        metavar="NAME",
        help="who judges: shapes, module:function or file.py:function",
    )
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE.jsonl", help="judge videos of these prompts, a JSON object a line"
    )
    parser.add_argument(
        "--best-of", type=int, default=1, metavar="N", help="with --prompts: count the judge's best of N draws of each"
    )
    sample.add_recaption_argument(parser)
    parser.add_argument(
        "--count", type=int, help="captions of each kind of scene (default: 20, or all of a kind in --prompts)"
    )
    parser.add_argument("--actors", type=int, choices=(1, 2), help="only scenes of so many actors (default: both)")
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="only colour-shape pairs that training never shows (default: these and the others)",
    )
    parser.add_argument("--first-seed", type=int, help="seed of the first scene, 1000000 (the default) or more")
    parser.add_argument("--levels", type=int, default=3, help="refinement levels of the clips that are judged")
    parser.add_argument("--upscale", action="store_true", help="judge clips after super-resolution of every frame")
    parser.add_argument(
        "--sweep", type=float, nargs="*", metavar="SCALE", help="also try guidance scales, on scenes of their own"
    )
    parser.add_argument("--phrasings", action="store_true", help="also ask for the scenes as people write")
    parser.add_argument("--parts", nargs="+", default=[], metavar="NAME", help="only these parts (default: all)")
    parser.add_argument("--batch", type=int, default=10, help="videos sampled side by side")
    parser.add_argument("--device", default="auto", help="torch device; auto takes a GPU where there is one")
    parser.add_argument("--out", type=Path, default=Path("evaluation"), help="folder for report.json, .md and pictures")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    from cogstyle.config import require
    from cogstyle.evaluation.report_folder import MARKDOWN

    if arguments.prompts is not None:
        chosen = {
            "--actors": arguments.actors,
            "--held-out": arguments.held_out or None,
            "--first-seed": arguments.first_seed,
            "--sweep": arguments.sweep,
            "--parts": arguments.parts or None,
            "--phrasings": arguments.phrasings or None,
        }
        given = [flag for flag, value in chosen.items() if value is not None]
        require(not given, f"{', '.join(given)} cannot go with --prompts: scenes of the shapes world are chosen so")
        _judge_prompts(arguments)
    else:
        require(arguments.best_of == 1, "--best-of chooses among draws of --prompts")
        require("recaption" not in arguments, "--recaption rewrites --prompts; scenes are asked for as they say")
        require(arguments.judge == "shapes", f"--judge {arguments.judge} needs --prompts: the captions it judges")
        _judge_scenes(arguments)
    print((arguments.out / MARKDOWN).read_text("utf-8"))
    return 0


def _bar(arguments: argparse.Namespace, total: float):
    from tqdm import tqdm

    layout = "{desc}: {percentage:3.0f}% |{bar}| {elapsed} < {remaining}"
    return tqdm(total=total, bar_format=layout, disable=arguments.quiet)


def _command() -> str:
    return shlex.join(["cogstyle", *sys.argv[1:]])


def _judge_prompts(arguments: argparse.Namespace) -> None:
    """The report of a prompts file."""
    from cogstyle.evaluation.judged import Evaluation, read_asked
    from cogstyle.evaluation.judges import find_judge
    from cogstyle.sampling.pipeline import Options, load

    judge, asked = find_judge(arguments.judge), read_asked(arguments.prompts, arguments.count)
    options = Options(levels=arguments.levels, upscale=arguments.upscale)
    pipe = load(bundles(arguments), device=arguments.device)
    how = getattr(arguments, "recaption", None)
    evaluation = Evaluation(pipe, judge, options, arguments.batch, arguments.best_of, _command(), how)
    with _bar(arguments, len(asked)) as bar:
        evaluation.run(asked, arguments.out, progress=bar.update)


def _judge_scenes(arguments: argparse.Namespace) -> None:
    """The report of the shapes world."""
    from cogstyle.sampling.pipeline import load
    from cogstyle.shapes_report import report
    from cogstyle.shapes_report.sections import GUIDANCES, Evaluation
    from cogstyle.shapes_world.world import VALIDATION_SEED

    sweep = GUIDANCES if arguments.sweep == [] else tuple(arguments.sweep or ())
    plan = Evaluation(
        count=20 if arguments.count is None else arguments.count,
        first_seed=VALIDATION_SEED if arguments.first_seed is None else arguments.first_seed,
        actors=(1, 2) if arguments.actors is None else (arguments.actors,),
        held_out=(True,) if arguments.held_out else (False, True),
        levels=arguments.levels,
        upscale=arguments.upscale,
        sweep=sweep,
        phrasings=arguments.phrasings,
    )
    work = sum(part.work for part in report.chosen_sections(plan, arguments.parts))
    pipe = load(bundles(arguments), device=arguments.device)
    with _bar(arguments, work) as bar:
        report.evaluate(
            pipe,
            plan,
            arguments.out,
            batch=arguments.batch,
            names=arguments.parts,
            command=_command(),
            progress=bar.update,
            begun=bar.set_description,
        )
