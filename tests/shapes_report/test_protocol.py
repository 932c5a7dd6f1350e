"""The evaluation protocol, run on the truth instead of a model."""

from dataclasses import replace

import numpy as np
import pytest

from cogstyle.sampling.pipeline import Options
from cogstyle.shapes_report import protocol
from cogstyle.shapes_world import world
from cogstyle.shapes_world.reader import read_clip
from cogstyle.video import Video
from tests.shapes_world.truth import Truth

SCENES = protocol.draw_scenes(1_000_000, 12)


def test_truth_is_read_as_right_and_at_the_lowest_rate():
    progress = []
    clips = protocol.sample_scenes(Truth(SCENES), SCENES, Options(levels=1), batch=5, progress=progress.append)
    assert [clip.seed for clip in clips] == [seed for seed, _ in SCENES] and sum(progress) == 12
    assert np.mean([clip.verdict.all for clip in clips]) > 0.9
    for clip in clips:
        assert clip.video.fps == 2 * 4 / clip.scene.duration
        assert clip.reading.background == clip.scene.background


def test_upscaled_clips_are_read_as_well():
    """33 frames of 192 pixels."""
    clips = protocol.sample_scenes(Truth(SCENES), SCENES[:4], Options(upscale=True))
    assert all(clip.video.frames.shape == (33, 192, 192, 3) and clip.verdict.all for clip in clips)


def test_batches_share_a_rate():
    parts = protocol.by_rate(SCENES, 3)
    assert sorted(seed for _, part in parts for seed, _ in part) == [seed for seed, _ in SCENES]
    assert all(len(part) <= 3 and {protocol.lowest_rate(s) for _, s in part} == {rate} for rate, part in parts)
    assert {rate for rate, _ in protocol.by_rate(SCENES, 3, 8.0)} == {8.0}


def test_every_second_frame_is_a_clip_of_its_own():
    scene = SCENES[0][1]
    clip = protocol.judged(7, scene, protocol.true_video(scene, frames=5, levels=1, size=64))
    keyframes = protocol.every(clip, 2)
    assert (keyframes.video.frames == clip.video.frames[::2]).all() and keyframes.video.fps == clip.video.fps / 2
    assert keyframes.verdict.all
    first = protocol.every(clip, len(clip.video.frames))
    assert len(first.video.frames) == 1 and first.verdict.colour and first.verdict.shape


def test_other_language_is_the_same_scene():
    for (seed, scene), (twin_seed, twin) in zip(SCENES, protocol.in_other_language(SCENES), strict=True):
        assert (seed, scene) == (twin_seed, replace(twin, language=scene.language))
        assert world.caption(scene).isascii() != world.caption(twin).isascii()


@pytest.mark.parametrize("rate", [2.0, 4.0, 8.0])
def test_step_is_speed_over_rate(rate):
    scene = protocol.slow_movers(1_000_000, 1)[0][1]
    assert scene.speed == "slowly" and scene.actors[0].action == "move"
    times = [k / rate for k in range(5)]
    found = protocol.mean_step(read_clip(world.render_clip(scene, times, 64), times))
    assert found == pytest.approx(world.PATH / scene.duration / rate, abs=0.003)
    assert protocol.true_mean_step(scene, rate, 5) == pytest.approx(world.PATH / scene.duration / rate)


def test_step_counts_the_rest_after_the_action():
    """At half a keyframe a second the action fills two of the four steps."""
    scene = protocol.slow_movers(1_000_000, 1)[0][1]
    assert protocol.true_mean_step(scene, 0.5, 5) == pytest.approx(world.PATH / 4)


def test_no_actor_has_no_step():
    blank = Video(np.zeros((2, 64, 64, 3), np.uint8), 1.0)
    assert protocol.mean_step(read_clip(blank.frames, [0.0, 1.0])) is None
