"""Sample videos from prompts: one prompt into one file, or a JSONL file of prompts into a folder."""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogstyle.cli.bundles import add_bundle_argument, bundles
from cogstyle.cli.machines import add_machine_arguments, parse_shard
from cogstyle.config import DECODERS, DTYPES, require

if TYPE_CHECKING:
    from cogstyle.errors import CogstyleError
    from cogstyle.sampling.batch import Row, Sampler
    from cogstyle.sampling.outputs import Output
    from cogstyle.sampling.partial_video import PartialVideo
    from cogstyle.sampling.pipeline import Pipeline
    from cogstyle.sampling.request import Request

HELP = "text in, video out"
EXAMPLE = 'cogstyle sample "a red circle moves right" --out circle.mp4'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add, none = parser.add_argument, argparse.SUPPRESS
    add("prompt", nargs="?", default=none, help="what to show, in English or Chinese")
    add("--prompts", type=Path, default=none, help="JSONL file, one video a line: docs/sampling.md")
    add("--out", required=True, help=".mp4, .gif, .webp or a folder for PNG; with --prompts a folder")
    of_keyframes = "keyframes a second: 0.25, 0.5, 1, 2, 4 or 8 (default: the bundle's)"
    add("--frame-rate", type=float, default=none, help=of_keyframes)
    add("--seed", type=int, default=0, help="same prompt, options and seed: same video")
    add("--negative-prompt", default=none, help="what guidance leads away from; needs a guidance scale")
    add_drawing_arguments(parser)
    add("--levels", type=int, default=3, help="refinement levels 0..3: 5, 9, 17 or 33 frames")
    of_levels = "frames a second that each level is told (default: twice as many each time)"
    add("--level-rates", type=rates, default=none, metavar="R,R,R", help=of_levels)
    add("--windows", type=int, default=1, help="more than 1: a longer video, each window adds two keyframes")
    add("--first-frame", type=Path, default=none, help="image to start from")
    old = "video to go on from: its last keyframes are the first of the new one"
    add("--continue", dest="continue_from", type=Path, default=none, metavar="VIDEO", help=old)
    add("--join", action="store_true", help="with --continue: write the old video and the new frames")
    add("--best-of", type=int, metavar="N", help="draw N videos, seeds from --seed on, and keep the judge's best")
    add("--judge", metavar="NAME", help="of --best-of: shapes (the default), module:function or file.py:function")
    add_bundle_argument(parser)
    heard = "language model that the bundle's language adapters listen to: a Hugging Face folder, .gguf, or name"
    add("--llm", metavar="FOLDER", help=heard)
    add("--preview", action="store_true", help="write FILE.preview.png as keyframes and levels come")
    add_common_arguments(parser)
    add("--memory", type=float, help="gigabytes that the videos of a batch may take (default: half of what is free)")
    compat = "sample as the released code does, quirks included"
    add("--compat", choices=("released",), default=none, help=compat)
    add_machine_arguments(parser, workers="of --engine ray")


def add_drawing_arguments(parser: argparse.ArgumentParser) -> None:
    """How tokens are drawn."""
    none, usual = argparse.SUPPRESS, "(default: the bundle's)"
    parser.add_argument("--guidance", type=float, default=none, help=f"guidance scale of the keyframes {usual}")
    parser.add_argument("--temperature", type=float, default=none, help=f"temperature of the keyframes {usual}")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--clusters", type=int, default=none, help=f"draw among this many best clusters {usual}")
    which.add_argument("--top-k", type=int, default=none, help="draw among this many best tokens")
    which.add_argument("--top-p", type=float, default=none, help="draw among the best tokens that hold this share")


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """What `sample` and `interpolate` share."""
    parser.add_argument("--sheet", action="store_true", help="also write FILE.png, all frames side by side")
    parser.add_argument("--resume", action="store_true", help="go on from where a stopped run left FILE.part")
    none = argparse.SUPPRESS
    add_recaption_argument(parser)
    parser.add_argument("--decoder", choices=DECODERS, default=none, help="what makes pixels (default: the bundle's)")
    parser.add_argument("--flow-steps", type=int, default=none, help="of --decoder flow (default: the bundle's)")
    parser.add_argument("--upscale", action="store_true", help="super-resolution of every frame")
    parser.add_argument(
        "--tokens", action="store_true", help="also write FILE.tokens.safetensors, for `cogstyle upscale`"
    )
    parser.add_argument("--device", default="auto", help="torch device; auto takes a GPU where there is one")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the transformer's weights; int8 is for the CPU"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_recaption_argument(parser: argparse.ArgumentParser) -> None:
    """What rewrites prompts."""
    by = "rewrite the prompt first: auto (by its words or the bundle's language model; default if it has one), off, a "
    by += "folder, module:function, file.py:function, or a file: docs/language.md"
    parser.add_argument("--recaption", default=argparse.SUPPRESS, metavar="HOW", help=by)


def rates(text: str) -> tuple[float, ...]:
    """Numbers with commas between."""
    return tuple(float(part) for part in text.split(","))


def run(arguments: argparse.Namespace) -> int:
    from cogstyle.devices import launched
    from cogstyle.sampling.pipeline import load
    from cogstyle.sampling.request import from_values
    from cogstyle.video import check_output

    require(arguments.out != "", "--out is empty; name a file or a folder")
    arguments.out = Path(arguments.out).expanduser()
    given, memory = vars(arguments), arguments.memory
    require(memory is None or (memory > 0 and math.isfinite(memory)), f"memory {memory} must be positive")
    require(("prompt" in given) != ("prompts" in given), "give either a PROMPT or --prompts FILE.jsonl")
    require(not arguments.join or "continue_from" in given, "--join joins the new frames to the video of --continue")
    require(not (arguments.join and arguments.tokens), "--tokens holds the tokens of new frames only; leave out --join")
    best_of = arguments.best_of
    require(best_of is None or best_of > 0, f"best-of {best_of} must be positive")
    require(best_of is None or "prompts" not in given, "--best-of draws one PROMPT; leave out --prompts")
    require(best_of is not None or arguments.judge is None, "--judge chooses among the draws of --best-of N")
    many = arguments.engine == "ray" or arguments.shard is not None
    require("prompts" in given or not many, "--engine ray and --shard share out --prompts; one PROMPT is one machine's")
    require(arguments.workers >= 0, f"workers {arguments.workers} must be 0 or more")
    require(not arguments.workers or arguments.engine == "ray", "--workers are actors of --engine ray")
    request = None
    if "prompts" not in given:
        check_output(arguments.out)
        request = from_values(values(arguments))
    if arguments.engine == "ray":
        return run_file(None, arguments)  # its actors have pipelines of their own
    pipe = load(bundles(arguments), device=arguments.device, dtype=arguments.dtype, llm=arguments.llm)
    if "recaption" in given:
        pipe.recaption(arguments.recaption)  # one error, not one a line
    if request is None:
        return run_file(pipe, arguments)
    if launched().rank == 0:  # one video is the work of one process
        run_one(pipe, request, arguments)
    return 0


def values(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of a request."""
    from cogstyle.sampling.request import VALUES

    return {name: value for name, value in vars(arguments).items() if name in VALUES}


def place(arguments: argparse.Namespace) -> "Output":
    """Where the video goes, or the folder of all, and what goes beside each."""
    from cogstyle.sampling.outputs import PREVIEW, SHEET, Output
    from cogstyle.sampling.token_file import SUFFIX

    wanted = {SHEET: arguments.sheet, SUFFIX: arguments.tokens, PREVIEW: arguments.preview}
    sides = tuple(suffix for suffix, asked in wanted.items() if asked)
    return Output(arguments.out, sides, join=getattr(arguments, "join", False))


def warn(notes: Sequence[str]) -> None:
    """Each note once, a line on stderr."""
    for note in dict.fromkeys(notes):
        print(f"cogstyle: note: {note}", file=sys.stderr)


def say(text: str) -> None:
    """A line on stdout; if nobody reads it any more, the work goes on."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        sys.stdout = None  # print then prints nothing


def run_one(pipe: "Pipeline", request: "Request", arguments: argparse.Namespace) -> None:
    """Check one request and make its video, over an older one of ours."""
    from cogstyle.sampling.batch import prepare
    from cogstyle.sampling.request import identify

    output, drawn = place(arguments), None
    if getattr(arguments, "best_of", None) is None:
        asked = identify(pipe, request)
    else:
        asked, drawn = draw_best(pipe, request, arguments)
    ready = prepare(pipe, asked, output, resume=arguments.resume)
    ready = ready if drawn is None else replace(ready, start=drawn)
    warn([*asked.notes, *pipe.untrained(asked.prompt, asked.options, whole=asked.whole)])
    for error in make(pipe, [ready], [output], quiet=arguments.quiet):
        if error is not None:
            raise error


def draw_best(pipe: "Pipeline", request: "Request", arguments: argparse.Namespace) -> "tuple[Request, PartialVideo]":
    """The request with the seed that `--judge` likes best, and its tokens."""
    from tqdm import tqdm

    from cogstyle.evaluation.best import best_request
    from cogstyle.evaluation.judges import find_judge

    judge, count = find_judge(arguments.judge or "shapes"), arguments.best_of
    with tqdm(total=count, unit="video", disable=arguments.quiet, desc=f"best of {count}") as bar:
        asked, drawn = best_request(pipe, request, judge, count, progress=bar.update)
    how = asked.identity["best_of"]
    say(f"seed {asked.options.seed} is the best of {count}: {how['right']} of them all right, says {judge.name}")
    return asked, drawn


def make(
    pipe: "Pipeline", requests: "Sequence[Request]", outputs: "Sequence[Output]", *, quiet: bool
) -> "list[CogstyleError | None]":
    """A batch with a progress bar; says which videos are there."""
    from tqdm import tqdm

    from cogstyle.sampling import cost
    from cogstyle.sampling.batch import make_videos

    total = cost.steps(pipe.bundle.model_config, requests[0].options, requests[0].start)
    name = outputs[0].path.name if len(outputs) == 1 else f"{len(outputs)} videos"
    with tqdm(total=total, unit="token", disable=quiet, desc=name) as bar:
        errors = make_videos(pipe, requests, outputs, progress=bar.update)
    for output, error in zip(outputs, errors, strict=True):
        if error is None:
            say(str(output.path))
    return errors


def run_file(pipe: "Pipeline | None", arguments: argparse.Namespace) -> int:
    """Every line of a prompts file, or this process's share of them; bad lines are reported at the end."""
    from cogstyle.sampling.batch import Sampler, read_rows

    shard = parse_shard(arguments.shard)
    rows, failures = read_rows(arguments.prompts, arguments.out, values(arguments), shard=shard)
    settings = {"folder": place(arguments), "resume": arguments.resume}
    settings["budget"] = None if arguments.memory is None else arguments.memory * 1e9
    if pipe is None:
        results = on_ray(rows, arguments, settings)
    else:
        results = Sampler(pipe, **settings, make=partial(make, quiet=arguments.quiet))(rows)
    made, kept, said = 0, 0, set[str]()
    for result in results:
        warn([note for note in result["notes"] if note not in said])
        said.update(result["notes"])
        if not result["ok"]:
            failures[result["id"]] = result["error"]
        made, kept = made + result["made"], kept + (result["ok"] and not result["made"])
    say(f"{made} made, {kept} there already, {len(failures)} failed; all in {arguments.out}")
    for number in sorted(failures):
        print(f"cogstyle: line {number}: {' '.join(failures[number].split())}", file=sys.stderr)
    return 1 if failures else 0


def on_ray(rows: "list[Row]", arguments: argparse.Namespace, settings: dict[str, Any]) -> "Iterator[Row]":
    """Results of the rows from the actors of a cluster, with a progress bar; says which videos are there."""
    from tqdm import tqdm

    from cogstyle import cluster
    from cogstyle.sampling.batch import LARGEST_BATCH

    device = arguments.device
    gpus = int(device.startswith("cuda") or (device == "auto" and arguments.dtype != "int8" and cluster.has_gpus()))
    work = partial(_sampler, bundles(arguments), "cuda" if gpus else "cpu" if device == "auto" else device)
    work = partial(work, arguments.dtype, arguments.llm, settings)
    found = cluster.on_ray(work, rows, workers=arguments.workers, gpus=gpus, batch=LARGEST_BATCH)
    for result in tqdm(found, total=len(rows), unit="video", disable=arguments.quiet):
        if result["made"]:
            say(result["file"])
        yield result


def _sampler(names: list[str], device: str, dtype: str, llm: str | None, settings: dict[str, Any]) -> "Sampler":
    """An actor's own."""
    from cogstyle.sampling.batch import Sampler
    from cogstyle.sampling.pipeline import load

    return Sampler(load(names, device=device, dtype=dtype, llm=llm), **settings)
