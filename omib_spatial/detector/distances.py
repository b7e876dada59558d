"""Distances of spots from the healthy reference, part by part of the evidence."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Self

import numpy as np

from omib_spatial.detector.crossing import crossed_parts, find_crossings, part_noise, part_values, rings
from omib_spatial.detector.evidence import Evidence, TrainedNetwork
from omib_spatial.detector.objective import FUSED, Given, Objective, Part
from omib_spatial.modalities import Modality, Prepared, Spots, Summary
from omib_spatial.slides import Tissue
from omib_spatial.stats.distance import Distance
from omib_spatial.stats.score import LeftOutSpots
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.stats.smooth import average_around, independent_share, project_on_axes

Combination = tuple[str, ...]
"""Modalities that a spot has, in the network's order."""


def all_combinations(names: Sequence[str]) -> Iterator[Combination]:
    """Every combination of one or more modalities, those of one first."""
    for size in range(1, len(names) + 1):
        yield from combinations(names, size)


def learn_distances(
    objective: Objective, evidence: Evidence, spots: Spots, rows: np.ndarray, ready: Mapping[Part, Distance]
) -> dict[Part, Distance]:
    """Distances of the parts that all of the reference spots ``rows`` have.

    Parameters
    ----------
    objective
        Says what a distance is.
    evidence, spots
        Of all spots.
    rows
        Reference spots to learn from, (m,).
    ready
        Distances by modality that are learned already, from spots with that modality alone, and are kept.
    """
    known = {part: values[rows] for part, values in evidence.parts.items() if np.isfinite(values[rows]).all()}
    return {
        part: ready[part] if part in ready else objective.distance(part, values, part_noise(spots, part)[rows])
        for part, values in known.items()
    }


def measure_distances(
    distances: Mapping[Part, Distance],
    evidence: Evidence,
    spots: Spots,
    tissue: Tissue,
    rows: np.ndarray,
    *,
    modalities: Mapping[str, Modality],
    settings: CalibrationSettings,
) -> np.ndarray:
    """Distances of some spots with the same combination of modalities, averaged over neighbours.

    Of a modality whose anomalies are clonal, what follows the leading axes of each slice.

    Parameters
    ----------
    distances
        By part.
    evidence, spots, tissue
        Of all spots.
    rows
        Spots to judge, (n,).
    modalities
        Say which of them are clonal.
    settings
        Say how many rings of neighbours to average over.

    Returns
    -------
    (n, parts), in the order of ``distances``.
    """
    found = spot_distances(distances, evidence, spots, rows)
    around = average_parts(found, tissue, rows, rings(distances, modalities, settings))
    return along_axes(around, distances, spots, tissue, rows, modalities=modalities, settings=settings)


def spot_distances(
    distances: Mapping[Part, Distance], evidence: Evidence, spots: Spots, rows: np.ndarray
) -> np.ndarray:
    """Distances (n, parts) of each of ``rows`` by itself, in the order of ``distances``.

    Parameters
    ----------
    distances, evidence, spots, rows
        As in `measure_distances`.
    """
    noise = {part: part_noise(spots, part) for part in distances}
    # In pieces that a core keeps at hand: a distance is taken in float64, step by step.
    pieces = np.array_split(rows, len(rows) // 2**11 + 1)
    found = [
        np.stack([d(part_values(evidence, part, some), noise[part][some]) for part, d in distances.items()], 1)
        for some in pieces
    ]
    return np.concatenate(found)


def along_axes(
    around: np.ndarray,
    distances: Collection[Part],
    spots: Spots,
    tissue: Tissue,
    rows: np.ndarray,
    *,
    modalities: Mapping[str, Modality],
    settings: CalibrationSettings,
) -> np.ndarray:
    """Averaged distances ``around`` (n, parts); of a clonal modality, what follows the leading axes of each slice.

    Parameters
    ----------
    around
        As `average_parts` gives them.
    distances
        Their parts.
    spots, tissue, rows, modalities, settings
        As in `measure_distances`.
    """
    pooled = around.copy()
    for column, part in enumerate(distances):
        if isinstance(part, str) and (n_axes := modalities[part].clonal_axes):
            prepared = spots.prepared[part]
            pooled[:, column] = np.exp(
                smooth_logs(around[:, column], prepared, tissue, rows, n_axes=n_axes, hops=settings.pooling_hops)
            )
    return pooled


def average_parts(found: np.ndarray, tissue: Tissue, rows: np.ndarray, hops: Sequence[int]) -> np.ndarray:
    """Distances ``found`` (n, parts) of the spots ``rows``, each part's averaged over its own rings of neighbours."""
    around = found.copy()
    for n in set(hops) - {0}:
        columns = np.array(hops) == n
        around[:, columns] = average_around(found[:, columns], tissue.graph, rows, n)
    return around


def smooth_logs(
    distance: np.ndarray, prepared: Prepared, tissue: Tissue, rows: np.ndarray, *, n_axes: int, hops: int
) -> np.ndarray:
    """Logarithm of a modality's distances averaged once more; with axes, what follows those of each slice.

    Parameters
    ----------
    distance
        Of the spots ``rows``, averaged over their neighbours, (n,).
    prepared
        Of the modality, for its features.
    tissue
        Has the graph and the slices of all spots.
    rows
        (n,).
    n_axes
        The modality's ``clonal_axes``.
    hops
        Rings of neighbours to average over.
    """
    codes = tissue.codes[rows]
    logs = average_around(np.log(distance + 1e-12), tissue.graph, rows, hops)
    for code in np.unique(codes) if n_axes else ():
        own = codes == code
        logs[own] = project_on_axes(logs[own], prepared.features(rows[own]), n_axes)
    return logs


@dataclass(frozen=True)
class CombinationEvidence:
    """Evidence on the spots that have one combination of modalities, as if they had no others."""

    combination: Combination
    trained: TrainedNetwork
    evidence: Evidence
    spots: Spots
    tissue: Tissue
    settings: CalibrationSettings
    there: np.ndarray

    @classmethod
    def of(
        cls,
        combination: Combination,
        trained: TrainedNetwork,
        spots: Spots,
        tissue: Tissue,
        settings: CalibrationSettings,
        device: str,
        *,
        training: np.ndarray,
    ) -> Self | None:
        """None where fewer than ``settings.min_spots`` spots in ``training`` (n_obs,) have the combination.

        Parameters
        ----------
        combination
            Modalities that count as there.
        trained
            Says what the evidence is.
        spots, tissue
            All spots, prepared by it.
        settings
            Of the calibration.
        device
            Where the network runs.
        training
            Spots that distances are learned from.
        """
        there = np.asarray(spots.present[:, np.isin(list(trained.modalities), combination)].all(1))
        if (there & training).sum() < settings.min_spots:
            return None
        visible = spots.masked(there, combination)
        evidence = trained.evidence(visible, tissue, np.flatnonzero(there), device)
        return cls(combination, trained, evidence, visible, tissue, settings, there)

    def among(self, mask: np.ndarray) -> np.ndarray:
        """Rows of a mask (n_obs,) that have the combination."""
        return np.flatnonzero(self.there & mask)

    def with_summaries(self, summaries: Mapping[str, Summary], rows: np.ndarray) -> Self:
        """The same with ``summaries`` of the modalities, of some ``rows``, in place of those that were learned."""
        parts = dict(self.evidence.parts)
        for name in self.combination:
            prepared, summary = self.spots.prepared[name], summaries[name]
            parts[name] = np.full((self.tissue.n_obs, summary.width), np.nan, np.float32)
            for some in np.array_split(rows, len(rows) // 2**11 + 1):
                parts[name][some] = summary.of(prepared, some).numpy()
        return replace(self, evidence=replace(self.evidence, parts=parts))

    def crossings(self, rows: np.ndarray) -> list[Given]:
        """Modalities that others predict, by some reference rows; none unless the objective asks for them."""
        if not self.trained.objective.crosses or len(self.combination) == 1:
            return []
        rows = subsample_rows(rows, self.settings.max_distance_spots)
        modalities = {name: self.trained.modalities[name] for name in self.combination}
        return find_crossings(self.evidence, modalities, self.tissue, rows, self.settings)

    def learn(
        self, rows: np.ndarray, ready: dict[Part, Distance], crossings: Sequence[Given] = ()
    ) -> dict[Part, Distance]:
        """Distances by part from some rows; those of a single modality are added to the ``ready`` ones."""
        rows = subsample_rows(rows, self.settings.max_distance_spots)
        learned = learn_distances(self.trained.objective, self.evidence, self.spots, rows, ready)
        if len(self.combination) == 1:
            ready |= {part: distance for part, distance in learned.items() if part is not FUSED}
        return crossed_parts(learned, crossings, self.evidence, self.spots, self.tissue, rows, self.settings)

    def left_out(self, rows: np.ndarray, distances: np.ndarray, parts: Collection[Part]) -> LeftOutSpots:
        """Some rows (n,) with the ``distances`` (n, parts) that were learned without them."""
        worth = independent_spots(self.settings, self.tissue, rows, parts, self.trained.modalities)
        return LeftOutSpots(distances, self.tissue.codes[rows], worth)

    def measure(self, distances: Mapping[Part, Distance], rows: np.ndarray) -> np.ndarray:
        """(n, parts) of some rows."""
        return measure_distances(
            distances,
            self.evidence,
            self.spots,
            self.tissue,
            rows,
            modalities=self.trained.modalities,
            settings=self.settings,
        )


def clonal_column(distances: Mapping[Part, Distance], modalities: Mapping[str, Modality]) -> int | None:
    """Position among ``distances`` of the first modality whose anomalies are clonal; None if there is none."""
    clonal = (isinstance(part, str) and modalities[part].clonal_axes > 0 for part in distances)
    return next((i for i, is_clonal in enumerate(clonal) if is_clonal), None)


def independent_spots(
    settings: CalibrationSettings,
    tissue: Tissue,
    rows: np.ndarray,
    parts: Collection[Part],
    modalities: Mapping[str, Modality],
) -> np.ndarray:
    """Independent spots that each of ``rows`` (n,) is worth, whose distances are averages over neighbours, (n,).

    Of the ``parts`` the one that is averaged over most neighbours counts.
    """
    if settings.pooled_spots is not None:
        return np.full(len(rows), 1 / settings.pooled_spots)
    return independent_share(tissue.graph, rows, max(rings(parts, modalities, settings)))


def subsample_rows(rows: np.ndarray, n_max: int) -> np.ndarray:
    """At most ``n_max`` of the ``rows``, in order; always the same ones."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:n_max])
