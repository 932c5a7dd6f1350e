"""The reward of the shapes world: the truth is right, each wrong attribute costs, and so do colours of no palette."""

from dataclasses import replace

import numpy as np
import pytest

from cogstyle.errors import ConfigError
from cogstyle.shapes_world import world
from cogstyle.shapes_world.colours import off_palette
from cogstyle.shapes_world.reward import reward


def clip(scene: world.Scene) -> tuple[np.ndarray, list[float]]:
    times = [k / world.keyframe_rates(scene)[0] for k in range(5)]
    return world.render_clip(scene, times, 64), times


@pytest.mark.parametrize("seed", [1_000_001, 1_000_003])
def test_the_truth_is_worth_most(seed):
    scene = world.draw_scene(seed, actors=2)
    frames, times = clip(scene)
    right = reward(frames, times, world.caption(scene))
    assert 1.9 < right <= 2.0
    other = next(c for c in world.COLOURS if c not in {actor.colour for actor in scene.actors})
    wrong = replace(scene, actors=(replace(scene.actors[0], colour=other), *scene.actors[1:]))
    assert reward(frames, times, world.caption(wrong)) < 1.0
    frames = frames.copy()
    frames[0] = 0  # what is given does not count
    assert reward(frames, times, world.caption(scene)) == right


def test_colours_of_no_palette():
    frames, _ = clip(world.draw_scene(1_000_002, actors=1))
    assert off_palette(frames) < 0.05
    frames[:, 20:40, 20:40] = (0, 90, 90)
    assert off_palette(frames) > 0.3 and off_palette(np.zeros((2, 8, 8, 3), np.uint8)) == 0.0


def test_another_text_is_refused():
    frames, times = clip(world.draw_scene(1_000_002, actors=1))
    with pytest.raises(ConfigError, match="no caption of the shapes world"):
        reward(frames, times, "a horse")
