from dataclasses import replace

import anndata as ad
import numpy as np
import pytest

import omib_spatial as omib

QUICK = {
    "all_healthy": True,
    "config": replace(omib.tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05),
    "max_epochs": 2,
    "enable_progress_bar": False,
    "library_key": "library_id",
}


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    adata = omib.datasets.simulate_tissue(2, n_healthy=2, n_spots=150, n_genes=80)
    paths = []
    for name in adata.obs["library_id"].cat.categories:
        slide = adata[adata.obs["library_id"] == name].copy()
        slide.uns["spatial"] = {name: adata.uns["spatial"][name]}
        paths.append(folder / f"{name}.h5ad")
        slide.write_h5ad(paths[-1])
    return paths


def test_files_get_the_scores_that_they_get_alone(slides, tmp_path):
    one = ad.read_h5ad(slides[0])
    model = omib.tl.fit(one, **QUICK)
    model.save(tmp_path / "model")
    written = omib.tl.score_files(slides, tmp_path / "model", tmp_path / "scored", key_added="mine")
    for source, path in zip(slides, written, strict=True):
        alone = ad.read_h5ad(source)
        omib.tl.score(alone, model)
        np.testing.assert_array_equal(ad.read_h5ad(path).obs["mine_score"], alone.obs["omib_score"])
    before = [path.read_bytes() for path in written]
    with pytest.raises(ValueError, match=r"holds 'slide1.h5ad', 'slide2.h5ad' already: pass another folder"):
        omib.tl.score_files(slides, tmp_path / "model", tmp_path / "scored")
    assert [path.read_bytes() for path in written] == before
