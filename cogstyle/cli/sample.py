"""Sample videos from prompts: one prompt into one file, or a JSONL file of prompts into a folder."""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogstyle.config import require
from cogstyle.errors import CogstyleError, ConfigError, MediaError, PromptError

HELP = "text in, video out"
EXAMPLE = 'cogstyle sample "a red circle moves right" --out circle.mp4'
KEYS = ("prompt", "out", "frame_rate", "seed", "guidance", "levels", "first_frame")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    none = argparse.SUPPRESS
    parser.add_argument("prompt", nargs="?", default=none, help="what to show, in English or Chinese")
    parser.add_argument("--prompts", type=Path, default=none, help=f"JSONL file; keys of a line: {', '.join(KEYS)}")
    parser.add_argument(
        "--out", type=Path, required=True, help=".mp4, .gif, .webp or a folder for PNG; with --prompts a folder"
    )
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
        "--windows", type=int, default=1, help="more than 1: a longer video, each window adds two keyframes"
    )
    parser.add_argument("--first-frame", type=Path, default=none, help="image to start from")
    parser.add_argument("--continue", dest="follows", type=Path, metavar="VIDEO", help="video to go on from")
    parser.add_argument("--adapter", default="shapes", metavar="BUNDLE", help="a bundle's name or folder")
    parser.add_argument("--sheet", action="store_true", help="also write FILE.png, all frames side by side")
    parser.add_argument("--upscale", action="store_true", help="super-resolution of every frame")
    parser.add_argument(
        "--tokens", action="store_true", help="also write FILE.tokens.safetensors, for `cogstyle upscale`"
    )
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of the transformer's weights"
    )
    parser.add_argument(
        "--compat", choices=("released",), default=none, help="sample as the released code does, quirks included"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


@dataclass(frozen=True)
class Task:
    """One video to make: checked options, and where it goes."""

    prompt: str
    out: Path
    options: Any  # cogstyle.Options
    start: dict[str, Any]  # what the video starts from beside the prompt, by the names of Pipeline.sample


def run(arguments: argparse.Namespace) -> int:
    from cogstyle.sampling.pipeline import load

    given = vars(arguments)
    require(("prompt" in given) != ("prompts" in given), "give either a PROMPT or --prompts FILE.jsonl")
    pipe = load(arguments.adapter, device=arguments.device, dtype=arguments.dtype)
    if "prompt" in given:
        task = make_task({"prompt": arguments.prompt, "out": str(arguments.out)}, given, Path())
        pipe.check(task.prompt, task.options)
        make_video(pipe, task, arguments)
        print(task.out)
        return 0
    return run_file(pipe, arguments)


def make_task(line: dict[str, Any], given: dict[str, Any], folder: Path) -> Task:
    """A task from one line of a prompts file (or the command line), options of the command line below it."""
    from cogstyle.sampling.pipeline import Options
    from cogstyle.video import check_suffix

    unknown = sorted(set(line) - set(KEYS))
    require(not unknown, f"unknown key {', '.join(unknown)}; known are {', '.join(KEYS)}")
    prompt = line.get("prompt")
    if not isinstance(prompt, str):
        raise PromptError(f"prompt must be a text, not {prompt!r}")
    names = ("frame_rate", "seed", "guidance", "temperature", "clusters", "top_k", "top_p", "levels")
    values: dict[str, Any] = {name: line.get(name, given.get(name)) for name in names}
    for name, value in values.items():
        kinds = int if name in ("seed", "levels", "clusters", "top_k") else (int, float)
        require(
            value is None or (isinstance(value, kinds) and not isinstance(value, bool)),
            f"{name} must be a number, not {value!r}",
        )
    first = line.get("first_frame", given.get("first_frame"))
    require(first is None or isinstance(first, str | Path), f"first_frame must be a path, not {first!r}")
    options = Options(**values, windows=given["windows"], upscale=given["upscale"], compat=given.get("compat"))
    start = {"first_frame": None if first is None else Path(first), "follows": given["follows"]}
    return Task(prompt, check_suffix(folder / str(line["out"])), options, start)


def make_video(pipe: Any, task: Task, arguments: argparse.Namespace) -> None:
    """Sample one task and write its video, its contact sheet and tokens if asked for, and its json."""
    from PIL import Image
    from tqdm import tqdm

    from cogstyle.files import write_bytes
    from cogstyle.sampling.keyframes import OVERLAP
    from cogstyle.sampling.token_file import SUFFIX, write_tokens

    known = OVERLAP if task.start.get("follows") else int(task.start.get("first_frame") is not None)
    total = 0 if task.start.get("images") else pipe.steps(task.options, known=known)
    with tqdm(total=total or None, unit="token", disable=arguments.quiet, desc=task.out.name) as bar:
        (video,) = pipe.sample([task.prompt], [task.options.seed], task.options, **task.start, progress=bar.update)
    video.save(task.out)
    if arguments.sheet:
        sheet = video.contact_sheet(scale=1 if task.options.upscale else 2)
        Image.fromarray(sheet).save(task.out.with_name(task.out.name + ".png"))
    if arguments.tokens:
        write_tokens(task.out.with_name(task.out.name + SUFFIX), video)
    text = json.dumps({**video.info, "frames": len(video.frames)}, ensure_ascii=False, indent=1)
    write_bytes(sidecar(task.out), text.encode())


def sidecar(out: Path) -> Path:
    """The json beside a video; it is written last, so a video with its json is whole."""
    return out.with_name(out.name + ".json")


def run_file(pipe: Any, arguments: argparse.Namespace) -> int:
    """Every line of a prompts file; bad lines are reported at the end."""
    try:
        lines = arguments.prompts.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {arguments.prompts}: {error}") from None
    failures, made, skipped = [], 0, 0
    taken: set[Path] = set()
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            task = parse_line(text, number, arguments)
            require(task.out not in taken, f"two lines write {task.out}")
            taken.add(task.out)
            if task.out.exists() and sidecar(task.out).exists():
                skipped += 1
                continue
            pipe.check(task.prompt, task.options)
            make_video(pipe, task, arguments)
            print(task.out)
            made += 1
        except CogstyleError as error:
            failures.append(f"line {number}: {error}")
    print(f"{made} made, {skipped} there already, {len(failures)} failed; all in {arguments.out}")
    for failure in failures:
        print(f"cogstyle: {failure}", file=sys.stderr)
    return 1 if failures else 0


def parse_line(text: str, number: int, arguments: argparse.Namespace) -> Task:
    """The task of one line; its file is `out` (inside the folder), else the line's number."""
    try:
        line = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"not JSON: {error}") from None
    require(isinstance(line, dict), f"must be a JSON object, not {text[:40]!r}")
    line.setdefault("out", f"{number:04d}.mp4")
    out = Path(str(line["out"]))
    if out.is_absolute() or ".." in out.parts:
        raise MediaError(f"out {str(out)!r} must stay inside the output folder")
    return make_task(line, vars(arguments), arguments.out)
