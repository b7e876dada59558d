"""From a fitted model to results in an AnnData: what `fit` and `score` end with."""

from anndata import AnnData

from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.scoring import score_tissue
from omib_spatial.modalities import Contrast, Spots
from omib_spatial.pp._find_reference import write_reference
from omib_spatial.slides import Tissue
from omib_spatial.tl._notices import unjudged, warn_of_missing
from omib_spatial.tl._shifts import slide_records, warn_of_shifts
from omib_spatial.tl._write import unchanged_on_error, write


def judge(
    adata: AnnData,
    model: AnomalyModel,
    tissue: Tissue,
    prepared: Spots,
    *,
    device: str,
    key_added: str,
    contrast: Contrast | None = None,
) -> None:
    """Score all spots, write what was found, and warn of slides that the model knows too little of.

    Parameters
    ----------
    adata
        What is written to; it stays as it was where anything fails.
    model
        Fitted.
    tissue, prepared
        Of ``adata``, and what the model's modalities made of it.
    device
        Where the network runs.
    key_added
        Prefix of the keys.
    contrast
        What the slides told, where the reference was found in them: the reference is written, too.
    """
    spots = model.judgeable(prepared)
    scores = score_tissue(model, tissue, spots, device)
    slides, shifts = slide_records(model, tissue, spots, scores)
    with unchanged_on_error(adata):
        if contrast is not None:
            write_reference(adata, tissue, contrast)
        write(adata, model, tissue.layout, spots, scores, key_added, slides)
    warn_of_missing(adata.uns[key_added]["modalities"], unjudged(tissue, prepared, spots))
    warn_of_shifts(shifts)
