import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from omib_spatial.datasets import simulate_tissue
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides.measured import MeasuredGenes
from omib_spatial.slides.rows import CountRows

NAMES = pd.Index([f"GENE{i}" for i in range(30)])


def counts(seed: int = 0, n: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).poisson(np.linspace(0.5, 20, 30), (n, 30)).astype(np.float32)


def measured(names: pd.Index = NAMES) -> MeasuredGenes:
    return MeasuredGenes.of(CountRows(sparse.csr_matrix(counts(1))), names, np.arange(40))


def test_the_same_table_in_any_order_keeps_its_totals():
    order = np.random.default_rng(0).permutation(30)
    assert measured().depth(CountRows(counts()), pd.DataFrame(index=NAMES)) is None
    assert measured().depth(CountRows(counts()[:, order]), pd.DataFrame(index=NAMES[order])) is None


@given(kept=st.sets(st.integers(0, 29), min_size=3, max_size=29), more=st.integers(0, 5))
def test_depth_is_that_of_the_shared_genes_by_their_share_of_the_reference(kept, more):
    columns = np.random.default_rng(len(kept)).permutation(sorted(kept))
    other = np.full((40, more), 1000.0, np.float32)
    names = [*NAMES[columns], *(f"OTHER{i}" for i in range(more))]
    table = CountRows(sparse.csr_matrix(np.hstack([counts()[:, columns], other])))
    reference = counts(1).sum(0)
    expected = counts()[:, columns].sum(1) * reference.sum() / reference[columns].sum()
    found = measured().depth(table, pd.DataFrame(index=names))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_stays_aside_is_said_and_foreign_genes_alone_say_nothing(caplog):
    table, names = CountRows(counts()), [*NAMES[:20], *(f"OTHER{i}" for i in range(10))]
    with caplog.at_level(logging.INFO, "omib_spatial"):
        measured().depth(table, pd.DataFrame(index=names))
    assert "the 20 genes that both tables have: 10 of var_names and 10 of the reference stay aside" in caplog.text
    assert measured().depth(table, pd.DataFrame(index=[f"OTHER{i}" for i in range(30)])) is None


def test_a_tissue_has_the_depth_of_a_models_genes():
    adata = simulate_tissue(1, n_healthy=1, n_spots=60, n_genes=200, image=False)
    genes = MeasuredGenes.of(CountRows(adata.X), adata.var_names, np.arange(adata.n_obs))
    whole = Tissue(adata, Layout(), genes=genes).depth
    np.testing.assert_array_equal(whole, np.asarray(adata.X.sum(1)).ravel())
    part = Tissue(adata[:, ::2].copy(), Layout(), genes=genes).depth
    assert np.median(part / whole) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("share", [np.ones(2) / 2, np.array([-0.5, 1.0, 0.5]), np.ones(3)])
def test_shares_that_do_not_belong_to_the_genes_are_refused(share):
    with pytest.raises(ValueError, match="do not belong to them"):
        MeasuredGenes(["a", "b", "c"], share)
