"""The flow-matching decoder: what it starts as, what owns its noise, how chunks of a long video meet."""

import pytest
import torch

from cogstyle.config import TOKENIZERS, FlowConfig
from cogstyle.tokenizers import flow as rooms
from cogstyle.tokenizers.flow import Condition, FlowDecoder, decode_clip, frame_noise
from cogstyle.tokenizers.vqvae import VQVAE, to_uint8
from tests.conftest import disturb

CONFIG = FlowConfig(layers=2, width=32, heads=2, frames=4)


@pytest.fixture
def vqvae():
    model = VQVAE(TOKENIZERS["debug"])
    disturb(model, 0.1)
    return model.eval().requires_grad_(False)


@pytest.fixture
def flow(vqvae):
    model = FlowDecoder(CONFIG, vqvae.config)
    disturb(model, 0.1)
    return model.eval().requires_grad_(False)


def tokens(frames):
    return torch.randint(32, (frames, 16))


def test_untrained_it_is_the_plain_decoder(vqvae):
    ids_FL = tokens(5)
    for steps in (1, 4):
        made = decode_clip(FlowDecoder(CONFIG, vqvae.config), vqvae, ids_FL, rate=4.0, seed=3, steps=steps)
        assert (made.int() - to_uint8(vqvae.pixels(ids_FL)).int()).abs().max() <= 1


def test_patches_come_back(vqvae):
    condition = Condition(vqvae, tokens(3)[None], torch.ones(1))
    pixels = torch.randn(1, 3, 3, 32, 32)
    assert torch.equal(condition.pixels(condition.patches(pixels)), pixels)
    first = condition.patches(pixels)[0, 0, 1].view(3, 8, 8)  # the second place is the patch to the right
    assert torch.equal(first, pixels[0, 0, :, :8, 8:16])


def test_frames_know_one_another_and_the_rate(flow, vqvae):
    ids_FL, options = tokens(4), {"rate": 4.0, "seed": 0}
    made = decode_clip(flow, vqvae, ids_FL, **options)
    other = ids_FL.clone()
    other[3] = tokens(1)[0]
    assert not torch.equal(decode_clip(flow, vqvae, other, **options)[0], made[0])
    assert not torch.equal(decode_clip(flow, vqvae, ids_FL, rate=16.0, seed=0), made)
    assert not torch.equal(decode_clip(flow, vqvae, ids_FL, rate=4.0, seed=1), made)
    assert torch.equal(decode_clip(flow, vqvae, ids_FL, **options), made)


def test_noise_belongs_to_seed_and_frame():
    assert torch.equal(frame_noise((2, 3), 5, 7), frame_noise((2, 3), 5, 7))
    assert not torch.equal(frame_noise((2, 3), 5, 7), frame_noise((2, 3), 5, 8))


def test_chunks_of_a_long_video_fade_into_each_other(flow, vqvae, monkeypatch):
    ids_FL = tokens(11)
    monkeypatch.setattr(rooms, "CHUNK", 7)
    monkeypatch.setattr(rooms, "OVERLAP", 2)
    long = decode_clip(flow, vqvae, ids_FL, rate=4.0, seed=0)
    first = decode_clip(flow, vqvae, ids_FL[:7], rate=4.0, seed=0)
    assert len(long) == 11 and torch.equal(long[:5], first[:5]) and not torch.equal(long[5:7], first[5:7])
    monkeypatch.setattr(rooms, "CHUNK", 11)
    assert not torch.equal(decode_clip(flow, vqvae, ids_FL, rate=4.0, seed=0), long)
