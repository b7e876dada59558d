"""Counts of some spots at a time, from wherever the matrix is: memory, a file, dask."""

from typing import Any

import numpy as np
from anndata.abc import CSCDataset
from scipy import sparse

from omib_spatial.data.validation import blocks, in_memory_csr, is_dask


class CountRows:
    """Rows of a count matrix as CSR; what is on disk or in dask is read row by row and never kept.

    Parameters
    ----------
    matrix
        As `omib_spatial.data.validation.counts_matrix` returns it. A matrix by columns (CSC) cannot be read by rows
        and is turned into CSR in memory once.
    """

    def __init__(self, matrix: Any) -> None:
        by_column = isinstance(matrix, CSCDataset) or (sparse.issparse(matrix) and matrix.format != "csr")
        self.matrix = in_memory_csr(matrix) if by_column else matrix
        self.shape: tuple[int, int] = self.matrix.shape

    def __getitem__(self, rows: np.ndarray) -> sparse.csr_matrix:
        """(len(rows), n_vars), in the order of ``rows``."""
        if isinstance(self.matrix, np.ndarray) or sparse.issparse(self.matrix):
            return sparse.csr_matrix(self.matrix[rows])
        # Files are read forwards.
        order = np.argsort(rows, kind="stable")
        found = self.matrix[rows[order]]
        if is_dask(found):
            found = in_memory_csr(found)
        return sparse.csr_matrix(found)[np.argsort(order)]

    def depth(self) -> np.ndarray:
        """Total counts of every spot, (n_obs,) float64, read piece by piece."""
        totals = np.zeros(self.shape[0])
        for block, first in blocks(self.matrix):
            totals[first : first + block.shape[0]] += np.asarray(block.sum(1, dtype=np.float64)).ravel()
        return totals


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
        Columns of ``counts``, in this order.
    """

    def __init__(self, counts: CountRows, depth: np.ndarray, target_sum: float, genes: np.ndarray) -> None:
        self.counts, self.depth, self.target_sum, self.genes = counts, depth, target_sum, genes
        self.shape = (counts.shape[0], len(genes))
        self._all = np.array_equal(genes, np.arange(counts.shape[1]))

    def __getitem__(self, rows: np.ndarray) -> sparse.csr_matrix:
        """(len(rows), n_genes) float32."""
        counts = self.counts[rows]
        return log_normalise(counts if self._all else counts[:, self.genes], self.depth[rows], self.target_sum)


def log_normalise(counts: sparse.csr_matrix, depth: np.ndarray, target_sum: float) -> sparse.csr_matrix:
    """``log1p(counts * target_sum / depth)`` per spot, float32, sparse; empty spots stay empty."""
    factor = np.divide(target_sum, depth, out=np.zeros(len(depth)), where=depth > 0)
    scaled = sparse.csr_matrix(counts, dtype=np.float32, copy=True)
    scaled.eliminate_zeros()
    scaled.data *= np.repeat(factor.astype(np.float32), np.diff(scaled.indptr))
    return scaled.log1p()
