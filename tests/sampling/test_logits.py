"""Sampling filters against hand-made and counted distributions."""

import pytest
import torch

from cogstyle.config import SamplingConfig
from cogstyle.errors import ConfigError, SamplingError
from cogstyle.sampling.logits import apply_guidance, draw, draw_in_clusters, sample, top_k, top_p


def test_guide_is_linear():
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(apply_guidance(a, b, 1.0), a)
    torch.testing.assert_close(apply_guidance(a, b, 0.0), b)
    torch.testing.assert_close(apply_guidance(a, b, 3.0), b + 3 * (a - b))


def test_draw_inverts_the_cumulative():
    weights = torch.tensor([[0.0, 2.0, 0.0, 1.0, 1.0, 0.0]]).expand(5, -1)
    drawn = draw(weights, torch.tensor([0.0, 0.4999, 0.5, 0.7499, 0.9999999999]))
    assert drawn.tolist() == [1, 1, 3, 3, 4]


def test_top_k_and_top_p():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    assert top_k(logits, 2).isfinite().tolist() == [[True, True, False, False]]
    assert top_p(logits, 0.79).isfinite().tolist() == [[True, True, False, False]]
    assert top_p(logits, 0.81).isfinite().tolist() == [[True, True, True, False]]
    assert top_p(logits, 1e-6).isfinite().tolist() == [[True, False, False, False]]


@pytest.mark.parametrize("spread", [0.1, 1.0, 6.0])  # all ids share the mass, .., a few hold it
@pytest.mark.parametrize("p", [0.05, 0.9, 0.99])
def test_top_p_looks_no_further_than_it_must(p, spread):
    logits = spread * torch.randn(5, 300)
    ordered, places = logits.sort(-1, descending=True)
    shares = ordered.softmax(-1)
    keep = torch.zeros(5, 300, dtype=torch.bool).scatter(-1, places, shares.cumsum(-1) - shares < p)
    for among in (1, 7, 64, 300, 1000):
        assert torch.equal(top_p(logits, p, among=among).isfinite(), keep)
    assert torch.equal(top_p(logits, p)[keep], logits[keep])


def test_cluster_draw_has_the_right_distribution():
    torch.manual_seed(0)
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3])
    logits = torch.randn(8)
    p = logits.softmax(0)
    mass = torch.zeros(4).index_add_(0, labels, p)
    best = mass.topk(2).indices
    expected = torch.zeros(8)
    for cluster in best:
        members = labels == cluster
        inside = (logits[members] / 0.89).softmax(0)
        expected[members] = mass[cluster] / mass[best].sum() * inside
    n = 200_000
    drawn = draw_in_clusters(logits.expand(n, -1), torch.rand(n, 2), labels, clusters=2, inner=0.89)
    found = torch.bincount(drawn, minlength=8) / n
    torch.testing.assert_close(found, expected, rtol=0, atol=0.005)
    assert (found[expected == 0] == 0).all()


def test_temperature_and_argmax_limits():
    logits = torch.tensor([[0.0, 1.0, 0.5]])
    assert sample(logits, torch.tensor([[0.1, 0.99]]), SamplingConfig(top_k=1)).item() == 1
    cold = sample(logits.expand(100, -1), torch.rand(100, 2), SamplingConfig(temperature=1e-3))
    assert (cold == 1).all()


def test_top_k_keeps_k_of_equal_ones_the_first():
    logits = torch.tensor([[1.0, 3.0, 2.0, 3.0, 2.0, 2.0], [0.0] * 6])
    assert top_k(logits, 2).isfinite().nonzero().tolist() == [[0, 1], [0, 3], [1, 0], [1, 1]]
    assert top_k(logits, 4).isfinite().nonzero()[:4, 1].tolist() == [1, 2, 3, 4]
    assert top_k(logits, 99).isfinite().all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("options", [{}, {"top_k": 1}, {"top_k": 3}, {"top_p": 0.5}])
def test_logits_that_are_no_numbers_are_refused(value, options):
    logits = torch.randn(2, 9)
    logits[1, 4] = value
    with pytest.raises(SamplingError, match="1 of 18"):
        sample(logits, torch.rand(2, 2), SamplingConfig(**options))


def test_clusters_need_labels():
    with pytest.raises(ConfigError, match="clusters 2 need cluster labels"):
        sample(torch.randn(1, 9), torch.rand(1, 2), SamplingConfig(clusters=2))
