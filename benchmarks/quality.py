"""What `cogstyle encode --quality` finds of a data set of which three rows in ten are damaged.

Videos of the shapes world: 10 % with the caption of another one, 10 % frozen at their first frame, 5 % blurred,
5 % with a line of letters laid over them. Each filter is a table of `least` as a recipe has it; precision is the share
of the rows that it throws away that is damaged, recall the share of the damaged rows that it throws away.

python benchmarks/quality.py --out runs/quality
"""

import argparse
import csv
import json
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from cogstyle.bundle import Bundle
from cogstyle.data.encode import Encoding, make_index
from cogstyle.data.manifest import read_manifest
from cogstyle.data.quality import Quality
from cogstyle.data.selection import QualityConfig, select
from cogstyle.data.shards import Shards, load_videos
from cogstyle.errors import ConfigError
from cogstyle.evaluation.opinions import Reads
from cogstyle.files import write_bytes
from cogstyle.shapes_world import world
from cogstyle.shares import table
from cogstyle.video import Video

FIRST_SEED, SIZE, FPS = 1_500_000, 64, 8.0
DAMAGE = {"caption": 0.10, "frozen": 0.10, "blur": 0.05, "overlay": 0.05}
BLUR, WORDS = 2.0, "SAMPLE.ORG"  # sigma in pixels; what lies over the picture
FLOW, SHARP, TEXT = {"flow": 0.005}, {"sharpness": 12.0}, {"text": (0.0, 0.0)}
FILTERS = {
    "flow at least 0.005": FLOW,
    "sharpness at least 12": SHARP,
    "no text": TEXT,
    "the three, without a judge": FLOW | SHARP | TEXT,
    "read at least 1, the judge alone": {"read": 1.0},
    "all four": FLOW | SHARP | TEXT | {"read": 1.0},
}


def damaged(kind: str, frames: np.ndarray) -> np.ndarray:
    """Frames [F, SIZE, SIZE, 3] after one kind of damage."""
    if kind == "frozen":
        return np.repeat(frames[:1], len(frames), 0)
    if kind == "blur":
        return np.stack([cv2.GaussianBlur(frame, (0, 0), BLUR) for frame in frames])
    if kind == "overlay":
        frames = frames.copy()
        letters = (255, 255, 255) if frames[0].mean() < 128 else (0, 0, 0)
        for frame in frames:
            cv2.putText(frame, WORDS, (1, SIZE - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.31, letters, 1, cv2.LINE_AA)
    return frames


def make_videos(folder: Path, count: int, seed: int) -> dict[str, str]:
    """Write the videos and their captions; damage ("" for none) by name. What does not move is not frozen."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, scenes = np.random.default_rng(seed), [world.draw_scene(FIRST_SEED + k) for k in range(count)]
    captions, kinds = [world.caption(scene) for scene in scenes], [""] * count
    for kind, share in DAMAGE.items():
        moves = [k for k, s in enumerate(scenes) if kind != "frozen" or any(a.action != "still" for a in s.actors)]
        free = [k for k in moves if not kinds[k]]
        for k in rng.choice(free, round(share * count), replace=False):
            kinds[k] = kind
    swapped = [k for k, kind in enumerate(kinds) if kind == "caption"]
    said = dict(enumerate(captions)) | dict(zip(swapped, [captions[k] for k in swapped[1:] + swapped[:1]], strict=True))
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("video", "caption"), *((f"{k:04d}.mp4", said[k]) for k in range(count))])
    for k, scene in enumerate(scenes):
        times = [i / FPS for i in range(round(scene.duration * FPS) + 1)]
        frames = damaged(kinds[k], world.render_clip(scene, times, SIZE))
        write_bytes(folder / f"{k:04d}.mp4", Video(frames, FPS).encoded(".mp4"))
    return {f"{k:04d}.mp4": kind for k, kind in enumerate(kinds)}


def figures(data: Shards, damage: dict[str, str], least: dict[str, float | tuple[float, float]]) -> list[str]:
    """A row of the table: thrown away, precision, recall, that of each damage, good rows that are lost."""
    numbered = replace(data, sources=[facts["video"] for facts in data.facts or []])
    try:
        kept = set(select(numbered, QualityConfig(least=least)).sources or [])
    except ConfigError:  # it keeps none
        kept = set()
    away = [name for name in numbered.sources or [] if name not in kept]
    of = {kind: [name for name in numbered.sources or [] if damage[name] == kind] for kind in ("", *DAMAGE)}
    lost = {kind: sum(name not in kept for name in names) for kind, names in of.items()}
    bad = sum(len(names) for kind, names in of.items() if kind)
    hit = sum(count for kind, count in lost.items() if kind)
    percent = [f"{100 * lost[kind] / max(len(of[kind]), 1):.0f}" for kind in DAMAGE]
    share = f"{100 * hit / max(len(away), 1):.0f}"
    return [str(len(away)), share, f"{100 * hit / bad:.0f}", *percent, f"{100 * lost[''] / len(of['']):.0f}"]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    parser.add_argument("--bundle", default="shapes")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args(argv)
    began, bundle = time.monotonic(), Bundle(arguments.bundle)
    damage = make_videos(arguments.out / "videos", arguments.count, 0)
    manifest = read_manifest(arguments.out / "videos")
    shards = arguments.out / "shards"
    index = make_index(manifest, bundle, "keyframes")
    Encoding(manifest, shards, index, bundle).run(workers=arguments.workers)
    encoded = time.monotonic()
    quality = Quality(shards, bundle, manifest.folder, {"read": Reads("shapes")})
    quality.run(workers=arguments.workers)
    scored = time.monotonic()
    sizes = {"frames": index.frames, "size": index.size, "tokenizer_sha256": index.tokenizer_sha256}
    data = load_videos([shards], "keyframes", **sizes, scored=True)
    names = ["filter", "rows away", "precision", "recall", *(f"of {kind}" for kind in DAMAGE), "good rows lost"]
    text = table(names, [[name, *figures(data, damage, least)] for name, least in FILTERS.items()])
    text += f"\nmade and encoded in {encoded - began:.0f} s, scored in {scored - encoded:.0f} s\n"
    write_bytes(arguments.out / "damage.json", json.dumps(damage).encode())
    write_bytes(arguments.out / "table.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
