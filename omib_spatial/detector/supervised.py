"""What models that did not see a slice's labels say of it: only that tells how far to trust them on a new one."""

from collections.abc import Mapping
from copy import deepcopy

import numpy as np
from torch import nn

from omib_spatial.detector.distances import smooth_logs
from omib_spatial.detector.evidence import Evidence, TrainedNetwork
from omib_spatial.detector.reference import Reference
from omib_spatial.detector.settings import RunOptions, TrainingSettings
from omib_spatial.detector.training import train_network
from omib_spatial.modalities import Modality, Spots
from omib_spatial.slides import Tissue
from omib_spatial.slides.split import donor_folds
from omib_spatial.stats.distance import Distance
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.stats.smooth import average_around
from omib_spatial.stats.stacking import Stacking, class_log_odds

FOLDS = 3
"""Trainings without some of the donors."""
BLOCKS = 12
"""Pieces that the labelled spots are cut into where there is a single donor."""


def fit_stacking(
    trained: TrainedNetwork,
    spots: Spots,
    tissue: Tissue,
    reference: Reference,
    *,
    encoders: Mapping[str, nn.Module],
    settings: TrainingSettings,
    calibration: CalibrationSettings,
    options: RunOptions,
) -> Stacking | None:
    """Learn from labels how to weigh the network and the distances; None without labels, or if no class is healthy.

    Slices of one donor are kept from training together.

    Parameters
    ----------
    trained
        What was learned from all labels.
    spots, tissue
        All spots, prepared by ``trained``.
    reference
        With the labels.
    encoders
        The user's own, as they were before training.
    settings, calibration, options
        As those of ``trained``.
    """
    labels, healthy = reference.labels, reference.healthy_classes
    if labels is None or healthy is None or not healthy.any():
        return None
    known, donors, hops = labels >= 0, tissue.donors, calibration.pooling_hops
    evidence = trained.evidence(spots, tissue, np.flatnonzero(spots.present.any(1)), options.device)
    distances = left_out_log_distances(trained, evidence, spots, tissue, reference.spots, known, calibration)
    odds = np.full(tissue.n_obs, np.nan)
    fold = donor_folds(tissue.locations, known, donors, FOLDS, BLOCKS)
    for i in range(fold.max() + 1):
        held_out = fold == i
        other = retrain_without(
            held_out, trained, spots, tissue, labels, deepcopy(dict(encoders)), settings, options.below(f"fold{i}")
        )
        said = predicted_log_odds(other, spots, tissue, held_out, healthy, hops, options.device)
        odds[held_out] = said[held_out]
    found, there = np.column_stack([odds, distances]), np.isfinite(odds) & known
    return Stacking.fit(found[there], labels[there], tissue.codes[there], donors[there], healthy)


def predictors(
    evidence: Evidence,
    spots: Spots,
    tissue: Tissue,
    distances: Mapping[str, Distance],
    healthy: np.ndarray,
    modalities: Mapping[str, Modality],
    hops: int,
) -> np.ndarray:
    """What `Stacking` weighs: the network's log odds of not healthy, then log distances by modality.

    Parameters
    ----------
    evidence, spots, tissue
        Of all spots.
    distances
        By modality.
    healthy
        Which classes are healthy, (n_classes,) bool.
    modalities
        In the network's order.
    hops
        Rings of neighbours to average over.

    Returns
    -------
    (n_obs, 1 + modalities), NaN where a spot lacks the modality.
    """
    odds = network_log_odds(evidence, tissue, healthy, hops)
    return np.column_stack([odds, log_distances(evidence, spots, tissue, distances, modalities, hops)])


def network_log_odds(evidence: Evidence, tissue: Tissue, healthy: np.ndarray, hops: int) -> np.ndarray:
    """Log odds of not healthy, averaged over neighbours, (n_obs,); NaN where the network was not asked.

    Parameters
    ----------
    evidence, tissue
        Of all spots.
    healthy
        Which classes are healthy, (n_classes,) bool.
    hops
        Rings of neighbours to average over.
    """
    if evidence.probability is None:
        raise ValueError("The network was trained without labels: it gives no class probabilities.")
    found = np.full(tissue.n_obs, np.nan)
    rows = np.flatnonzero(np.isfinite(evidence.probability).all(1))
    found[rows] = average_around(class_log_odds(evidence.probability[rows], healthy), tissue.graph, rows, hops)
    return found


def log_distances(
    evidence: Evidence,
    spots: Spots,
    tissue: Tissue,
    distances: Mapping[str, Distance],
    modalities: Mapping[str, Modality],
    hops: int,
) -> np.ndarray:
    """Logarithms of the distances by modality, averaged over neighbours, (n_obs, modalities).

    Of a modality whose anomalies are clonal, what follows each slice's own leading axes is kept.

    Parameters
    ----------
    evidence, spots, tissue
        Of all spots.
    distances
        By modality; one without gets NaN.
    modalities
        Say which of them are clonal.
    hops
        Rings of neighbours to average over.
    """
    found = np.full((tissue.n_obs, len(spots.prepared)), np.nan)
    for column, (name, prepared) in enumerate(spots.prepared.items()):
        rows = np.flatnonzero(prepared.present)
        if name not in distances or len(rows) == 0:
            continue
        distance = distances[name](evidence.parts[name][rows], prepared.noise[rows])
        around = average_around(distance, tissue.graph, rows, hops)
        n_axes = modalities[name].clonal_axes
        found[rows, column] = smooth_logs(around, prepared, tissue, rows, n_axes=n_axes, hops=hops)
    return found


def retrain_without(
    held_out: np.ndarray,
    trained: TrainedNetwork,
    spots: Spots,
    tissue: Tissue,
    labels: np.ndarray,
    encoders: dict[str, nn.Module],
    settings: TrainingSettings,
    options: RunOptions,
) -> TrainedNetwork:
    """Train a network with the preprocessing of ``trained`` on all labels but those ``held_out``.

    Parameters
    ----------
    held_out
        (n_obs,) bool.
    trained
        Whose preprocessing is kept.
    spots, tissue
        All spots, prepared by it.
    labels
        Class of each spot, negative where it is not known, (n_obs,).
    encoders
        The user's own, untrained.
    settings, options
        Of the training.
    """
    return train_network(
        trained.modalities,
        trained.summaries,
        Spots(spots.prepared, labels=labels),
        tissue,
        (labels >= 0) & ~held_out,
        encoders=encoders,
        settings=settings,
        options=options,
    )


def predicted_log_odds(
    trained: TrainedNetwork,
    spots: Spots,
    tissue: Tissue,
    rows: np.ndarray,
    healthy: np.ndarray,
    hops: int,
    device: str,
) -> np.ndarray:
    """`network_log_odds` of all spots on the slices of ``rows`` (n_obs,) bool, else NaN, (n_obs,).

    Parameters
    ----------
    trained
        With labels.
    spots, tissue
        All spots, prepared by it.
    rows
        Some spots of each slice to judge.
    healthy, hops
        As in `network_log_odds`.
    device
        Where the network runs.
    """
    slices = spots.masked(np.isin(tissue.codes, tissue.codes[rows]))
    evidence = trained.evidence(slices, tissue, np.flatnonzero(slices.present.any(1)), device)
    return network_log_odds(evidence, tissue, healthy, hops)


def left_out_log_distances(
    trained: TrainedNetwork,
    evidence: Evidence,
    spots: Spots,
    tissue: Tissue,
    reference: np.ndarray,
    known: np.ndarray,
    settings: CalibrationSettings,
) -> np.ndarray:
    """`log_distances` of labelled spots, learned from other donors, (n_obs, modalities).

    Of a modality that reference spots of a single donor have, they are learned from other compact pieces of this donor.
    NaN where fewer than ``settings.min_spots`` are left to learn from.

    Parameters
    ----------
    trained
        Whose summaries are used.
    evidence, spots, tissue
        Of all spots.
    reference, known
        Healthy reference spots, and spots with a label, (n_obs,) bool.
    settings
        Of the calibration.
    """
    found, donors = np.full((tissue.n_obs, len(spots.prepared)), np.nan), tissue.donors
    visible = spots.masked(reference | known)
    for column, (name, prepared) in enumerate(visible.prepared.items()):
        learned = reference & prepared.present
        one_donor = len(np.unique(donors[learned])) < 2
        group = donors
        if one_donor:
            group = donor_folds(tissue.locations, learned | known, np.zeros_like(donors), FOLDS, BLOCKS)
        for each in np.unique(group[known]):
            rows = np.flatnonzero(learned & (group != each))
            if len(rows) < settings.min_spots:
                continue
            values = trained.summaries[name].of(prepared, rows).numpy()
            distance = {name: trained.objective.distance(name, values, prepared.noise[rows])}
            said = log_distances(evidence, spots, tissue, distance, trained.modalities, settings.pooling_hops)
            found[group == each, column] = said[group == each, column]
    return found
