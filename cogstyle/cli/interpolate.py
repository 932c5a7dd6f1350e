"""Fill the time between images: two or more become a video."""

import argparse
from pathlib import Path

from cogstyle.cli import sample

HELP = "fill the time between two or more images"
EXAMPLE = 'cogstyle interpolate a.png b.png c.png --prompt "a red circle moves right" --out circle.mp4'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="two or more, in the order of time")
    parser.add_argument("--prompt", required=True, help="what happens, in English or Chinese")
    parser.add_argument("--out", type=Path, required=True, help=".mp4, .gif, .webp or a folder for PNG")
    parser.add_argument("--frame-rate", type=float, help="images a second: 0.25 to 8 (default: the bundle's)")
    parser.add_argument("--levels", type=int, default=3, help="how often the frames are doubled, 0..3")
    parser.add_argument("--seed", type=int, default=0, help="same images, prompt and seed: same video")
    parser.add_argument("--adapter", default="shapes", metavar="BUNDLE", help="a bundle's name or folder")
    parser.add_argument("--sheet", action="store_true", help="also write FILE.png, all frames side by side")
    parser.add_argument("--tokens", action="store_true", help="also write FILE.tokens.safetensors")
    parser.add_argument("--upscale", action="store_true", help="super-resolution of every frame")
    parser.add_argument("--preview", action="store_true", help="write FILE.preview.png as levels come")
    parser.add_argument("--resume", action="store_true", help="go on from where a stopped run left FILE.part")
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument(
        "--dtype", choices=sample.DTYPES, default="float32", help="of the transformer's weights; int8 is for the CPU"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    from cogstyle.sampling.options import Options
    from cogstyle.sampling.pipeline import load
    from cogstyle.video import check_suffix

    given = {name: getattr(arguments, name) for name in ("frame_rate", "levels", "seed", "upscale")}
    task = sample.Task(
        arguments.prompt, check_suffix(arguments.out), Options(**given), {"images": tuple(arguments.images)}
    )
    pipe = load(arguments.adapter, device=arguments.device, dtype=arguments.dtype)
    pipe.check(task.prompt, task.options)
    sample.make_videos(pipe, [sample.begun(pipe, task, arguments)], arguments)
    return 0
