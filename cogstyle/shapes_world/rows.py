"""Rows drawn from the scenes of seeds: one for each task that trains on the shapes world."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cogstyle.rows import Row
from cogstyle.shapes_world import phrasings, world
from cogstyle.shapes_world.joins import draw_join

CANONICAL, BESIDE = 0.25, 0.2  # of phrased captions: the canonical ones, those that say who is beside whom
EVERY_RATE = (0.5, 1.0, 2.0, 4.0, 8.0)  # keyframes a second
RULES = 2  # to be raised with every change of the rules below: rows drawn by other rules are not read


@dataclass(frozen=True)
class Emphasis:
    """Which scenes are trained on more often than the world draws them, and in which words."""

    two_actors: float | None = None  # share of the scenes; None: the world's own 30 %
    actions: Mapping[str, float] = field(default_factory=dict)  # how likely each is, 1 for those that are not named
    phrasings: bool = False  # captions as people write them, else the canonical ones
    every_rate: bool = False  # keyframes at all of EVERY_RATE, too few to follow the action or too many to see it end

    def scene(self, seed: int) -> world.Scene:
        """The scene of a seed."""
        actors = None
        if self.two_actors is not None:
            actors = 2 if np.random.default_rng([seed, 6]).random() < self.two_actors else 1
        return world.draw_scene(seed, actors=actors, weights=self.actions)

    def rates(self, scene: world.Scene, frames: int) -> list[float]:
        """Keyframe rates to choose from; those that suit the scene come first, and twice if there are others."""
        suit = world.keyframe_rates(scene, frames)
        return [*suit, *suit, *(rate for rate in EVERY_RATE if rate not in suit)] if self.every_rate else suit

    def caption(self, scene: world.Scene, seed: int, *, with_action: bool = True, beside: float = BESIDE) -> str:
        """What the row of a seed says of its scene; for `beside` see `phrasings.phrase`."""
        if not self.phrasings:
            return world.caption(scene, with_action=with_action)
        rng = np.random.default_rng([seed, 7])
        how = {"canonical": rng.random() < CANONICAL, "with_action": with_action}
        return phrasings.phrase(scene, rng, language=scene.language, beside=beside * with_action, **how)


EVEN = Emphasis()


def image_row(seed: int, size: int, *, emphasis: Emphasis = EVEN) -> Row:
    """One frame: half t = 0 with the full caption, half any moment without the actions."""
    scene = emphasis.scene(seed)
    t, with_action = world.image_moment(scene, np.random.default_rng([seed, 1]))
    return Row(world.render_clip(scene, [t], size), emphasis.caption(scene, seed, with_action=with_action), 0.0)


def keyframe_row(seed: int, size: int, frames: int, *, emphasis: Emphasis = EVEN) -> Row:
    """Frames from the start of the action at one of the rates the scene is trained at, each as likely.

    Fewer rows of the higher rates teach actions no faster, and leave the seconds of the prompt unread.
    """
    scene = emphasis.scene(seed)
    rates = emphasis.rates(scene, frames)
    rng = np.random.default_rng([seed, 2])
    rate = rates[int(rng.integers(len(rates)))]
    times = [k / rate for k in range(frames)]
    return Row(world.render_clip(scene, times, size), emphasis.caption(scene, seed), (frames - 1) / rate)


def interpolation_row(seed: int, size: int, frames: int, levels: int = 3, *, emphasis: Emphasis = EVEN) -> Row:
    """One group of a clip that refinement meets: keyframes at a trained rate, halved 1..levels times.

    A level is twice as likely as the next, and half of the clips hold the whole action: there frames lie furthest
    apart, and later levels cannot mend what goes wrong.
    """
    scene = emphasis.scene(seed)
    rng = np.random.default_rng([seed, 3])
    rates = emphasis.rates(scene, frames)
    keyframe_rate = rates[0] if rng.random() < 0.5 else rates[int(rng.integers(len(rates)))]
    weights = 0.5 ** np.arange(levels)
    level = int(rng.choice(levels, p=weights / weights.sum())) + 1
    fine_rate = keyframe_rate * 2**level
    group = int(rng.integers(2 ** (level - 1) * (frames - 1) // (frames // 2)))
    start = group * (frames - 1) / fine_rate
    times = [start + k / fine_rate for k in range(frames)]
    return Row(world.render_clip(scene, times, size), emphasis.caption(scene, seed), (frames - 1) / fine_rate)


def superres_row(seed: int, size: int, factor: int, *, emphasis: Emphasis = EVEN) -> Row:
    """One moment of a scene at `size` and at `factor` times that, with the full caption.

    Any moment, half-faded actors too: sampling upscales every frame of a video with the text of the whole.
    """
    scene = emphasis.scene(seed)
    times = [float(np.random.default_rng([seed, 4]).uniform(0.0, scene.duration))]
    small, large = (world.render_clip(scene, times, pixels) for pixels in (size, factor * size))
    return Row(small, emphasis.caption(scene, seed), 0.0, large)


def continuation_row(seed: int, size: int, frames: int, *, emphasis: Emphasis = EVEN) -> Row:
    """Frames at a rate of the scene, from inside the action on: what continuing a video meets."""
    scene = emphasis.scene(seed)
    rates = world.keyframe_rates(scene, frames)
    rng = np.random.default_rng([seed, 5])
    rate = rates[int(rng.integers(len(rates)))]
    first = int(rng.integers(1, round(scene.duration * rate)))
    times = [(first + k) / rate for k in range(frames)]
    return Row(world.render_clip(scene, times, size), emphasis.caption(scene, seed), (frames - 1) / rate)


def join_row(seed: int, size: int, frames: int, *, known: int, emphasis: Emphasis = EVEN) -> Row:
    """What continuing a video meets: `known` frames of one motion, then those that another caption asks for."""
    join, rate = draw_join(
        emphasis.scene(seed), np.random.default_rng([seed, 8]), frames=frames, known=known, weights=emphasis.actions
    )
    times = [join.at + (k - known + 1) / rate for k in range(frames)]
    caption = emphasis.caption(join.second, seed, beside=0.0)
    return Row(join.render_clip(times, size), caption, (frames - 1) / rate)
