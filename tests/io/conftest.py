"""Two slides with called blocks, their regions, and names as Space Ranger and a join give them."""

from itertools import product

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import omib_spatial as omib

SIDE, PITCH = 12, 100.0
CALLS = ["not called", "abnormal"]
BARCODES = ["".join(letters) + "ACGTACGTAC" for letters in product("ACGT", repeat=6)]


def slide(name: str, blocks: list[tuple[slice, slice]], seed: int) -> ad.AnnData:
    called = np.zeros((SIDE, SIDE), bool)
    for block in blocks:
        called[block] = True
    n = SIDE**2
    obs = pd.DataFrame({"section": pd.Categorical([name] * n)}, index=[f"{name}_{code}-1" for code in BARCODES[:n]])
    adata = ad.AnnData(np.ones((n, 2), np.float32), obs=obs)
    adata.obsm["spatial"] = np.argwhere(np.ones((SIDE, SIDE)))[:, ::-1] * PITCH + 200
    adata.obs["omib_score"] = np.random.default_rng(seed).normal(size=n) + 5 * called.ravel()
    adata.obs["omib_call"] = pd.Categorical(np.where(called.ravel(), *CALLS[::-1]), CALLS)
    return adata


@pytest.fixture
def two() -> ad.AnnData:
    """Slide A: a block with a hole of one spot, and a speck; it has an image. B: two blocks; it has none.

    A spot of A has no call. Rows are mixed.
    """
    a, b = slide("A", [np.s_[2:7, 2:7], np.s_[9:11, 9]], 0), slide("B", [np.s_[1:4, 1:5], np.s_[8:10, 6:9]], 1)
    a.obs.loc[a.obs_names[4 * SIDE + 4], ["omib_score", "omib_call"]] = [-1.0, "not called"]
    a.obs.loc[a.obs_names[0], ["omib_score", "omib_call"]] = [np.nan, None]
    both = ad.concat([a, b])
    both.obs["section"] = both.obs["section"].astype("category")
    picture = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    scales = {"microns_per_pixel": 0.5, "spot_diameter_fullres": 55.0, "tissue_hires_scalef": 0.1}
    both.uns["spatial"] = {
        "A": {"images": {"hires": picture}, "scalefactors": scales},
        "B": {"scalefactors": {"spot_diameter_fullres": 50.0}},
    }
    both = both[np.random.default_rng(2).permutation(both.n_obs)].copy()
    omib.tl.regions(both, library_key="section", spot_diameter_um=55, n_fields=19)
    both.uns["omib"] = {"params": {"library_key": "section"}}
    return both
