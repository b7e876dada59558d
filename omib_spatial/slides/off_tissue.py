"""Spots of an array that lie beside the tissue: what was counted there is spilled, and nothing is to be said of it."""

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial.slides.slides import named

IN_TISSUE = "in_tissue"
"""``obs`` column of Space Ranger: 1 under tissue, 0 beside it."""


def off_tissue(adata: AnnData) -> np.ndarray:
    """Which spots ``obs["in_tissue"]`` says to lie beside the tissue, (n_obs,) bool; none if it says so of all."""
    if IN_TISSUE not in adata.obs:
        return np.zeros(adata.n_obs, bool)
    column = adata.obs[IN_TISSUE]
    if not pd.api.types.is_numeric_dtype(column.dtype):  # truth values are numbers, categories and texts are not
        column = pd.to_numeric(column.astype(str).replace({"False": "0", "True": "1"}), errors="coerce")
    off = (column == 0).fillna(False).to_numpy(bool)
    return off & ~off.all()


def under_tissue(adata: AnnData) -> AnnData:
    """The spots under tissue; ``adata`` itself where all are."""
    off = off_tissue(adata)
    return adata[~off].copy() if off.any() else adata


def refuse_off_tissue(adata: AnnData) -> None:
    """Raise ValueError where there are spots beside the tissue: to any model they are the most abnormal of all."""
    if (off := off_tissue(adata)).any():
        raise ValueError(
            f"{off.sum()} of {adata.n_obs} spots lie beside the tissue (obs[{IN_TISSUE!r}] is 0 for "
            f"{named(adata.obs_names, off)}), and would be taken for abnormal tissue: leave them out, as by adata = "
            f"adata[adata.obs[{IN_TISSUE!r}].astype(int) == 1].copy()."
        )
