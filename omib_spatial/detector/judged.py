"""How the scores of one slice come about: its distances, their sum, its two groups, and the order of its spots."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from omib_spatial.detector.crossing import rings
from omib_spatial.detector.distances import (
    Combination,
    along_axes,
    average_parts,
    independent_spots,
    spot_distances,
)
from omib_spatial.detector.evidence import Evidence
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.objective import Part
from omib_spatial.detector.ordering import slide_order
from omib_spatial.modalities import Spots
from omib_spatial.slides import Tissue
from omib_spatial.stats.attribution import log_slope
from omib_spatial.stats.null import SlicePrior
from omib_spatial.stats.ordering import SlideOrder
from omib_spatial.stats.two_groups import TwoGroups


@dataclass(frozen=True)
class JudgedSlice:
    """Spots of one slice that were judged by the same modalities, and how their scores came about.

    Attributes
    ----------
    rows
        (n,).
    combination, parts
        Modalities, and parts of the evidence.
    hops
        Rings of neighbours that each part's distances are averaged over.
    found, around, pooled
        Distances of each spot, averaged over neighbours, and what is summed, (n, parts).
    unit
        What a distance counts in the sum, (parts,); at the reference's means the sum is 1.
    logs
        Logarithm of the sum, (n,), in the order that the slide shows.
    n_independent
        Independent spots that these are worth.
    order
        That the slide shows of its spots; None where they are as they are.
    clone_pvalue
        That the two sides of the slide differ by chance as a clone does; NaN where this was not asked.
    groups
        Healthy and abnormal spots of the slide. The score counts from the border between them.
    """

    rows: np.ndarray
    combination: Combination
    parts: list[Part]
    hops: list[int]
    found: np.ndarray
    around: np.ndarray
    pooled: np.ndarray
    unit: np.ndarray
    logs: np.ndarray
    n_independent: float
    order: SlideOrder | None
    clone_pvalue: float
    groups: TwoGroups

    @property
    def total(self) -> np.ndarray:
        """The sum whose logarithm is taken, (n,)."""
        return self.pooled @ self.unit

    @cached_property
    def score(self) -> np.ndarray:
        """Standard deviations of the slice's healthy spots beyond the border, (n,)."""
        return self.groups.score(self.logs)

    @cached_property
    def healthy(self) -> np.ndarray:
        """Weight of each spot in the origin, (n,): equal on the healthy side of the border, 0 beyond."""
        inner = self.score < 0
        healthy = inner if inner.any() else np.ones_like(inner)
        return healthy / healthy.sum()

    @property
    def origin(self) -> float:
        """Score at the origin: at the healthy side's mean of every part, and of what the slide itself shows."""
        return float(self._scores(np.log(self.healthy @ self.total), self.healthy @ self.odds))

    @property
    def odds(self) -> np.ndarray:
        """By which the slide itself puts its spots in order, (n,); 0 if it does not."""
        return np.zeros(len(self.rows)) if self.order is None else self.order.odds

    @property
    def per_unit(self) -> np.ndarray:
        """What one unit of the sum is worth in the score, (n,), on the way from the origin."""
        slope = log_slope(self.total, float(self.healthy @ self.total)) / self.groups.healthy_spread
        return slope if self.order is None else slope * self._rise / self.order.logs.std()

    @property
    def per_odds(self) -> np.ndarray:
        """What one unit of the slide's own odds is worth in the score, (n,), on the way from the origin."""
        if self.order is None:
            return np.zeros(len(self.rows))
        return self._rise / self.order.odds.std() / self.groups.healthy_spread

    def gap(self, total: np.ndarray, odds: np.ndarray) -> np.ndarray:
        """Scores (n,) beyond the origin if sums and odds were these, border, spread and order staying as they are."""
        origin = self._scores(np.log(self.healthy @ total), self.healthy @ odds)
        return self._scores(np.log(total), odds) - origin

    def _scores(self, logs: np.ndarray, odds: np.ndarray) -> np.ndarray:
        if self.order is not None:
            logs = self.order.at(self.order.key_of(logs, odds))
        return self.groups.score(logs)

    @property
    def _rise(self) -> np.ndarray:
        """What one unit of the order's key is worth in log distances, (n,), on the way from the origin."""
        if self.order is None:
            return np.ones(len(self.rows))
        origin = self.order.key_of(np.log(self.healthy @ self.total), self.healthy @ self.odds)
        return self.order.slope(float(origin))


def judged_slices(model: AnomalyModel, tissue: Tissue, spots: Spots, evidence: Evidence) -> Iterator[JudgedSlice]:
    """Every slice and combination of modalities that has a score.

    Parameters
    ----------
    model
        Fitted.
    tissue, spots, evidence
        All spots, prepared by it, and what its network says of them.
    """
    names, settings = np.array(list(model.modalities)), model.calibration
    scorable = np.flatnonzero(spots.present.any(1))
    for present in np.unique(spots.present[scorable], axis=0):
        combination = tuple(names[present].tolist())
        if combination not in model.scores:
            continue
        calibration, distances = model.scores[combination], model.distances[combination]
        rows = np.flatnonzero((spots.present == present).all(1))
        worth = independent_spots(settings, tissue, rows, distances, model.modalities)
        unit = 1 / calibration.spread / (calibration.location / calibration.spread).sum()
        prior = SlicePrior.fit(calibration.slides[:, :2], settings)
        hops = rings(distances, model.modalities, settings)
        for code in np.unique(tissue.codes[rows]):
            own = np.flatnonzero(tissue.codes[rows] == code)
            some, n_independent = rows[own], float(worth[own].sum())
            found = spot_distances(distances, evidence, spots, some)
            around = average_parts(found, tissue, some, hops)
            pooled = along_axes(around, distances, spots, tissue, some, modalities=model.modalities, settings=settings)
            logs = calibration.log_distance(pooled, settings)
            order, clone = slide_order(model, combination, logs, spots, some)
            logs = logs if order is None else order.ordered
            groups = TwoGroups.fit(logs, n_independent, prior, settings)
            yield JudgedSlice(
                rows=some,
                combination=combination,
                parts=list(distances),
                hops=hops,
                found=found,
                around=around,
                pooled=pooled,
                unit=unit,
                logs=logs,
                n_independent=n_independent,
                order=order,
                clone_pvalue=clone,
                groups=groups,
            )
