"""Loss curves: one panel a figure, lines inside their frame."""

import numpy as np

from cogstyle.training.curves import ARM_COLOURS, HEIGHT, WIDTH, draw_arms, draw_curves


def test_one_panel_a_figure():
    rows = [{"step": k, "seconds": 1.0, "loss": 1.0 / (k + 1)} for k in range(10)]
    rows[-1]["validation_loss"] = 0.5
    picture = draw_curves(rows)
    assert picture.shape == (2 * HEIGHT, WIDTH, 3)
    line = picture[:HEIGHT, :, 0] > picture[:HEIGHT, :, 2].astype(int) + 60  # the red curve, antialiased
    assert line.sum() > 50
    first, last = (np.flatnonzero(line.any(0))[k] for k in (0, -1))
    assert line[:, first].argmax() < line[:, last].argmax()  # the loss falls to the right


def test_frames_share_a_panel_and_words_have_none():
    rows = [
        {"step": k, "loss_rate_2": 1.0 - k, "loss_rate_0.5": 2.0 - k, "skipped": "the loss is nan"} for k in range(3)
    ]
    picture = draw_curves(rows)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    red, blue = (picture[..., k].astype(int) - picture[..., 2 - k] > 60 for k in (0, 2))
    assert red.sum() > 50 and blue.sum() > 50


def test_arms_share_a_panel_and_each_has_its_colour():
    low, high = [(0, 1.0), (4, 0.5)], [(0, 2.0), (2, 1.5)]
    one, both = draw_arms("loss", {"a": [low, high]}), draw_arms("loss", {"a": [low], "b": [high]})
    assert one.shape == both.shape == (HEIGHT, WIDTH, 3)

    def colours(picture):
        return {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}

    first, second = (tuple(map(int, colour)) for colour in ARM_COLOURS[:2])
    assert first in colours(one) and second not in colours(one)
    assert {first, second} <= colours(both)
