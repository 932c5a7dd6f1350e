"""Write clips of the shapes world as a folder of mp4 files with a captions.csv, like anyone's data set."""

import argparse
import csv
import io
import os
from pathlib import Path

from cogstyle.config import require
from cogstyle.errors import MediaError

HELP = "write videos of the shapes world with captions"
EXAMPLE = "cogstyle world --count 100 --out clips"
CAPTIONS = "captions.csv"
MOST, SMALLEST, LARGEST, FRAMES_A_SECOND = 1_000_000, 16, 2048, (0.25, 120.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, required=True, help="how many videos")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to: a new one, or one to continue")
    parser.add_argument(
        "--first-seed", type=int, default=0, help="seed of the first scene; from 1000000 on: validation"
    )
    parser.add_argument("--size", type=int, default=64, help="side of the picture in pixels")
    parser.add_argument("--fps", type=float, default=8.0, help="frames a second")


def run(arguments: argparse.Namespace) -> int:
    from cogstyle.files import write_bytes
    from cogstyle.shapes_world import world
    from cogstyle.video import Video

    require(0 < arguments.count <= MOST, f"count {arguments.count} must be positive, at most {MOST}")
    even = arguments.size % 2 == 0 and SMALLEST <= arguments.size <= LARGEST
    require(even, f"size {arguments.size} must be even, {SMALLEST} to {LARGEST}")
    slow, fast = FRAMES_A_SECOND
    require(slow <= arguments.fps <= fast, f"fps {arguments.fps:g} must be {slow:g} to {fast:g}")
    require(arguments.first_seed >= 0, f"first-seed {arguments.first_seed} must be 0 or more")
    scenes = {
        f"{seed:07d}.mp4": world.draw_scene(seed)
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.count)
    }
    table = io.StringIO(newline="")
    rows = [("video", "caption"), *((name, world.caption(scene)) for name, scene in scenes.items())]
    csv.writer(table, lineterminator="\n").writerows(rows)
    captions = table.getvalue().encode()
    prepare(arguments.out, set(scenes), captions)
    write_bytes(arguments.out / CAPTIONS, captions)  # first: it says that the videos are ours
    for name, scene in scenes.items():
        times = [k / arguments.fps for k in range(round(scene.duration * arguments.fps) + 1)]
        video = Video(world.render_clip(scene, times, arguments.size), arguments.fps).encoded(".mp4")
        if not same(arguments.out / name, video):
            write_bytes(arguments.out / name, video)
    print(f"{arguments.count} videos and {CAPTIONS} in {arguments.out}")
    return 0


def prepare(folder: Path, names: set[str], captions: bytes) -> None:
    """Make the folder; one that is there holds no captions but these, and no other videos.

    Raises:
        MediaError: naming what is in the way.
    """
    from cogstyle.video import VIDEOS, check_place

    check_place(folder / CAPTIONS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        own = same(folder / CAPTIONS, captions)
        for name in sorted(os.listdir(folder)):
            if name.lower().endswith(VIDEOS) and not (own and name in names):
                raise MediaError(f"cannot write {folder}: {name} is there; give another folder")
    except OSError as error:
        raise MediaError(f"cannot write {folder}: {error.strerror or error}") from None


def same(path: Path, data: bytes) -> bool:
    """Whether a file is there, which must hold these bytes."""
    from cogstyle.files import read_bytes

    if not os.path.lexists(path):
        return False
    if read_bytes(path) != data:
        raise MediaError(f"cannot write {path}: it is there and holds something else; give another folder")
    return True
