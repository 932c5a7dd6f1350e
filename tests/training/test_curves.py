"""Loss curves: one panel a figure, lines inside their frame."""

import numpy as np

from cogstyle.training.curves import HEIGHT, WIDTH, draw_curves


def test_one_panel_a_figure():
    rows = [{"step": k, "seconds": 1.0, "loss": 1.0 / (k + 1)} for k in range(10)]
    rows[-1]["validation_loss"] = 0.5
    picture = draw_curves(rows)
    assert picture.shape == (2 * HEIGHT, WIDTH, 3)
    line = picture[:HEIGHT, :, 0] > picture[:HEIGHT, :, 2].astype(int) + 60  # the red curve, antialiased
    assert line.sum() > 50
    first, last = (np.flatnonzero(line.any(0))[k] for k in (0, -1))
    assert line[:, first].argmax() < line[:, last].argmax()  # the loss falls to the right
