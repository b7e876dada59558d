from dataclasses import replace

import anndata as ad
import numpy as np
import pytest

import omib_spatial as omib

CONFIG = replace(omib.tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05)
QUICK = {
    "all_healthy": True,
    "max_epochs": 2,
    "config": CONFIG,
    "enable_progress_bar": False,
    "library_key": "library_id",
}
TOGETHER = {"uns_merge": "unique", "merge": "same"}


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


def test_prepared_files_fit_lazily_to_the_scores_of_memory(slides, tmp_path):
    paths = omib.pp.prepare_files(slides, tmp_path / "ready", library_key="library_id")
    memory = ad.concat([ad.read_h5ad(path) for path in paths], **TOGETHER)
    lazy = ad.concat([ad.experimental.read_lazy(path) for path in paths], **TOGETHER)
    for adata in (memory, lazy):
        omib.tl.fit(adata, **QUICK)
    np.testing.assert_array_equal(lazy.obs["omib_score"], memory.obs["omib_score"])
    raw = ad.read_h5ad(slides[0])
    ready = ad.read_h5ad(paths[0])
    assert sorted(ready.obs_names) == sorted(raw.obs_names) and ready.X.format == "csr"
    assert (ready[raw.obs_names].X != raw.X).nnz == 0
    step = [np.linalg.norm(np.diff(a.obsm["spatial"], axis=0), axis=1) for a in (raw, ready)]
    assert np.quantile(step[1], 0.9) < 6 * np.median(step[0])


def test_a_bad_file_is_named(slides, tmp_path):
    bad = ad.read_h5ad(slides[0])
    bad.X = bad.X * 0.5
    bad.write_h5ad(tmp_path / "bad.h5ad")
    with pytest.raises(ValueError, match="bad.h5ad: .*normalised"):
        omib.pp.prepare_files([tmp_path / "bad.h5ad"], tmp_path / "out", library_key="library_id")
