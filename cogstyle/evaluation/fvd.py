"""FVD, KVD, MMD and IS: distances between two sets of videos, and the sharpness of one, on an extractor's features.

Sources: FVD and KVD (arXiv 1812.01717), KVD's kernel (arXiv 1801.01401), MMD as JEDi takes it (arXiv 2410.05203), IS
(arXiv 1606.03498).
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from cogstyle.config import require
from cogstyle.errors import ConfigError
from cogstyle.evaluation.folders import Film, check_balance, find_videos
from cogstyle.files import read_tensors, write_tensors
from cogstyle.video.extractor import Extracted, Extractor

Progress = Callable[[Iterable[Film], int], Iterable[Film]]
SUBSETS, SUBSET = 50, 1000  # of KVD, and the most videos in one
SPLITS, SPLIT = 10, 100  # of IS, and the fewest videos in one
KIND = "cogstyle video statistics"


def frechet_distance(mean_D: ndarray, cov_DD: ndarray, other_mean_D: ndarray, other_cov_DD: ndarray) -> float:
    """Squared Frechet distance of two Gaussians: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    With C1 = A'A and C2 = B'B the last trace is the sum of the singular values of A B', which needs no root of
    a product that is not symmetric, and is exact for covariances without full rank.
    """
    roots = []
    for cov in (cov_DD, other_cov_DD):
        values, vectors = np.linalg.eigh(cov)
        roots.append(np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T)
    cross = float(np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum())
    apart = float(np.square(mean_D - other_mean_D).sum())
    return max(0.0, apart + float(np.trace(cov_DD) + np.trace(other_cov_DD)) - 2.0 * cross)


def squared_mmd(features_ND: ndarray, other_MD: ndarray) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x . y / D + 1)^3; it can be below 0."""
    sides = (features_ND, other_MD)
    within = 0.0
    for x in sides:
        kernel_NN = (x @ x.T / x.shape[1] + 1.0) ** 3
        within += (kernel_NN.sum() - np.trace(kernel_NN)) / (len(x) * (len(x) - 1))
    cross_NM = (features_ND @ other_MD.T / features_ND.shape[1] + 1.0) ** 3
    return float(within - 2.0 * cross_NM.mean())


def kernel_distance(features_ND: ndarray, other_MD: ndarray, *, seed: int = 0) -> dict[str, float]:
    """KVD: `squared_mmd` over subsets drawn without replacement.

    Returns:
        "mean" and "std" over the subsets, "subsets", and "size": videos in each, at most half of the smaller set
        (subsets that were the whole set would have no spread).
    """
    size = min(SUBSET, len(features_ND) // 2, len(other_MD) // 2)
    require(size >= 2, f"KVD needs 4 videos on each side, not {len(features_ND)} and {len(other_MD)}")
    rng = np.random.default_rng(seed)

    def some(side: ndarray) -> ndarray:
        return side[rng.choice(len(side), size, replace=False)]

    found = [squared_mmd(some(features_ND), some(other_MD)) for _ in range(SUBSETS)]
    return {"mean": float(np.mean(found)), "std": float(np.std(found)), "subsets": SUBSETS, "size": size}


def mean_discrepancy(features_ND: ndarray, other_MD: ndarray) -> float:
    """JEDi's distance, on whatever features: the biased squared MMD with the kernel (x . y / D)^2, times 100."""

    def kernel(x: ndarray, y: ndarray) -> float:
        return float(np.square(x @ y.T / x.shape[1]).mean())

    sides = (features_ND, other_MD)
    return 100.0 * (sum(kernel(side, side) for side in sides) - 2.0 * kernel(*sides))


def inception_score(shares_NC: ndarray, *, seed: int = 0) -> dict[str, float]:
    """exp of the mean divergence of the class shares of each video from those of all; 1 to the number of classes.

    Videos are shuffled first: in the order of folders, a split would hold few classes.

    Returns:
        "mean" and "std" over "splits": 10, or fewer so that each has 100 videos.
    """
    shares_NC = np.random.default_rng(seed).permutation(shares_NC)
    splits = max(1, min(SPLITS, len(shares_NC) // SPLIT))
    scores = []
    for part in np.array_split(shares_NC, splits):
        safe = np.maximum(part, 1e-16)
        divergence = (safe * (np.log(safe) - np.log(safe.mean(0)))).sum(1)
        scores.append(float(np.exp(divergence.mean())))
    return {"mean": float(np.mean(scores)), "std": float(np.std(scores)), "splits": splits}


@dataclass(frozen=True)
class Statistics:
    """What a set of videos is to FVD, KVD and IS, and how it was measured."""

    mean: ndarray  # float64 [D]
    cov: ndarray  # float64 [D, D]
    features: ndarray  # float32 [N, D], for KVD
    shares: ndarray | None  # float32 [N, classes], if the extractor has logits
    extractor: dict[str, Any]  # its settings; they hold its sha256
    source: dict[str, Any]  # what videos these were

    @property
    def count(self) -> int:
        return len(self.features)


def statistics(found: Extracted, extractor: Extractor, source: dict[str, Any]) -> Statistics:
    """Statistics of extracted features.

    Raises:
        ConfigError: for fewer than two videos.
    """
    require(len(found.features) > 1, f"{len(found.features)} video has no covariance; need 2 or more")
    return Statistics(
        found.features.mean(0),
        np.atleast_2d(np.cov(found.features, rowvar=False)),
        found.features.astype(np.float32),
        None if found.shares is None else found.shares.astype(np.float32),
        extractor.record(),
        source,
    )


def save_statistics(path: Path, stats: Statistics) -> None:
    """Write statistics as safetensors; extractor and source are its metadata."""
    arrays = {"mean": stats.mean, "cov": stats.cov, "features": stats.features}
    arrays |= {} if stats.shares is None else {"shares": stats.shares}
    meta = {"kind": KIND, "count": str(stats.count)}
    meta |= {"extractor": json.dumps(stats.extractor), "source": json.dumps(stats.source, ensure_ascii=False)}
    write_tensors(path, {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in arrays.items()}, meta)


def load_statistics(path: Path, extractor: Extractor) -> Statistics:
    """Read statistics.

    Raises:
        ConfigError: if they are none, or were made by another extractor or with other settings.
        BundleError: if the file is missing or damaged.
    """
    tensors, meta = read_tensors(path)
    require(meta.get("kind") == KIND, f"{path} holds no video statistics")
    ours = extractor.record()
    try:
        theirs, source = dict(json.loads(meta["extractor"])), dict(json.loads(meta["source"]))
        arrays = {name: tensors[name].numpy() for name in ("mean", "cov", "features")}
        shares = tensors["shares"].numpy() if "shares" in tensors else None
        n, d = arrays["features"].shape
        shapes = [(d,), (d, d), (n, d)] == [array.shape for array in arrays.values()]
        good = shapes and (shares is None or len(shares) == n) and all(np.isfinite(x).all() for x in arrays.values())
    except (KeyError, ValueError, TypeError, RecursionError):
        good = False
    require(good, f"{path} is damaged: its arrays or settings are not those of video statistics")
    for name in ours:
        if theirs.get(name) != ours[name]:
            raise ConfigError(f"{path} was made with {name} = {theirs.get(name)!r}, the extractor has {ours[name]!r}")
    return Statistics(arrays["mean"], arrays["cov"], arrays["features"], shares, ours, source)


def of_folder(folder: Path, extractor: Extractor, *, progress: Progress = lambda clips, of: clips) -> Statistics:
    """Statistics of all videos of a folder.

    Args:
        progress: passes clips through, given how many there are.

    Raises:
        MediaError: naming the video that cannot be read or is too short.
    """
    source = find_videos(folder)
    found = extractor(progress(source.clips(), len(source.files)))
    return statistics(found, extractor, source.record())


def compare(real: Statistics, fake: Statistics, *, any_balance: bool = False) -> dict[str, Any]:
    """FVD, KVD and MMD between two sets, IS of each (if the extractor has logits), and all that they depend on.

    Args:
        any_balance: accept sides whose classes differ.

    Raises:
        ConfigError: if the two were measured differently, or differ in the shares of their classes.
    """
    require(real.extractor == fake.extractor, "the two sets were measured by different extractors or settings")
    if not any_balance:
        check_balance(*({str(k): int(n) for k, n in s.source.get("classes", {}).items()} for s in (real, fake)))
    features = [side.features.astype(np.float64) for side in (real, fake)]
    return {
        "fvd": frechet_distance(real.mean, real.cov, fake.mean, fake.cov),
        "kvd": kernel_distance(*features),
        "mmd": mean_discrepancy(*features),
        "is": None if fake.shares is None else inception_score(fake.shares.astype(np.float64)),
        "is_of_real": None if real.shares is None else inception_score(real.shares.astype(np.float64)),
        "features": len(real.mean),
        "extractor": real.extractor,
        "any_balance": any_balance,
        "real": {"count": real.count, **real.source},
        "fake": {"count": fake.count, **fake.source},
        "notes": notes(real, fake),
    }


def notes(real: Statistics, fake: Statistics) -> list[str]:
    """What a reader must know before comparing these figures with others."""
    found = []
    for name, side in (("real", real), ("fake", fake)):
        if side.count < 2 * len(side.mean):
            found.append(
                f"{side.count} {name} videos for {len(side.mean)} features: FVD comes out too high, KVD does not"
            )
    for key in ("fps", "sizes", "codecs"):
        values: list[Mapping[str, int]] = [side.source.get(key, {}) for side in (real, fake)]
        if all(values) and set(values[0]) != set(values[1]):  # older statistics say no codecs
            found.append(f"{key} differ: real {sorted(values[0])}, fake {sorted(values[1])}")
    return found
