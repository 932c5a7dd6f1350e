"""Sample videos from prompts: one prompt into one file, or a JSONL file of prompts into a folder."""

import argparse
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cogstyle.config import require
from cogstyle.errors import CogstyleError, ConfigError, MediaError, PromptError

HELP = "text in, video out"
EXAMPLE = 'cogstyle sample "a red circle moves right" --out circle.mp4'
LARGEST_BATCH = 16  # videos sampled side by side; more gain nothing
DTYPES = ("float32", "bfloat16", "float16", "int8")
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
    parser.add_argument("--continue", dest="follows", type=Path, metavar="VIDEO", help="video to go on from")
    parser.add_argument("--adapter", default="shapes", metavar="BUNDLE", help="a bundle's name or folder")
    parser.add_argument("--sheet", action="store_true", help="also write FILE.png, all frames side by side")
    parser.add_argument("--preview", action="store_true", help="write FILE.preview.png as keyframes and levels come")
    parser.add_argument("--resume", action="store_true", help="go on from where a stopped run left FILE.part")
    parser.add_argument("--upscale", action="store_true", help="super-resolution of every frame")
    parser.add_argument(
        "--tokens", action="store_true", help="also write FILE.tokens.safetensors, for `cogstyle upscale`"
    )
    parser.add_argument(
        "--memory", type=float, help="gigabytes that the videos of a batch may take (default: half of what is free)"
    )
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the transformer's weights; int8 is for the CPU"
    )
    parser.add_argument(
        "--compat", choices=("released",), default=none, help="sample as the released code does, quirks included"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def rates(text: str) -> tuple[float, ...]:
    """Numbers with commas between."""
    return tuple(float(part) for part in text.split(","))


@dataclass(frozen=True)
class Task:
    """One video to make: checked options, and where it goes."""

    prompt: str
    out: Path
    options: Any  # cogstyle.Options
    start: dict[str, Any]  # what the video starts from beside the prompt, by the names of Pipeline.sample
    mark: str = ""  # names what the video depends on
    done: Any = None  # the Part that a stopped run left

    @property
    def part(self) -> Path:
        """What is there of the video while it is made."""
        return self.out.with_name(self.out.name + ".part")


def run(arguments: argparse.Namespace) -> int:
    import torch

    from cogstyle.sampling.machine import choose_threads, own_device, rank_and_world
    from cogstyle.sampling.pipeline import load

    given = vars(arguments)
    require(arguments.memory is None or arguments.memory > 0, f"memory {arguments.memory} must be positive")
    require(("prompt" in given) != ("prompts" in given), "give either a PROMPT or --prompts FILE.jsonl")
    pipe = load(arguments.adapter, device=own_device(arguments.device), dtype=arguments.dtype)
    if pipe.device.type == "cpu":
        torch.set_num_threads(choose_threads(pipe.bundle.model_config, packed=pipe.bundle.packed))
    if "prompts" in given:
        return run_file(pipe, arguments)
    if rank_and_world()[0] == 0:  # one video is the work of one process
        task = make_task({"prompt": arguments.prompt, "out": str(arguments.out)}, given, Path())
        pipe.check(task.prompt, task.options)
        make_videos(pipe, [begun(pipe, task, arguments)], arguments)
    return 0


def make_task(line: dict[str, Any], given: dict[str, Any], folder: Path) -> Task:
    """A task from one line of a prompts file (or the command line), options of the command line below it."""
    from cogstyle.sampling.options import Options
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
    values |= {name: given.get(name) for name in ("level_rates", "compat")}
    options = Options(**values, windows=given["windows"], upscale=given["upscale"])
    start = {"first_frame": None if first is None else Path(first), "follows": given["follows"]}
    return Task(prompt, check_suffix(folder / str(line["out"])), options, start)


def begun(pipe: Any, task: Task, arguments: argparse.Namespace) -> Task:
    """The task with its mark and, if a stopped run is to be resumed, what that left."""
    from cogstyle.files import fingerprint
    from cogstyle.sampling.parts import read_part

    mark = fingerprint(task.prompt, task.options, task.start, arguments.dtype, pipe.bundle.hashes())
    done = read_part(task.part, mark) if arguments.resume and task.part.exists() else None
    return replace(task, mark=mark, done=done)


def make_videos(pipe: Any, tasks: Sequence[Task], arguments: argparse.Namespace) -> None:
    """Sample tasks that differ in prompt and seed only; write videos, contact sheets and tokens if asked for, json."""
    from tqdm import tqdm

    from cogstyle.sampling.parts import Part, together, write_part

    first, count = tasks[0], len(tasks)
    done = together([task.done for task in tasks]) if first.done is not None else None
    start = done or pipe.start(first.options, count, **first.start)

    def watch(part: Part) -> None:
        for task, tokens_FL in zip(tasks, part.tokens_BFL, strict=True):
            write_part(task.part, tokens_FL, part, task.mark)
            if arguments.preview:
                write_preview(pipe, task.out, tokens_FL)

    name = first.out.name if count == 1 else f"{count} videos"
    with tqdm(total=pipe.steps(first.options, start=start), unit="token", disable=arguments.quiet, desc=name) as bar:
        prompts, seeds = [task.prompt for task in tasks], [task.options.seed for task in tasks]
        videos = pipe.sample(prompts, seeds, first.options, **first.start, done=start, watch=watch, progress=bar.update)
    for task, video in zip(tasks, videos, strict=True):
        write_video(task.out, video, sheet=arguments.sheet, tokens=arguments.tokens)
        task.part.unlink(missing_ok=True)
        print(task.out)


def write_preview(pipe: Any, out: Path, tokens_FL: Any) -> None:
    """The frames so far, side by side, as FILE.preview.png."""
    from PIL import Image

    from cogstyle.files import write_bytes
    from cogstyle.video import Video

    buffer = io.BytesIO()
    Image.fromarray(Video(pipe.decode(tokens_FL), 1.0).contact_sheet(scale=2)).save(buffer, "png")
    write_bytes(out.with_name(out.name + ".preview.png"), buffer.getvalue())


def write_video(out: Path, video: Any, *, sheet: bool, tokens: bool) -> None:
    """A video and what goes beside it; the json is the last."""
    from PIL import Image

    from cogstyle.files import write_bytes
    from cogstyle.sampling.token_file import SUFFIX, write_tokens

    video.save(out)
    if sheet:
        picture = video.contact_sheet(scale=1 if video.info["options"]["upscale"] else 2)
        Image.fromarray(picture).save(out.with_name(out.name + ".png"))
    if tokens:
        write_tokens(out.with_name(out.name + SUFFIX), video)
    text = json.dumps({**video.info, "frames": len(video.frames)}, ensure_ascii=False, indent=1)
    write_bytes(sidecar(out), text.encode())


def sidecar(out: Path) -> Path:
    """The json beside a video; it is written last, so a video with its json is whole."""
    return out.with_name(out.name + ".json")


def run_file(pipe: Any, arguments: argparse.Namespace) -> int:
    """Every line of a prompts file, or this process's share of them; bad lines are reported at the end."""
    from cogstyle.sampling.machine import rank_and_world

    rank, world = rank_and_world()
    try:
        lines = arguments.prompts.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {arguments.prompts}: {error}") from None
    failures: dict[int, str] = {}  # by line
    tasks, skipped = [], 0
    taken: set[Path] = set()
    for number, text in enumerate(lines, 1):
        if not text.strip() or number % world != rank:
            continue
        try:
            task = parse_line(text, number, arguments)
            require(task.out not in taken, f"two lines write {task.out}")
            taken.add(task.out)
            if task.out.exists() and sidecar(task.out).exists():
                skipped += 1
                continue
            pipe.check(task.prompt, task.options)
            tasks.append((number, begun(pipe, task, arguments)))
        except CogstyleError as error:
            failures[number] = str(error)
    bad = len(failures)
    for batch in batches(pipe, tasks, arguments):
        try:
            make_videos(pipe, [task for _, task in batch], arguments)
        except CogstyleError as error:
            failures |= {number: str(error) for number, _ in batch}
    made = len(tasks) - (len(failures) - bad)
    print(f"{made} made, {skipped} there already, {len(failures)} failed; all in {arguments.out}")
    for number in sorted(failures):
        print(f"cogstyle: line {number}: {failures[number]}", file=sys.stderr)
    return 1 if failures else 0


def batches(
    pipe: Any, tasks: list[tuple[int, Task]], arguments: argparse.Namespace
) -> Iterator[list[tuple[int, Task]]]:
    """Tasks of equal options (but for the seed) and equally far, side by side, as many as the memory holds."""
    from cogstyle.sampling.machine import free_memory

    budget = free_memory(pipe.device) / 2 if arguments.memory is None else arguments.memory * 1e9
    groups: dict[str, list[tuple[int, Task]]] = {}
    for number, task in tasks:
        far = None if task.done is None else (task.done.level, task.done.tokens_BFL.shape[1])
        groups.setdefault(repr((replace(task.options, seed=0), task.start, far)), []).append((number, task))
    for group in groups.values():
        most = int(min(LARGEST_BATCH, max(1, budget // pipe.memory_of_one(group[0][1].options))))
        for first in range(0, len(group), most):
            yield group[first : first + most]


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
