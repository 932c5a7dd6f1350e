"""What sampling is said to take is what it takes, and what cannot be sampled is said at the door."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cogstyle
from cogstyle.bundle import Bundle
from cogstyle.config import SamplingConfig
from cogstyle.errors import BundleError, ConfigError, LayoutError, SamplingError
from cogstyle.sampling import cost
from cogstyle.sampling.partial_video import PartialVideo
from cogstyle.video import Video


@pytest.fixture(scope="module")
def pipe(debug_bundle):
    return cogstyle.load(debug_bundle)


WAYS = {
    "a prompt": ({}, {}),
    "windows": ({"windows": 3}, {}),
    "an image": ({}, {"first_frame": "0.png"}),
    "a video": ({}, {"continue_from": "v.mp4"}),
    "two images": ({}, {"images": ["0.png", "1.png"]}),
    "four images": ({}, {"images": [f"{k}.png" for k in range(4)]}),
    "five images": ({"upscale": True}, {"images": [f"{k}.png" for k in range(5)]}),
}


@pytest.mark.parametrize("levels", [0, 1, 3])
@pytest.mark.parametrize("way", WAYS)
def test_predicted_steps_are_those_told(pipe, tmp_path, monkeypatch, way, levels):
    monkeypatch.chdir(tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(f"{number}.png")
    Video(frames, 2.0).save("v.mp4")
    extra, given = WAYS[way]
    options, told = cogstyle.Options(levels=levels, frame_rate=2.0, **extra), []
    start = pipe.start(options, 1, **given)
    video = pipe.sample(["x"], [0], options, start=start, progress=told.append)[0]
    assert sum(told) == cost.steps(pipe.bundle.model_config, options, start)
    assert cost.memory_of_one(pipe.bundle, options, start) > 0
    if levels and "images" not in way:
        part = PartialVideo(
            torch.from_numpy(video.tokens)[None, :: 2**levels], whole=True
        )  # stopped after the keyframes
        told.clear()
        pipe.sample(["x"], [0], options, start=part, progress=told.append)
        assert sum(told) == cost.steps(pipe.bundle.model_config, options, part)


def test_more_images_take_more_memory(pipe):
    options = cogstyle.Options(levels=1)
    few, many = (PartialVideo(torch.zeros(1, count, 16, dtype=torch.long), whole=True) for count in (2, 41))
    assert cost.memory_of_one(pipe.bundle, options, many) == 20 * cost.memory_of_one(pipe.bundle, options, few)


def without(bundle: Path, folder: Path, name: str) -> Path:
    """A copy of a bundle that lacks a file."""
    bare = shutil.copytree(bundle, folder / "bare")
    text = (bare / "bundle.toml").read_text()
    (bare / "bundle.toml").write_text(re.sub(rf'(?m)^"?{re.escape(name)}"? = .*\n', "", text))
    assert not Bundle(bare).has(name)
    return bare


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("keyframes.safetensors", {}, "has no keyframes.safetensors; `cogstyle interpolate` does without"),
        ("interpolation.safetensors", {"levels": 1}, "has no interpolation.safetensors; levels 0 does without"),
        ("superres.safetensors", {"upscale": True}, "has no superres.safetensors, which super-resolution needs"),
        ("clusters.safetensors", {"clusters": 3}, "image draws among 3 clusters, but bundle .* has no cluster labels"),
    ],
)
def test_what_a_bundle_lacks_is_said_before_anything_is_drawn(debug_bundle, tmp_path, name, options, message):
    pipe = cogstyle.load(without(debug_bundle, tmp_path, name))
    told = []
    with pytest.raises((BundleError, ConfigError), match=message):
        pipe.sample(["x"], [0], cogstyle.Options(**{"levels": 0} | options), progress=told.append)
    assert not told
    if name.startswith("clusters"):  # by way of a single stage too
        with pytest.raises(ConfigError, match="need cluster labels"):
            pipe.keyframes(["x"], [0], cogstyle.Options(clusters=3))


def test_images_need_no_keyframe_adapter(debug_bundle, tmp_path):
    pipe = cogstyle.load(without(debug_bundle, tmp_path, "keyframes.safetensors"))
    part = PartialVideo(torch.zeros(1, 2, 16, dtype=torch.long), whole=True)
    assert pipe.sample(["x"], [0], cogstyle.Options(levels=1), start=part)[0].frames.shape[0] == 3


@pytest.mark.parametrize("stage", ["image", "keyframes", "interpolation", "superres"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_name_their_stage(debug_bundle, stage, value):
    pipe = cogstyle.load(debug_bundle)
    options = cogstyle.Options(levels=1, upscale=True)
    module = {"image": pipe.image_model, "superres": pipe.upscaler}.get(stage) or pipe.adapter(stage)
    module.layers[0].dense.bias.fill_(value)
    with pytest.raises(SamplingError, match=f"{stage}: logits are not finite"):
        pipe.sample(["x"], [0], options)


def test_one_seed_a_prompt(pipe):
    tokens = torch.zeros(2, 5, 16, dtype=torch.long)
    for call in (
        lambda: pipe.sample(["x", "y"], [0]),
        lambda: pipe.keyframes(["x", "y"], [0]),
        lambda: pipe.interpolate(tokens, ["x", "y"], [0]),
        lambda: pipe.upscale(tokens, ["x", "y"], [0, 1, 2]),
    ):
        with pytest.raises(ConfigError, match=r"\d seeds? for 2 prompts"):
            call()
    with pytest.raises(LayoutError, match="tokens_BFL has shape"):
        pipe.keyframes(["x", "y"], [0, 1], first_BFL=tokens[:1, :1])
    with pytest.raises(LayoutError, match="tokens from 32 to 32, expected 0 to 31"):
        pipe.keyframes(["x"], [0], first_BFL=torch.full((1, 1, 16), 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_p": 0.0}, "top_p 0.0 must be above 0 and at most 1"),
        ({"top_k": 0}, "top_k 0 must be 1 or more"),
        ({"seed": 10**400}, "seed must be a number"),
        ({"levels": True}, "levels must be a number, not True"),
        ({"windows": 1.5}, "windows must be a whole number"),
        ({"guidance": "2"}, "guidance must be a number, not '2'"),
        ({"level_rates": 4.0}, "level_rates 4.0 must be a list"),
        ({"frame_rate": True}, "frame_rate must be a number, not True"),
    ],
)
def test_options_name_value_and_limit(options, message):
    with pytest.raises(ConfigError, match=message):
        cogstyle.Options(**options)
    assert cogstyle.Options(levels=1.0).levels == 1
    assert cogstyle.Options(top_p=1.0).stage(SamplingConfig(clusters=3), "image").clusters == 0


def test_untrained_words_and_rates_are_named():
    pipe = cogstyle.load("shapes")
    assert pipe.untrained("a red circle moves right", cogstyle.Options()) == []
    words, key, fine = pipe.untrained("a pink dog", cogstyle.Options(frame_rate=0.5))
    assert "no training caption of bundle shapes had: pink, dog" in words
    assert "keyframes of bundle shapes were trained at 1, 2, 4, 8 frames a second, not at 0.5" in key
    assert "interpolation" in fine and "not at 1" in fine
    with pytest.warns(UserWarning, match="dog"):
        pipe("a dog", levels=0)
