"""Upscaling frames: neither batch nor budget changes a token, still frames stay still, memory is as stated."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import cogstyle
from cogstyle.config import MODELS, SamplingConfig
from cogstyle.errors import ConfigError, LayoutError
from cogstyle.model.superres import SuperResolution
from cogstyle.model.transformer import Transformer
from cogstyle.sampling.upscale import frame_bytes, upscale
from tests.model.test_transformer import some_text, some_tokens


@pytest.fixture(scope="module")
def pipe(debug_bundle):
    return cogstyle.load(debug_bundle)


def test_batch_of_one_equals_batch_of_many(pipe, config):
    """Drawn, not greedy: the random numbers must stay with their owner too."""
    tokens, prompts = some_tokens(config, 2, 3), ["a red circle moves right", "一个蓝色正方形"]
    both = pipe.upscale(tokens, prompts, [5, 6])
    assert both.shape == (2, 3, 9 * config.tokens) and len(both.unique()) > 5
    for row in range(2):
        assert torch.equal(both[row : row + 1], pipe.upscale(tokens[row : row + 1], prompts[row : row + 1], [5 + row]))
    assert torch.equal(both[:, 1:2], pipe.upscale(tokens[:, 1:2], prompts, [5, 6]))
    assert not torch.equal(both, pipe.upscale(tokens, prompts, [7, 8]))


def test_a_small_budget_changes_nothing_but_the_passes(pipe, config):
    tokens, prompts = some_tokens(config, 2, 3), ["a red circle moves right", None]
    whole, passes = pipe.upscale(tokens, prompts, [5, 6]), []
    text = len(pipe.text.image_text(prompts[0]))
    pipe.budget = 2 * frame_bytes(pipe.upscaler, text, 4)
    assert torch.equal(whole, pipe.upscale(tokens, prompts, [5, 6], progress=passes.append))
    assert passes == [2, 2, 2]
    pipe.budget = 1000
    with pytest.raises(ConfigError, match=r"one frame takes 0\.\d MB, the budget is 0\.0 MB"):
        pipe.upscale(tokens, prompts, [5, 6])
    with pytest.raises(LayoutError, match="tokens_BFL has shape"):
        pipe.upscale(tokens[:, :, 1:], prompts, [5, 6])


def test_equal_frames_stay_equal_unless_each_has_a_stream_of_its_own(pipe, config):
    coarse = some_tokens(config, 1, 1)[:, 0].expand(4, -1)
    text = some_text(config, [5]).expand(4, -1)

    def draw(seeds, sampling):
        return torch.cat([*upscale(pipe.image_model, pipe.upscaler, text, coarse, seeds, sampling)])

    shared = draw([(3, 0)] * 4, SamplingConfig())
    streams = [(3, 0, k) for k in range(4)]
    own, again, greedy = (draw(streams, SamplingConfig(top_k=k)) for k in (0, 0, 1))
    assert all(torch.equal(shared[0], row) for row in shared) and all(torch.equal(greedy[0], row) for row in greedy)
    assert torch.equal(own, again) and not torch.equal(own[0], own[1])


@pytest.mark.parametrize("name", ["debug", "shapes"])
@torch.inference_mode()
def test_memory_is_at_most_what_is_stated_and_no_less_than_half(name):
    config, frames, text = MODELS[name], 3, 20
    base, upscaler = Transformer(config), SuperResolution(config)
    coarse = some_tokens(config, frames, 1)[:, 0]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        upscaler(base, some_text(config, [text] * frames), coarse)
    events = [event for event in run.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    stated = frames * frame_bytes(upscaler, text, 4)
    assert stated / 2 < peak <= stated
