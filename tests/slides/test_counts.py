from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata.experimental import read_lazy
from scipy import sparse

from omib_spatial.slides import counts as room
from omib_spatial.slides.counts import check_counts, counts_matrix
from omib_spatial.slides.rows import CountRows

FORMATS = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "csr_array": sparse.csr_array, "dense": np.asarray}


def counts(n: int = 60, genes: int = 9, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(1.0, (n, genes)).astype(np.float32)


def table(matrix=None) -> ad.AnnData:
    matrix = counts() if matrix is None else matrix
    return ad.AnnData(matrix, obs=pd.DataFrame(index=[f"s{i}" for i in range(matrix.shape[0])]))


def stored(matrix: np.ndarray, kind: str, where: str, folder: Path) -> ad.AnnData:
    adata = ad.AnnData(FORMATS[kind](matrix), obs=pd.DataFrame(index=[f"s{i}" for i in range(len(matrix))]))
    if where == "memory":
        return adata
    adata.write_h5ad(folder / "a.h5ad")
    if where == "backed":
        return ad.read_h5ad(folder / "a.h5ad", backed="r")
    lazy = read_lazy(folder / "a.h5ad")
    return ad.AnnData(lazy.X, obs=adata.obs)


@pytest.mark.parametrize("where", ["memory", "backed", "dask"])
@pytest.mark.parametrize("kind", FORMATS)
def test_one_bad_value_anywhere_is_found_and_its_spot_named(kind, where, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_CHUNK_VALUES", 30)
    clean = counts()
    check_counts(stored(clean, kind, where, tmp_path))
    for row, column in ((0, 8), (59, 0)):
        bad = clean.copy()
        bad[row, column] = -1
        with pytest.raises(ValueError, match="negative") as error:
            check_counts(stored(bad, kind, where, tmp_path))
        assert f"spots 's{row}'. " in str(error.value)
        assert "layer=" in str(error.value)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "NaN"), (np.inf, "NaN"), (-np.inf, "NaN"), (-1, "negative"), (0.5, "normalised already")],
)
def test_every_kind_of_bad_value_is_told_by_its_name(kind, value, message):
    bad = counts()
    bad[17, 4] = value
    with pytest.raises(ValueError, match=rf"{message}.*'s17'\. "):
        check_counts(table(FORMATS[kind](bad)))


def test_dask_of_many_blocks_names_the_right_spot():
    import dask.array as da

    bad = counts()
    bad[41, 7] = -2
    with pytest.raises(ValueError, match=r"negative.*'s41'\. "):
        check_counts(table(da.from_array(bad, chunks=(13, 4))))


def test_no_dense_copy_of_a_sparse_matrix_is_made():
    import tracemalloc

    adata = ad.AnnData(sparse.random(2_000, 5_000, density=2e-3, format="csr", dtype=np.float32))
    adata.X.data[:] = 3
    tracemalloc.start()
    check_counts(adata)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000 * 5_000 * 4 / 20


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64, bool])
def test_counts_of_any_number_type_pass_and_stay_as_they_are(dtype):
    matrix = counts().astype(dtype)
    adata = table(matrix.copy())
    check_counts(adata)
    assert np.array_equal(adata.X, matrix)
    assert adata.X.dtype == dtype


def test_layer_is_read_and_a_missing_one_lists_the_others():
    adata = table(np.log1p(counts()))
    adata.layers["counts"] = counts()
    check_counts(adata, layer="counts")
    assert counts_matrix(adata, "counts") is adata.layers["counts"]
    assert counts_matrix(adata) is adata.X
    with pytest.raises(ValueError, match=r"X has .* and 55 more.*available: \['counts'\]"):
        check_counts(adata)
    with pytest.raises(KeyError, match=r"layers\['raw'\].*\['counts'\]"):
        counts_matrix(adata, "raw")
    adata.raw = adata
    with pytest.raises(ValueError, match=r"adata\.raw"):
        check_counts(adata)


def test_unreadable_kinds_say_so():
    with pytest.raises(ValueError, match="X is empty"):
        counts_matrix(ad.AnnData(obs=pd.DataFrame(index=["a"])))
    adata = table()
    adata.layers["words"] = np.full(adata.shape, "x", dtype=object)
    with pytest.raises(TypeError, match="dtype object"):
        check_counts(adata, "words")
    adata.layers["frame"] = np.ma.masked_array(counts())
    check_counts(adata, "frame")

    class Odd:
        layers = {"odd": sparse.coo_matrix(counts())}

    with pytest.raises(TypeError, match="convert them to scipy CSR"):
        counts_matrix(Odd(), "odd")


@pytest.mark.parametrize("dtype", ["f2", ">f2", ">f4", ">f8", ">i4", ">u2"])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_half_precision_and_foreign_orders_of_bytes_are_read_as_what_they_say(kind, dtype):
    plain = np.random.default_rng(0).poisson(2, (8, 5)).astype("f8")
    if kind is np.asarray:
        matrix = plain.astype(dtype)
    else:
        matrix = kind(plain)
        matrix = type(matrix)((matrix.data.astype(dtype), matrix.indices, matrix.indptr), shape=matrix.shape)
    adata = ad.AnnData(matrix)
    check_counts(adata)
    rows = CountRows(adata.X)
    np.testing.assert_array_equal(rows[np.array([3, 1])].toarray(), plain[[3, 1]])
    np.testing.assert_array_equal(rows.depth(), plain.sum(1))
    np.testing.assert_array_equal(rows.observed(), plain.sum(1))


def test_corrected_counts_were_at_least_themselves_rounded_up():
    values = np.array([[0.2, 0.0, 2.5], [1.0, 3.0, 0.0]])
    np.testing.assert_array_equal(CountRows(sparse.csr_matrix(values)).observed(), [4.0, 4.0])
    adata = ad.AnnData(values)
    with pytest.raises(ValueError, match="counts='corrected'"):
        check_counts(adata)
    check_counts(ad.AnnData(values + [[0.0], [1.0]]), corrected=True)
    with pytest.raises(ValueError, match="negative"):
        check_counts(ad.AnnData(-values), corrected=True)
    with pytest.raises(ValueError, match="same total"):
        check_counts(ad.AnnData(values / values.sum(1, keepdims=True)), corrected=True)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
@pytest.mark.parametrize("place", [-1, 10**6])
def test_a_sparse_matrix_with_places_outside_of_it_is_damaged(kind, place):
    adata = ad.AnnData(kind(np.eye(4, 3, dtype=np.float32)))
    check_counts(adata)
    adata.X.indices[1] = place
    with pytest.raises(ValueError, match="^X is a damaged sparse matrix"):
        check_counts(adata)


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (pd.MultiIndex.from_product([["a"], ["x", "y", "z"]]), TypeError),
        (pd.Index([b"x", b"y", b"z"], dtype=object), TypeError),
        (pd.Index(["x", None, "z"], dtype=object), ValueError),
        (pd.Index(["x", np.nan, "z"], dtype=object), ValueError),
    ],
)
def test_genes_have_names_of_text(names, error):
    adata = ad.AnnData(np.eye(4, 3, dtype=np.float32))
    adata.var_names = names
    if isinstance(names, pd.MultiIndex) and not isinstance(adata.var_names, pd.MultiIndex):
        pytest.skip("this AnnData makes text of several levels")
    with pytest.raises(error, match=r"^var_names is .*name"):
        check_counts(adata)


def test_masked_and_impossibly_large_counts_are_refused():
    masked = ad.AnnData(np.eye(4, 3, dtype=np.float32))
    masked.layers["m"] = np.ma.masked_array(np.eye(4, 3), mask=np.eye(4, 3) > 0)
    with pytest.raises(TypeError, match="Some counts are masked"):
        check_counts(masked, "m")
    with pytest.raises(ValueError, match=r"^X has values above 1e\+09, which no sequencing gives.*'0'"):
        check_counts(ad.AnnData(np.eye(4, 3) * 1e12))
