"""From a video and its caption to training samples: which moments, which text, which frame rate.

A row is one training sample before tokenization: frames of the world and the caption with the seconds
that its frames span.
"""

from dataclasses import dataclass

import numpy as np

from cogstyle.data import world


@dataclass(frozen=True)
class Row:
    """Frames uint8 [F, size, size, 3], the caption, and the seconds they span (0 for an image).

    `fine` are the same moments at a larger size, for super-resolution.
    """

    frames: np.ndarray
    caption: str
    seconds: float
    fine: np.ndarray | None = None


def image_row(seed: int, size: int) -> Row:
    """One frame: half t = 0 with the full caption, half any moment without the actions."""
    scene = world.draw_scene(seed)
    t, caption = world.image_moment(scene, np.random.default_rng([seed, 1]))
    return Row(world.render_clip(scene, [t], size), caption, 0.0)


def keyframe_row(seed: int, size: int, frames: int) -> Row:
    """Frames from the start of the action at one of the rates the scene is trained at, each as likely.

    Fewer rows of the higher rates teach actions no faster, and leave the seconds of the prompt unread.
    """
    scene = world.draw_scene(seed)
    rates = world.keyframe_rates(scene, frames)
    rng = np.random.default_rng([seed, 2])
    rate = rates[int(rng.integers(len(rates)))]
    times = [k / rate for k in range(frames)]
    return Row(world.render_clip(scene, times, size), world.caption(scene), (frames - 1) / rate)


def interpolation_row(seed: int, size: int, frames: int, levels: int = 3) -> Row:
    """One group of a clip that refinement meets: keyframes at a trained rate, halved 1..levels times."""
    scene = world.draw_scene(seed)
    rng = np.random.default_rng([seed, 3])
    rates = world.keyframe_rates(scene, frames)
    keyframe_rate = rates[int(rng.integers(len(rates)))]
    level = int(rng.integers(levels)) + 1
    fine_rate = keyframe_rate * 2**level
    group = int(rng.integers(2 ** (level - 1) * (frames - 1) // (frames // 2)))
    start = group * (frames - 1) / fine_rate
    times = [start + k / fine_rate for k in range(frames)]
    return Row(world.render_clip(scene, times, size), world.caption(scene), (frames - 1) / fine_rate)


def superres_row(seed: int, size: int, factor: int) -> Row:
    """One moment of a scene at `size` and at `factor` times that, with the full caption.

    Any moment, half-faded actors too: sampling upscales every frame of a video with the text of the whole.
    """
    scene = world.draw_scene(seed)
    times = [float(np.random.default_rng([seed, 4]).uniform(0.0, scene.duration))]
    small, large = (world.render_clip(scene, times, pixels) for pixels in (size, factor * size))
    return Row(small, world.caption(scene), 0.0, large)


def continuation_row(seed: int, size: int, frames: int) -> Row:
    """Frames at a rate of the scene, from inside the action on: what going on from a video meets."""
    scene = world.draw_scene(seed)
    rates = world.keyframe_rates(scene, frames)
    rng = np.random.default_rng([seed, 5])
    rate = rates[int(rng.integers(len(rates)))]
    first = int(rng.integers(1, round(scene.duration * rate)))
    times = [(first + k) / rate for k in range(frames)]
    return Row(world.render_clip(scene, times, size), world.caption(scene), (frames - 1) / rate)
