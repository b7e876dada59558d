"""Score: the scanpy face of a fitted model."""

from dataclasses import replace

from anndata import AnnData

from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.scoring import score_tissue
from omib_spatial.detector.settings import device_for
from omib_spatial.modalities import check_input
from omib_spatial.slides import Tissue
from omib_spatial.slides import validation as check
from omib_spatial.tl._notices import warn_of_missing, warn_of_unused_images
from omib_spatial.tl._spatialdata import accepts_spatialdata
from omib_spatial.tl._write import write


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
        If fewer than 80 % of the model's genes are there, or a slice lacks a modality that the model has.

    Examples
    --------
    >>> omib_spatial.tl.score(target, model)  # doctest: +SKIP
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
    tissue = Tissue(adata, layout)
    check_input(tissue, model.modalities.values(), required=False)
    if "image" in model.modalities:
        warn_of_unused_images(tissue)
    spots = model.prepare(tissue)
    write(adata, model, layout, spots, score_tissue(model, tissue, spots, device_for(accelerator)), key_added)
    warn_of_missing(tissue, spots)
    return adata if copy else None
