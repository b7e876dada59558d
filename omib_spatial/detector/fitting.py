"""A model from a tissue and its healthy reference."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from omib_spatial.detector.calibration import (
    ReferenceStatistics,
    donors_left_out,
    fit_scores,
    reference_statistics,
)
from omib_spatial.detector.distances import Combination, subsample_rows
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.reference import Reference
from omib_spatial.detector.settings import RunOptions, TrainingSettings
from omib_spatial.detector.shifts import fit_shifts
from omib_spatial.detector.supervised import fit_stacking
from omib_spatial.detector.training import train_on
from omib_spatial.modalities import Contrast, Gene, Genome, Modality, Spots, slice_groups
from omib_spatial.modalities.gene import FIT_ROWS
from omib_spatial.slides import Tissue
from omib_spatial.slides.measured import MeasuredGenes
from omib_spatial.slides.split import hold_out
from omib_spatial.stats.settings import CalibrationSettings

_MOST_HELD_OUT = 0.5
"""Share of a small reference that is held out at most."""


def fit_model(
    tissue: Tissue,
    modalities: dict[str, Modality],
    reference: Reference,
    *,
    encoders: dict[str, nn.Module],
    settings: TrainingSettings,
    calibration: CalibrationSettings,
    options: RunOptions,
    record: Mapping[str, Any] | None = None,
) -> tuple[AnomalyModel, Spots]:
    """Train on all of the reference, calibrate by donors that distances were learned without.

    Where there is one donor, by a second training without some of its spots.

    Parameters
    ----------
    tissue
        All spots.
    modalities
        By name; they are fitted.
    reference
        Healthy spots, and classes that are learned too.
    encoders
        The user's own by modality; they are trained.
    settings, calibration, options
        Of training and calibration.
    record
        What else is kept in the model's ``params``.

    Returns
    -------
    model
        Fitted.
    spots
        All spots, prepared by it.

    Raises
    ------
    ValueError
        The reference is too small, or a training fails.
    """
    # Before anything is trained: a reference that is too small is told at once.
    held_out = held_out_spots(tissue, modalities, reference.spots, calibration, settings.seed)
    untrained, twins = deepcopy(encoders), deepcopy(modalities)
    trained, spots, estimates = train_on(
        tissue, modalities, reference, encoders=encoders, settings=settings, options=options
    )
    settings = replace(settings, config=replace(settings.config, beta=estimates["beta"]))
    own = reference_statistics(
        trained,
        spots.masked(reference.known),
        tissue,
        reference.spots,
        np.zeros_like(reference.spots),
        settings=calibration,
        device=options.device,
        leave_out_donors=True,
        refit_summaries=not reference.found,
        beside=reference.beside,
    )
    given: dict[str, Any] = {"encoders": untrained, "settings": settings, "calibration": calibration}
    twin: dict[Combination, ReferenceStatistics] = {}
    if not donors_left_out(own, calibration):
        twin = twin_statistics(tissue, twins, reference, held_out, options=options.below("calibration"), **given)
    scores = fit_scores(own, twin, list(modalities), calibration)
    stacking = fit_stacking(trained, spots, tissue, reference, options=options, **given)
    params = {
        **settings.record(),
        **estimates,
        "modalities": list(modalities),
        "own_encoders": sorted(encoders),
        "n_reference": int(reference.spots.sum()),
        "n_calibration": max(len(calibrated.calibration) for calibrated in scores.values()),
        **(record or {}),
    }
    distances = {combination: statistics.distances for combination, statistics in own.items()}
    intervals = fit_shifts(modalities, tissue, spots, reference.spots)
    genes = measured_genes(tissue, modalities, reference.spots)
    model = AnomalyModel(trained, tissue.layout, params, calibration, distances, scores, stacking, intervals, genes)
    return model, spots


def measured_genes(tissue: Tissue, modalities: Mapping[str, Modality], reference: np.ndarray) -> MeasuredGenes | None:
    """Genes of the reference's table by its counts, or a sample of these; None where no modality reads counts.

    Parameters
    ----------
    tissue, modalities
        All spots, and what is read of them.
    reference
        Healthy spots, (n_obs,) bool.
    """
    if not any(isinstance(modality, Gene | Genome | Contrast) for modality in modalities.values()):
        return None
    rows = subsample_rows(np.flatnonzero(reference & (tissue.depth > 0)), FIT_ROWS)
    return MeasuredGenes.of(tissue.counts, tissue.adata.var_names, rows)


def twin_statistics(
    tissue: Tissue,
    modalities: dict[str, Modality],
    reference: Reference,
    held_out: np.ndarray,
    *,
    encoders: Mapping[str, nn.Module],
    settings: TrainingSettings,
    calibration: CalibrationSettings,
    options: RunOptions,
) -> dict[Combination, ReferenceStatistics]:
    """How far healthy spots lie from a model that was trained without them: the twin, which nothing else is asked.

    Parameters
    ----------
    tissue, modalities, reference
        As in `fit_model`; modalities are fitted.
    held_out
        Reference spots that it does without, (n_obs,) bool.
    encoders
        The user's own, untrained; they stay so.
    settings, calibration, options
        Of training and calibration.
    """
    training = reference.without(held_out)
    trained, spots, _ = train_on(
        tissue, modalities, training, encoders=deepcopy(encoders), settings=settings, options=options
    )
    return reference_statistics(
        trained,
        spots.masked(reference.known),
        tissue,
        training.spots,
        held_out | reference.beside,
        settings=calibration,
        device=options.device,
    )


def held_out_spots(
    tissue: Tissue,
    modalities: Mapping[str, Modality],
    reference: np.ndarray,
    calibration: CalibrationSettings,
    seed: int,
) -> np.ndarray:
    """Reference spots that a second training does without, (n_obs,) bool.

    Parameters
    ----------
    tissue, modalities
        All spots, and what is read of them.
    reference
        Healthy spots, (n_obs,) bool.
    calibration
        Says how many.
    seed
        Of the choice.

    Raises
    ------
    ValueError
        They are fewer than the calibration needs.
    """
    # A small reference holds out a larger share: `min_spots`, and a quarter more as blocks are not all of one size.
    least = min(_MOST_HELD_OUT, 1.25 * calibration.min_spots / max(int(reference.sum()), 1))
    _, held_out = hold_out(
        tissue.locations,
        reference,
        max(calibration.held_out_fraction, least),
        seed,
        slice_groups(tissue, modalities.values()),
        min_slices=calibration.min_slices,
        n_blocks=calibration.n_blocks,
    )
    if (n_held_out := int(held_out.sum())) < calibration.min_spots:
        raise ValueError(
            f"{n_held_out} of {int(reference.sum())} reference spots would be held out to calibrate scores, and "
            f"{calibration.min_spots} are needed: mark more healthy spots, or hold out a larger share by "
            "calibration=CalibrationSettings(held_out_fraction=...)."
        )
    return held_out
