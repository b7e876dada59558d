"""Self-training: a split of spots in two teaches a classifier, whose scores are split again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from sklearn.linear_model import LogisticRegression

ROUNDS = 5
"""Times that the classifier is taught."""


class Odds(Protocol):
    """A classifier that was taught two sides."""

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Log odds of the high side, (n, p) to (n,)."""

    def slopes(self, values: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """Mean slopes of the log odds from ``origin`` (p,) to each of ``values``, (n, p).

        Times ``values - origin`` and summed they are what the log odds differ by. They are integrated gradients
        (Sundararajan, Taly & Yan 2017) of the log odds, or of a function of p values of which these are a function of
        one.
        """


Teach = Callable[[np.ndarray, np.ndarray, np.ndarray], Odds]
"""From values (n, p) and two masks (n,), of the high and of the low side, to a classifier."""


def self_train(values: np.ndarray, start: np.ndarray, teach: Teach) -> Odds:
    """Teach a classifier the outer halves of both sides of a split, let it score all spots, and repeat.

    Parameters
    ----------
    values
        What it sees of the spots, (n, p).
    start
        Score that the first split is made of, (n,).
    teach
        Makes the classifier.

    Returns
    -------
    The last classifier.
    """
    score = standard(start)
    for _ in range(ROUNDS):
        cut = otsu(score)
        low = score <= np.median(score[score <= cut])
        high = score >= np.median(score[score > cut])
        odds = teach(values, high, low)
        score = standard(odds(values))
    return odds


@dataclass(frozen=True)
class Gaussian:
    """Normal distribution of some spots' values.

    Attributes
    ----------
    mean
        (p,).
    root
        Cholesky factor of the covariance, (p, p).
    """

    mean: np.ndarray
    root: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> Self:
        """Of ``values`` (n, p), its covariance shrunk to a sphere, more if they are few."""
        n, p = values.shape
        covariance = np.atleast_2d(np.cov(values.T, bias=True))
        shrink = 0.1 if n >= 4 * p else min(1.0, max(0.1, p / n))
        sphere = (shrink * np.trace(covariance) / p + 1e-3) * np.eye(p)
        return cls(values.mean(0), np.linalg.cholesky((1 - shrink) * covariance + sphere))

    def log_density(self, values: np.ndarray) -> np.ndarray:
        """(n, p) to (n,), up to a constant of p."""
        white = np.linalg.solve(self.root, (values - self.mean).T)
        return -0.5 * np.square(white).sum(0) - np.log(np.diag(self.root)).sum()

    def gradient(self, values: np.ndarray) -> np.ndarray:
        """Of the log density, (n, p)."""
        return -np.linalg.solve(self.root @ self.root.T, (values - self.mean).T).T


@dataclass(frozen=True)
class GaussianOdds:
    """Log odds of two Gaussians, each with its own covariance: subclones spread where healthy tissue does not.

    Tails are drawn in by a signed logarithm: squares of a few far spots would decide the next split alone.
    """

    high: Gaussian
    low: Gaussian

    @classmethod
    def teach(cls, values: np.ndarray, high: np.ndarray, low: np.ndarray) -> Self:
        """Learn both sides of ``values`` (n, p)."""
        return cls(Gaussian.fit(values[high]), Gaussian.fit(values[low]))

    def plain(self, values: np.ndarray) -> np.ndarray:
        """Log odds with their tails, (n,)."""
        return self.high.log_density(values) - self.low.log_density(values)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """As `Odds`."""
        odds = self.plain(values)
        return np.sign(odds) * np.log1p(np.abs(odds))

    def slopes(self, values: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """As `Odds`: the mean gradient of a quadratic is that half-way, times the logarithm's own mean slope."""
        middle = (values + origin) / 2
        gradient = self.high.gradient(middle) - self.low.gradient(middle)
        gap, near = self.plain(values) - self.plain(origin[None]), 1 / (1 + np.abs(self.plain(values)))
        even = np.abs(gap) < 1e-9
        bent = np.where(even, near, (self(values) - self(origin[None])) / np.where(even, 1, gap))
        return bent[:, None] * gradient


@dataclass(frozen=True)
class LogisticOdds:
    """Log odds by ridge-penalised logistic regression."""

    coefficient: np.ndarray
    intercept: float

    @classmethod
    def teach(cls, values: np.ndarray, high: np.ndarray, low: np.ndarray) -> Self:
        """Learn both sides of ``values`` (n, p), which weigh alike."""
        some = high | low
        model = LogisticRegression(C=0.05, solver="newton-cholesky", class_weight="balanced")
        model.fit(values[some], high[some])
        return cls(model.coef_[0], float(model.intercept_[0]))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """As `Odds`."""
        return values @ self.coefficient + self.intercept

    def slopes(self, values: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """As `Odds`: the same everywhere."""
        return np.broadcast_to(self.coefficient, values.shape)


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
