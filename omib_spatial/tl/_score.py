"""Score: the scanpy face of a fitted model, and what is written."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._keys import Written
from omib_spatial.data import Spots
from omib_spatial.data import validation as check
from omib_spatial.data.inputs import check_input
from omib_spatial.tl import _train as steps
from omib_spatial.tl._model import AnomalyModel, Scores
from omib_spatial.tl._tables import accepts_spatialdata

logger = logging.getLogger("omib_spatial")


@accepts_spatialdata
def score(
    adata: AnnData,
    model: AnomalyModel,
    *,
    library_key: str | None = None,
    layer: str | None = None,
    key_added: str = "omib",
    table_key: str = "table",
    accelerator: str = "auto",
    copy: bool = False,
) -> AnnData | None:
    """Score every spot of ``adata`` with a fitted model.

    Takes raw data just as `fit` did; gene list, normalisation, graph and patches are the model's own. The result for
    a slice does not depend on which other slices are in the object.

    Parameters
    ----------
    adata
        Raw counts and coordinates, with or without an image: a spot that lacks a modality is scored on the others.
    model
        From `fit` or `omib_spatial.load`.
    library_key
        ``obs`` column that separates slices. None takes the model's, if there is such a column.
    layer
        Layer with raw counts. None takes the model's, if there is one.
    key_added
        Prefix of what is written, as by `fit`.
    table_key
        Table of a SpatialData that is read and written.
    accelerator
        ``"auto"``, ``"cpu"`` or ``"gpu"``.
    copy
        Return a scored copy and leave ``adata`` as it is.

    Returns
    -------
    None, or the copy. Writes the same keys as `fit`.

    Raises
    ------
    KeyError, ValueError
        As `fit`; also if no gene is shared with the model. ``adata`` stays as it was.

    Warns
    -----
    UserWarning
        If fewer than 80 % of the model's genes are there.
    """
    adata = adata.copy() if copy else adata
    check.refuse_view(adata)
    check.load_tables(adata)
    own = model.layout
    if library_key is None and own.library_key in adata.obs:
        library_key = own.library_key
    if layer is None and own.layer is not None and own.layer in adata.layers:
        layer = own.layer
    layout = replace(own, library_key=library_key, layer=layer)
    check_input(adata, model.modalities.values(), layout, required=False)
    model.device = steps.device_for(accelerator)
    spots = model.prepare(adata, layout)
    write(adata, model, spots, model.score_spots(adata, spots, layout), key_added)
    return adata if copy else None


def write(adata: AnnData, model: AnomalyModel, spots: Spots, scores: Scores, key_added: str) -> None:
    """Put results into ``adata``: the last step, so that nothing is written when anything fails."""
    keys = Written(key_added)
    adata.obsm[keys.embedding] = scores.embedding
    adata.obs[keys.score] = scores.score
    adata.obs[keys.pvalue] = scores.pvalue
    adata.obs[keys.slice_pvalue] = scores.slice_pvalue
    adata.obs[keys.anomaly] = scores.anomaly
    adata.uns[keys.uns] = steps.results(model)
    if scores.probability is not None:
        adata.obsm[keys.probability] = scores.probability
        adata.obs[keys.label] = most_probable(scores.probability, model.classes)
    for name, (values, described) in scores.drawn.items():
        adata.obsm[keys.drawn(name)] = values
        adata.uns[keys.uns][name] = described
    for prepared in spots.prepared.values():
        prepared.keep(adata)
    labels = [] if scores.probability is None else [keys.label]
    written = (keys.score, keys.pvalue, keys.slice_pvalue, keys.anomaly, *labels)
    columns = ", ".join(f"obs['{key}']" for key in written)
    logger.info("Added obsm['%s'], %s and uns['%s'].", keys.embedding, columns, keys.uns)
    called, unscored = int(scores.anomaly.sum()), int(np.isnan(scores.score).sum())
    logger.info("%d of %d spots called, %d could not be scored.", called, adata.n_obs, unscored)


def most_probable(probability: np.ndarray, classes: Sequence[str]) -> pd.Categorical:
    """Class with the highest ``probability`` (n_obs, classes) of each spot, none where it is NaN."""
    known = np.isfinite(probability).all(1)
    codes = np.where(known, np.nan_to_num(probability).argmax(1), -1)
    return pd.Categorical.from_codes(codes, list(classes))
