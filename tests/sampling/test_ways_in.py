"""The shipped weights go on from a video and fill between images: what moves is where it truly would be."""

import numpy as np
import pytest
import torch
from PIL import Image

import cogstyle
from cogstyle.model.packed import packs
from cogstyle.shapes_world import world
from cogstyle.shapes_world.reader import read_clip
from cogstyle.video import Video

pytestmark = pytest.mark.slow

SCENES = [
    scene
    for seed in range(1_500_000, 1_500_400)
    if (scene := world.draw_scene(seed, actors=1)).actors[0].action == "move" and scene.speed == "slowly"
][:4]
RATE = 1.0  # keyframes a second at which a slow action fills five


@pytest.fixture(scope="module")
def pipe():
    return cogstyle.load("shapes")


def places(frames):
    """Centre of the actor in every frame, [F, 2]."""
    reading = read_clip(frames, [k / RATE for k in range(len(frames))])
    assert len(reading.actors) == 1
    return reading.actors[0].track[:, :2]


def apart(found, truth, frames):
    """Largest distance in canvas units over some frames."""
    return float(np.linalg.norm(places(found)[frames] - places(truth)[frames], axis=1).max())


def test_a_video_goes_on(pipe, tmp_path):
    near = 0
    for scene in SCENES:
        truth = world.render_clip(scene, [k / RATE for k in range(5)], 64)
        Video(truth[:3], RATE).save(tmp_path / "begin.mp4")
        options = cogstyle.Options(frame_rate=RATE, levels=0)
        video = pipe.sample([world.caption(scene)], [0], options, follows=tmp_path / "begin.mp4")[0]
        assert video.frames.shape == truth.shape
        near += apart(video.frames, truth, [3, 4]) < 0.08
    assert near >= len(SCENES) - 1


def test_images_are_filled_between(pipe, tmp_path):
    near = 0
    for scene in SCENES:
        truth = world.render_clip(scene, [k / (2 * RATE) for k in range(5)], 64)
        paths = [tmp_path / f"{k}.png" for k in range(3)]
        for path, frame in zip(paths, truth[::2], strict=True):
            Image.fromarray(frame).save(path)
        options = cogstyle.Options(frame_rate=RATE, levels=1)
        video = pipe.sample([world.caption(scene)], [0], options, images=paths)[0]
        assert video.frames.shape == truth.shape and video.fps == 2 * RATE
        near += apart(video.frames, truth, [1, 3]) < 0.07
    assert near >= len(SCENES) - 1


def test_levels_can_be_told_another_rate(pipe):
    prompts, options = [world.caption(scene) for scene in SCENES], cogstyle.Options(frame_rate=RATE, levels=1)
    seeds = [0] * len(SCENES)
    key = pipe.keyframes(prompts, seeds, options)
    told = {
        rates: pipe.interpolate(key, prompts, seeds, cogstyle.Options(frame_rate=RATE, levels=1, level_rates=rates))
        for rates in (None, (2.0,), (8.0,))
    }
    assert torch.equal(told[None], told[(2.0,)]) and not torch.equal(told[None], told[(8.0,)])
    assert all(torch.equal(tokens[:, ::2], key) for tokens in told.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_packed_where_there_are_kernels_for_it(debug_bundle, monkeypatch, dtype):
    bundle = cogstyle.load(debug_bundle, dtype=dtype).bundle
    assert bundle.packed == (dtype if packs(dtype) else None)
    monkeypatch.setattr("cogstyle.sampling.pipeline.packs", lambda kind: False)
    bundle = cogstyle.load(debug_bundle, dtype=dtype).bundle
    assert bundle.packed == (dtype if dtype == "int8" else None)  # which then says what is missing
    assert bundle.dtype == (torch.bfloat16 if dtype == "bfloat16" else torch.float32)


def test_neither_the_batch_nor_the_steps_tried_ahead_change_a_token(pipe):
    """With float32 weights, the shipped ones: six side by side, 16 steps ahead, against one by one, step by step."""
    scenes = [world.draw_scene(1_600_000 + number) for number in range(6)]
    prompts, seeds, options = [world.caption(scene) for scene in scenes], list(range(6)), cogstyle.Options(levels=1)

    def tokens(chosen, ahead):
        pipe.ahead = ahead
        own = [prompts[k] for k in chosen], [seeds[k] for k in chosen], options
        return pipe.interpolate(pipe.keyframes(*own), *own)

    together = tokens(range(6), 16)
    assert torch.equal(together, torch.cat([tokens([k], 1) for k in range(6)]))
    pipe.ahead = 16
