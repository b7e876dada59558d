import warnings

import numpy as np
import pytest

from omib_spatial.datasets import simulate_tissue
from omib_spatial.slides import Layout, Tissue
from omib_spatial.tl._notices import warn_of_gaps


def tissue(keep: np.ndarray | None = None) -> Tissue:
    adata = simulate_tissue(1, n_healthy=1, n_spots=200, n_genes=50, image=False)
    return Tissue(adata if keep is None else adata[keep].copy(), Layout(library_key="library_id"))


def test_spots_that_were_taken_out_are_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warn_of_gaps(tissue())
    some = np.random.default_rng(0).random(200) < 0.4
    with pytest.warns(UserWarning, match="Spots are missing in the slice.*reference_key="):
        warn_of_gaps(tissue(some))
