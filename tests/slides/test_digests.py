import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from omib_spatial.slides.digests import counts_digest, digest
from omib_spatial.slides.rows import CountRows


def stored(counts: np.ndarray, kind, dtype: str):
    """scipy makes no sparse matrices of all types, but keeps them."""
    matrix = kind(counts)
    if isinstance(matrix, np.ndarray):
        return matrix.astype(dtype)
    return type(matrix)((matrix.data.astype(dtype), matrix.indices, matrix.indptr), shape=matrix.shape)


KINDS = [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array]
TYPES = ["f4", "f8", ">f4", ">i4", "i8", "u2", "f2"]


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.sampled_from(TYPES))
def test_counts_have_one_digest_however_they_are_stored_and_another_where_one_is_another(seed, kind, dtype):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.7, (9, 5)).astype(float)
    wanted = counts_digest(CountRows(sp.csr_matrix(counts)))
    assert counts_digest(CountRows(stored(counts, kind, dtype))) == wanted
    counts[rng.integers(9), rng.integers(5)] += 1
    assert counts_digest(CountRows(stored(counts, kind, dtype))) != wanted


def test_counts_on_disk_have_the_digest_of_those_in_memory(tmp_path):
    counts = np.random.default_rng(0).poisson(1, (30, 4)).astype(np.float32)
    ad.AnnData(counts).write_h5ad(tmp_path / "dense.h5ad")
    ad.AnnData(sp.csr_matrix(counts)).write_h5ad(tmp_path / "sparse.h5ad")
    for name in ("dense", "sparse"):
        backed = ad.read_h5ad(tmp_path / f"{name}.h5ad", backed="r")
        assert counts_digest(CountRows(backed.X)) == counts_digest(CountRows(counts))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([np.arange(4)], [np.arange(4)[::-1]]),
        ([np.arange(4)], [np.arange(4).reshape(2, 2)]),
        (["ab", "c"], ["a", "bc"]),
        ([np.array([0.5])], [np.array([0.25])]),
    ],
)
def test_other_parts_have_other_digests(one, other):
    assert digest(one) != digest(other) and digest(one) == digest(one)
