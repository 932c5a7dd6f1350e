"""Figures of temporal quality on clips whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from cogstyle.shapes_report import temporal
from cogstyle.shapes_world import world
from cogstyle.shapes_world.reader import read_clip

MOVER = world.Scene(
    "white", (world.Actor("red", "circle", "move", "right", None, 0.16, 0.5, 0.5),), 2.0, None, "en", False
)
TIMES = [k / 8 for k in range(17)]
CLIP = world.render_clip(MOVER, TIMES, 64)
READING = read_clip(CLIP, TIMES)


def test_what_moves_is_no_flicker():
    assert temporal.still_flicker(CLIP) == 0.0
    assert temporal.still_flicker(CLIP[:1]) is None


@pytest.mark.parametrize("size", [64, 192])
def test_noise_on_the_background_is(size):
    frames = world.render_clip(MOVER, TIMES[:5], size).astype(int)
    frames[1::2, :8] -= 6
    assert temporal.still_flicker(frames.astype(np.uint8)) > 0.2


def test_repeated_tokens():
    tokens = np.array([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 0, 0]])
    assert temporal.repeated_tokens(tokens) == pytest.approx(5 / 8)
    assert temporal.repeated_tokens(tokens[:1]) is None and temporal.repeated_tokens(None) is None


def test_even_motion_lies_between_and_a_jump_does_not():
    assert [temporal.lie_between(READING, step) for step in (1, 2, 4)] == [1.0, 1.0, 1.0]
    assert temporal.lie_between(READING, 16) is None
    order = [0, 3, 2, 1, *range(4, 17)]  # frames 1 and 3 swapped: both lie beyond their neighbours
    assert temporal.lie_between(read_clip(CLIP[order], TIMES), 1) == pytest.approx(6 / 8)


def test_a_pulse_of_size_does_not_lie_between():
    frames = CLIP.copy()
    frames[3] = world.render(replace(MOVER, actors=(replace(MOVER.actors[0], r=0.2),)), TIMES[3], 64)
    assert temporal.lie_between(read_clip(frames, TIMES), 1) == pytest.approx(7 / 8)


def test_distance_from_the_asked_motion():
    assert temporal.distance_from_motion(READING, TIMES, MOVER) < 0.005
    left = replace(MOVER, actors=(replace(MOVER.actors[0], direction="left"),))
    assert temporal.distance_from_motion(READING, TIMES, left) > 0.2
    blue = replace(MOVER, actors=(replace(MOVER.actors[0], colour="blue"),))
    assert temporal.distance_from_motion(READING, TIMES, blue) is None


def test_unevenness():
    assert temporal.unevenness(READING) < 0.003
    jumps = [0, 0, 2, 2, 4, 4, 6, 6]
    assert temporal.unevenness(read_clip(CLIP[jumps], TIMES[:8])) == pytest.approx(2 * 0.25 / 8, abs=0.005)


def test_means_leave_out_what_a_clip_does_not_show():
    rows = [temporal.figures(CLIP, TIMES, MOVER, READING, levels=2), {"flicker": 2.0, "repeated_tokens": None}]
    rows[1] = {**dict.fromkeys(rows[0]), **rows[1]}
    means = temporal.mean_figures(rows)
    assert means["flicker"] == {"mean": 1.0, "error": 1.0, "n": 2}
    assert means["repeated_tokens"] == {"mean": None, "error": None, "n": 0}
    assert means["between_2"] == {"mean": 1.0, "error": None, "n": 1} and "between_3" not in means
    assert temporal.mean_figures([]) == {}
