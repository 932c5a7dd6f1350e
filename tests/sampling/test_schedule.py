"""Schedules against the masks they come from, and the tokens they give."""

import pytest
import torch

from cogstyle.config import SamplingConfig
from cogstyle.layout import FrameLayout, Role, Window, interpolation_layout, keyframe_layout
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import Plan
from cogstyle.sampling.logits import sampler
from cogstyle.sampling.schedule import quickest, sequential, wavefront
from tests.model.test_transformer import some_text, some_tokens

GENERATED = (Role.GENERATED,) * 5
GROUP = (Role.GIVEN,) * 3 + (Role.GENERATED,) * 2


@pytest.mark.parametrize(
    ("grid", "window", "times", "roles", "steps"),
    [
        ((20, 20), 10, (0, 1, 2, 3, 4), GENERATED, 400 + 4 * 189),  # each frame starts 9 rows and 9 places behind
        ((20, 20), 5, (0, 1, 2, 3, 4), GENERATED, 400 + 4 * 84),
        ((20, 20), 10, (0, 2, 4, 1, 3), GROUP, 400 + 189),
        ((8, 8), 4, (0, 2, 4, 1, 3), GROUP, 64 + 27),
    ],
)
def test_the_wavefront_is_as_short_as_the_masks_allow(grid, window, times, roles, steps):
    """By brute force: every place comes after what it needs, and the length is the longest chain of needs."""
    layout = FrameLayout(0, grid, times, roles)
    windows = [Window(window), Window(window, window // 2)]
    schedule = wavefront(layout, windows)
    first, length = layout.known * layout.tokens, layout.tokens
    step = torch.full((layout.frames * length,), -1)
    for number, places in enumerate(schedule.steps):
        step[places] = number
    assert (step[first:] >= 0).all() and sum(map(len, schedule.steps)) == len(step) - first
    sees = layout.temporal_visible(windows[0]) | layout.temporal_visible(windows[1])
    assert not (sees[first:] & (step[first:, None] < step)).any()  # keys are there, at the latest in the same step
    before = torch.cat([torch.tensor([-2]), step[:-1]])
    inside = torch.arange(first, len(step)) % length > 0
    assert (step > before)[first:][inside].all()  # the token before was drawn in an earlier step
    assert len(schedule.steps) == steps


def test_frames_in_flight_fit_their_lanes():
    """No frame takes a slot of the spatial memory before the frame that had it is done."""
    layout = FrameLayout(0, (8, 8), tuple(range(7)), (Role.GENERATED,) * 7)
    schedule = wavefront(layout, [Window(4), Window(4, 2)])
    frames_in_flight = schedule.frames_in_flight()
    assert 1 < frames_in_flight < 7
    owner = {}
    for places in schedule.steps:
        for frame in sorted({place // 64 for place in places.tolist()}):
            slot = frame % frames_in_flight
            assert owner.get(slot, frame) <= frame
            owner[slot] = frame


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_order_cannot_change_the_tokens(model, adapters, config, guidance):
    texts = Texts(some_text(config, [3, 5]), some_text(config, [2, 2], span=5), guidance)
    layout = interpolation_layout(config, 5)
    tokens = some_tokens(config, 2, layout.frames)
    pick = sampler(SamplingConfig(), [(1,), (2,)], layout, None)
    given = {"adapter": adapters["interpolation"]}
    windows = tuple(adapters["interpolation"].windows)
    one_by_one = finish(decode(model, texts, tokens, Plan(layout, sequential(layout), windows), pick, **given))
    schedule = quickest(layout, frozenset(windows))
    assert len(schedule.steps) < len(sequential(layout).steps)
    assert torch.equal(finish(decode(model, texts, tokens, Plan(layout, schedule, windows), pick, **given)), one_by_one)


def test_full_attention_goes_one_by_one(config):
    layout = keyframe_layout(config, 4)
    assert len(quickest(layout, frozenset([None])).steps) == 4 * config.tokens
