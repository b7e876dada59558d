import warnings

import numpy as np
import pytest

from omib_spatial.datasets import simulate_tissue
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides.doubts import warn_of_copies, warn_of_gaps


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


def test_one_slide_under_two_names_is_told():
    adata = simulate_tissue(3, n_healthy=3, n_spots=60, n_genes=50, image=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warn_of_copies(Tissue(adata, Layout(library_key="library_id")))
    counts = adata.X.toarray()
    counts[120:] = counts[:60][np.random.default_rng(0).permutation(60)]
    adata.X = counts
    with pytest.warns(UserWarning, match="Slices 'slide1', 'slide3' have spots of the same total counts"):
        warn_of_copies(Tissue(adata, Layout(library_key="library_id")))
