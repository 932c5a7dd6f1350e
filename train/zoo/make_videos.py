"""Write zoo videos as anybody's footage: python train/zoo/make_videos.py --count N --out DIR

DIR then holds NNNNNN.mp4 files, metadata.csv (file_name, caption, caption_zh) and scenes.jsonl, which says for whoever
judges what happens in each. A video begins and ends with its action and has 33 frames; its rate follows from its length
(8, 16 or 32 a second). With --pictures a scene gives one picture (.jpg) instead, half of them its first moment: an
image model learns from many scenes, not from many frames of few. Stopped and started again it goes on.
"""

import argparse
import csv
import io
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from cogstyle.errors import CogstyleError
from cogstyle.files import write_bytes
from cogstyle.video import Video

sys.path.insert(0, str(Path(__file__).parent))
from drawing import FONT, Font, frames
from scenes import Scene, captions, draw_scene

FRAMES = 33
QUALITY = 92  # of a JPEG


def write_video(path: Path, scene: Scene, size: int, font: Font) -> None:
    times = [scene.duration * k / (FRAMES - 1) for k in range(FRAMES)]
    Video(frames(scene, times, size, font), (FRAMES - 1) / scene.duration).save(path)


def write_picture(path: Path, scene: Scene, size: int, font: Font) -> None:
    """The first moment of every second scene, any of the others."""
    time = scene.duration * np.random.default_rng(scene.seed).random() * (scene.seed % 2)
    scratch = path.with_suffix(".part")  # a picture less after a crash is drawn again, so nothing waits for the disk
    Image.fromarray(frames(scene, [time], size, font)[0]).save(scratch, "JPEG", quality=QUALITY, subsampling=0)
    scratch.replace(path)


def make(count: int, out: Path, *, font: Font, size: int, first_seed: int, held_out: bool, pictures: bool) -> None:
    """Write `count` videos (or pictures) and their captions; those that are there already are kept."""
    suffix, write, unit = (".jpg", write_picture, "picture") if pictures else (".mp4", write_video, "video")
    out.mkdir(parents=True, exist_ok=True)
    table, truths = io.StringIO(), []
    writer = csv.writer(table)
    writer.writerow(("file_name", "caption", "caption_zh"))
    for seed in tqdm(range(first_seed, first_seed + count), unit=unit, mininterval=2):
        scene = draw_scene(seed, held_out_pairs=held_out)
        name = f"{seed:06d}{suffix}"
        if not (out / name).exists():
            write(out / name, scene, size, font)
        writer.writerow((name, *captions(scene, held_out=held_out)))
        truths.append(json.dumps({"file_name": name, **asdict(scene)}, ensure_ascii=False))
    write_bytes(out / "scenes.jsonl", ("\n".join(truths) + "\n").encode())
    write_bytes(out / "metadata.csv", table.getvalue().encode())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, required=True, help="videos (or pictures) to write")
    parser.add_argument("--out", type=Path, required=True, help="folder to write them into")
    parser.add_argument("--font", type=Path, default=FONT, help="a font with colour emoji (default: %(default)s)")
    parser.add_argument("--size", type=int, default=192, help="pixels along the side (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first video (default: 0)")
    parser.add_argument(
        "--held-out", action="store_true", help="noun-action pairs and phrasings that others never show"
    )
    parser.add_argument("--pictures", action="store_true", help="one picture of each scene instead of a video")
    options = parser.parse_args()
    try:
        if options.count < 1 or options.size < 32 or options.size % 2 or options.first_seed < 0:
            raise ValueError("--count must be 1 or more, --size even and 32 or more, --first-seed 0 or more")
        font = Font(options.font)
        make(
            options.count,
            options.out,
            font=font,
            size=options.size,
            first_seed=options.first_seed,
            held_out=options.held_out,
            pictures=options.pictures,
        )
    except (ValueError, OSError, CogstyleError) as error:
        print(f"make_videos: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
