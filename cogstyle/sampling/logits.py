"""From logits to tokens: pure functions, every random number handed in.

A draw inverts the cumulative distribution at uniforms that belong to (sample, place), so neither the
batch nor the order in which places are filled can change a token.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from cogstyle.config import SamplingConfig, require
from cogstyle.errors import SamplingError
from cogstyle.layout import FrameLayout


def apply_guidance(condition_BPV: Tensor, unconditional_BPV: Tensor, scale: float) -> Tensor:
    """unconditional + scale * (condition - unconditional)."""
    return unconditional_BPV + scale * (condition_BPV - unconditional_BPV)


def top_k(logits_BV: Tensor, k: int) -> Tensor:
    """Hide (-inf) all but the k best; of equal ones the first stay."""
    k = min(k, logits_BV.shape[-1])
    least_B1 = logits_BV.topk(k, -1).values[..., -1:]
    above_BV, equal_BV = logits_BV > least_B1, logits_BV == least_B1
    keep_BV = above_BV | (equal_BV & (equal_BV.cumsum(-1) <= k - above_BV.sum(-1, keepdim=True)))
    return logits_BV.masked_fill(~keep_BV, -torch.inf)


def top_p(logits_BV: Tensor, p: float, *, among: int | None = None) -> Tensor:
    """Hide (-inf) all but the fewest best that together hold a share p; the best one always stays.

    With `among` they are first looked for among so many best, which takes less than sorting all.
    """
    shares_BV = logits_BV.softmax(-1)
    among = shares_BV.shape[-1] if among is None else among
    best_BK = shares_BV.topk(min(among, shares_BV.shape[-1]), -1)
    keep_BK = best_BK.values.cumsum(-1) - best_BK.values < p
    if among < shares_BV.shape[-1] and bool(keep_BK[:, -1].any()):
        return top_p(logits_BV, p)
    keep_BV = torch.zeros_like(logits_BV, dtype=torch.bool).scatter_(-1, best_BK.indices, keep_BK)
    return logits_BV.masked_fill(~keep_BV, -torch.inf)


def draw(weights_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """Index [B] whose slice of the cumulative weights holds the uniform (0 <= u < 1)."""
    cumulative = weights_BV.double().cumsum(-1)
    total = cumulative[:, -1:]
    point = torch.minimum(uniforms_B.double()[:, None] * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, point, right=True).squeeze(-1)  # the first that exceeds it has weight


def cluster_weights(probabilities_BV: Tensor, labels_V: Tensor, clusters: int | None = None) -> Tensor:
    """Probability of every cluster, [B, clusters]; None: look how many there are."""
    clusters = int(labels_V.max()) + 1 if clusters is None else clusters
    return torch.zeros(
        len(probabilities_BV), clusters, dtype=probabilities_BV.dtype, device=labels_V.device
    ).index_add_(1, labels_V, probabilities_BV)


def best_clusters(
    logits_BV: Tensor, labels_V: Tensor, clusters: int, *, of: int | None = None
) -> tuple[Tensor, Tensor]:
    """Probabilities and numbers of the best `clusters` clusters (of so many), best first, [B, K] each."""
    weights_BC = cluster_weights(logits_BV.softmax(-1), labels_V, of)
    best = weights_BC.topk(min(clusters, weights_BC.shape[-1]), -1)
    return best.values, best.indices


def inside_cluster(logits_BV: Tensor, labels_V: Tensor, chosen_B: Tensor, inner: float) -> Tensor:
    """softmax(logits / inner) over the chosen cluster, [B, V]; 0 elsewhere."""
    inside_BV = logits_BV.masked_fill(labels_V != chosen_B[:, None], -torch.inf)
    return (inside_BV / inner).softmax(-1)


def draw_in_clusters(
    logits_BV: Tensor, uniforms_B2: Tensor, labels_V: Tensor, *, clusters: int, inner: float, of: int | None = None
) -> Tensor:
    """Draw one of the best `clusters` clusters (of so many), then a token inside it from softmax(logits / inner).

    Source: CogView2 / CogVideo sampling; `logits_BV` are tempered already.
    """
    weights_BK, numbers_BK = best_clusters(logits_BV, labels_V, clusters, of=of)
    rank_B = draw(weights_BK, uniforms_B2[:, 0])
    chosen_B = numbers_BK.gather(1, rank_B[:, None]).squeeze(1)
    return draw(inside_cluster(logits_BV, labels_V, chosen_B, inner), uniforms_B2[:, 1])


def sample(logits_BV: Tensor, uniforms_B2: Tensor, config: SamplingConfig, labels_V: Tensor | None = None) -> Tensor:
    """Tokens [B] from logits over the image ids.

    Args:
        uniforms_B2: two numbers in [0, 1) for each row: one for the cluster, one for the token.
        labels_V: cluster of every id; needed when `config.clusters` is set.

    Raises:
        SamplingError: if a logit is no finite number.
        ConfigError: for clusters without labels.
    """
    logits_BV = logits_BV.float() / config.temperature
    if not bool(logits_BV.sum().isfinite()):  # one number that is none makes the sum none
        raise SamplingError(f"logits are not finite ({int((~logits_BV.isfinite()).sum())} of {logits_BV.numel()})")
    among = None if logits_BV.is_cuda else 64  # a GPU would have to wait for the second look
    return choose(logits_BV, uniforms_B2, config, labels_V, among=among)


def choose(
    logits_BV: Tensor,
    uniforms_B2: Tensor,
    config: SamplingConfig,
    labels_V: Tensor | None = None,
    *,
    of: int | None = None,
    among: int | None = None,
) -> Tensor:
    """`sample` for logits that are tempered already and finite; with `of` and without `among` no number is looked at.

    Args:
        of: how many clusters there are; None: look.
        among: see `top_p`.
    """
    if config.clusters:
        require(labels_V is not None, f"clusters {config.clusters} need cluster labels; use top_k or top_p")
        assert labels_V is not None
        return draw_in_clusters(
            logits_BV, uniforms_B2, labels_V, clusters=config.clusters, inner=config.inner_temperature, of=of
        )
    if config.top_k == 1:
        return logits_BV.argmax(-1)
    if config.top_k:
        logits_BV = top_k(logits_BV, config.top_k)
    if config.top_p < 1.0:
        logits_BV = top_p(logits_BV, config.top_p, among=among)
    return draw(logits_BV.softmax(-1), uniforms_B2[:, 1])


Pick = Callable[[Tensor, Tensor], Tensor]  # logits [B, P, V] at image places [P] -> tokens [B, P]


class Sampler:
    """Draws as its config says; every place of every sample owns its random numbers."""

    def __init__(self, config: SamplingConfig, uniforms_BP2: Tensor, labels_V: Tensor | None) -> None:
        self.config, self.uniforms_BP2, self.labels_V = config, uniforms_BP2, labels_V
        self.clusters = int(labels_V.max()) + 1 if config.clusters and labels_V is not None else None

    def __call__(self, logits_BPV: Tensor, places_P: Tensor) -> Tensor:
        """Tokens [B, P] of all samples at the same places."""
        uniforms_R2 = self.uniforms_BP2[:, places_P].flatten(0, 1)
        return sample(logits_BPV.flatten(0, 1), uniforms_R2, self.config, self.labels_V).view(logits_BPV.shape[:2])

    def unchecked(self, logits_BPV: Tensor, places_P: Tensor) -> tuple[Tensor, Tensor]:
        """The same without a look at any number, so that no GPU is waited for; and bool []: are logits finite?"""
        logits_NV = logits_BPV.flatten(0, 1).float() / self.config.temperature
        uniforms_N2 = self.uniforms_BP2[:, places_P].flatten(0, 1)
        drawn_N = choose(logits_NV, uniforms_N2, self.config, self.labels_V, of=self.clusters)
        return drawn_N.view(logits_BPV.shape[:2]), logits_NV.sum().isfinite()

    def rows(self, logits_NV: Tensor, samples_N: Tensor, places_N: Tensor) -> Tensor:
        """Tokens [N], each of a sample and a place of its own."""
        return sample(logits_NV, self.uniforms_BP2[samples_N, places_N], self.config, self.labels_V)


def sampler(
    config: SamplingConfig,
    seeds: Sequence[tuple[int, ...]],
    layout: FrameLayout,
    labels_V: Tensor | None,
    *,
    device: torch.device | None = None,
) -> Sampler:
    """A sampler for all places of a layout.

    Args:
        seeds: names the random stream of each sample.
        labels_V: cluster of every image id, needed for cluster sampling.
    """
    places = layout.frames * layout.tokens
    uniforms = np.stack([np.random.default_rng(seed).random((places, 2)) for seed in seeds])
    return Sampler(config, torch.from_numpy(uniforms).to(device), labels_V)
