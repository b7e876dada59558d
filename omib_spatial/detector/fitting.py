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
from omib_spatial.detector.distances import Combination
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.settings import RunOptions, TrainingSettings
from omib_spatial.detector.shifts import fit_shifts
from omib_spatial.detector.supervised import fit_stacking
from omib_spatial.detector.training import train_on
from omib_spatial.modalities import Modality, Spots, slice_groups
from omib_spatial.slides import Tissue
from omib_spatial.slides.split import hold_out
from omib_spatial.stats.settings import CalibrationSettings

_MOST_HELD_OUT = 0.5
"""Share of a small reference that is held out at most."""


def fit_model(
    tissue: Tissue,
    modalities: dict[str, Modality],
    reference: np.ndarray,
    *,
    encoders: dict[str, nn.Module],
    settings: TrainingSettings,
    calibration: CalibrationSettings,
    options: RunOptions,
    labels: np.ndarray | None = None,
    healthy_classes: list[str] | None = None,
    healthy: np.ndarray | None = None,
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
        Healthy spots, (n_obs,) bool.
    encoders
        The user's own by modality; they are trained.
    settings, calibration, options
        Of training and calibration.
    labels
        Class of each spot, negative where it is not known, (n_obs,), if these are learned too.
    healthy_classes
        Names of the classes that are healthy.
    healthy
        Where the reference was found on the slides, all of their healthy side, of which it is the surest part, (n_obs,)
        bool. The rest of it says how far healthy spots lie, for the reference is nearer than these. Summaries then take
        their axes from all spots: a found reference varies along other axes than what it is to be told from.
    record
        What else is kept in the model's ``params``.

    Returns
    -------
    model
        Fitted.
    spots
        All spots, prepared by it.
    """
    # Before anything is trained: a reference that is too small is told at once.
    held_out = held_out_spots(tissue, modalities, reference, calibration, settings.seed)
    twin_modalities, twin_encoders, untrained = deepcopy(modalities), deepcopy(encoders), deepcopy(encoders)
    trained, spots, estimates = train_on(
        tissue,
        modalities,
        reference,
        encoders=encoders,
        settings=settings,
        options=options,
        labels=labels,
        whole_slides=healthy is not None,
    )
    settings = replace(settings, config=replace(settings.config, beta=estimates["beta"]))
    beside = np.zeros_like(reference) if healthy is None else healthy & ~reference
    visible = reference | beside if labels is None else reference | (labels >= 0)
    given: dict[str, Any] = {"settings": calibration, "device": options.device}
    nobody = np.zeros_like(reference)
    own = reference_statistics(
        trained,
        spots.masked(visible),
        tissue,
        reference,
        nobody,
        leave_out_donors=True,
        refit_summaries=healthy is None,
        beside=beside,
        **given,
    )

    other: dict[Combination, ReferenceStatistics] = {}
    if not donors_left_out(own, calibration):
        # How far healthy tissue of a new slide lies, a twin says of spots that it was trained without.
        training = reference & ~held_out
        twin, twin_spots, _ = train_on(
            tissue,
            twin_modalities,
            training,
            encoders=twin_encoders,
            settings=settings,
            options=options.below("calibration"),
            labels=None if labels is None else np.where(held_out, -1, labels),
            whole_slides=healthy is not None,
        )
        other = reference_statistics(twin, twin_spots.masked(visible), tissue, training, held_out | beside, **given)
    distances = {combination: statistics.distances for combination, statistics in own.items()}
    scores = fit_scores(own, other, list(modalities), calibration)
    if not scores:
        raise ValueError(
            f"No combination of the modalities {list(modalities)} could be calibrated: fewer than "
            f"{calibration.min_spots} reference spots that have one were held out. Mark more healthy spots, or leave "
            "out modalities that few spots have."
        )
    stacking = None
    if labels is not None:
        is_healthy = np.isin(settings.classes, healthy_classes or [])
        stacking = fit_stacking(
            trained,
            spots,
            tissue,
            reference,
            labels,
            is_healthy,
            encoders=untrained,
            training=settings,
            calibration=calibration,
            options=options,
        )
    params = {
        **settings.record(),
        **estimates,
        "modalities": list(modalities),
        "own_encoders": sorted(encoders),
        "n_reference": int(reference.sum()),
        "n_calibration": max(len(calibrated.calibration) for calibrated in scores.values()),
        **(record or {}),
    }
    intervals = fit_shifts(modalities, tissue, spots, reference)
    model = AnomalyModel(trained, tissue.layout, params, calibration, distances, scores, stacking, intervals)
    return model, spots


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
