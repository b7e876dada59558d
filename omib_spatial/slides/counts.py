"""Raw counts wherever they are, memory, a file or dask: found, checked, and read piece by piece."""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.abc import CSCDataset, CSRDataset
from scipy import sparse

from omib_spatial.slides.slides import named

_CHUNK_VALUES = 2**23
_EQUAL = 1e-3
"""Relative difference of totals up to which they are equal, but for rounding."""
_LARGEST_LOG = 50.0
_AMBIENT = " If they were freed of ambient RNA (SoupX, DecontX, CellBender), pass counts='corrected'."


def is_dask(matrix: Any) -> bool:
    """Whether ``matrix`` is a dask array, as it is or as the view of one in a part of an AnnData."""
    return any(kind.__module__.startswith("dask.") for kind in type(matrix).__mro__)


def counts_matrix(adata: AnnData, layer: str | None = None) -> Any:
    """Matrix that holds the raw counts, as it is: nothing is read, copied or converted.

    Parameters
    ----------
    adata
        Spots by genes.
    layer
        Name in ``layers``; default ``X``.

    Returns
    -------
    Matrix of shape (n_obs, n_vars): numpy, CSR or CSC in memory, any of them on disk (h5ad, zarr) or in dask.

    Raises
    ------
    KeyError
        There is no such layer.
    ValueError
        There is no ``X``.
    TypeError
        The matrix is of a kind that cannot be read in chunks.
    """
    if layer is not None and layer not in adata.layers:
        raise KeyError(f"layers[{layer!r}] does not exist: pass layer= one of {list(adata.layers)}, or None for X.")
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise ValueError(f"adata.X is empty: pass layer= the layer with raw counts, one of {list(adata.layers)}.")
    if np.ma.is_masked(matrix):
        raise TypeError("Some counts are masked, and a count is known or 0: fill them, as by .filled(0).")
    known = isinstance(matrix, np.ndarray | CSRDataset | CSCDataset) or is_dask(matrix)
    on_disk = type(matrix).__module__.startswith(("h5py.", "zarr."))
    if not (known or on_disk or (sparse.issparse(matrix) and matrix.format in {"csr", "csc"})):
        raise TypeError(
            f"Counts of type {type(matrix).__module__}.{type(matrix).__name__} cannot be read in chunks: "
            "convert them to scipy CSR or to numpy, on the CPU."
        )
    return matrix


def native(matrix: Any) -> Any:
    """The same values in a type that sparse products know: no half precision, no foreign order of bytes.

    Parameters
    ----------
    matrix
        Dense or sparse, in memory.
    """
    kind = np.dtype(np.float32) if matrix.dtype.newbyteorder("=") == np.float16 else matrix.dtype.newbyteorder("=")
    if kind == matrix.dtype and matrix.dtype.isnative:
        return matrix
    if sparse.issparse(matrix):
        return type(matrix)((matrix.data.astype(kind), matrix.indices, matrix.indptr), shape=matrix.shape)
    return matrix.astype(kind)


def in_memory_csr(matrix: Any) -> sparse.csr_matrix:
    """The same values as CSR in memory; what is dense on disk or in dask is read piece by piece, never as a whole."""
    if is_dask(matrix):
        return sparse.csr_matrix(
            matrix.map_blocks(lambda block: sparse.csr_matrix(native(block)), dtype=matrix.dtype).compute()
        )
    if isinstance(matrix, CSRDataset | CSCDataset):
        matrix = matrix.to_memory()
    if isinstance(matrix, np.ndarray) or sparse.issparse(matrix):
        return sparse.csr_matrix(native(matrix))
    return sparse.vstack([sparse.csr_matrix(block) for block, _ in blocks(matrix)], format="csr")


def blocks(matrix: Any) -> Iterator[tuple[Any, int]]:
    """Pieces of a matrix in memory, cut along its fast axis, each with the number of its first row."""
    if is_dask(matrix):
        starts = [0, *accumulate(matrix.chunks[0])]
        for i, j in np.ndindex(*matrix.numblocks):
            yield native(matrix.blocks[i, j].compute()), int(starts[i])
        return
    # Slices of sparse matrices are no longer possible in types that products do not know.
    matrix = native(matrix) if sparse.issparse(matrix) else matrix
    by_column = getattr(matrix, "format", "csr") == "csc"
    length, width = matrix.shape[::-1] if by_column else matrix.shape
    step = max(1, _CHUNK_VALUES // max(width, 1))
    for start in range(0, length, step):
        stop = start + step
        yield (native(matrix[:, start:stop]), 0) if by_column else (native(matrix[start:stop]), start)


LARGEST = 1e9
"""Counts beyond are none; in single precision they would be no integers either."""


def _fault(values: np.ndarray, corrected: bool) -> tuple[np.ndarray, str] | None:
    """Which values are no counts and why; None if all of them are. Corrected counts may be fractions."""
    if values.dtype.kind in "bu":
        return None
    if values.dtype.kind not in "if":
        raise TypeError(f"Counts must be integers or floats, got dtype {values.dtype}.")
    if (mask := ~np.isfinite(values)).any():
        return mask, "NaN or infinite values"
    if (mask := values > LARGEST).any():
        return mask, f"values above {LARGEST:g}, which no sequencing gives"
    if (mask := values < 0).any():
        return mask, "negative values, so it looks scaled already"
    if not corrected and (mask := values != np.rint(values)).any():
        return mask, "values that are no integers, so it looks normalised already"
    return None


def check_counts(adata: AnnData, layer: str | None = None, *, corrected: bool = False) -> None:
    """Check every stored value, piece by piece: raw counts are finite, non-negative integers of any dtype.

    Corrected counts, freed of ambient RNA, may be fractions; values with equal totals, or whose exponentials have equal
    totals, are normalised and refused all the same.

    Raises
    ------
    ValueError
        A gene is named twice or not at all; values are above 1e9, NaN, infinite, negative or fractional; names spots
        that have such values.
    KeyError, TypeError
        As :func:`counts_matrix`, and if the dtype is no number.
    """
    if isinstance(adata.var_names, pd.MultiIndex) or any(isinstance(name, bytes) for name in adata.var_names):
        raise TypeError("var_names is of several levels or of bytes: set it to the genes' names, as text.")
    if adata.var_names.hasnans:
        raise ValueError("var_names is missing for some genes: name them, or drop them.")
    if not adata.var_names.is_unique:
        twice = named(adata.var_names[adata.var_names.duplicated()].unique())
        raise ValueError(f"var_names are not unique ({twice}): call adata.var_names_make_unique() first.")
    totals, matrix = np.zeros((2, adata.n_obs)), counts_matrix(adata, layer)
    where = "X" if layer is None else f"layers[{layer!r}]"
    _refuse_bad_indices(matrix, where)
    for block, first in blocks(matrix):
        fault = _fault(np.asarray(block.data if sparse.issparse(block) else block), corrected)
        if fault is None:
            totals[:, first : first + block.shape[0]] += _totals(block) if corrected else 0
            continue
        mask, what = fault
        rows = block.tocoo().row[mask] if sparse.issparse(block) else np.nonzero(mask)[0]
        ambient = _AMBIENT if "no integers" in what else ""
        raw = " adata.raw exists: if it holds them, pass adata.raw.to_adata()." if adata.raw is not None else ""
        raise ValueError(
            f"{where} has {what}, among others in spots {named(adata.obs_names[np.unique(rows) + first])}. Raw counts "
            f"are needed: {_layers(adata)}.{raw}{ambient}"
        )
    for per_spot in totals:
        per_spot = per_spot[per_spot > 0]
        if corrected and len(per_spot) > 1 and np.ptp(per_spot) <= _EQUAL * per_spot.max():
            raise ValueError(
                "All spots have the same total, so these are no counts that were corrected, but normalised ones: "
                f"{_layers(adata)}."
            )


def _layers(adata: AnnData) -> str:
    """Where counts may be instead."""
    if len(adata.layers):
        return f"name the layer that holds counts with layer=, available: {list(adata.layers)}"
    return "adata has no layers, so read counts from the file that they came in, into X or a layer that layer= names"


def _refuse_bad_indices(matrix: Any, where: str) -> None:
    """Raise ValueError for a sparse matrix with places outside of it, at which the process itself would break."""
    if not (sparse.issparse(matrix) and hasattr(matrix, "indptr")):
        return
    indices, ends = matrix.indices, matrix.indptr
    width = matrix.shape[0 if matrix.format == "csc" else 1]
    outside = len(indices) and not 0 <= indices.min() <= indices.max() < width
    if outside or ends[0] != 0 or ends[-1] > len(indices) or (np.diff(ends) < 0).any():
        raise ValueError(
            f"{where} is a damaged sparse matrix, with values at places that it does not have: read it again from "
            "where it came from."
        )


def _totals(block: Any) -> np.ndarray:
    """Of each row, the sum of values and that of their exponentials less 1, which logarithms may come from, (2, n)."""
    rows = sparse.csr_matrix(block, dtype=np.float64)
    plain = np.asarray(rows.sum(1)).ravel()
    rows.data = np.expm1(np.minimum(rows.data, _LARGEST_LOG))
    return np.stack([plain, np.asarray(rows.sum(1)).ravel()])
