"""Sums that say what a score is made of: of parts exactly, of what parts are made of by integrated gradients.

All is relative to an origin, the mean of a slice's spots on the healthy side of its border. A function of several terms
is divided among them by integrated gradients (Sundararajan, Taly & Yan 2017) along the straight line from the origin;
of a function of their sum, such as the logarithm, that is each term's share of the sum.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from omib_spatial.stats.smooth import along_axes


def log_slope(values: np.ndarray, origin: float | np.ndarray) -> np.ndarray:
    """``(log(values) - log(origin)) / (values - origin)``, the mean slope of the logarithm between both, (n,)."""
    ratio = values / origin
    near = np.abs(ratio - 1) < 1e-6
    gap = np.where(near, 1.0, ratio - 1)
    return np.where(near, 1 - (ratio - 1) / 2, np.log(ratio) / gap) / origin


def mean_slope(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray, origin: float) -> np.ndarray:
    """``(f(values) - f(origin)) / (values - origin)``, (n,); near the origin the slope there."""
    least = 1e-6 * max(float(np.abs(values - origin).max()), 1e-300)
    step = values - origin
    step = np.where(np.abs(step) < least, least, step)
    return np.asarray((function(origin + step) - function(np.full(len(step), origin))) / step)


@dataclass(frozen=True)
class PartPooling:
    """How a part's distances of the spots of one slice become its pooled distances, as a linear map around its origin.

    Averages are linear. Along the axes of a clonal part, logarithms are averaged; there each logarithm is replaced by
    its mean slope between the origin and the value, so that the map still gives the pooled distances exactly.

    Attributes
    ----------
    step
        Averages over a spot and its neighbours, (n, n).
    hops
        How often.
    healthy
        Weights of the spots that make the origin, (n,), of sum 1.
    projection
        Orthonormal axes (n, k) on which logarithms are projected, the constant among them; None where the part is not
        clonal.
    around
        Distances averaged over neighbours, (n,).
    pooled
        What became of them, (n,).
    """

    step: sparse.csr_matrix
    hops: int
    healthy: np.ndarray
    projection: np.ndarray | None
    around: np.ndarray
    pooled: np.ndarray

    def adjoint(self, weights: np.ndarray) -> np.ndarray:
        """Weights of distances in the sums that ``weights`` (n, g) make of pooled distances less their origin.

        Returns
        -------
        (n, g): for distances d, ``weights.T @ (pooled - healthy @ pooled)`` is ``adjoint(weights).T @ d``.
        """
        weights = self._centred(weights)
        if self.projection is not None:
            origin = float(self.healthy @ self.around)
            weights = weights / log_slope(self.pooled, origin)[:, None]
            weights = self._back(self.projection @ (self.projection.T @ weights))
            weights = self._centred(weights * log_slope(self.around, origin)[:, None])
        return self._back(weights)

    def _back(self, weights: np.ndarray) -> np.ndarray:
        for _ in range(self.hops):
            weights = self.step.T @ weights
        return weights

    def _centred(self, weights: np.ndarray) -> np.ndarray:
        return weights - np.outer(self.healthy, weights.sum(0))


def leading_axes(features: np.ndarray, n_axes: int) -> np.ndarray:
    """Orthonormal basis (n, k) of what `omib_spatial.stats.smooth.project_on_axes` keeps of values of the same spots.

    Parameters
    ----------
    features
        (n, p).
    n_axes
        Axes; with no more spots than that, all is kept.
    """
    n = len(features)
    if n <= n_axes:
        return np.eye(n)
    left = np.linalg.svd(along_axes(features, n_axes), full_matrices=False)[0]
    return np.concatenate([np.full((n, 1), n**-0.5), left], 1)
