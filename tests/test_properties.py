"""What scores must not depend on: how a slide is written down, and what else is there."""

from dataclasses import replace
from functools import cache

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import omib_spatial as omib
from omib_spatial.detector.objective import OBJECTIVES

MATRICES = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "array": sp.csr_array, "dense": lambda counts: counts.toarray()}
TYPES = ["f4", "f8", "i4", "i8", "u2", "f2", ">f4", ">i4"]
CLOSE = {"rtol": 1e-3, "atol": 2e-3}
"""Sums in another order are rounded otherwise; scores are in standard deviations."""


@cache
def model():
    adata = omib.datasets.simulate_tissue(2, n_healthy=2, n_spots=80, n_genes=300, image=False)
    config = replace(OBJECTIVES["reconstruction"].config, latent_dim=16, warmup_epochs=1, beta=0.05)
    return omib.tl.fit(
        adata,
        all_healthy=True,
        library_key="library_id",
        modalities=["gene", "genome"],
        config=config,
        max_epochs=2,
        enable_progress_bar=False,
        accelerator="cpu",
    )


@cache
def target() -> ad.AnnData:
    adata = omib.datasets.simulate_tissue(4, n_healthy=2, n_spots=80, n_genes=300, image=False)
    return adata[adata.obs["library_id"].isin(["slide3", "slide4"])].copy()


@cache
def wanted() -> pd.DataFrame:
    return scored(target()[target().obs["library_id"] == "slide3"].copy())


def scored(adata: ad.AnnData) -> pd.DataFrame:
    omib.tl.score(adata, model(), accelerator="cpu")
    return adata.obs[["omib_score", "omib_pvalue", "omib_slice_pvalue"]]


def with_matrix(adata: ad.AnnData, kind: str, dtype: str) -> ad.AnnData:
    counts = sp.csr_matrix(adata.X)
    matrix = MATRICES[kind](counts)
    if isinstance(matrix, np.ndarray):
        matrix = matrix.astype(dtype)
    else:
        matrix = type(matrix)((matrix.data.astype(dtype), matrix.indices, matrix.indptr), shape=matrix.shape)
    return ad.AnnData(matrix, adata.obs, adata.var, adata.uns, adata.obsm)


def with_unused_genes(adata: ad.AnnData, n: int) -> ad.AnnData:
    names = pd.Index([f"unused{i}" for i in range(n)])
    more = ad.AnnData(sp.csr_matrix((adata.n_obs, n), dtype=np.float32), adata.obs[[]], pd.DataFrame(index=names))
    joined = ad.concat([adata, more], axis=1, merge="first")
    joined.uns = adata.uns
    return joined


@settings(max_examples=30, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(sorted(MATRICES)),
    dtype=st.sampled_from(TYPES),
    company=st.booleans(),
    rows=st.booleans(),
    genes=st.booleans(),
    unused=st.integers(0, 5),
    backing=st.sampled_from(["memory", "memory", "backed", "lazy"]),
    threads=st.integers(1, 2),
)
def test_a_score_is_of_the_slide_and_not_of_how_it_is_written_down(
    tmp_path_factory, seed, kind, dtype, company, rows, genes, unused, backing, threads
):
    rng = np.random.default_rng(seed)
    adata = target().copy() if company else target()[target().obs["library_id"] == "slide3"].copy()
    adata.obs["library_id"] = adata.obs["library_id"].cat.remove_unused_categories()
    if unused:
        adata = with_unused_genes(adata, unused)
    if rows:
        adata = adata[rng.permutation(adata.n_obs)].copy()
    if genes:
        adata = adata[:, rng.permutation(adata.n_vars)].copy()
    adata = with_matrix(adata, kind, dtype)
    if backing != "memory" and np.dtype(dtype).isnative and dtype != "f2":
        path = tmp_path_factory.mktemp("slides") / "slides.h5ad"
        adata.write_h5ad(path)
        adata = ad.experimental.read_lazy(path) if backing == "lazy" else ad.read_h5ad(path, backed="r")
    omib.settings.n_threads = threads
    try:
        found = scored(adata)
    finally:
        omib.settings.reset()
    pd.testing.assert_frame_equal(found.loc[wanted().index], wanted(), **CLOSE, check_names=False)
