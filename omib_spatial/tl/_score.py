"""Score: the scanpy face of a fitted model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from anndata import AnnData

from omib_spatial._checked import Accelerator, CountsKind, Flag, Key, KeyAdded
from omib_spatial._threads import few_threads
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.settings import device_for, refuse_missing_device
from omib_spatial.modalities import check_input
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides import validation as check
from omib_spatial.slides.names import check_results_key
from omib_spatial.tl._arguments import read_keys
from omib_spatial.tl._judge import judge
from omib_spatial.tl._notices import warn_of_unused_images
from omib_spatial.tl._spatialdata import accepts_spatialdata


@accepts_spatialdata
@few_threads
def score(
    adata: AnnData,
    model: AnomalyModel,
    *,
    library_key: Key | None = None,
    layer: Key | None = None,
    image_key: Key | None = None,
    counts: CountsKind | None = None,
    key_added: KeyAdded = "omib",
    table_key: Key = "table",
    accelerator: Accelerator = "auto",
    copy: Flag = False,
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
    image_key
        Image that is read, as in `fit`. None takes the model's: of a model that was fitted with None, the best that is
        there.
    counts
        ``"raw"``, or ``"corrected"`` if they were freed of ambient RNA and may be fractions. None takes what the model
        was fitted on.
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

    As `fit`, it also keeps in ``uns[key_added]``, each as a dict of arrays:

    - ``"modalities"``: by which modalities each slice was judged: ``slice`` (n,), ``modality`` (m,), and ``share``
      (n, m) of its spots.
    - ``"shifts"``: how unlike the healthy reference a slice is as a whole, one row per slice and modality: the
      ``statistic`` that is oddest, its ``value``, what is ``usual``, between which ``low`` and ``high`` a healthy slice
      is expected, by how many standard deviations (``deviations``) it differs, and whether it is ``beyond``.

    Raises
    ------
    KeyError, ValueError, TypeError
        As `fit`; also if fewer than a tenth of the model's genes are there. ``adata`` stays as it was.

    Warns
    -----
    UserWarning
        If fewer than 80 % of the model's genes are there, a slice lacks a modality that the model has, or a slice as a
        whole lies beyond what healthy slides show, in words.

    Examples
    --------
    >>> patient = omib.datasets.simulate_tissue(1, n_healthy=0, n_spots=150, n_genes=100, seed=1)
    >>> omib.tl.score(patient, model)
    >>> float(patient.obs["omib_score"].notna().mean())
    1.0
    """
    check.require_anndata(adata)
    require_model(model)
    refuse_missing_device(accelerator)
    adata = adata.copy() if copy else adata
    check.refuse_view(adata)
    check.load_tables(adata)
    layout = layout_of(adata, model, library_key, layer, image_key)
    layout = replace(layout, counts=counts or layout.counts)
    check_results_key(adata, key_added, [*read_keys(layout, model.modalities.values())])
    tissue = Tissue(adata, layout, genes=model.genes)
    check_input(tissue, model.modalities.values(), required=False)
    if "image" in model.modalities:
        warn_of_unused_images(tissue)
    prepared = model.trained.prepare(tissue)
    judge(adata, model, tissue, prepared, device=device_for(accelerator), key_added=key_added)
    return adata if copy else None


def require_model(model: object) -> None:
    """Raise TypeError for what is no fitted model, with the way to one."""
    if isinstance(model, AnomalyModel):
        return
    ways = ""
    if isinstance(model, str | Path):
        ways = ": read it with omib_spatial.load"
    elif isinstance(model, Mapping):
        ways = (
            ". omib_spatial.tl.cross_fit returns a model per donor: take the slides of one donor, "
            "adata[adata.obs[donor_key] == donor].copy(), and pass models[donor]"
        )
    raise TypeError(f"model is {type(model).__name__}, and what omib_spatial.tl.fit returns is needed{ways}.")


def layout_of(
    adata: AnnData, model: AnomalyModel, library_key: str | None, layer: str | None, image_key: str | None
) -> Layout:
    """Where a model reads ``adata``: where the user says, else where its reference was, if there is such a place.

    Parameters
    ----------
    adata
        To be read.
    model
        That reads it.
    library_key, layer, image_key
        As in `score`.
    """
    own = model.layout
    if library_key is None and own.library_key in adata.obs:
        library_key = own.library_key
    if layer is None and own.layer is not None and own.layer in adata.layers:
        layer = own.layer
    return replace(own, library_key=library_key, layer=layer, image_key=image_key or own.image_key)
