"""A video goes on under another caption: from where it was, as asked, inside the canvas."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from cogstyle.config import MODELS
from cogstyle.layout import keyframe_layout
from cogstyle.sampling.keyframes import OVERLAP
from cogstyle.shapes_world import joins, rows, world
from cogstyle.shapes_world.join_judge import judge_join, share_right
from cogstyle.training.batches import groups_of, kinds_of

FRAMES = 5


def draw(seed, **options):
    return joins.draw_join(
        world.draw_scene(seed), np.random.default_rng([seed, 8]), frames=FRAMES, known=OVERLAP, **options
    )


def test_a_new_motion_begins_where_the_first_ended_and_stays_inside():
    met = Counter()
    for seed in range(400):
        join, rate = draw(seed, same=0.0)
        span = (FRAMES - 1) / rate
        assert join.second.duration / 4 <= span <= join.second.duration and join.at >= (OVERLAP - 1) / rate - 1e-9
        step, before = join.second.duration / 40, join.states(join.at)
        for k in range(81):
            now = join.states(join.at + k * step)
            for actor, place, last in zip(join.second.actors, now, before, strict=True):
                edge = world.AXIS_EXTENT[actor.shape] * place.r + world.MARGIN - 1e-9
                assert edge <= place.x <= 1 - edge and edge <= place.y <= 1 - edge
                assert np.hypot(place.x - last.x, place.y - last.y) < 0.08 and abs(place.r - last.r) < 0.01
            before = now
        for old, new in zip(join.first.actors, join.second.actors, strict=True):
            assert (old.colour, old.shape) == (new.colour, new.shape)
            assert (old.action, old.direction) != (new.action, new.direction)
            met[new.action] += 1
    assert set(met) == set(world.ACTIONS) and min(met.values()) > 10


@pytest.mark.parametrize(
    ("action", "way", "moved"),
    [
        ("move", "left", (-0.5, 0)),
        ("move", "up", (0, -0.35)),  # the canvas ends it, at the usual speed
        ("return", "up", (0, 0)),
        ("circle", "clockwise", (0, 0)),
        ("still", None, (0, 0)),
    ],
)
def test_what_a_motion_comes_to(action, way, moved):
    actor = world.Actor("red", "circle", action, way, None, 0.14, 0.0, 0.0)
    begin = world.State(0.72, 0.5, 0.14)
    end = joins.follow(actor, begin, 2.0, 2.0)
    assert (round(end.x - begin.x, 6), round(end.y - begin.y, 6)) == moved
    half = joins.follow(actor, begin, 1.0, 2.0)
    assert round(np.hypot(half.x - begin.x, half.y - begin.y), 6) == {"move": 0.25, "return": 0.2, "circle": 0.44}.get(
        action, 0.0
    )
    assert joins.has_room(actor, begin) and not joins.has_room(replace(actor, action="move", direction="right"), begin)


def test_under_its_own_caption_a_scene_goes_on_and_rests_or_begins_again():
    for seed in range(50):
        join, _ = draw(seed, same=1.0)
        first, length = join.first.actors, join.first.duration
        assert join.states(length * 0.4) == [world.state(actor, length * 0.4, length) for actor in first]
        again = ("return", "circle", "blink", "bounce")
        later = [world.state(actor, length * (0.4 if actor.action in again else 1.0), length) for actor in first]
        for place, wanted in zip(join.states(length * 1.4), later, strict=True):
            assert np.allclose(
                (place.x, place.y, place.r, place.opacity), (wanted.x, wanted.y, wanted.r, wanted.opacity)
            )


def test_rows_have_the_frames_of_one_motion_and_the_caption_of_the_next():
    for seed in range(60):
        join, rate = draw(seed)
        row = rows.join_row(seed, 32, FRAMES, known=OVERLAP)
        assert row.caption == world.caption(join.second) and row.seconds == (FRAMES - 1) / rate
        given = [join.at + k / rate for k in range(1 - OVERLAP, 1)]
        assert min(given) > -1e-9
        if join.second is not join.first:
            assert np.array_equal(row.frames[:OVERLAP], world.render_clip(join.first, given, 32))
        phrased = rows.join_row(seed, 32, FRAMES, known=OVERLAP, emphasis=rows.Emphasis(phrasings=True))
        assert np.array_equal(row.frames, phrased.frames)


def test_training_reads_them_as_sampling_does():
    config = MODELS["debug"]
    plain, joined = groups_of("keyframes", config, 4, None), groups_of("keyframes", config, 4, None, continuation=0.25)
    assert plain[0].layout == joined[0].layout and kinds_of(joined) == ("keyframes", "join")
    assert joined[1].layout == keyframe_layout(config, 0, known=OVERLAP) and joined[1].layout.known == OVERLAP
    assert [group.weight for group in joined] == [0.75, 0.25]


def test_the_judge_of_joins_tells_what_was_asked_from_what_was_not():
    right, rests, other = [], [], []
    for seed in range(world.VALIDATION_SEED, world.VALIDATION_SEED + 50):
        join, rate = joins.draw_join(
            world.draw_scene(seed, actors=1 + seed % 2), np.random.default_rng(seed), frames=5, known=OVERLAP, same=0.0
        )
        frames = join.render_clip([join.at + (k - OVERLAP + 1) / rate for k in range(7)], 64)
        right.append(judge_join(frames, rate, OVERLAP, join))
        frames[OVERLAP:] = frames[OVERLAP - 1]  # nothing happens
        rests.append(judge_join(frames, rate, OVERLAP, join))
        gone = frames.copy()
        gone[-1, :, -1] = 255 - gone[-1, :, -1]  # something at the edge
        other.append(judge_join(gone, rate, OVERLAP, join))
    found = share_right(right)
    assert found["motion and inside"] >= 0.95 and found["speed"] >= 0.9 and found["inside"] == 1.0
    assert share_right(rests)["motion"] < 0.4 and share_right(other)["inside"] == 0.0
