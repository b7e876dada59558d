"""In which order a slide itself puts its spots, where its evidence has a part that is clonal."""

import numpy as np

from omib_spatial.detector.distances import Combination, clonal_column
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.modalities import Contrast, Spots
from omib_spatial.modalities.genome_rows import GenomeRows
from omib_spatial.stats.ordering import CLONAL_LEVEL, SlideOrder, clone_pvalue


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
) -> tuple[SlideOrder | None, float]:
    """The order of some spots of one slide; None where there are too few, or its two sides do not differ as a clone.

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

    Returns
    -------
    The order, and `omib_spatial.stats.ordering.clone_pvalue`; NaN where this was not asked. A clonal modality without
    a genome is taken at its word.
    """
    name, least = clonal_modality(model, combination), model.calibration.min_ordered
    if name is None or least is None or len(rows) < least:
        return None, np.nan
    data, n_axes = spots.prepared[name], model.modalities[name].clonal_axes
    order = SlideOrder.fit(logs, data.features(rows), n_axes)
    if order is None or not isinstance(data, GenomeRows):
        return order, np.nan
    one, other, chromosome = data.halves(rows)
    pvalue = clone_pvalue(logs, (one, other), chromosome, n_axes)
    return (order if pvalue <= CLONAL_LEVEL else None), pvalue
