import numpy as np
import pytest

import omib_spatial as omib


def test_describes_each_slice_and_writes_nothing():
    adata = omib.datasets.simulate_tissue(n_slides=2, n_healthy=1, n_spots=100, n_genes=60)
    names = list(adata.obs["library_id"].cat.categories)
    del adata.uns["spatial"][names[1]]
    columns = list(adata.obs)
    table = omib.pp.check(adata, library_key="library_id")
    assert table.index.tolist() == names and list(adata.obs) == columns
    first = adata[adata.obs["library_id"] == names[0]]
    assert table.loc[names[0], "n_spots"] == first.n_obs
    assert table.loc[names[0], "median_counts"] == np.median(np.asarray(first.X.sum(1)))
    factors = adata.uns["spatial"][names[0]]["scalefactors"]
    expected = factors["spot_diameter_fullres"] * factors["tissue_hires_scalef"]
    assert table.loc[names[0], "image_pixels_per_spot"] == pytest.approx(expected)
    assert np.isnan(table.loc[names[1], "image_pixels_per_spot"])


def test_raises_what_fit_would_raise():
    adata = omib.datasets.simulate_tissue(n_slides=1, n_healthy=1, n_spots=100, n_genes=60)
    adata.X.data[0] = 0.5
    with pytest.raises(ValueError, match="layer"):
        omib.pp.check(adata)


def test_copies_and_gaps_are_told_before_a_fit_as_by_it():
    adata = omib.datasets.simulate_tissue(2, n_healthy=2, n_spots=200, n_genes=50, image=False)
    adata.X = np.vstack([adata.X[:200].toarray()] * 2)
    kept = adata[np.random.default_rng(0).random(400) < 0.4].copy()
    with pytest.warns(UserWarning, match="have spots of the same total counts"):
        omib.pp.check(adata, library_key="library_id")
    with pytest.warns(UserWarning, match="Spots are missing in slices 'slide1', 'slide2'"):
        omib.pp.check(kept, library_key="library_id")
