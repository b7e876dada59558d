"""How far a spot lies from the healthy reference, in units that mean the same for every spot."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from sklearn.covariance import LedoitWolf

from omib_spatial.tl._calibration import conformal_pvalues


@dataclass
class Surprise:
    """Turns what the network says of a spot into a score, by comparison with the reference.

    Gaussian distance ``sqrt((v - mean)^T precision (v - mean))`` over the columns that are known for these spots;
    where ``v`` is a distance already (one-class), it is used as it is. The score is that distance in standard
    deviations above the mean of the held-out reference spots, so that 0 is typical of healthy tissue whatever the
    number of columns.

    Attributes
    ----------
    columns
        Columns of the representation that are used (c,).
    mean, precision
        Of the reference, (c,) and (c, c); empty for a one-class distance.
    location, spread
        Mean and standard deviation of the held-out distances.
    calibration
        Scores of the held-out reference spots (m,).
    """

    columns: np.ndarray
    mean: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    precision: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    location: float = 0.0
    spread: float = 1.0
    calibration: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    @classmethod
    def fit(cls, training: np.ndarray, held_out: np.ndarray, *, gaussian: bool) -> "Surprise":
        """Learn from representations of reference spots.

        Parameters
        ----------
        training
            (n, p) spots that the network was trained on, for the Gaussian; NaN columns are left out.
        held_out
            (m, p) spots that it was not trained on, for location, spread and p-values.
        gaussian
            False where the representation is a one-class distance.
        """
        columns = np.flatnonzero(np.isfinite(training).all(0))
        new = cls(columns)
        if gaussian:
            # Columns of very different variance make the common shrinkage target meaningless.
            scale = training[:, columns].std(0) + 1e-6
            estimate = LedoitWolf().fit(training[:, columns] / scale)
            new.mean = training[:, columns].mean(0)
            new.precision = (estimate.precision_ / np.outer(scale, scale)).astype(np.float32)
        distance = new.distance(held_out)
        new.location, new.spread = float(distance.mean()), float(distance.std()) or 1.0
        new.calibration = new.score(held_out)
        return new

    def distance(self, representation: np.ndarray) -> np.ndarray:
        """(n, p) to (n,), not standardised."""
        values = representation[:, self.columns].astype(np.float64)
        if not len(self.mean):
            return values[:, 0]
        centred = values - self.mean
        return np.sqrt(np.einsum("ij,jk,ik->i", centred, self.precision, centred, optimize=True))

    def score(self, representation: np.ndarray) -> np.ndarray:
        """(n, p) to (n,), standard deviations above healthy."""
        return ((self.distance(representation) - self.location) / self.spread).astype(np.float32)

    def pvalue(self, score: np.ndarray) -> np.ndarray:
        """Conformal p-value of each score."""
        return conformal_pvalues(score, self.calibration)


def pattern_name(modalities: Sequence[str], present: np.ndarray) -> str:
    """Name of one combination of modalities, such as ``gene+image``."""
    return "+".join(name for name, here in zip(modalities, present, strict=True) if here)
