"""Muon: orthogonal updates for matrices, AdamW for the rest."""

import pytest
import torch
from torch import nn

from cogstyle.training.job import OptimConfig, make_optimizer
from cogstyle.training.optim import MOMENTUM, UPDATE_RMS, Muon, orthogonal
from tests.training.tiny import VideoJob


def test_singular_values_move_to_about_one():
    torch.manual_seed(0)
    for shape in ((3, 8, 8), (2, 6, 20), (2, 20, 6)):
        matrices = torch.randn(shape)
        found = torch.linalg.svd(orthogonal(matrices))
        before = torch.linalg.svd(matrices)
        assert found.S.min() > 0.5 and found.S.max() < 1.3
        rank = min(shape[1:])
        turned = (before.U[..., :rank].mT @ orthogonal(matrices) @ before.Vh[..., :rank, :].mT).diagonal(0, -2, -1)
        assert (turned > 0.5).all()  # the same singular vectors: only the values moved


def test_what_is_no_matrix_follows_adamw():
    torch.manual_seed(0)
    ours, theirs = nn.LayerNorm(5), nn.LayerNorm(5)
    adamw = torch.optim.AdamW(theirs.parameters(), lr=0.1, betas=(0.9, 0.95), weight_decay=0.0)
    muon = Muon(ours, ours.parameters(), lr=0.1)
    for _ in range(5):
        x = torch.randn(3, 5)
        for module, optimizer in ((ours, muon), (theirs, adamw)):
            optimizer.zero_grad()
            (module(x) ** 3).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_a_fused_projection_is_three_matrices():
    torch.manual_seed(0)
    layer = nn.Linear(4, 12, bias=False)
    before = layer.weight.detach().clone()
    muon = Muon(layer, layer.parameters(), lr=0.1, weight_decay=0.0)
    layer.weight.grad = torch.randn(12, 4)
    muon.step()
    ahead = layer.weight.grad * (1.0 - MOMENTUM**2)  # the first momentum, looked ahead
    expected = torch.cat([orthogonal(part) for part in ahead.chunk(3)]) * UPDATE_RMS * 4**0.5
    torch.testing.assert_close(before - layer.weight, 0.1 * expected)


def test_a_frozen_parameter_stays():
    layer = nn.Linear(4, 4)
    Muon(layer, layer.parameters(), lr=0.1).step()  # no gradient yet
    weight = layer.weight.detach().clone()
    muon = Muon(layer, [layer.bias], lr=0.1)
    layer(torch.ones(1, 4)).sum().backward()
    muon.step()
    assert torch.equal(layer.weight, weight)


def test_a_convolution_is_one_matrix():
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 6, 3, bias=False).to(memory_format=torch.channels_last)
    before = layer.weight.detach().clone()
    muon = Muon(layer, layer.parameters(), lr=0.1, weight_decay=0.0)
    layer.weight.grad = torch.randn(6, 2, 3, 3)
    muon.step()
    ahead = layer.weight.grad.flatten(1) * (1.0 - MOMENTUM**2)
    expected = orthogonal(ahead).view_as(before) * UPDATE_RMS * 18**0.5
    torch.testing.assert_close(before - layer.weight, 0.1 * expected)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_matrices_and_embeddings_decay_and_vectors_do_not(name):
    """A gradient of zero leaves the decay alone: gates, gains and biases stay to the bit."""
    job = VideoJob(whole=True)
    optimizer = make_optimizer(job, OptimConfig(steps=9, warmup=0, lr=0.1, optimizer=name, weight_decay=0.5))
    with torch.no_grad():
        for param in job.module.parameters():
            param.add_(1.0)
            param.grad = torch.zeros_like(param)
    before = {key: param.detach().clone() for key, param in job.module.named_parameters()}
    optimizer.step()
    for key, param in job.module.named_parameters():
        torch.testing.assert_close(param.detach(), before[key] * (1.0 if param.dim() == 1 else 0.95), msg=key)
    vectors = {key.rsplit(".", 1)[1] for key, param in job.module.named_parameters() if param.dim() == 1}
    assert vectors == {"gate", "weight", "bias"}  # of norms the weight
