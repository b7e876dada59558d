"""In which order a slide itself puts its spots, where its evidence has a part that is clonal."""

import numpy as np

from omib_spatial.detector.distances import Combination, clonal_column
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.modalities import Contrast, Spots
from omib_spatial.stats.ordering import SlideOrder


def clonal_modality(model: AnomalyModel, combination: Combination) -> str | None:
    """Modality by whose profiles the spots of a slide are put in order; None if they are not.

    Evidence from inside the slide that is a part of the sum already is not counted twice.
    """
    parts = model.distances[combination]
    column = clonal_column(parts, model.modalities)
    inside = any(isinstance(model.modalities[name], Contrast) for name in combination)
    return None if column is None or inside else str(list(parts)[column])


def slide_order(
    model: AnomalyModel, combination: Combination, logs: np.ndarray, spots: Spots, rows: np.ndarray
) -> SlideOrder | None:
    """The order of some spots of one slide; None where there are too few or nothing puts them in order.

    Parameters
    ----------
    model
        Fitted.
    combination
        Modalities that the spots have.
    logs
        Their log distances, (n,).
    spots
        All spots.
    rows
        Of these, (n,).
    """
    name, least = clonal_modality(model, combination), model.calibration.min_ordered
    if name is None or least is None or len(rows) < least:
        return None
    return SlideOrder.fit(logs, spots.prepared[name].features(rows), model.modalities[name].clonal_axes)
