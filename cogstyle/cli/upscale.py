"""Super-resolution of token files (from `cogstyle sample --tokens`) and of images, into a folder."""

import argparse
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogstyle.cli.sample import DTYPES
from cogstyle.config import require
from cogstyle.errors import MediaError

if TYPE_CHECKING:
    from cogstyle.sampling.pipeline import Pipeline
    from cogstyle.sampling.token_file import TokenFile

HELP = "super-resolution of token files and images"
EXAMPLE = "cogstyle upscale circle.mp4.tokens.safetensors frame.png --out large"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="token files, images")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder: v.mp4.tokens.safetensors -> v.mp4, i.jpg -> i.png",
    )
    parser.add_argument("--prompt", help="what is shown (default: a token file's own prompt; images: no text)")
    parser.add_argument(
        "--seed", type=int, help="where the bundle draws tokens (default: a token file's own; images: 0)"
    )
    parser.add_argument("--adapter", default="shapes", metavar="BUNDLE", help="a bundle's name or folder")
    parser.add_argument("--memory", type=float, default=2.0, help="gigabytes that one pass may take beside the weights")
    parser.add_argument("--device", default="cpu", help="torch device")
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

    from cogstyle.sampling.pipeline import load

    require(arguments.memory > 0, f"memory {arguments.memory} must be positive")
    require(arguments.seed is None or arguments.seed >= 0, f"seed {arguments.seed} must be 0 or more")
    pipe = load(arguments.adapter, device=arguments.device, dtype=arguments.dtype)
    pipe.budget = round(arguments.memory * 1e9)
    tasks = [read(pipe, path, arguments) for path in arguments.inputs]
    taken = {path.resolve() for path in arguments.inputs}
    for task in tasks:  # all that can be wrong is found before the first file is written
        require(task.out.resolve() not in taken, f"{task.source}: {task.out} is an input, or written by another one")
        taken.add(task.out.resolve())
    frames = sum(len(task.tokens.tokens_FL) for task in tasks)
    with tqdm(total=frames, unit="frame", disable=arguments.quiet) as bar:
        for task in tasks:
            make(pipe, task, bar.update)
    print("\n".join(str(task.out) for task in tasks))
    return 0


def read(pipe: "Pipeline", path: Path, arguments: argparse.Namespace) -> Task:
    """An input as tokens, checked."""
    from cogstyle.sampling.options import Options
    from cogstyle.sampling.token_file import TokenFile, read_tokens
    from cogstyle.video import check_output

    prompt, seed = arguments.prompt, arguments.seed
    pipe.check_upscale(prompt, Options())
    if path.suffix == ".safetensors":
        tokens = read_tokens(path, pipe.bundle)
        prompt, seed = tokens.prompt if prompt is None else prompt, tokens.seed if seed is None else seed
        pipe.check_upscale(prompt, Options())
        out = check_output(arguments.out / path.name.removesuffix(".safetensors").removesuffix(".tokens"))
    else:
        tokens = TokenFile(pipe.encode_image(path), "", 0, 1.0)
        out = arguments.out / f"{path.stem}.png"
    return Task(path, out, tokens, prompt, seed or 0)


def make(pipe: "Pipeline", task: Task, progress: Any) -> None:
    """Upscale one input and write it, then its json."""
    from PIL import Image

    from cogstyle.cli.sample import sidecar
    from cogstyle.files import write_bytes
    from cogstyle.video import Video

    fine = pipe.upscale(task.tokens.tokens_FL[None], [task.prompt], [task.seed], progress=progress)
    frames = pipe.decode(fine[0])
    info: dict[str, Any] = {
        "source": str(task.source),
        "prompt": task.prompt,
        "seed": task.seed,
        "fps": task.tokens.fps,
    }
    if task.source.suffix == ".safetensors":
        Video(frames, task.tokens.fps).save(task.out)
    else:
        buffer = io.BytesIO()
        Image.fromarray(frames[0]).save(buffer, "png")
        try:
            task.out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MediaError(f"cannot write {task.out}: {error}") from None
        write_bytes(task.out, buffer.getvalue())
    info |= {"bundle": pipe.bundle.manifest["name"], "files": pipe.bundle.hashes(), "frames": len(frames)}
    write_bytes(sidecar(task.out), json.dumps(info, ensure_ascii=False, indent=1).encode())
