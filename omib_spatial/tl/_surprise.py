"""How far a spot lies from the healthy reference, in units that mean the same for every spot."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.covariance import LedoitWolf

from omib_spatial.tl._calibration import conformal_pvalues


@dataclass(frozen=True)
class Distance:
    """Mahalanobis distance from the reference, shrunk after Ledoit & Wolf (2004).

    Attributes
    ----------
    mean, precision
        Of the reference, (p,) and (p, p).
    """

    mean: np.ndarray
    precision: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> Self:
        """Learn from ``values`` (n, p) of reference spots."""
        # Shrinkage is towards a multiple of the identity, which needs columns of one scale.
        scale = values.std(0) + 1e-6
        precision = LedoitWolf().fit(values / scale).precision_ / np.outer(scale, scale)
        return cls(values.mean(0), precision.astype(np.float32))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(n, p) to (n,)."""
        centred = values.astype(np.float64) - self.mean
        return np.sqrt(np.einsum("ij,jk,ik->i", centred, self.precision, centred, optimize=True))


@dataclass(frozen=True)
class Surprise:
    """Turns the evidence on a spot into a score, by comparison with held-out reference spots.

    Evidence is one distance per part (the code, each modality's residual; or the one-class distance alone). Each is
    standardised by the held-out reference, so that a part counts the same whatever its number of dimensions, and
    their sum is standardised again: 0 is typical of healthy tissue, 1 is one standard deviation above.

    Attributes
    ----------
    location, spread
        Mean and standard deviation of each part's held-out distances, and last of their sum, (parts + 1,).
    calibration
        Scores of the held-out reference spots (m,), sorted.
    """

    location: np.ndarray
    spread: np.ndarray
    calibration: np.ndarray

    @classmethod
    def fit(cls, held_out: np.ndarray) -> Self:
        """Learn from the distances (m, parts) of reference spots that the network was not trained on."""
        location, spread = held_out.mean(0), held_out.std(0) + 1e-12
        total = ((held_out - location) / spread).sum(1)
        location, spread = np.append(location, total.mean()), np.append(spread, total.std() + 1e-12)
        return cls(location, spread, np.sort((total - location[-1]) / spread[-1]))

    def score(self, distances: np.ndarray) -> np.ndarray:
        """(n, parts) to (n,), higher is more anomalous."""
        total = ((distances - self.location[:-1]) / self.spread[:-1]).sum(1)
        return (total - self.location[-1]) / self.spread[-1]

    def pvalue(self, score: np.ndarray) -> np.ndarray:
        """Conformal p-value of each score."""
        return conformal_pvalues(score, self.calibration)


def pattern_name(modalities: Sequence[str], present: np.ndarray) -> str:
    """Name of one combination of modalities, such as ``gene+image``."""
    return "+".join(name for name, here in zip(modalities, present, strict=True) if here)
