import anndata as ad
import numpy as np
import pytest

from omib_spatial import datasets, tl
from omib_spatial.modalities import Image, ObsmFeatures


@pytest.fixture(scope="module")
def pictured():
    """Two slides that were fitted on their own picture; the second has none of its last spots."""
    adata = datasets.simulate_tissue(2, n_healthy=2, n_spots=60, n_genes=60)
    adata.obsm["X_extra"] = np.random.default_rng(0).normal(size=(adata.n_obs, 3))
    options = {"all_healthy": True, "library_key": "library_id", "max_epochs": 1, "accelerator": "cpu"}
    options |= {"enable_progress_bar": False}
    modalities = {"picture": Image(patch_size=16), "X_extra": ObsmFeatures("X_extra")}
    model = tl.fit(adata, modalities=modalities, **options)
    alone = tl.fit(adata.copy(), modalities=["X_extra"], **options)
    del adata.uns["spatial"]["slide2"]["images"]
    tl.score(adata, model)
    return adata, model, alone


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_maps_survive_files_and_go_with_the_score(pictured, tmp_path, suffix):
    adata, model = pictured[0].copy(), pictured[1]
    tl.patch_contributions(adata, model, n_parts=3, n_samples=2)
    found = adata.uns["omib_patch_contributions"]
    first = adata.obs["omib_score"][adata.obs["library_id"] == "slide1"].sort_values(ascending=False)
    assert list(found["spots"]) == list(first.index[:4])
    assert found["contributions"].shape == found["error"].shape == (4, 3, 3)
    factors = adata.uns["spatial"]["slide1"]["scalefactors"]
    np.testing.assert_allclose(found["side"], 2 * factors["spot_diameter_fullres"])
    {"h5ad": adata.write_h5ad, "zarr": adata.write_zarr}[suffix](tmp_path / f"a.{suffix}")
    read = {"h5ad": ad.read_h5ad, "zarr": ad.read_zarr}[suffix](tmp_path / f"a.{suffix}")
    for key in ("spots", "contributions", "error", "side"):
        np.testing.assert_array_equal(read.uns["omib_patch_contributions"][key], found[key])
    one = tl.patch_contributions(adata, model, str(found["spots"][2]), n_parts=3, n_samples=2, copy=True)
    np.testing.assert_allclose(one.uns["omib_patch_contributions"]["contributions"][0], found["contributions"][2])
    tl.call(adata, question="any")
    assert "omib_patch_contributions" in adata.uns
    tl.score(adata, model)
    assert "omib_patch_contributions" not in adata.uns


def test_errors_name_the_way_on_and_leave_adata_as_it_was(pictured, content):
    adata, model, alone = pictured
    before = content(adata)
    with pytest.raises(KeyError, match=r"tl\.score first"):
        tl.patch_contributions(adata, model, key_added="other")
    with pytest.raises(KeyError, match="not there: \\['nobody'\\]"):
        tl.patch_contributions(adata, model, ["nobody"])
    with pytest.raises(ValueError, match="1 of 1 spots were not judged by 'picture'"):
        tl.patch_contributions(adata, model, adata.obs_names[-1])
    with pytest.raises(KeyError, match=r"pass one of \['picture'\]"):
        tl.patch_contributions(adata, model, modality="X_extra")
    for bad in ({"n_parts": 0}, {"n_samples": 0}, {"n_parts": 17}):
        with pytest.raises(ValueError, match=r"^n_(parts|samples)"):
            tl.patch_contributions(adata, model, **bad)
    with pytest.raises(TypeError, match=r"pass models\[donor\]"):
        tl.patch_contributions(adata, {"A": model})
    with pytest.raises(ValueError, match="nobody knows which pixels"):
        tl.patch_contributions(adata, alone)
    assert content(adata) == before
    moved = adata.copy()
    moved.obs["omib_score"] += 1
    with pytest.raises(ValueError, match="Score again"):
        tl.patch_contributions(moved, model)
