"""The evaluation: captions of validation seeds, sampled and read; the same text at several frame rates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from cogstyle.data import world
from cogstyle.evaluation.alignment import Verdict, displacement_per_frame, judge
from cogstyle.sampling.pipeline import Options, Pipeline
from cogstyle.video import Video

RATES = (1.0, 2.0, 4.0)  # keyframes a second of the rate-control part


@dataclass(frozen=True)
class Clip:
    """A scene that was asked for, and what came of it."""

    seed: int
    scene: world.Scene
    video: Video
    verdict: Verdict


def frame_times(video: Video) -> list[float]:
    """Seconds of each frame."""
    return [k / video.fps for k in range(len(video.frames))]


def sample_scenes(
    pipe: Pipeline,
    scenes: Sequence[tuple[int, world.Scene]],
    options: Options,
    *,
    batch: int = 10,
    rate: float | None = None,
    done: Callable[[int], object] = lambda clips: None,
) -> list[Clip]:
    """Sample every (seed, scene) at `rate`, or else at the lowest rate, which holds the whole action; judge each."""

    def rate_of(item: tuple[int, world.Scene]) -> float:
        return rate or world.keyframe_rates(item[1])[0]

    clips = []
    for keyframe_rate, same in groupby(sorted(scenes, key=rate_of), rate_of):
        group = list(same)
        for first in range(0, len(group), batch):
            part = group[first : first + batch]
            captions = [world.caption(scene) for _, scene in part]
            videos = pipe.sample(captions, [seed for seed, _ in part], replace(options, frame_rate=keyframe_rate))
            for (seed, scene), video in zip(part, videos, strict=True):
                clips.append(Clip(seed, scene, video, judge(video.frames, frame_times(video), scene)))
            done(len(part))
    return sorted(clips, key=lambda clip: clip.seed)


def slow_movers(first_seed: int, count: int) -> list[tuple[int, world.Scene]]:
    """One-actor scenes that say "moves ... slowly"."""
    found: list[tuple[int, world.Scene]] = []
    seed = first_seed
    while len(found) < count:
        scene = world.draw_scene(seed, actors=1)
        if scene.actors[0].action == "move" and scene.speed == "slowly":
            found.append((seed, scene))
        seed += 1
    return found


def rate_control(
    pipe: Pipeline, scenes: Sequence[tuple[int, world.Scene]], *, batch: int = 10
) -> list[dict[str, float | None]]:
    """Displacement per keyframe (canvas units) of slow movers at several rates beside the true one.

    Clips in which no actor was found count in `lost`, not in the mean (None if all are lost).
    """
    rows = []
    for rate in RATES:
        clips = sample_scenes(pipe, scenes, Options(levels=0), batch=batch, rate=rate)
        read = [displacement_per_frame(clip.video.frames, frame_times(clip.video)) for clip in clips]
        found = [distance for distance in read if not np.isnan(distance)]
        rows.append(
            {
                "frame_rate": rate,
                "true": world.PATH / scenes[0][1].duration / rate,
                "mean": float(np.mean(found)) if found else None,
                "std": float(np.std(found)) if found else None,
                "lost": len(read) - len(found),
                "clips": len(read),
            }
        )
    return rows


def page(clips: Sequence[Clip], *, rows: int = 20) -> np.ndarray:
    """The keyframes of the first clips under each other, a red bar before those with an error: uint8 picture."""
    strips = []
    for clip in clips[:rows]:
        step = (len(clip.video.frames) - 1) // 4
        strip = replace(clip.video, frames=clip.video.frames[::step]).contact_sheet(5, scale=1)
        bar = np.full((len(strip), 6, 3), (255, 255, 255) if clip.verdict.all else (220, 40, 40), np.uint8)
        strips.append(np.concatenate([bar, strip], 1))
    return np.concatenate(strips)
