"""Linear layers for few rows, and packed ones."""

import pytest
import torch
from torch import nn

from cogstyle.errors import ConfigError
from cogstyle.model.linear import Linear, PackedLinear, head, pack

torch.manual_seed(0)
WEIGHT, BIAS = torch.randn(24, 16) * 0.1, torch.randn(24)


@pytest.mark.parametrize("shape", [(1, 1, 16), (2, 1, 16), (2, 3, 16), (8, 1, 16), (3, 5, 16)])
@pytest.mark.parametrize("grad", [False, True])
def test_few_rows_give_the_same(shape, grad):
    layer = Linear(16, 24)
    x = torch.randn(shape)
    with torch.set_grad_enabled(grad):
        y, expected = layer(x), nn.functional.linear(x, layer.weight, layer.bias)
    assert y.shape == expected.shape and y.requires_grad == grad
    assert torch.allclose(y, expected, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(head(x, layer.weight), expected - layer.bias, atol=1e-6)


@pytest.mark.parametrize(("kind", "error"), [("int8", 0.02), ("float16", 1e-3)])
def test_packed_weights_are_close(kind, error):
    x = torch.randn(2, 3, 16)
    expected = x @ WEIGHT.T
    y = PackedLinear(WEIGHT, None, kind=kind)(x)
    assert y.shape == expected.shape and (y - expected).norm() < error * expected.norm()
    assert torch.allclose(PackedLinear(WEIGHT, BIAS, kind=kind)(x), y + BIAS, atol=1e-5)


def test_a_row_in_8_bits_does_not_depend_on_the_others():
    layer = PackedLinear(WEIGHT, BIAS, kind="int8")
    x = torch.randn(4, 16) * torch.tensor([1e-3, 1.0, 50.0, 0.0])[:, None]
    together = layer(x)
    assert all(torch.equal(together[n : n + 1], layer(x[n : n + 1])) for n in range(4))
    assert torch.equal(together[3], BIAS)


def test_no_product_of_8_bits_overflows():
    """The largest values of both sides at once, where 16-bit sums of two full 8-bit products would."""
    weight = torch.full((8, 64), 1.0)
    assert torch.allclose(PackedLinear(weight, None, kind="int8")(torch.full((1, 64), -3.0)), torch.tensor(-192.0))


def test_pack_takes_every_matrix(model):
    tensors = dict(model.state_dict())
    with torch.device("meta"):
        empty = type(model)(model.config)
    pack(empty, tensors, kind="int8")
    kinds = {name.rsplit(".", 1)[-1] for name, part in empty.named_modules() if isinstance(part, PackedLinear)}
    assert kinds == {"qkv", "dense", "up", "down"}
    assert not any(isinstance(part, nn.Linear) for part in empty.modules())
    assert set(tensors) == {name for name in model.state_dict() if "norm" in name or name.split(".")[0] in (
        "embed", "positions")}  # fmt: skip


def test_unknown_kinds():
    with pytest.raises(ConfigError, match="kind 'int4' must be one of int8, float16"):
        PackedLinear(WEIGHT, None, kind="int4")
