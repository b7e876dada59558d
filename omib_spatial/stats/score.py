"""From distances of several kinds to one score, in units that mean the same for every spot and slide."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from omib_spatial.stats.null import SlicePrior, conformal_pvalues
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.stats.slide_test import spread, spread_pvalue
from omib_spatial.stats.two_groups import TwoGroups


class PartStatistics(NamedTuple):
    """Mean and standard deviation of distances, one per part of the evidence, (parts,) each."""

    location: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(cls, distances: np.ndarray) -> Self:
        """From the distances (n, parts) of spots that they were learned from."""
        columns = list(distances.T)
        return cls(np.array([c.mean() for c in columns]), np.array([c.std() for c in columns]) + 1e-12)

    def log_distance(self, distances: np.ndarray, least: float) -> np.ndarray:
        """Logarithm of the sum of distances, each in units of its spread, (n, parts) to (n,); 0 at the mean."""
        total = ((distances - self.location) / self.spread).sum(1)
        return np.log(np.maximum(1 + total / (self.location / self.spread).sum(), least))


class LeftOutSpots(NamedTuple):
    """Healthy spots judged by distances that were learned without them.

    Attributes
    ----------
    distances
        (m, parts).
    codes
        Slices that they are on, (m,).
    worth
        Independent spots that each is worth, as distances are averages over neighbours, (m,).
    """

    distances: np.ndarray
    codes: np.ndarray
    worth: np.ndarray

    def slices(self, min_spots: int) -> list[np.ndarray]:
        """Rows of each slice with ``min_spots`` or more."""
        each = [np.flatnonzero(self.codes == code) for code in np.unique(self.codes)]
        return [rows for rows in each if len(rows) >= min_spots]


@dataclass(frozen=True)
class ScoreCalibration:
    """Turns the distances of a slide's spots into scores, by comparison with healthy slides.

    Distances are one per part of the evidence: the fused code and each modality's summary, or the one-class distance
    alone. Each is standardised by the reference, so that a part counts the same whatever its number of dimensions. The
    logarithm of their sum is taken, since whole slides differ by factors. What of it is the slide, and what its
    abnormal spots, `TwoGroups` tells; the score counts from the border between the two groups.

    Attributes
    ----------
    location, spread
        Mean and standard deviation of each part's distances in the reference, (parts,).
    calibration
        Scores of healthy spots of slides that were left out, sorted, (m,).
    slides
        Of each healthy slide, by distances that were learned without it: mean and standard deviation of its log
        distances, `slide_spread` of them and of the clonal part's (NaN if there is none), and independent spots that
        it is worth, (n_slides, 5).
    """

    location: np.ndarray
    spread: np.ndarray
    calibration: np.ndarray
    slides: np.ndarray

    @classmethod
    def fit(
        cls,
        own: PartStatistics,
        statistics: PartStatistics,
        spots: LeftOutSpots,
        slices: Sequence[np.ndarray],
        settings: CalibrationSettings,
        clonal: int | None = None,
    ) -> Self:
        """Learn what healthy slides show, by cross-fitting.

        Parameters
        ----------
        own
            Of the reference, by the model that learned from all of it.
        statistics
            Of the reference that the distances of ``spots`` were learned from.
        spots
            Healthy spots by distances that were learned without them: how much slides differ as wholes.
        slices
            Rows of ``spots`` that are one slide.
        settings
            Of the calibration.
        clonal
            Column of the part whose anomalies are clonal.
        """
        logs = statistics.log_distance(spots.distances, settings.min_relative_distance)
        slides = np.array(
            [
                (
                    logs[rows].mean(),
                    logs[rows].std(),
                    slide_spread(logs[rows], settings),
                    np.nan if clonal is None else slide_spread(log_of(spots.distances[rows, clonal]), settings),
                    spots.worth[rows].sum(),
                )
                for rows in slices
            ]
        )
        return cls(*own, healthy_scores([logs[rows] for rows in slices], slides, settings), slides)

    @property
    def parts(self) -> PartStatistics:
        """Mean and standard deviation of each part's distances in the reference."""
        return PartStatistics(self.location, self.spread)

    def log_distance(self, distances: np.ndarray, settings: CalibrationSettings) -> np.ndarray:
        """(n, parts) to (n,), 0 where distances are the reference's on average."""
        return self.parts.log_distance(distances, settings.min_relative_distance)

    def pvalue(self, score: np.ndarray) -> np.ndarray:
        """Conformal p-value of each score."""
        return conformal_pvalues(score, self.calibration)

    def spread_pvalue(self, logs: np.ndarray, n_independent: float, settings: CalibrationSettings) -> float:
        """P(the distances of a healthy slide spread at least as much as those of log distances ``logs`` (n,))."""
        return self._spread_pvalue(slide_spread(logs, settings), self.slides[:, 2], n_independent, settings)

    def clonal_pvalue(self, distances: np.ndarray, n_independent: float, settings: CalibrationSettings) -> float:
        """The same of the clonal part's ``distances`` (n,); NaN if healthy slides have none."""
        return self._spread_pvalue(
            slide_spread(log_of(distances), settings), self.slides[:, 3], n_independent, settings
        )

    def _spread_pvalue(
        self, found: float, slides: np.ndarray, n_independent: float, settings: CalibrationSettings
    ) -> float:
        return spread_pvalue(
            max(found, settings.min_log_spread),
            n_independent,
            np.maximum(slides, settings.min_log_spread),
            self.slides[:, 4],
            settings.between_slice_sd[1],
            settings.tail_power,
        )


def log_of(distances: np.ndarray) -> np.ndarray:
    """Logarithm of distances, 0 or more."""
    return np.log(distances + 1e-12)


def slide_spread(logs: np.ndarray, settings: CalibrationSettings) -> float:
    """How far a slide's spots reach above its level, from their log distances ``logs`` (n,).

    Of the distances themselves: where a donor lies far from the reference as a whole, logarithms leave little of what
    differs inside the slide. Models of before have the standard deviation of the logarithms.
    """
    power = settings.tail_power
    return spread(logs if power is None else np.exp(logs), power)


def healthy_scores(logs: list[np.ndarray], slides: np.ndarray, settings: CalibrationSettings) -> np.ndarray:
    """Scores of healthy slides' spots, sorted, each slide scored as one that the others know nothing of.

    Parameters
    ----------
    logs
        Log distances of each slide's spots.
    slides
        As of `ScoreCalibration`, (n_slides, 5).
    settings
        Of the calibration.
    """
    found = []
    for i, own in enumerate(logs):
        others = np.delete(slides, i, 0) if len(slides) > 1 else slides
        groups = TwoGroups.fit(own, slides[i, 4], SlicePrior.fit(others[:, :2], settings), settings)
        found.append(groups.score(own))
    return np.sort(np.concatenate(found))
