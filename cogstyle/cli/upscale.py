"""Super-resolution of token files (from `cogstyle sample --tokens`), of images and videos, into a folder."""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogstyle.cli.bundles import add_bundle_argument, bundles
from cogstyle.cli.sample import say
from cogstyle.config import DTYPES, require
from cogstyle.errors import MediaError

if TYPE_CHECKING:
    from cogstyle.sampling.pipeline import Pipeline
    from cogstyle.sampling.token_file import TokenFile

HELP = "super-resolution of token files, images and videos"
EXAMPLE = "cogstyle upscale circle.mp4.tokens.safetensors frame.png --out large"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="token files, images, videos")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder: v.mp4.tokens.safetensors -> v.mp4, i.jpg -> i.png, v.mov -> v.mp4, v.gif -> v.gif",
    )
    parser.add_argument("--prompt", help="what is shown (default: a token file's own prompt; others: no text)")
    parser.add_argument(
        "--seed", type=int, help="where the bundle draws tokens (default: a token file's own; others: 0)"
    )
    add_bundle_argument(parser)
    parser.add_argument("--memory", type=float, default=2.0, help="gigabytes that one pass may take beside the weights")
    parser.add_argument("--device", default="auto", help="torch device; auto takes a GPU where there is one")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the transformer's weights; int8 is for the CPU"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


@dataclass(frozen=True)
class Task:
    """One input as tokens, and where its enlargement goes."""

    source: Path
    out: Path
    tokens: "TokenFile"
    prompt: str | None
    seed: int


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from cogstyle.sampling.outputs import check_written
    from cogstyle.sampling.pipeline import load

    memory = arguments.memory
    require(memory > 0 and math.isfinite(memory), f"memory {memory} must be positive")
    require(arguments.seed is None or arguments.seed >= 0, f"seed {arguments.seed} must be 0 or more")
    pipe = load(bundles(arguments), device=arguments.device, dtype=arguments.dtype)
    pipe.budget = round(memory * 1e9)
    tasks = [read(pipe, path, arguments) for path in arguments.inputs]
    taken = {path.resolve() for path in arguments.inputs}
    for task in tasks:  # all that can be wrong is found before the first file is written
        require(task.out.resolve() not in taken, f"{task.source}: {task.out} is an input, or written by another one")
        taken.add(task.out.resolve())
        check_written(task.out)
    frames = sum(len(task.tokens.tokens_FL) for task in tasks)
    with tqdm(total=frames, unit="frame", disable=arguments.quiet) as bar:
        for task in tasks:
            make(pipe, task, bar.update)
    for task in tasks:
        say(str(task.out))
    return 0


def read(pipe: "Pipeline", path: Path, arguments: argparse.Namespace) -> Task:
    """An input as tokens, checked."""
    from cogstyle.sampling.options import Options
    from cogstyle.sampling.token_file import read_tokens
    from cogstyle.video import check_output

    prompt, seed = arguments.prompt, arguments.seed
    pipe.check_upscale(prompt, Options())
    if path.suffix == ".safetensors":
        tokens = read_tokens(path, pipe.bundle)
        prompt, seed = tokens.prompt if prompt is None else prompt, tokens.seed if seed is None else seed
        pipe.check_upscale(prompt, Options())
        name = path.name.removesuffix(".safetensors").removesuffix(".tokens")
        return Task(path, check_output(arguments.out / name, tokens.fps), tokens, prompt, seed)
    tokens, out = read_pictures(pipe, path, arguments.out)
    return Task(path, out, tokens, prompt, seed or 0)


def read_pictures(pipe: "Pipeline", path: Path, folder: Path) -> tuple["TokenFile", Path]:
    """An image or all frames of a video as tokens, and where its enlargement goes."""
    import torch

    from cogstyle.pictures import is_picture
    from cogstyle.sampling.token_file import TokenFile
    from cogstyle.video import SUFFIXES, VIDEOS, check_output, check_place, open_video, square

    size = pipe.bundle.tokenizer_config.image_size
    if not (path.is_dir() or path.suffix.lower() in VIDEOS or is_picture(path)):
        return TokenFile(pipe.encode_image(path), "", 0, 1.0), check_place(folder / f"{path.stem}.png")
    with open_video(path) as video:
        tokens_FL = torch.cat([pipe.encode(square(pixels, size)[None]) for pixels in video.frames()])
        if len(tokens_FL) == 1 and not path.is_dir():
            return TokenFile(tokens_FL, "", 0, 1.0), check_place(folder / f"{path.stem}.png")
        if video.rate is None:
            raise MediaError(f"{path} does not say how many frames a second it shows")
        name = path.name if path.is_dir() or path.suffix in SUFFIXES else f"{path.stem}.mp4"
        return TokenFile(tokens_FL, "", 0, video.rate), check_output(folder / name, video.rate)


def make(pipe: "Pipeline", task: Task, progress: Any) -> None:
    """Upscale one input and write it, then its json."""
    from cogstyle.pictures import write_png
    from cogstyle.sampling.outputs import write_json
    from cogstyle.video import Video

    fine = pipe.upscale(task.tokens.tokens_FL[None], [task.prompt], [task.seed], progress=progress)
    frames = pipe.decode(fine[0])
    if task.out.suffix != ".png":
        Video(frames, task.tokens.fps).save(task.out)
    else:
        task.out.parent.mkdir(parents=True, exist_ok=True)
        write_png(task.out, frames[0])
    info = {"source": str(task.source), "prompt": task.prompt, "seed": task.seed, "fps": task.tokens.fps}
    write_json(task.out, {**info, **pipe.provenance(), "frames": len(frames)})
