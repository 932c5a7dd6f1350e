"""Plans against the masks they come from; looking ahead against one step after the other."""

import pytest
import torch

from cogstyle.config import SamplingConfig
from cogstyle.layout import (
    FrameLayout,
    Role,
    Window,
    image_layout,
    interpolation_layout,
    keyframe_layout,
    spatial_runs,
    temporal_runs,
)
from cogstyle.sampling.decode import Texts, decode, finish
from cogstyle.sampling.decode_plan import Plan, plan_for
from cogstyle.sampling.logits import sampler
from cogstyle.sampling.lookahead import guessed_right
from cogstyle.sampling.schedule import sequential
from tests.model.test_transformer import some_text, some_tokens

P, G, N = Role.PREFIX, Role.GIVEN, Role.GENERATED
LAYOUTS = {"image": image_layout, "keyframes": keyframe_layout, "interpolation": interpolation_layout}


@pytest.mark.parametrize("window", [None, Window(4), Window(4, 2), Window(3, 1)])
@pytest.mark.parametrize(
    ("times", "roles"),
    [((0, 1, 2), (P, N, N)), ((0, 2, 4, 1, 3), (G, G, G, N, N)), ((0, 1, 2, 3, 4), (G, N, G, N, G)), ((0,), (N,))],
)
def test_a_run_holds_what_a_place_sees_and_nothing_else(times, roles, window):
    layout = FrameLayout(5, (4, 8) if window is None or window.size == 4 else (6, 6), times, roles)
    runs, sees = temporal_runs(layout, window), layout.temporal_visible(window)
    assert len(set(runs.slots_P.tolist())) == len(runs.slots_P)
    for place in range(len(sees)):
        if layout.roles[place // layout.tokens] is not G:
            start, own = int(runs.starts_P[place]), int(runs.slots_P[place])
            assert start in runs.texts
            inside = (runs.slots_P >= start + layout.text) & (runs.slots_P <= own)
            assert torch.equal(inside, sees[place])
            assert own + 1 - start == layout.text + int(inside.sum())  # no gap


def test_lanes_are_runs_of_the_spatial_channel():
    layout = FrameLayout(3, (2, 2), (0, 1, 2), (N, N, N))
    runs = spatial_runs(layout, 2)
    assert runs.texts == (0, 7) and runs.length == 14
    assert runs.slots_P.tolist() == [3, 4, 5, 6, 10, 11, 12, 13, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("same", "ends", "right"),
    [
        ([1, 1, 1], [0, 1, 2, 3], 3),  # all guesses hold: the last draw counts too
        ([0, 1, 1], [0, 1, 2, 3], 1),
        ([1, 0, 1], [0, 1, 2, 3], 2),
        ([1, 1, 0], [0, 1, 2, 3], 3),  # nothing stands on the last guess
        ([1, 1, 0, 1], [0, 2, 3, 4], 2),  # steps of several places
        ([1, 0, 1, 1], [0, 2, 3, 4], 1),
    ],
)
def test_a_step_counts_if_every_draw_before_it_was_guessed(same, ends, right):
    assert guessed_right([bool(one) for one in same], ends) == right


@pytest.mark.parametrize("ahead", [2, 5, 16])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_looking_ahead_draws_the_same_tokens(model, adapters, config, kind, ahead):
    texts = Texts(some_text(config, [3, 6]), some_text(config, [2, 2], span=6), 2.0)
    layout, adapter = LAYOUTS[kind](config, 6), adapters.get(kind)
    windows = () if adapter is None else tuple(adapter.windows)
    tokens, drawn_places = some_tokens(config, 2, layout.frames), []
    plan = Plan(layout, sequential(layout), windows)
    # few likely tokens, so that some guesses hold and some do not
    pick = sampler(SamplingConfig(temperature=0.3, top_k=3), [(7,), (8,)], layout, None)
    expected = finish(decode(model, texts, tokens, plan, pick, adapter=adapter))

    def counting(logits, places):
        drawn_places.append(len(places))
        return pick(logits, places)

    plan = plan_for(layout, windows, ahead=ahead)
    assert torch.equal(finish(decode(model, texts, tokens, plan, counting, adapter=adapter)), expected)
    assert max(drawn_places) > 1


def test_good_guesses_save_steps(model, adapters, config):
    """A greedy video that repeats itself is guessed: frames like the one before take few steps."""
    layout = keyframe_layout(config, 4)
    texts, tokens, steps = Texts(some_text(config, [4])), some_tokens(config, 1, 5), []

    def still(logits, places):
        steps.append(len(places))
        return tokens[:, 0, places % layout.tokens]

    plan = plan_for(layout, tuple(adapters["keyframes"].windows), ahead=8)
    video = finish(decode(model, texts, tokens, plan, still, adapter=adapters["keyframes"]))
    assert torch.equal(video, tokens[:, :1].expand(-1, 5, -1))
    assert len(steps) == 1 + -(-(4 * layout.tokens - 4) // 8)  # 4 at first, then 8 at once


def test_frames_come_as_they_are_finished(model, adapters, config):
    layout = keyframe_layout(config, 4)
    texts, tokens = Texts(some_text(config, [4])), some_tokens(config, 1, 5)
    pick = sampler(SamplingConfig(), [(7,)], layout, None)
    plan = plan_for(layout, tuple(adapters["keyframes"].windows))
    seen = list(decode(model, texts, tokens, plan, pick, adapter=adapters["keyframes"]))
    assert [part.shape[1] for part in seen] == [2, 3, 4, 5]
    assert all(torch.equal(part, seen[-1][:, : part.shape[1]]) for part in seen)
