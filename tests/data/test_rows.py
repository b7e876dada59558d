import anndata as ad
import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp

from omib_spatial.data.rows import CountRows, LogRows, log_normalise

N, GENES = 40, 12
ROWS = np.array([31, 2, 2, 17, 39, 0])


@pytest.fixture(scope="module")
def counts() -> sp.csr_matrix:
    return sp.csr_matrix(np.random.default_rng(0).poisson(0.7, (N, GENES)), dtype=np.float32)


KINDS = {
    "csr": lambda x: x,
    "csc": lambda x: x.tocsc(),
    "csr_array": sp.csr_array,
    "dense": lambda x: x.toarray(),
    "dask dense": lambda x: da.from_array(x.toarray(), chunks=(7, 5)),
    "dask csr": lambda x: da.from_array(x.toarray(), chunks=(7, GENES)).map_blocks(sp.csr_matrix),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_in_the_order_asked_for(counts, kind):
    rows = CountRows(KINDS[kind](counts))
    found = rows[ROWS[[0, 1, 3, 4, 5]]]
    assert sp.issparse(found) and found.format == "csr" and rows.shape == (N, GENES)
    np.testing.assert_array_equal(found.toarray(), counts.toarray()[ROWS[[0, 1, 3, 4, 5]]])
    np.testing.assert_array_equal(rows.depth(), counts.toarray().sum(1))
    assert rows.depth().dtype == np.float64


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
def test_lazy_files_give_the_same_rows(counts, tmp_path, suffix, kind):
    adata = ad.AnnData(KINDS[kind](counts).copy())
    path = tmp_path / f"tissue.{suffix}"
    getattr(adata, f"write_{suffix}")(path)
    rows = CountRows(ad.experimental.read_lazy(path).X)
    some = ROWS[[0, 1, 3]]
    np.testing.assert_array_equal(rows[some].toarray(), counts.toarray()[some])
    np.testing.assert_array_equal(rows.depth(), counts.toarray().sum(1))


def test_log_rows_are_the_normalised_matrix(counts):
    depth = np.asarray(counts.sum(1)).ravel()
    whole = log_normalise(counts, depth, 50.0).toarray()
    for genes in (np.arange(GENES), np.array([7, 0, 3])):
        rows = LogRows(CountRows(counts), depth, 50.0, genes)
        np.testing.assert_array_equal(rows[ROWS].toarray(), whole[np.ix_(ROWS, genes)])
        assert rows.shape == (N, len(genes))


def test_integers_do_not_overflow_in_the_depth():
    rows = CountRows(sp.csr_matrix(np.full((2, 4), 200, np.uint8)))
    np.testing.assert_array_equal(rows.depth(), [800, 800])
