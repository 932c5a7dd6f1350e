"""Visibility by brute force over the rules, windows, and the preset layouts."""

import pytest
import torch

from cogstyle.config import MODELS
from cogstyle.errors import LayoutError
from cogstyle.layout import (
    FrameLayout,
    Role,
    Window,
    interpolation_layout,
    keyframe_layout,
    window_order,
    window_regions,
)

CONFIG = MODELS["debug"]
L = CONFIG.tokens


def test_keyframes_are_causal_in_sequence_order():
    visible = keyframe_layout(CONFIG, 3).temporal_visible()
    assert torch.equal(visible, torch.ones(5 * L, 5 * L).tril().bool())


def test_interpolation_by_the_rules():
    layout = interpolation_layout(CONFIG, 3)
    visible = layout.temporal_visible()
    assert layout.times == (0, 2, 4, 1, 3) and layout.known == 3
    for query in range(5 * L):
        for key in range(5 * L):
            tq, tk, jq, jk = layout.times[query // L], layout.times[key // L], query % L, key % L
            own = tq == tk and jk <= jq
            expected = tk % 2 == 0 or (tq % 2 == 1 and (own or tk < tq))
            assert visible[query, key] == expected, (tq, jq, tk, jk)


def test_spatial_is_causal_unless_given():
    spatial = interpolation_layout(CONFIG, 3).spatial_visible()
    assert spatial[:3].all()
    assert torch.equal(spatial[3], torch.ones(L, L).tril().bool())


@pytest.mark.parametrize(("size", "shift", "wraps"), [(10, 0, False), (10, 5, False), (10, 5, True), (5, 2, False)])
def test_window_regions_by_hand(size, shift, wraps):
    regions = window_regions((20, 20), Window(size, shift, wraps))
    for a in range(0, 400, 7):
        for b in range(400):
            (ra, ca), (rb, cb) = divmod(a, 20), divmod(b, 20)
            if wraps:
                same = all((x - shift) % 20 // size == (y - shift) % 20 // size for x, y in ((ra, rb), (ca, cb)))
            else:
                same = all((x + shift) // size == (y + shift) // size for x, y in ((ra, rb), (ca, cb)))
            assert (regions[a] == regions[b]) == same


@pytest.mark.parametrize("shift", [0, 5])
def test_regions_lie_inside_the_windows_of_the_order(shift):
    window = Window(10, shift)
    regions, order = window_regions((20, 20), window), window_order((20, 20), window)
    assert order.shape == (4, 100) and order.flatten().unique().numel() == 400
    for region in regions.unique():
        members = set((regions == region).nonzero().flatten().tolist())
        assert any(members <= set(row.tolist()) for row in order)


def test_positions_follow_time_not_memory():
    layout = interpolation_layout(CONFIG, 3)
    assert layout.image_positions().view(5, L)[:, 0].tolist() == [0, 2 * L, 4 * L, L, 3 * L]


def test_bad_layouts():
    with pytest.raises(LayoutError, match="distinct"):
        FrameLayout(3, (4, 4), (0, 0), (Role.PREFIX, Role.GENERATED))
    with pytest.raises(LayoutError, match="5 known keyframes, must be 1 to 4"):
        keyframe_layout(CONFIG, 3, known=5)
