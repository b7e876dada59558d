"""Modalities judged by what others predict of them, where the reference shows that these can."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from omib_spatial.detector.evidence import Evidence
from omib_spatial.detector.objective import FUSED, Given, Part
from omib_spatial.modalities import Gene, Modality, Spots
from omib_spatial.slides import Tissue
from omib_spatial.slides.split import spatial_tiles
from omib_spatial.stats.crossed import crossed_distance, transfer
from omib_spatial.stats.distance import Distance
from omib_spatial.stats.settings import CalibrationSettings

PIECES = 5
"""Compact parts of a single donor's spots, each of which is left out once."""


def part_values(evidence: Evidence, part: Part, rows: np.ndarray) -> np.ndarray:
    """What the distance of a part is of, (n, p) of some ``rows``: of a modality given another one, both."""
    if isinstance(part, Given):
        return np.hstack([evidence.parts[name][rows] for name in part])
    return evidence.parts[part][rows]


def part_noise(spots: Spots, part: Part) -> np.ndarray:
    """Counting noise (n_obs,) of what the distance of a part is of; of a modality given another one, of both together.

    An image has none of its own, but what expression predicts of it has that of expression.
    """
    return np.sum([spots.noise(name) for name in (part if isinstance(part, Given) else [part])], 0)


def rings(parts: Collection[Part], modalities: Mapping[str, Modality], settings: CalibrationSettings) -> list[int]:
    """Rings of neighbours that the distances of each part are averaged over.

    None where expression has said what is to be expected of a modality that sees much of a spot at once: an average
    would lay what is beside a focus over healthy spots. Such a part shows where a focus ends, so that fewer rings are
    enough for the others; not for clonal modalities, for clones are large and their evidence is noisy.

    Parameters
    ----------
    parts
        Of the evidence.
    modalities
        By name.
    settings
        Say how many.
    """
    apart = [isinstance(part, Given) and modalities[part.modality].apart for part in parts]
    found = []
    for part, alone in zip(parts, apart, strict=True):
        clonal = isinstance(part, str) and modalities[part].clonal_axes > 0
        usual = settings.crossed_hops if any(apart) and not clonal else settings.pooling_hops
        found.append(0 if alone else usual)
    return found


def find_crossings(
    evidence: Evidence,
    modalities: Mapping[str, Modality],
    tissue: Tissue,
    rows: np.ndarray,
    settings: CalibrationSettings,
) -> list[Given]:
    """Modalities measured apart of which expression predicts something on donors who were left out.

    Parameters
    ----------
    evidence
        Of all spots.
    modalities
        By name, those of the combination.
    tissue
        Has the donors.
    rows
        Reference spots, (n,).
    settings
        Of the calibration.
    """
    expression = next((name for name, modality in modalities.items() if isinstance(modality, Gene)), None)
    apart = [name for name, modality in modalities.items() if modality.apart]
    groups = donor_groups(tissue, rows, settings)
    enough = np.flatnonzero(np.bincount(groups, minlength=1)[groups] >= settings.min_spots)
    if expression is None or len(np.unique(groups[enough])) < 2:
        return []
    given = evidence.parts[expression][rows[enough]]
    return [
        Given(name, expression)
        for name in apart
        if transfer(evidence.parts[name][rows[enough]], given, groups[enough]) > settings.min_transfer
    ]


def crossed_parts(
    distances: Mapping[Part, Distance],
    crossings: Sequence[Given],
    evidence: Evidence,
    spots: Spots,
    tissue: Tissue,
    rows: np.ndarray,
    settings: CalibrationSettings,
) -> dict[Part, Distance]:
    """Distances with each of the ``crossings``, and its reverse, in place of the fused code and of the modality alone.

    Parameters
    ----------
    distances
        By part, as they would be without.
    crossings
        As `find_crossings` gives them; with none, nothing changes.
    evidence, spots, tissue
        Of all spots.
    rows
        Reference spots to learn from, (n,).
    settings
        Of the calibration.
    """
    if not crossings:
        return dict(distances)
    replaced = {pair.modality: pair for pair in crossings}
    kept: list[Part] = [replaced.get(part, part) for part in distances if part is not FUSED]  # type: ignore[arg-type]
    kept += [Given(pair.given, pair.modality) for pair in crossings]
    groups = donor_groups(tissue, rows, settings)
    if len(np.unique(groups)) < 2:
        pieces = spatial_tiles(tissue.locations, rows, -(-len(rows) // PIECES))
        number = {row: i for i, piece in enumerate(pieces) for row in piece.tolist()}
        groups = np.array([number[row] for row in rows.tolist()])
    found: dict[Part, Distance] = {}
    for part in kept:
        if isinstance(part, Given):
            own, given = (evidence.parts[name][rows] for name in part)
            found[part] = crossed_distance(own, given, part_noise(spots, part)[rows], groups)
        else:
            found[part] = distances[part]
    return found


def donor_groups(tissue: Tissue, rows: np.ndarray, settings: CalibrationSettings) -> np.ndarray:
    """Groups of donors (n,) that are left out one after the other; at most ``settings.donor_folds``."""
    return np.unique(tissue.donors[rows], return_inverse=True)[1] % settings.donor_folds
