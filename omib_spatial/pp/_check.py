"""Look at the input before a long fit."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._checked import Count, CountsKind, Key, checked
from omib_spatial._keys import SPATIAL
from omib_spatial._warn import warn
from omib_spatial.modalities import Image, Modality, check_input, choose_modalities
from omib_spatial.modalities.image import NO_REFERENCE
from omib_spatial.modalities.obsm_features import warn_of_noise
from omib_spatial.slides import Layout, Tissue, validation
from omib_spatial.slides.doubts import warn_of_copies, warn_of_gaps
from omib_spatial.slides.labels import healthy_classes, read_labels


@checked
def check(
    adata: AnnData,
    *,
    reference_key: Key | None = None,
    labels_key: Key | None = None,
    healthy_label: Any = None,
    donor_key: Key | None = None,
    modalities: Sequence[str] | Mapping[str, Modality] | None = None,
    layer: Key | None = None,
    spatial_key: Key = SPATIAL,
    library_key: Key | None = None,
    image_key: Key | None = "hires",
    neighbors_key: Key | None = None,
    n_neighbors: Count = 6,
    counts: CountsKind = "raw",
) -> pd.DataFrame:
    """Run the checks of `omib_spatial.tl.fit` without fitting, and describe each slice.

    Parameters
    ----------
    adata, reference_key, labels_key, healthy_label, donor_key, modalities
        As in `omib_spatial.tl.fit`. Without the first four every spot counts as reference.
    layer, spatial_key, library_key, image_key, neighbors_key, n_neighbors, counts
        As in `omib_spatial.tl.fit`.

    Returns
    -------
    One row per slice: ``n_spots``, ``median_counts``, ``empty_spots`` (no counts), and ``image_pixels_per_spot``, the
    spot diameter in pixels of the image, NaN without one. Nothing is written.

    Raises
    ------
    KeyError, ValueError, TypeError
        What `omib_spatial.tl.fit` would raise.

    Warns
    -----
    UserWarning
        Slices from which spots were taken out, or that are there twice; images and features that say nothing.

    Examples
    --------
    >>> from omib_spatial import datasets, pp
    >>> adata = datasets.simulate_tissue(2, n_spots=80, n_genes=60)
    >>> pp.check(adata, library_key="library_id")["n_spots"].tolist()
    [80, 80]
    """
    validation.require_anndata(adata)
    if not isinstance(adata.obs, pd.DataFrame):
        # Of a lazily read one a copy that shares the counts, for nothing is written here.
        adata = adata.copy()
        validation.load_tables(adata)
    layout = Layout(layer, spatial_key, library_key, image_key, neighbors_key, n_neighbors, counts)
    tissue = Tissue(adata, layout, donor_key)
    validation.require_column(adata, donor_key, "donor_key")
    chosen = choose_modalities(tissue, modalities)
    check_input(tissue, chosen.values(), required=True)
    warn_of_gaps(tissue)
    warn_of_copies(tissue)
    labels = None if labels_key is None else read_labels(adata, labels_key)
    healthy = healthy_classes(labels, healthy_label, required=reference_key is None)
    marked = labels.among(healthy) if labels is not None and healthy else None
    reference = validation.reference_mask(adata, reference_key, marked)
    if any(isinstance(each, Image) and tissue.images and not each.shows(tissue, reference) for each in chosen.values()):
        if modalities is not None:
            raise ValueError(NO_REFERENCE)
        warn(f"A fit leaves the image out. {NO_REFERENCE}")
    warn_of_noise(tissue, chosen.values(), reference)
    rows = {}
    for code, name in enumerate(tissue.libraries):
        here = tissue.depth[tissue.codes == code]
        image = tissue.image(name)
        rows[name] = {
            "n_spots": len(here),
            "median_counts": float(np.median(here)),
            "empty_spots": int((here == 0).sum()),
            "image_pixels_per_spot": image.diameter * image.scale if image else np.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index")
