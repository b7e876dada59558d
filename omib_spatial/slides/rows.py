"""Counts of some spots at a time, from wherever the matrix is: memory, a file, dask."""

from typing import Any, NamedTuple

import numpy as np
from anndata.abc import CSCDataset
from scipy import sparse

from omib_spatial.slides.counts import blocks, in_memory_csr, is_dask, native


class Entries(NamedTuple):
    """Stored entries of some rows, row by row.

    Attributes
    ----------
    lengths
        Entries of each row (n,).
    columns, values
        Where each entry stands in its row, and what it is; no place twice.
    """

    lengths: np.ndarray
    columns: np.ndarray
    values: np.ndarray


class CountRows:
    """Rows of a count matrix; what is on disk or in dask is read row by row and never kept.

    Parameters
    ----------
    matrix
        As `omib_spatial.slides.counts.counts_matrix` returns it. A matrix by columns (CSC) cannot be read by rows
        and is turned into CSR in memory once, and so is a CSR matrix with entries in disorder.
    """

    def __init__(self, matrix: Any) -> None:
        if isinstance(matrix, CSCDataset) or (sparse.issparse(matrix) and matrix.format != "csr"):
            matrix = in_memory_csr(matrix)
        if isinstance(matrix, np.ndarray) or sparse.issparse(matrix):
            matrix = native(matrix)
        if sparse.issparse(matrix) and not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        self.matrix = matrix
        self.shape: tuple[int, int] = matrix.shape

    def __getitem__(self, rows: np.ndarray) -> sparse.csr_matrix:
        """(len(rows), n_vars), in the order of ``rows``."""
        if isinstance(self.matrix, np.ndarray) or sparse.issparse(self.matrix):
            return sparse.csr_matrix(self.matrix[rows])
        # Files are read forwards.
        order = np.argsort(rows, kind="stable")
        found = self.matrix[rows[order]]
        if is_dask(found):
            found = in_memory_csr(found)
        return sparse.csr_matrix(native(found))[np.argsort(order)]

    def entries(self, rows: np.ndarray) -> Entries:
        """Stored entries of ``rows``."""
        matrix = self.matrix
        if sparse.issparse(matrix):
            places, lengths = row_entries(matrix.indptr, rows)
            return Entries(lengths, matrix.indices.take(places), matrix.data.take(places))
        some = self[rows]
        some.sum_duplicates()
        return Entries(np.diff(some.indptr), some.indices, some.data)

    def depth(self, genes: np.ndarray | None = None) -> np.ndarray:
        """Total counts of every spot, (n_obs,) float64, read piece by piece; of some columns ``genes`` only."""
        if genes is not None:
            pieces = np.array_split(np.arange(self.shape[0]), self.shape[0] // 4096 + 1)
            return np.concatenate([self[some][:, genes].sum(1, dtype=np.float64).A1 for some in pieces])
        totals = np.zeros(self.shape[0])
        for block, first in blocks(self.matrix):
            totals[first : first + block.shape[0]] += np.asarray(block.sum(1, dtype=np.float64)).ravel()
        return totals

    def observed(self) -> np.ndarray:
        """The fewest counts that every spot's corrected ones can have been, (n_obs,) float64: each rounded up."""
        totals = np.zeros(self.shape[0])
        for block, first in blocks(self.matrix):
            up = sparse.csr_matrix(block, dtype=np.float64)
            up.data = np.ceil(up.data)
            totals[first : first + block.shape[0]] += np.asarray(up.sum(1)).ravel()
        return totals

    def chosen(self, genes: np.ndarray, per_count: np.ndarray) -> sparse.csr_matrix:
        """Columns ``genes`` of all spots, float32, each spot's counts times ``per_count`` (n_obs,)."""
        pieces = [
            sparse.csr_matrix(sparse.diags_array(per_count[some]) @ self[some][:, genes], dtype=np.float32)
            for some in np.array_split(np.arange(self.shape[0]), self.shape[0] // 4096 + 1)
        ]
        return sparse.csr_matrix(sparse.vstack(pieces))

    def n_spots_by_gene(self, rows: np.ndarray) -> np.ndarray:
        """In how many of ``rows`` each gene has counts, (n_vars,)."""
        return sum(
            ((self[some] > 0).sum(0).A1 for some in np.array_split(rows, len(rows) // 4096 + 1)),
            np.zeros(self.shape[1]),
        )


class LogRows:
    """Log expression of some genes, normalised for depth when it is asked for: all spots together stay raw counts.

    Parameters
    ----------
    counts
        Raw counts of all genes, by rows.
    depth
        Total counts of every spot (n_obs,).
    target_sum
        Depth that spots are brought to.
    genes
        For every column of ``counts``, the gene it is, or -1 for one that is not wanted.
    noise_ratio
        Variance of a count by its mean, of every spot (n_obs,); 1 if None.
    """

    def __init__(
        self,
        counts: CountRows,
        depth: np.ndarray,
        target_sum: float,
        genes: np.ndarray,
        noise_ratio: np.ndarray | None = None,
    ) -> None:
        self.counts, self.genes = counts, genes
        self.factor = size_factors(depth, target_sum)
        self.noise = self.factor if noise_ratio is None else (self.factor * noise_ratio).astype(np.float32)
        self.shape = counts.shape
        self._all = bool((genes >= 0).all())

    def entries(self, rows: np.ndarray) -> Entries:
        """Log expression of ``rows`` where it is not zero, the columns being genes."""
        lengths, columns, values = self.counts.entries(rows)
        genes = self.genes.take(columns)
        if not self._all:
            # Positions are taken faster than a mask is applied.
            known = np.flatnonzero(genes >= 0)
            ends = np.searchsorted(known, np.cumsum(lengths))
            lengths = np.diff(ends, prepend=0)
            genes, values = genes.take(known), values.take(known)
        return Entries(lengths, genes, np.log1p(values * np.repeat(self.factor[rows], lengths), dtype=np.float32))


def row_entries(indptr: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the entries of ``rows`` stand in a CSR matrix's arrays, and how many each row has.

    The same as indexing the matrix, without its checks, which take longer than the work on a mini-batch.
    """
    start = indptr[rows].astype(np.int64)
    lengths = indptr[rows + 1] - start
    skip = np.repeat(start - np.cumsum(lengths) + lengths, lengths)
    return skip + np.arange(len(skip)), lengths


def size_factors(depth: np.ndarray, target_sum: float) -> np.ndarray:
    """``target_sum / depth`` (n,) float32, 0 for empty spots."""
    return np.divide(target_sum, depth, out=np.zeros(len(depth)), where=depth > 0).astype(np.float32)


def log_normalise(counts: sparse.csr_matrix, depth: np.ndarray, target_sum: float) -> sparse.csr_matrix:
    """``log1p(counts * target_sum / depth)`` per spot, float32, sparse; empty spots stay empty."""
    scaled = sparse.csr_matrix(counts, dtype=np.float32, copy=True)
    scaled.eliminate_zeros()
    scaled.data *= np.repeat(size_factors(depth, target_sum), np.diff(scaled.indptr))
    return scaled.log1p()
