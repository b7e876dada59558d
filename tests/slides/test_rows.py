import anndata as ad
import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from omib_spatial.slides.rows import CountRows, Entries, LogRows, log_normalise, row_entries

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


def dense(entries: Entries, width: int) -> np.ndarray:
    start = np.concatenate([[0], np.cumsum(entries.lengths)])
    return sp.csr_matrix((entries.values, entries.columns, start), shape=(len(entries.lengths), width)).toarray()


@pytest.mark.parametrize("kind", KINDS)
def test_log_entries_are_those_of_the_normalised_matrix(counts, kind):
    depth = np.asarray(counts.sum(1)).ravel()
    whole = log_normalise(counts, depth, 50.0).toarray()
    rows = ROWS[[0, 1, 3, 4, 5]]
    everything = LogRows(CountRows(KINDS[kind](counts)), depth, 50.0, np.arange(GENES))
    np.testing.assert_array_equal(dense(everything.entries(rows), GENES), whole[rows])
    genes = np.full(GENES, -1)
    genes[[7, 0, 3]] = [1, 0, 2]
    some = LogRows(CountRows(KINDS[kind](counts)), depth, 50.0, genes)
    np.testing.assert_array_equal(dense(some.entries(rows), 3), whole[np.ix_(rows, [0, 7, 3])])


def test_split_entries_are_added_before_the_logarithm_and_the_users_matrix_stays():
    split = sp.csr_matrix((np.array([3.0, 4, 0, 5]), np.array([1, 1, 0, 2]), np.array([0, 3, 4])), shape=(2, 3))
    rows = LogRows(CountRows(split), np.array([7, 5]), 14.0, np.arange(3))
    np.testing.assert_allclose(dense(rows.entries(np.arange(2)), 3), np.log1p([[0, 14, 0], [0, 0, 14]]), rtol=1e-6)
    assert split.nnz == 4


@given(seed=st.integers(0, 1000), n=st.integers(0, 20))
def test_row_entries_are_those_of_indexing(seed, n):
    rng = np.random.default_rng(seed)
    matrix = sp.random(15, 8, 0.3, format="csr", random_state=seed)
    rows = rng.integers(0, 15, n)
    places, lengths = row_entries(matrix.indptr, rows)
    np.testing.assert_array_equal(matrix.indices[places], matrix[rows].indices)
    np.testing.assert_array_equal(lengths, np.diff(matrix[rows].indptr))


def test_integers_do_not_overflow_in_the_depth():
    rows = CountRows(sp.csr_matrix(np.full((2, 4), 200, np.uint8)))
    np.testing.assert_array_equal(rows.depth(), [800, 800])


@pytest.mark.parametrize("kind", KINDS)
def test_genes_are_counted_and_chosen_as_in_the_whole_matrix(counts, kind):
    rows, some = CountRows(KINDS[kind](counts)), ROWS[[0, 1, 3, 4, 5]]
    np.testing.assert_array_equal(rows.n_spots_by_gene(some), (counts.toarray()[some] > 0).sum(0))
    assert rows.n_spots_by_gene(some[:0]).tolist() == [0] * GENES
    per_count = np.linspace(0, 2, N)
    found = rows.chosen(np.array([7, 0]), per_count)
    assert found.format == "csr" and found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), counts.toarray()[:, [7, 0]] * per_count[:, None], rtol=1e-6)
