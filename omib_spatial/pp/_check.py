"""Look at the input before a long fit."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._keys import SPATIAL
from omib_spatial.data import Layout, Modality
from omib_spatial.data.counts import counts_matrix
from omib_spatial.data.inputs import check_input, choose_modalities
from omib_spatial.data.rows import CountRows
from omib_spatial.data.slides import library_codes, slide_image


def check(
    adata: AnnData,
    *,
    modalities: Sequence[str] | Mapping[str, Modality] | None = None,
    layer: str | None = None,
    spatial_key: str = SPATIAL,
    library_key: str | None = None,
    image_key: str = "hires",
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
    """
    layout = Layout(layer, spatial_key, library_key, image_key)
    chosen = choose_modalities(adata, modalities, layout)
    check_input(adata, chosen.values(), layout, required=True)
    codes, names = library_codes(adata, library_key)
    counts = CountRows(counts_matrix(adata, layer)).depth()
    rows = {}
    for code, name in enumerate(names):
        here = counts[codes == code]
        image = slide_image(adata, name, image_key)
        rows[name] = {
            "n_spots": len(here),
            "median_counts": float(np.median(here)),
            "empty_spots": int((here == 0).sum()),
            "image_pixels_per_spot": image.diameter * image.scale if image else np.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index")
