"""From distances of several kinds to one score, in units that mean the same for every spot."""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from omib_spatial.stats.null import SlicePrior, conformal_pvalues, slice_pvalues
from omib_spatial.stats.settings import CalibrationSettings


class PartStatistics(NamedTuple):
    """Mean and standard deviation of distances, one per part of the evidence, (parts,) each."""

    location: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(cls, distances: np.ndarray) -> Self:
        """From the distances (n, parts) of spots that they were learned from."""
        columns = list(distances.T)
        return cls(np.array([c.mean() for c in columns]), np.array([c.std() for c in columns]) + 1e-12)

    def total(self, distances: np.ndarray) -> np.ndarray:
        """Sum over the parts of standardised distances, (n, parts) to (n,): each part counts the same."""
        return ((distances - self.location) / self.spread).sum(1)

    def log_ratio(self, total: np.ndarray, least: float) -> np.ndarray:
        """Logarithm of the sum of distances in units of their spread, 0 at its mean, from `total` (n,)."""
        return np.log(np.maximum(1 + total / (self.location / self.spread).sum(), least))


class LeftOutDonors(NamedTuple):
    """Healthy spots judged by distances that were learned without their donors.

    Attributes
    ----------
    distances
        (m, parts).
    codes
        Slices that they are on, (m,).
    """

    distances: np.ndarray
    codes: np.ndarray

    def slides(self, logs: np.ndarray, min_spots: int) -> np.ndarray:
        """Location and spread of ``logs`` (m,) on each slice with ``min_spots`` or more, (n_slides, 2)."""
        slices, sizes = np.unique(self.codes, return_counts=True)
        each = [logs[self.codes == code] for code in slices[sizes >= min_spots]]
        return np.array([(own.mean(), own.std()) for own in each]).reshape(-1, 2)


@dataclass(frozen=True)
class ScoreCalibration:
    """Turns the distances of a spot into a score, by comparison with held-out reference spots.

    Distances are one per part of the evidence: the fused code and each modality's summary, or the one-class distance
    alone. Each is standardised by the reference, so that a part counts the same whatever its number of dimensions.
    Their sum is standardised by held-out spots: 0 is typical of healthy tissue, 1 is one standard deviation above.

    Calls compare spots with others of their own slice, since whole slides differ by more than their spots do, and by
    factors: there the logarithm of the summed distances is used.

    Attributes
    ----------
    location, spread
        Mean and standard deviation of each part's distances in the reference, and last of the sum in held-out
        spots, (parts + 1,).
    calibration
        Scores of the held-out reference spots (m,), sorted.
    slides
        Location and spread of log distances of healthy slides by distances that were learned without them,
        (n_slides, 2).
    """

    location: np.ndarray
    spread: np.ndarray
    calibration: np.ndarray
    slides: np.ndarray

    @classmethod
    def fit(
        cls,
        own: PartStatistics,
        twin: PartStatistics,
        held_out: np.ndarray,
        donors: LeftOutDonors,
        settings: CalibrationSettings,
    ) -> Self:
        """Learn the scale of the score, by cross-fitting.

        Parameters
        ----------
        own
            Of the reference, by the model that learned from all of it.
        twin
            Of the spots that a second model learned from.
        held_out
            Distances (m, parts) of the other reference spots by that second model.
        donors
            Say how much slides differ as wholes; if there are none, the held-out spots stand for one slide.
        settings
            Of the calibration.
        """
        total = twin.total(held_out)
        location = np.append(own.location, total.mean())
        spread = np.append(own.spread, total.std() + 1e-12)
        least = settings.min_relative_distance
        slides = donors.slides(own.log_ratio(own.total(donors.distances), least), settings.min_spots)
        if len(slides) == 0:
            logs = twin.log_ratio(total, least)
            slides = np.array([[logs.mean(), logs.std()]])
        return cls(location, spread, np.sort((total - location[-1]) / spread[-1]), slides)

    @property
    def parts(self) -> PartStatistics:
        """Mean and standard deviation of each part's distances in the reference."""
        return PartStatistics(self.location[:-1], self.spread[:-1])

    def score(self, distances: np.ndarray) -> np.ndarray:
        """(n, parts) to (n,), higher is more anomalous."""
        return (self.parts.total(distances) - self.location[-1]) / self.spread[-1]

    def log_distance(self, score: np.ndarray, least: float) -> np.ndarray:
        """Logarithm of the summed distances that make ``score`` (n,), 0 where they are the reference's mean."""
        return self.parts.log_ratio(score * self.spread[-1] + self.location[-1], least)

    def pvalue(self, score: np.ndarray) -> np.ndarray:
        """Conformal p-value of each score."""
        return conformal_pvalues(score, self.calibration)

    def slice_pvalue(
        self, score: np.ndarray, codes: np.ndarray, share: np.ndarray, settings: CalibrationSettings
    ) -> np.ndarray:
        """p-value of each score under the null of its slice.

        Parameters
        ----------
        score, codes
            Score and slice of each spot, (n,).
        share
            Independent spots that each spot is worth, (n,).
        settings
            Of the calibration.
        """
        logs = self.log_distance(score, settings.min_relative_distance)
        return slice_pvalues(logs, codes, share, SlicePrior.fit(self.slides, settings), settings)
