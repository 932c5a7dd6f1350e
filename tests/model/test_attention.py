"""Attention in bfloat16 on a CPU, which goes by a way of its own."""

import torch

from cogstyle.model.attention import attend, hidden


def test_bfloat16_attends_as_float32_does():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, rows, 16, requires_grad=True) for rows in (6, 8, 8))
    bias = hidden(torch.ones(6, 8, dtype=torch.bool).tril(2)).expand(2, 1, -1, -1)
    halves = [x.detach().bfloat16().requires_grad_() for x in (q, k, v)]
    exact, rounded = attend(q, k, v, bias), attend(*halves, bias)
    assert rounded.dtype is torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=0.03)
    exact.square().sum().backward()
    rounded.square().sum().backward()
    for x, half in zip((q, k, v), halves, strict=True):
        torch.testing.assert_close(half.grad.float(), x.grad, rtol=0.05, atol=0.1)
    last = attend(q, k, v.index_fill(2, torch.tensor([7]), 100.0), bias)
    assert torch.equal(exact[:, :, :5], last[:, :, :5])  # key 7 is hidden from all but the last row
    assert torch.equal(
        attend(*halves, bias)[:, :, :5],
        attend(*halves[:2], halves[2].index_fill(2, torch.tensor([7]), 100.0), bias)[:, :, :5],
    )
