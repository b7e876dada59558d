"""Self-training: a split of spots in two teaches a classifier, whose scores are split again."""

from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LogisticRegression

ROUNDS = 5
"""Times that the classifier is taught."""


def self_train(
    values: np.ndarray, start: np.ndarray, odds: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Teach a classifier the outer halves of both sides of a split, let it score all spots, and repeat.

    Parameters
    ----------
    values
        What it sees of the spots, (n, p).
    start
        Score that the first split is made of, (n,).
    odds
        From values and two masks, of the high and of the low side, to a new score.

    Returns
    -------
    Score, (n,), with mean 0 and standard deviation 1.
    """
    score = standard(start)
    for _ in range(ROUNDS):
        cut = otsu(score)
        low = score <= np.median(score[score <= cut])
        high = score >= np.median(score[score > cut])
        score = standard(odds(values, high, low))
    return score


def gaussian_odds(values: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Log odds of two Gaussians, each with its own covariance: subclones spread where healthy tissue does not.

    Tails are drawn in by a signed logarithm: squares of a few far spots would decide the next split alone.
    """
    odds = log_density(values, high) - log_density(values, low)
    return np.sign(odds) * np.log1p(np.abs(odds))


def log_density(values: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Log density (n,) of the Gaussian of ``members`` (n,), its covariance shrunk to a sphere, more if they are few."""
    own, p = values[members], values.shape[1]
    covariance = np.atleast_2d(np.cov(own.T, bias=True))
    shrink = 0.1 if len(own) >= 4 * p else min(1.0, max(0.1, p / len(own)))
    sphere = (shrink * np.trace(covariance) / p + 1e-3) * np.eye(p)
    root = np.linalg.cholesky((1 - shrink) * covariance + sphere)
    return -0.5 * np.square(np.linalg.solve(root, (values - own.mean(0)).T)).sum(0) - np.log(np.diag(root)).sum()


def logistic_odds(values: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Log odds by ridge-penalised logistic regression."""
    some = high | low
    model = LogisticRegression(C=0.05, max_iter=300, class_weight="balanced").fit(values[some], high[some])
    return model.decision_function(values)


def otsu(values: np.ndarray) -> float:
    """Threshold (Otsu 1979) between two groups of ``values`` (n,) with the largest variance between groups.

    Exact: over all splits, not over the bins of a histogram.
    """
    ordered = np.sort(values)
    n = np.arange(1, len(ordered))
    total = np.cumsum(ordered)
    gap = total[:-1] / n - (total[-1] - total[:-1]) / (len(ordered) - n)
    best = int(np.argmax(n * (len(ordered) - n) * gap**2))
    return float((ordered[best] + ordered[best + 1]) / 2)


def standard(values: np.ndarray) -> np.ndarray:
    """Mean 0, standard deviation 1."""
    return (values - values.mean()) / (values.std() + 1e-9)
