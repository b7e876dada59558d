"""Look at the input before a long fit."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._keys import SPATIAL
from omib_spatial.modalities import Modality, check_input, choose_modalities
from omib_spatial.slides import Layout, Tissue


def check(
    adata: AnnData,
    *,
    modalities: Sequence[str] | Mapping[str, Modality] | None = None,
    layer: str | None = None,
    spatial_key: str = SPATIAL,
    library_key: str | None = None,
    image_key: str | None = "hires",
) -> pd.DataFrame:
    """Run the checks of `omib_spatial.tl.fit` without fitting, and describe each slice.

    Parameters
    ----------
    adata, modalities, layer, spatial_key, library_key, image_key
        As in `omib_spatial.tl.fit`.

    Returns
    -------
    One row per slice: ``n_spots``, ``median_counts``, ``empty_spots`` (no counts), and ``image_pixels_per_spot``, the
    spot diameter in pixels of the image, NaN without one. Nothing is written.

    Raises
    ------
    KeyError, ValueError, TypeError
        What `omib_spatial.tl.fit` would raise.

    Examples
    --------
    >>> from omib_spatial import datasets, pp
    >>> adata = datasets.simulate_tissue(2, n_spots=80, n_genes=60)
    >>> pp.check(adata, library_key="library_id")["n_spots"].tolist()
    [80, 80]
    """
    tissue = Tissue(adata, Layout(layer, spatial_key, library_key, image_key))
    check_input(tissue, choose_modalities(tissue, modalities).values(), required=True)
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
