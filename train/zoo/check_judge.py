"""Check the zoo's judge: python train/zoo/check_judge.py [--count N] [--bundle BUNDLE]

True renders of scenes that nothing was trained on go through an mp4 file (and, with --bundle, also through its image
tokenizer) and are judged, once against what they show and once against scenes with one thing changed.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cogstyle.errors import CogstyleError
from cogstyle.sampling.pipeline import load
from cogstyle.shares import percent, share, table
from cogstyle.video import Video, VideoReader, psnr

sys.path.insert(0, str(Path(__file__).parent))
from drawing import FONT, Font, frames
from judge import NAMES, PLACES, read, verdict, words
from make_videos import FRAMES
from scenes import DIRECTIONS, DURATIONS, SINGLE, Scene, captions, draw_scene


def shown(scene: Scene, font: Font, size: int) -> Video:
    """A scene as it comes back from an mp4 file."""
    times = [scene.duration * k / (FRAMES - 1) for k in range(FRAMES)]
    video = Video(frames(scene, times, size, font), (FRAMES - 1) / scene.duration)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        video.save(path)
        with VideoReader(path) as reader:
            return Video(np.stack([*reader.frames()]), video.fps)


def others(scene: Scene) -> Iterator[tuple[str, Scene]]:
    """The scene with one thing changed that its caption names."""
    rng = np.random.default_rng([scene.seed, 23])

    def but(items, item):
        rest = [other for other in items if other != item]
        return rest[int(rng.integers(len(rest)))]

    first, *more = scene.actors
    nouns = {actor.noun for actor in scene.actors}
    yield "noun", replace(scene, actors=(replace(first, noun=but(sorted(set(NAMES) - nouns), None)), *more))
    if scene.says_background:
        yield "background", replace(scene, background=but(PLACES, scene.background))
    if first.size:
        yield "size", replace(scene, actors=(replace(first, size=but(("small", "large"), first.size)), *more))
    if first.direction:
        way = but(DIRECTIONS[first.action], first.direction)
        yield "direction", replace(scene, actors=(replace(first, direction=way), *more))
    action = but(("follow", "meet", "jump") if scene.together else SINGLE, first.action)
    yield "action", replace(scene, actors=(replace(first, action=action, direction=None, size=None), *more))
    if any(actor.action != "still" for actor in scene.actors):
        yield "speed", replace(scene, duration=but(DURATIONS.values(), scene.duration))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="scenes (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=1_600_000, help="of the scenes (default: %(default)s)")
    parser.add_argument("--size", type=int, default=192, help="pixels along the side (default: %(default)s)")
    parser.add_argument("--bundle", help="judge also what its image tokenizer makes of them")
    parser.add_argument("--font", type=Path, default=FONT, help="a font with colour emoji (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        check(options)
    except (ValueError, OSError, CogstyleError) as error:
        print(f"check_judge: {error}", file=sys.stderr)
        return 2
    return 0


def check(options: argparse.Namespace) -> None:
    font, pipe = Font(options.font), load(options.bundle) if options.bundle else None
    names = ["through mp4", *(["through the tokenizer"] if pipe else [])]
    marks, accepted, distances = {name: [] for name in names}, {name: {} for name in names}, []
    for seed in range(options.first_seed, options.first_seed + options.count):
        scene = draw_scene(seed, held_out_pairs=seed % 4 == 0)
        video = shown(scene, font, options.size)
        times = [k / video.fps for k in range(len(video.frames))]
        clips = [video.frames]
        if pipe:
            side = pipe.bundle.tokenizer_config.image_size
            small = shown(scene, font, side).frames
            clips.append(pipe.decode(pipe.encode(small)))
            distances.append(psnr(clips[-1], small))
        for name, clip in zip(names, clips, strict=True):
            reading = read(clip, times)
            marks[name].append(verdict(reading, times, scene))
            wrong = [key for key, holds in marks[name][-1].items() if not holds]
            if wrong:
                print(f"{seed}, {name}: {captions(scene)[0]}; seen: {words(reading, times)}; wrong: {', '.join(wrong)}")
            for change, other in others(scene):
                accepted[name].setdefault(change, []).append(all(verdict(reading, times, other).values()))
    rows = [[key, *(percent(_share([row[key] for row in marks[n]])) for n in names)] for key in marks[names[0]][0]]
    both = [percent(_share([row["action"] and row["direction"] for row in marks[n]])) for n in names]
    rows.append(["action and direction", *both])
    rows.append(["all at once", *(percent(_share([all(row.values()) for row in marks[n]])) for n in names)])
    for change in accepted[names[0]]:
        rows.append([f"accepted with another {change}", *(percent(_share(accepted[n][change])) for n in names)])
    print(table([f"{options.count} scenes", *names], rows))
    if distances:
        print(f"PSNR of the tokenizer's frames: {np.mean(distances):.1f} dB")


def _share(marks: list[bool]) -> dict[str, float]:
    return share(sum(marks), len(marks))


if __name__ == "__main__":
    sys.exit(main())
