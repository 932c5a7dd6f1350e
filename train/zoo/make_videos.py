"""Write zoo videos as anybody's footage: python train/zoo/make_videos.py --count N --out DIR

DIR then holds NNNNNN.mp4 files, metadata.csv (file_name, caption, caption_zh) and scenes.jsonl, which says for whoever
judges what happens in each. A video begins and ends with its action and has 33 frames; its rate follows from its length
(8, 16 or 32 a second). Stopped and started again it goes on.
"""

import argparse
import csv
import io
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from cogstyle.errors import CogstyleError
from cogstyle.files import write_bytes
from cogstyle.video import Video

sys.path.insert(0, str(Path(__file__).parent))
from drawing import FONT, Font, frames
from scenes import captions, draw_scene

FRAMES = 33


def make(count: int, out: Path, *, font: Font, size: int, first_seed: int, held_out: bool) -> None:
    """Write `count` videos and their captions; those that are there already are kept."""
    out.mkdir(parents=True, exist_ok=True)
    table, truths = io.StringIO(), []
    writer = csv.writer(table)
    writer.writerow(("file_name", "caption", "caption_zh"))
    for seed in tqdm(range(first_seed, first_seed + count), unit="video", mininterval=2):
        scene = draw_scene(seed, held_out_pairs=held_out)
        name = f"{seed:06d}.mp4"
        if not (out / name).exists():
            times = [scene.duration * k / (FRAMES - 1) for k in range(FRAMES)]
            Video(frames(scene, times, size, font), (FRAMES - 1) / scene.duration).save(out / name)
        writer.writerow((name, *captions(scene, held_out=held_out)))
        truths.append(json.dumps({"file_name": name, **asdict(scene)}, ensure_ascii=False))
    write_bytes(out / "scenes.jsonl", ("\n".join(truths) + "\n").encode())
    write_bytes(out / "metadata.csv", table.getvalue().encode())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, required=True, help="videos to write")
    parser.add_argument("--out", type=Path, required=True, help="folder to write them into")
    parser.add_argument("--font", type=Path, default=FONT, help="a font with colour emoji (default: %(default)s)")
    parser.add_argument("--size", type=int, default=192, help="pixels along the side (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first video (default: 0)")
    parser.add_argument(
        "--held-out", action="store_true", help="noun-action pairs and phrasings that others never show"
    )
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
        )
    except (ValueError, OSError, CogstyleError) as error:
        print(f"make_videos: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
