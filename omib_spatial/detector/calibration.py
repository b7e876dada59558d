"""What distances are usual in the reference, and how much healthy tissue that was left out differs from it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from omib_spatial.detector.distances import Combination, CombinationEvidence, all_combinations, clonal_column
from omib_spatial.detector.evidence import TrainedNetwork
from omib_spatial.detector.objective import FUSED, Part
from omib_spatial.detector.training import fit_summary
from omib_spatial.modalities import Spots, Summary
from omib_spatial.slides import Tissue
from omib_spatial.stats.distance import Distance
from omib_spatial.stats.score import LeftOutSpots, PartStatistics, ScoreCalibration
from omib_spatial.stats.settings import CalibrationSettings

logger = logging.getLogger("omib_spatial")

CROSS_FITTING_SEED = 0
"""Of the spots that summaries are learned from without a donor, where there are many."""


@dataclass(frozen=True)
class ReferenceStatistics:
    """The reference by one model, where spots have one combination of modalities.

    Attributes
    ----------
    distances
        Learned from the training spots, by part.
    usual
        Mean and standard deviation of each part's distances in the training spots.
    held_out
        Reference spots that were held out from training.
    left_out
        Training spots by distances and summaries that were learned without their donors. Of the code they have the
        distance that was learned from all: the network cannot forget a donor, and a distance that was learned without
        the donor, from a code that was not, is many times what a new donor shows (docs/trials.md).
    clonal
        Column of the part whose anomalies are clonal, if there is one.
    """

    distances: dict[Part, Distance]
    usual: PartStatistics
    held_out: LeftOutSpots
    left_out: LeftOutSpots
    clonal: int | None


def reference_statistics(
    trained: TrainedNetwork,
    spots: Spots,
    tissue: Tissue,
    training: np.ndarray,
    held_out: np.ndarray,
    *,
    settings: CalibrationSettings,
    device: str,
    leave_out_donors: bool = False,
    refit_summaries: bool = True,
    beside: np.ndarray | None = None,
) -> dict[Combination, ReferenceStatistics]:
    """For every combination of modalities, learn what is usual when only these are there.

    What a modality shows by itself does not depend on the others: it is judged against all spots that have it,
    however few have the whole combination.

    Parameters
    ----------
    trained
        What was learned from the ``training`` spots.
    spots, tissue
        All spots, prepared by it.
    training, held_out
        Reference spots that it learned from and others, (n_obs,) bool.
    settings
        Of the calibration.
    device
        Where the network runs.
    leave_out_donors
        Whether distances are also learned without each donor, and that donor's spots measured by them.
    refit_summaries
        Whether summaries are learned again without the donor, too. Not where they were learned from all spots of the
        slides that are to be judged: these are no new donors.
    beside
        Healthy spots (n_obs,) bool that nothing is learned from, and that are measured with those of their donor.
    """
    measured = training if beside is None else training | beside
    fold = np.full(tissue.n_obs, -1)
    if leave_out_donors:
        fold[measured] = np.unique(tissue.donors[measured], return_inverse=True)[1] % settings.donor_folds
    without: list[dict[str, Summary] | None] = [None] * (fold.max() + 1)
    if refit_summaries and trained.objective.judges_summaries:
        without = [summaries_without(trained, spots, training & (fold != i)) for i in range(len(without))]
    # Distances of one modality alone are kept for combinations that have it: learned from all, and without each fold.
    ready: list[dict[Part, Distance]] = [{} for _ in range(len(without) + 1)]
    found: dict[Combination, ReferenceStatistics] = {}
    for combination in all_combinations(list(trained.modalities)):
        evidence = CombinationEvidence.of(combination, trained, spots, tissue, settings, device, training=training)
        if evidence is None:
            continue
        rows, candidates, apart = evidence.among(training), evidence.among(measured), evidence.among(held_out)
        crossings = evidence.crossings(rows)
        distances = evidence.learn(rows, ready[-1], crossings)
        left_out = np.full((len(candidates), len(distances)), np.nan)
        for i, summaries in enumerate(without):
            away, learned = fold[candidates] == i, rows[fold[rows] != i]
            if min(away.sum(), len(learned)) >= settings.min_spots:
                others = evidence
                if summaries is not None:
                    others = evidence.with_summaries(summaries, np.union1d(learned, candidates[away]))
                relearned = others.learn(learned, ready[i], crossings)
                if FUSED in relearned:
                    relearned[FUSED] = distances[FUSED]
                left_out[away] = others.measure(relearned, candidates[away])
        known = np.isfinite(left_out).all(1)
        found[combination] = ReferenceStatistics(
            distances,
            _usual(distances, evidence.measure(distances, rows), found),
            evidence.left_out(apart, evidence.measure(distances, apart), distances),
            evidence.left_out(candidates[known], left_out[known], distances),
            clonal_column(distances, trained.modalities),
        )
    return found


def summaries_without(trained: TrainedNetwork, spots: Spots, training: np.ndarray) -> dict[str, Summary]:
    """Summaries of only some ``training`` spots (n_obs,) bool; those of all where nothing varies in these.

    Parameters
    ----------
    trained, spots
        As in `reference_statistics`.
    training
        Reference spots of the other donors, (n_obs,) bool.
    """
    return {
        name: fit_summary(modality, spots.prepared[name], training, CROSS_FITTING_SEED) or trained.summaries[name]
        for name, modality in trained.modalities.items()
    }


def _usual(
    distances: Mapping[Part, Distance], own: np.ndarray, found: Mapping[Combination, ReferenceStatistics]
) -> PartStatistics:
    """Of each part in training spots; of a modality by itself, in all spots that have it."""
    location, spread = PartStatistics.fit(own)
    for column, part in enumerate(distances):
        if isinstance(part, str) and (part,) in found:
            alone = found[part,]
            own_column = list(alone.distances).index(part)
            location[column], spread[column] = (values[own_column] for values in alone.usual)
    return PartStatistics(location, spread)


def donors_left_out(own: Mapping[Combination, ReferenceStatistics], settings: CalibrationSettings) -> bool:
    """Whether every combination of modalities has slides whose donors its distances were learned without."""
    return all(mine.left_out.slices(settings.min_spots) for mine in own.values())


def fit_scores(
    own: Mapping[Combination, ReferenceStatistics],
    twin: Mapping[Combination, ReferenceStatistics],
    names: list[str],
    settings: CalibrationSettings,
) -> dict[Combination, ScoreCalibration]:
    """How distances make a score, by cross-fitting.

    Parameters
    ----------
    own
        The reference by the model that learned from all of it.
    twin
        The reference by a second model, which some of it was held out from: for combinations of modalities without
        `donors_left_out`.
    names
        Of the modalities.
    settings
        Of the calibration.

    Raises
    ------
    ValueError
        None has enough spots.
    """
    scores = {}
    for combination in all_combinations(names):
        mine, other = own.get(combination), twin.get(combination)
        if mine is not None and (slices := mine.left_out.slices(settings.min_spots)):
            known = mine.usual, mine.left_out, slices
        elif mine is not None and other is not None and len(other.held_out.codes) >= settings.min_spots:
            known = other.usual, other.held_out, [np.arange(len(other.held_out.codes))]
        else:
            said = "Too few reference spots have %s: spots with these are judged by fewer, or get NaN."
            logger.warning(said, " and ".join(combination))
            continue
        scores[combination] = ScoreCalibration.fit(mine.usual, *known, settings, mine.clonal)
    if not scores:
        raise ValueError(
            f"No combination of the modalities {names} could be calibrated: fewer than {settings.min_spots} reference "
            "spots that have one were held out. Mark more healthy spots, or leave out modalities that few spots have."
        )
    return scores
