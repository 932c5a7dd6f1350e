"""Packed linear layers."""

import pytest
import torch
from torch import nn

from cogstyle.config import DTYPES
from cogstyle.errors import ConfigError
from cogstyle.model.packed import PackedLinear, linear_gelu, pack, packs

torch.manual_seed(0)
WEIGHT, BIAS = torch.randn(24, 16) * 0.1, torch.randn(24)


ERRORS = {"int8": 0.02, "float16": 1e-3, "bfloat16": 0.01, "float32": 1e-6}
KINDS = [kind for kind in DTYPES if packs(kind)]


@pytest.mark.parametrize("rows", [1, 2, 5, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_weights_are_close(kind, rows):
    x = torch.randn(2, rows, 16)
    expected = x @ WEIGHT.T
    x = x.bfloat16() if kind == "bfloat16" else x
    y = PackedLinear(WEIGHT, None, kind=kind)(x).float()
    assert y.shape == expected.shape and (y - expected).norm() < ERRORS[kind] * expected.norm()
    with_bias = PackedLinear(WEIGHT, BIAS, kind=kind)(x).float()
    assert (with_bias - y - BIAS).norm() < ERRORS[kind] * with_bias.norm()


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_gelu_in_the_same_kernel(kind):
    layer = nn.Linear(16, 24) if kind is None else PackedLinear(WEIGHT, BIAS, kind=kind)
    x = torch.randn(2, 3, 16, dtype=torch.bfloat16 if kind == "bfloat16" else torch.float32)
    expected = nn.functional.gelu(layer(x), approximate="tanh")
    assert torch.allclose(linear_gelu(layer, x), expected, atol=0.02 if kind == "bfloat16" else 1e-6)


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


def test_weights_that_do_not_fit_are_refused(model):
    tensors = dict(model.state_dict())
    tensors["layers.1.up.weight"] = tensors["layers.1.up.weight"][:-1]
    with pytest.raises(RuntimeError, match=r"layers\.1\.up is \(\d+, \d+\), must be"):
        pack(type(model)(model.config), tensors, kind="float32")


def test_unknown_kinds():
    with pytest.raises(ConfigError, match="kind 'int4' must be one of float32, bfloat16, float16, int8"):
        PackedLinear(WEIGHT, None, kind="int4")


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
def test_kernels_that_are_not_there(monkeypatch, kind):
    monkeypatch.setattr("cogstyle.model.packed.packs", lambda kind: False)
    with pytest.raises(ConfigError, match=f"{kind} weights need packed kernels"):
        PackedLinear(WEIGHT, None, kind=kind)
