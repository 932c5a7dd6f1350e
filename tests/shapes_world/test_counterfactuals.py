"""Changed scenes differ in what they say they do; that the judge notices is tested in test_alignment."""

from dataclasses import replace

import numpy as np
import pytest

from cogstyle.shapes_world import world
from cogstyle.shapes_world.counterfactuals import CHANGES, same_caption

SCENES = [world.draw_scene(seed) for seed in range(world.VALIDATION_SEED, world.VALIDATION_SEED + 40)]


@pytest.mark.parametrize("name", CHANGES)
def test_something_changes_and_the_rest_stays(name):
    rng = np.random.default_rng(0)
    pairs = [(scene, other) for scene in SCENES if (other := CHANGES[name][1](scene, rng)) is not None]
    assert len(pairs) >= 10
    for scene, other in pairs:
        assert other != scene
        assert replace(other, actors=()) == replace(scene, actors=()) or name in ("other speed", "other background")
        more = {"an actor more": 1, "a twin more": 1, "an actor less": -1}.get(name, 0)
        assert len(other.actors) == len(scene.actors) + more


def test_same_caption_other_scene():
    rng = np.random.default_rng(0)
    for scene in [world.draw_scene(seed, actors=1) for seed in range(world.VALIDATION_SEED, world.VALIDATION_SEED + 8)]:
        others = [same_caption(scene, rng) for _ in range(4)]
        assert {world.caption(other) for other in others} == {world.caption(scene)}
        assert len({other.actors[0].phase for other in others}) == 4
