"""Slow, obvious twins of the distances between sets of features, in float64 and by other formulas."""

import numpy as np


def frechet(x_ND: np.ndarray, y_MD: np.ndarray) -> float:
    """From the eigenvalues of the product of the covariances; they are real and not below 0 but for rounding."""
    means = [side.mean(0) for side in (x_ND, y_MD)]
    covariances = []
    for side, mean in zip((x_ND, y_MD), means, strict=True):
        cov = np.zeros((side.shape[1], side.shape[1]))
        for row in side:
            cov += np.outer(row - mean, row - mean) / (len(side) - 1)
        covariances.append(cov)
    eigenvalues = np.linalg.eigvals(covariances[0] @ covariances[1])
    root_trace = np.sqrt(np.maximum(eigenvalues.real, 0.0)).sum()
    apart = sum((a - b) ** 2 for a, b in zip(*means, strict=True))
    return float(apart + sum(np.trace(cov) for cov in covariances) - 2.0 * root_trace)


def squared_mmd(x_ND: np.ndarray, y_MD: np.ndarray) -> float:
    """Every pair by itself."""

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1.0) ** 3

    within = [
        np.mean([kernel(a, b) for i, a in enumerate(side) for j, b in enumerate(side) if i != j])
        for side in (x_ND, y_MD)
    ]
    return float(sum(within) - 2.0 * np.mean([kernel(a, b) for a in x_ND for b in y_MD]))


def mean_discrepancy(x_ND: np.ndarray, y_MD: np.ndarray) -> float:
    """Every pair by itself, a row with itself included."""

    def mean(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.mean([(sum(a * b) / len(a)) ** 2 for a in one for b in other]))

    return 100 * (mean(x_ND, x_ND) + mean(y_MD, y_MD) - 2 * mean(x_ND, y_MD))


def inception_score(shares_NC: np.ndarray) -> float:
    """exp of the entropy of the mean less the mean of the entropies."""

    def entropy(shares: np.ndarray) -> float:
        return -sum(p * np.log(p) for p in shares if p > 0)

    return float(np.exp(entropy(shares_NC.mean(0)) - np.mean([entropy(row) for row in shares_NC])))
