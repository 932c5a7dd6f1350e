"""expect_shape names what is wrong."""

import pytest
import torch

from cogstyle.axes import expect_shape
from cogstyle.errors import LayoutError


def test_expect_shape():
    x = torch.zeros(2, 3)
    assert expect_shape(x, "x_BD", None, 3) is x
    with pytest.raises(LayoutError, match=r"x_BD has shape \(2, 3\), expected \(\*, 4\)"):
        expect_shape(x, "x_BD", None, 4)
    with pytest.raises(LayoutError):
        expect_shape(x, "x_BD", 2, 3, 1)
