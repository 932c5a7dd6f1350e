"""The shapes world keeps the promises of its rules."""

import math

import numpy as np
import pytest

from cogstyle.shapes_world import rows, world

MANY = 400


def scenes(first, count=MANY, **options):
    return [world.draw_scene(first + k, **options) for k in range(count)]


@pytest.mark.slow
def test_training_and_validation_never_show_a_held_out_pair():
    for scene in scenes(0, 3000) + scenes(world.VALIDATION_SEED):
        assert not {(a.colour, a.shape) for a in scene.actors} & world.HELD_OUT
    assert all((s.actors[0].colour, s.actors[0].shape) in world.HELD_OUT for s in scenes(0, 50, held_out=True))


@pytest.mark.parametrize("shape", world.SHAPES)
def test_coverage_has_the_area_of_the_shape(shape):
    cover = world.coverage(shape, world.State(0.47, 0.52, 0.2), 256)
    assert cover.sum() / 256**2 / 0.2**2 == pytest.approx(world.AREA[shape], rel=0.01)
    small = world.coverage(shape, world.State(0.47, 0.52, 0.2), 64)
    assert small.sum() / 64**2 == pytest.approx(cover.sum() / 256**2, rel=0.02)


def test_actors_stay_inside_at_all_times():
    for scene in scenes(0):
        for actor in scene.actors:
            for k in range(17):
                place = world.state(actor, k * scene.duration / 16, scene.duration)
                reach = world.AXIS_EXTENT[actor.shape] * place.r + world.MARGIN - 1e-9
                assert reach <= place.x <= 1 - reach and reach <= place.y <= 1 - reach


def test_motions():
    def actor(action, direction=None):
        return world.Actor("red", "circle", action, direction, None, 0.15, 0.3, 0.6, 0.0)

    def at(who, t):
        s = world.state(who, t, 2.0)
        return round(s.x, 6), round(s.y, 6), round(s.r, 6), round(s.opacity, 6)

    right = actor("move", "right")
    assert at(right, 0)[0] == 0.25 and at(right, 1)[0] == 0.5 and at(right, 2)[0] == 0.75 == at(right, 9)[0]
    up = actor("return", "up")
    assert [at(up, t)[1] for t in (0, 1, 2)] == [0.75, 0.25, 0.75]
    turn = actor("circle", "clockwise")  # y points down: clockwise on the screen goes from right to bottom
    assert at(turn, 0.5)[:2] == (0.5, 0.72) and at(turn, 2.0)[:2] == at(turn, 0.0)[:2]
    assert [at(actor("grow"), t)[2] for t in (0, 1, 2)] == [0.08, 0.15, 0.22]
    blink = actor("blink")
    assert [at(blink, t)[3] for t in (0, 0.4, 0.8, 1.2, 1.6, 2)] == [1, 0.5, 0, 0, 0.5, 1]
    hop = actor("bounce")
    assert (
        at(hop, 0.5)[1] == pytest.approx(0.6 - 0.22) and at(hop, 1)[1] == 0.6 and at(hop, 1.5)[1] == pytest.approx(0.38)
    )


@pytest.mark.slow
def test_pairs_start_apart_and_stay_visible():
    for scene in [s for s in scenes(0, 2000) if len(s.actors) == 2]:
        a, b = (world.state(actor, 0, scene.duration) for actor in scene.actors)
        assert scene.actors[0].colour != scene.actors[1].colour
        touching = [world.coverage(actor.shape, s, 128) for actor, s in zip(scene.actors, (a, b), strict=True)]
        assert (touching[0] * touching[1]).sum() == 0


def test_captions_follow_the_grammar():
    actor = world.Actor("orange", "circle", "move", "left", None, 0.15, 0.5, 0.5)
    still = world.Actor("blue", "ring", "still", None, "small", 0.12, 0.5, 0.5)
    pair = world.Scene("white", (actor, still), 1.0, "quickly", "en", True)
    assert world.caption(pair) == (
        "an orange circle moves left quickly and a small blue ring stays still on a white background"
    )
    assert world.caption(pair, with_action=False) == "an orange circle and a small blue ring on a white background"
    red = world.Actor("red", "circle", "move", "right", None, 0.15, 0.5, 0.5)
    slow = world.Scene("white", (red,), 4.0, "slowly", "zh", True)
    assert world.caption(slow) == "白色背景上，一个红色圆形慢慢地向右移动"


@pytest.mark.slow
def test_shares_of_the_draws():
    drawn = scenes(0, 3000)
    assert np.mean([len(s.actors) == 2 for s in drawn]) == pytest.approx(0.3, abs=0.03)
    assert np.mean([s.language == "zh" for s in drawn]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([s.says_background for s in drawn]) == pytest.approx(0.5, abs=0.03)
    single = [s for s in drawn if len(s.actors) == 1]
    for action in world.ACTIONS:
        assert np.mean([s.actors[0].action == action for s in single]) == pytest.approx(1 / 8, abs=0.03)
    for s in single:
        if s.actors[0].action == "still":
            assert s.speed is None and s.duration == 4.0
        if s.actors[0].action in ("grow", "shrink"):
            assert s.actors[0].size is None


def test_render_is_antialiased_at_any_size():
    scene = world.Scene(
        "white", (world.Actor("red", "circle", "still", None, None, 0.2, 0.5, 0.5),), 4.0, None, "en", True
    )
    small, large = world.render(scene, 0, 64), world.render(scene, 0, 192)
    shrunk = large.reshape(64, 3, 64, 3, 3).mean((1, 3))
    assert np.abs(shrunk - small).max() < 40 and np.abs(shrunk - small).mean() < 0.5
    assert tuple(small[0, 0]) == world.BACKGROUNDS["white"] and tuple(small[32, 32]) == world.COLOURS["red"]


def test_multi_frame_rate_rule():
    for scene in scenes(0, 100):
        rates = world.keyframe_rates(scene)
        assert rates[0] == 4 / scene.duration
        assert all(4 / rate >= scene.duration / 4 for rate in rates)


def test_rows_show_what_they_say():
    scene = world.draw_scene(12)
    row = rows.keyframe_row(12, 64, 5)
    rate = 4 / row.seconds
    assert rate in world.keyframe_rates(scene) and row.caption == world.caption(scene)
    assert np.array_equal(row.frames[3], world.render(scene, 3 / rate, 64))
    spans = {rows.interpolation_row(seed, 32, 5).seconds for seed in range(200)}
    assert spans == {2.0, 1.0, 0.5, 0.25, 0.125, 0.0625}
    for seed in range(50):
        fine = rows.interpolation_row(seed, 32, 5)
        assert fine.frames.shape == (5, 32, 32, 3)
    assert math.isclose(rows.image_row(3, 32).seconds, 0.0)


def test_every_scene_can_be_seen_at_every_rate():
    every, met = rows.Emphasis(every_rate=True), {duration: set() for duration in world.DURATIONS.values()}
    for seed in range(150):
        met[world.draw_scene(seed).duration].add(4 / rows.keyframe_row(seed, 8, 5, emphasis=every).seconds)
    assert all(found == {0.5, 1.0, 2.0, 4.0, 8.0} for found in met.values())
    finer = {4 / rows.interpolation_row(seed, 8, 5, emphasis=every).seconds for seed in range(150)}
    assert min(finer) == 1.0 and max(finer) == 64.0
