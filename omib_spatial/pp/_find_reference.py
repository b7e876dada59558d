"""Mark what is healthy on slides of which nobody has said it."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from anndata import AnnData

from omib_spatial._checked import Count, CountsKind, Flag, Key, KeyAdded, checked
from omib_spatial._keys import REFERENCE, SPATIAL
from omib_spatial._threads import few_threads
from omib_spatial.modalities import Contrast, Image, check_input
from omib_spatial.modalities.signatures import CARCINOMA, Signatures
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides import validation as check
from omib_spatial.slides.names import check_reference_key

logger = logging.getLogger("omib_spatial")


@checked
@few_threads
def find_reference(
    adata: AnnData,
    *,
    signatures: Signatures | Sequence[Signatures] | None = CARCINOMA,
    mostly_healthy: Flag = False,
    layer: Key | None = None,
    spatial_key: Key = SPATIAL,
    library_key: Key | None = None,
    image_key: Key | None = "hires",
    neighbors_key: Key | None = None,
    n_neighbors: Count = 6,
    counts: CountsKind = "raw",
    key_added: KeyAdded = REFERENCE,
) -> None:
    """Mark spots that are healthy with confidence, each slide by itself, from evidence inside the slide alone.

    `omib_spatial.tl.fit` does this where nothing else says what is healthy. A slide is divided in two by its genome
    profiles, its expression and, where it has one, its H&E. Signatures only say which of the two is the abnormal one.
    It has no answer where expression does not hang together along the genome as in a clone, or where halves of the
    evidence disagree: a slide of one kind of tissue ends so.

    Parameters
    ----------
    adata
        Raw counts and coordinates. Genes are placed by ``var`` or by the table that comes with the package.
    signatures
        What is taken for abnormal: by name, a weight and genes, as in
        ``{"proliferation": (1, ["MKI67", "TOP2A", ...]), "immune": (-0.5, ["PTPRC", ...])}``; a negative weight says
        that the genes are higher in healthy tissue. At least five genes of a signature must be there. Of several such
        sets the first one is taken on which halves of the evidence agree. The default is for carcinoma in human and
        mouse: genes of dividing cells, or these and genes of an epithelium. None does without, and then only
        ``mostly_healthy=True`` gives an answer.
    mostly_healthy
        Declares that less than half of each slide is abnormal. Without signatures, what deviates from the slide's
        median profile is then abnormal; if the declaration is wrong, the answer is reversed.
    layer, spatial_key, library_key, image_key, neighbors_key, n_neighbors, counts
        As in `omib_spatial.tl.fit`.
    key_added
        Name of what is written.

    Returns
    -------
    None. Writes into ``adata``:

    - ``obs[key_added]``: whether a spot is healthy with confidence, bool; to be passed as ``reference_key=``.
    - ``obs["{key_added}_score"]``: evidence that a spot is abnormal, mean 0 and standard deviation 1 on each slide; NaN
      where none could be computed.
    - ``uns[key_added]``: per slide ``slices``, ``answered``, ``agreement`` (mean correlation of answers from halves of
      the evidence; .9 and more is an answer), ``contiguity`` along the genome, ``contiguity_by_chance``, ``reason``.

    Raises
    ------
    KeyError, ValueError, TypeError
        As `omib_spatial.tl.fit` of the input. A slide without an answer is no error: it has no reference spots, and the
        log says why.

    Examples
    --------
    >>> omib.pp.find_reference(adata, library_key="library_id")
    >>> adata.obs["omib_reference"].dtype, "omib_reference" in adata.uns
    (dtype('bool'), True)
    """
    check.refuse_view(adata)
    check.load_tables(adata)
    check_reference_key(adata, key_added)
    tissue = Tissue(
        adata,
        Layout(layer, spatial_key, library_key, image_key, neighbors_key, n_neighbors, counts),
    )
    contrast = Contrast(signatures, mostly_healthy=mostly_healthy)
    check_input(tissue, [contrast, Image()], required=False)
    write_reference(adata, tissue, contrast, key_added)


def write_reference(adata: AnnData, tissue: Tissue, contrast: Contrast, key_added: str = REFERENCE) -> None:
    """Put what ``contrast`` found of ``tissue`` into ``adata``, as `find_reference` says."""
    found = contrast.found(tissue)
    reference, score = reference_of(tissue, contrast)
    each = [found[name] for name in tissue.libraries]
    adata.obs[key_added] = reference
    adata.obs[f"{key_added}_score"] = score
    record: dict[str, Any] = {
        "slices": np.array(tissue.libraries, str),
        "answered": np.array([c.answered for c in each]),
        "agreement": np.array([c.agreement for c in each]),
        "contiguity": np.array([c.contiguity[0] for c in each]),
        "contiguity_by_chance": np.array([c.contiguity[1] for c in each]),
        "reason": np.array([c.reason for c in each], str),
    }
    adata.uns[key_added] = record
    logger.info("Added obs['%s'] (%d of %d spots), uns['%s'].", key_added, reference.sum(), len(reference), key_added)


def reference_of(tissue: Tissue, contrast: Contrast) -> tuple[np.ndarray, np.ndarray]:
    """Which spots are healthy with confidence, and the evidence against, (n_obs,) each."""
    reference, score = np.zeros(tissue.n_obs, bool), np.full(tissue.n_obs, np.nan)
    for code, name in enumerate(tissue.libraries):
        own, found = tissue.codes == code, contrast.found(tissue)[name]
        reference[own], score[own] = found.reference, found.score
    return reference, score
