"""Write clips of the shapes world as a folder of mp4 files with a captions.csv, like anyone's data set."""

import argparse
import csv
import io
from pathlib import Path

from cogstyle.config import require

HELP = "write videos of the shapes world with captions"
EXAMPLE = "cogstyle world --count 100 --out clips"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, required=True, help="how many videos")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--first-seed", type=int, default=0, help="seed of the first scene; from 1000000 on: validation"
    )
    parser.add_argument("--size", type=int, default=64, help="side of the picture in pixels")
    parser.add_argument("--fps", type=float, default=8.0, help="frames a second")


def run(arguments: argparse.Namespace) -> int:
    from cogstyle.data import world
    from cogstyle.files import write_bytes
    from cogstyle.video import Video

    require(arguments.count > 0, f"count {arguments.count} must be positive")
    require(arguments.size >= 16 and arguments.size % 2 == 0, f"size {arguments.size} must be even and at least 16")
    require(arguments.fps > 0, f"fps {arguments.fps} must be positive")
    require(arguments.first_seed >= 0, f"first-seed {arguments.first_seed} must be 0 or more")
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["video", "caption"])
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.count):
        scene = world.draw_scene(seed)
        times = [k / arguments.fps for k in range(round(scene.duration * arguments.fps) + 1)]
        name = f"{seed:07d}.mp4"
        Video(world.render_clip(scene, times, arguments.size), arguments.fps).save(arguments.out / name)
        writer.writerow([name, world.caption(scene)])
    write_bytes(arguments.out / "captions.csv", table.getvalue().encode())
    print(f"{arguments.count} videos and captions.csv in {arguments.out}")
    return 0
