"""Sample videos from prompts: one prompt into one file, or a JSONL file of prompts into a folder."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogstyle.cli.bundles import add_bundle_argument, bundles
from cogstyle.config import DTYPES, require
from cogstyle.errors import CogstyleError

if TYPE_CHECKING:
    from cogstyle.sampling.pipeline import Pipeline
    from cogstyle.sampling.request import Request
    from cogstyle.video import Video

HELP = "text in, video out"
EXAMPLE = 'cogstyle sample "a red circle moves right" --out circle.mp4'
LONGEST_JOIN = 20_000  # frames of the old video
OPTIONS = ("frame_rate", "seed", "guidance", "temperature", "clusters", "top_k", "top_p", "levels", "level_rates")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    none = argparse.SUPPRESS
    parser.add_argument("prompt", nargs="?", default=none, help="what to show, in English or Chinese")
    parser.add_argument("--prompts", type=Path, default=none, help="JSONL file, one video a line: docs/sampling.md")
    parser.add_argument("--out", required=True, help=".mp4, .gif, .webp or a folder for PNG; with --prompts a folder")
    parser.add_argument(
        "--frame-rate",
        type=float,
        default=none,
        help="keyframes a second: 0.25, 0.5, 1, 2, 4 or 8 (default: the bundle's)",
    )
    parser.add_argument("--seed", type=int, default=0, help="same prompt, options and seed: same video")
    parser.add_argument(
        "--guidance", type=float, default=none, help="guidance scale of the keyframes (default: the bundle's)"
    )
    parser.add_argument(
        "--temperature", type=float, default=none, help="temperature of the keyframes (default: the bundle's)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--clusters", type=int, default=none, help="draw among this many best clusters (default: the bundle's)"
    )
    which.add_argument("--top-k", type=int, default=none, help="draw among this many best tokens")
    which.add_argument("--top-p", type=float, default=none, help="draw among the best tokens that hold this share")
    parser.add_argument("--levels", type=int, default=3, help="refinement levels 0..3: 5, 9, 17 or 33 frames")
    parser.add_argument(
        "--level-rates",
        type=rates,
        default=none,
        metavar="R,R,R",
        help="frames a second that each level is told (default: twice as many each time)",
    )
    parser.add_argument(
        "--windows", type=int, default=1, help="more than 1: a longer video, each window adds two keyframes"
    )
    parser.add_argument("--first-frame", type=Path, default=none, help="image to start from")
    parser.add_argument(
        "--continue",
        dest="follows",
        type=Path,
        default=none,
        metavar="VIDEO",
        help="video to go on from: its last keyframes are the first of the new one",
    )
    parser.add_argument("--join", action="store_true", help="with --continue: write the old video and the new frames")
    add_bundle_argument(parser)
    parser.add_argument("--preview", action="store_true", help="write FILE.preview.png as keyframes and levels come")
    add_common_arguments(parser)
    parser.add_argument(
        "--memory", type=float, help="gigabytes that the videos of a batch may take (default: half of what is free)"
    )
    parser.add_argument(
        "--compat", choices=("released",), default=none, help="sample as the released code does, quirks included"
    )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """What `sample` and `interpolate` share."""
    parser.add_argument("--sheet", action="store_true", help="also write FILE.png, all frames side by side")
    parser.add_argument("--resume", action="store_true", help="go on from where a stopped run left FILE.part")
    parser.add_argument("--upscale", action="store_true", help="super-resolution of every frame")
    parser.add_argument(
        "--tokens", action="store_true", help="also write FILE.tokens.safetensors, for `cogstyle upscale`"
    )
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the transformer's weights; int8 is for the CPU"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def rates(text: str) -> tuple[float, ...]:
    """Numbers with commas between."""
    return tuple(float(part) for part in text.split(","))


def run(arguments: argparse.Namespace) -> int:
    from cogstyle.devices import choose_threads, launched
    from cogstyle.sampling.pipeline import load
    from cogstyle.video import check_output

    require(arguments.out != "", "--out is empty; name a file or a folder")
    arguments.out = Path(arguments.out).expanduser()
    given, memory = vars(arguments), arguments.memory
    require(memory is None or (memory > 0 and math.isfinite(memory)), f"memory {memory} must be positive")
    require(("prompt" in given) != ("prompts" in given), "give either a PROMPT or --prompts FILE.jsonl")
    require(not arguments.join or "follows" in given, "--join joins the new frames to the video of --continue")
    require(not (arguments.join and arguments.tokens), "--tokens holds the tokens of new frames only; leave out --join")
    line = {"prompt": given.get("prompt")}
    request = None if "prompts" in given else make_request(line, check_output(arguments.out), given)
    pipe = load(bundles(arguments), device=arguments.device, dtype=arguments.dtype)
    if pipe.device.type == "cpu":
        import torch

        torch.set_num_threads(choose_threads(pipe.bundle.model_config, packed=pipe.bundle.packed))
    if request is None:
        return run_file(pipe, arguments)
    if launched().rank == 0:  # one video is the work of one process
        run_one(pipe, request, arguments)
    return 0


def run_one(pipe: "Pipeline", request: "Request", arguments: argparse.Namespace) -> None:
    """Check one request and make its video, over an older one of ours."""
    from cogstyle.sampling.request import begin, identify

    request = identify(pipe, request)
    check_request(request, arguments)
    request = begin(pipe, request, resume=arguments.resume)
    warn(pipe.untrained(request.prompt, request.options, whole=request.whole))
    for error in make_videos(pipe, [request], arguments).values():
        raise error


def make_request(line: dict[str, Any], out: Path, given: dict[str, Any]) -> "Request":
    """A request from one line of a prompts file (or the command line), options of the command line below it."""
    from cogstyle.sampling.options import Options
    from cogstyle.sampling.request import Request

    values = {name: value for name, value in (given | line).items() if name in OPTIONS}
    options = Options(**values, compat=given.get("compat"), windows=given["windows"], upscale=given["upscale"])
    files = {"first_frame": line.get("first_frame", given.get("first_frame")), "follows": given.get("follows")}
    return Request(line["prompt"], out, options, {name: path for name, path in files.items() if path is not None})


def sides(arguments: argparse.Namespace) -> list[str]:
    """Suffixes of what is written beside a video."""
    from cogstyle.sampling.outputs import PREVIEW, SHEET
    from cogstyle.sampling.token_file import SUFFIX

    wanted = {SHEET: arguments.sheet, SUFFIX: arguments.tokens, PREVIEW: arguments.preview}
    return [suffix for suffix, asked in wanted.items() if asked]


def check_request(request: "Request", arguments: argparse.Namespace) -> None:
    """Raise what writing this video would raise, before it is sampled."""
    from cogstyle.sampling.outputs import check_written
    from cogstyle.video import check_output

    inputs = [path for value in request.given.values() for path in (value if isinstance(value, tuple) else (value,))]
    check_output(request.out, request.identity["fps"])
    check_written(request.out, sides=sides(arguments), inputs=inputs)


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


def make_videos(
    pipe: "Pipeline", requests: Sequence["Request"], arguments: argparse.Namespace
) -> dict[Path, CogstyleError]:
    """Sample requests that differ in prompt, seed and what is given only; write videos and what goes beside them.

    Returns:
        Why a video could not be written, by its file.
    """
    from tqdm import tqdm

    from cogstyle.sampling import partial_video
    from cogstyle.sampling.outputs import write_preview, write_video

    first, count = requests[0], len(requests)
    starts = [request.start for request in requests if request.start is not None]
    start = partial_video.together(starts) if starts else None

    def watch(part: partial_video.Part) -> None:
        for request, tokens_FL in zip(requests, part.tokens_BFL, strict=True):
            partial_video.write_part(request.part, tokens_FL, part, request.mark)
            if arguments.preview:
                write_preview(request.out, pipe.decode(tokens_FL))

    name = first.out.name if count == 1 else f"{count} videos"
    with tqdm(total=pipe.steps(first.options, start=start), unit="token", disable=arguments.quiet, desc=name) as bar:
        prompts, seeds = [request.prompt for request in requests], [request.options.seed for request in requests]
        videos = pipe.sample(prompts, seeds, first.options, done=start, watch=watch, progress=bar.update)
    failed: dict[Path, CogstyleError] = {}
    for request, video in zip(requests, videos, strict=True):
        try:
            write_video(request.out, finished(video, request, arguments), sides(arguments))
            request.part.unlink(missing_ok=True)
            say(str(request.out))
        except CogstyleError as error:
            failed[request.out] = error
    return failed


def finished(video: "Video", request: "Request", arguments: argparse.Namespace) -> "Video":
    """The video as it is written: its info says what it came from, and `--join` puts it behind the old one."""
    import numpy as np

    from cogstyle.video import Video, read_last_frames

    paths = {
        name: str(value) if isinstance(value, Path) else [*map(str, value)] for name, value in request.given.items()
    }
    info = {**video.info, **request.identity, "given": paths}
    if not vars(arguments).get("join"):
        return Video(video.frames, video.fps, info, video.tokens)
    repeated = (request.known - 1) * 2**request.options.levels + 1
    old = read_last_frames(request.given["follows"], LONGEST_JOIN, frame_rate=video.fps, size=video.frames.shape[1])
    return Video(np.concatenate([old, video.frames[repeated:]]), video.fps, {**info, "joined": len(old)})


def run_file(pipe: "Pipeline", arguments: argparse.Namespace) -> int:
    """Every line of a prompts file, or this process's share of them; bad lines are reported at the end."""
    from cogstyle.devices import free_memory
    from cogstyle.sampling.outputs import changes
    from cogstyle.sampling.request import batches, begin

    failures: dict[int, str] = {}
    asked, kept = read_requests(pipe, arguments, failures), 0
    numbers, requests = {}, []
    for number, request in asked.items():
        try:
            changed = changes(request.out, request.identity, sides(arguments))
            if changed == []:
                kept += 1
                continue
            check_request(request, arguments)
            if changed:
                print(f"cogstyle: note: {request.out} is made again: {', '.join(changed)} changed", file=sys.stderr)
            requests.append(begin(pipe, request, resume=arguments.resume))
            numbers[request.out] = number
        except CogstyleError as error:
            failures[number] = str(error)
    warn([note for one in requests for note in pipe.untrained(one.prompt, one.options, whole=one.whole)])
    if requests:
        pipe.read_weights(requests[0].options)  # which take their share of the memory first
    budget = free_memory(pipe.device) / 2 if arguments.memory is None else arguments.memory * 1e9
    made = 0
    for batch in batches(pipe, requests, budget):
        failed = attempt(lambda requests: make_videos(pipe, requests, arguments), batch)
        failures |= {numbers[out]: str(error) for out, error in failed.items()}
        made += len(batch) - len(failed)
    say(f"{made} made, {kept} there already, {len(failures)} failed; all in {arguments.out}")
    for number in sorted(failures):
        print(f"cogstyle: line {number}: {' '.join(failures[number].split())}", file=sys.stderr)
    return 1 if failures else 0


def attempt(
    make: Callable[[Sequence["Request"]], dict[Path, CogstyleError]], batch: Sequence["Request"]
) -> dict[Path, CogstyleError]:
    """Make a batch; if it fails as a whole, make its videos one by one, so that each says what is wrong with it."""
    try:
        return make(batch)
    except CogstyleError as error:
        if len(batch) == 1:
            return {batch[0].out: error}
    return {out: error for request in batch for out, error in attempt(make, [request]).items()}


def read_requests(pipe: "Pipeline", arguments: argparse.Namespace, failures: dict[int, str]) -> dict[int, "Request"]:
    """This process's share of the lines of a prompts file as requests, by line; what is wrong goes to `failures`."""
    from cogstyle.devices import launched
    from cogstyle.sampling.outputs import inside
    from cogstyle.sampling.prompts_file import parse_line, read_lines
    from cogstyle.sampling.request import identify

    rank, world, _ = launched()
    given, folder = vars(arguments), arguments.prompts.parent
    found: dict[int, Request] = {}
    taken: dict[Path, int] = {}
    for number, text in read_lines(arguments.prompts):
        try:
            line = parse_line(text, number, folder)
            request = make_request(line, inside(arguments.out, line["out"]), given)
            take(request.out, number, taken)
            if number % world == rank:
                found[number] = identify(pipe, request)
        except CogstyleError as error:
            if number % world == rank:
                failures[number] = str(error)
    return found


def take(out: Path, number: int, taken: dict[Path, int]) -> None:
    """Note that a line writes `out`; raise ConfigError if an earlier one writes it, into it, or a folder around it."""
    for other in (out, *out.parents):
        require(other not in taken, f"line {taken.get(other)} writes {other} too; two lines cannot")
    around = next((other for other in taken if out in other.parents), None)
    require(around is None, f"two lines cannot write {out} and {around} (line {taken.get(around or out)})")
    taken[out] = number
