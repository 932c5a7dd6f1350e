"""What a pipeline is asked for: captions of validation scenes, one text at several rates, several seeds of one text.

Scenes of three ranges of seeds never meet: training below 1,000,000; from there on what figures are reported on;
from TUNING_SEED on what options are chosen on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np

from cogstyle.sampling.pipeline import Options, Pipeline
from cogstyle.shapes_world import world
from cogstyle.shapes_world.alignment import Verdict, judge_reading
from cogstyle.shapes_world.reader import Reading, read_clip
from cogstyle.video import Video

TUNING_SEED = 2_000_000
Scenes = Sequence[tuple[int, world.Scene]]  # with the seed that a clip of it is sampled from
Progress = Callable[[float], object]  # called with work that is finished, in clips


@dataclass(frozen=True)
class Clip:
    """A scene that was asked for, what came of it, what the reader saw in it, and what of the caption holds."""

    seed: int
    scene: world.Scene
    video: Video
    reading: Reading
    verdict: Verdict


def frame_times(video: Video) -> list[float]:
    """Seconds of each frame."""
    return [k / video.fps for k in range(len(video.frames))]


def judged(seed: int, scene: world.Scene, video: Video) -> Clip:
    """A clip, read and judged; its frames start with the action."""
    times = frame_times(video)
    reading = read_clip(video.frames, times)
    return Clip(seed, scene, video, reading, judge_reading(reading, times, scene))


def every(clip: Clip, step: int) -> Clip:
    """Every step-th frame of a clip, read and judged alone: its keyframes, or its first frame."""
    return judged(clip.seed, clip.scene, Video(clip.video.frames[::step], clip.video.fps / step))


def lowest_rate(scene: world.Scene) -> float:
    """The lowest keyframe rate: it holds the whole action."""
    return world.keyframe_rates(scene)[0]


def by_rate(scenes: Scenes, batch: int, rate: float | None = None) -> list[tuple[float, Scenes]]:
    """Scenes in batches of one keyframe rate each: `rate`, or else each scene's lowest."""

    def rate_of(item: tuple[int, world.Scene]) -> float:
        return rate or lowest_rate(item[1])

    parts: list[tuple[float, Scenes]] = []
    for keyframe_rate, same in groupby(sorted(scenes, key=rate_of), rate_of):
        group = list(same)
        parts += [(keyframe_rate, group[first : first + batch]) for first in range(0, len(group), batch)]
    return parts


def sample_scenes(
    pipe: Pipeline,
    scenes: Scenes,
    options: Options,
    *,
    batch: int = 10,
    rate: float | None = None,
    progress: Progress = lambda clips: None,
    prompts: Mapping[int, str] | None = None,
) -> list[Clip]:
    """Sample every (seed, scene) at `rate`, or else at the lowest rate, which holds the whole action; judge each.

    Args:
        prompts: what to ask with, by seed; default: the captions.
    """
    clips = []
    for keyframe_rate, part in by_rate(scenes, batch, rate):
        captions = [prompts[seed] if prompts else world.caption(scene) for seed, scene in part]
        videos = pipe.sample(captions, [seed for seed, _ in part], replace(options, frame_rate=keyframe_rate))
        clips += [judged(seed, scene, video) for (seed, scene), video in zip(part, videos, strict=True)]
        progress(len(part))
    return sorted(clips, key=lambda clip: clip.seed)


def true_video(scene: world.Scene, *, frames: int, levels: int, size: int) -> Video:
    """The scene itself, as long and as often as a sampled clip of it: `frames` keyframes, `levels` refinements."""
    fps = lowest_rate(scene) * 2**levels
    times = [k / fps for k in range((frames - 1) * 2**levels + 1)]
    return Video(world.render_clip(scene, times, size), fps)


def draw_scenes(first_seed: int, count: int, *, actors: int = 1, held_out: bool = False) -> Scenes:
    """The scenes of `count` seeds."""
    seeds = range(first_seed, first_seed + count)
    return [(seed, world.draw_scene(seed, actors=actors, held_out=held_out)) for seed in seeds]


def in_other_language(scenes: Scenes) -> Scenes:
    """The same scenes, asked for in the other language."""
    return [(seed, replace(scene, language="zh" if scene.language == "en" else "en")) for seed, scene in scenes]


def slow_movers(first_seed: int, count: int) -> Scenes:
    """One-actor scenes that say "moves ... slowly"."""
    found: list[tuple[int, world.Scene]] = []
    seed = first_seed
    while len(found) < count:
        scene = world.draw_scene(seed, actors=1)
        if scene.actors[0].action == "move" and scene.speed == "slowly":
            found.append((seed, scene))
        seed += 1
    return found


def mean_step(reading: Reading) -> float | None:
    """Mean distance (canvas units) that the most visible actor moves between frames; None without an actor."""
    if not reading.actors or len(reading.actors[0].track) < 2:
        return None
    steps_F2 = np.diff(reading.actors[0].track[:, :2], axis=0)
    return float(np.hypot(steps_F2[:, 0], steps_F2[:, 1]).mean())


def true_mean_step(scene: world.Scene, rate: float, frames: int) -> float:
    """The same of the scene's own first actor in `frames` keyframes at `rate`."""
    states = [world.state(scene.actors[0], k / rate, scene.duration) for k in range(frames)]
    return float(np.mean([np.hypot(b.x - a.x, b.y - a.y) for a, b in pairwise(states)]))
