"""Whether expression hangs together along the genome, as in a clone with gained and lost arms."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.linalg import eigh

WINDOW = 101
"""Genes per window along a chromosome."""
MIN_GENES = 5
"""Genes of a chromosome below which it has no window."""
BLOCK = 10
"""Genes that keep their neighbours when gene order is permuted: families such as HLA lie side by side."""
PERMUTATIONS = 20
"""Orders of genes that chance is judged by."""
ORDERS = 999
"""The same where a p-value is asked for."""
MAX_AXES = 30
"""Contrasts that are looked at, at most, and no more than a fifth of the spots."""


def windows(chromosome: np.ndarray | Sequence[str], window: int, step: int | None = None) -> sparse.csr_matrix:
    """Which genes lie in which window of their chromosome.

    Parameters
    ----------
    chromosome
        Of genes that are in genome order, (genes,).
    window
        Genes per window; a chromosome with fewer is one window. Genes at the end of a chromosome that no whole step
        reaches, fewer than ``step``, are in no window.
    step
        Genes from one window to the next; None takes a fifth of the window.

    Returns
    -------
    (genes, windows) float32 of ones.
    """
    members: list[np.ndarray] = []
    names = np.asarray(chromosome)
    for name in dict.fromkeys(names.tolist()):
        genes = np.flatnonzero(names == name)
        width = min(window, len(genes))
        stride = step or max(width // 5, 1)
        members += [genes[first : first + width] for first in range(0, len(genes) - width + 1, stride)]
    rows = np.concatenate(members)
    columns = np.repeat(np.arange(len(members)), [len(piece) for piece in members])
    return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(names), len(members)))


def profiles(genes: np.ndarray, chromosome: np.ndarray) -> np.ndarray:
    """Means over windows of genes, centred per spot, then per window.

    Parameters
    ----------
    genes
        Scaled expression in genome order, (n, genes).
    chromosome
        Of each gene, (genes,).

    Returns
    -------
    (n, windows).
    """
    values = spot_profiles(genes, chromosome)
    return values - values.mean(0)


def spot_profiles(genes: np.ndarray, chromosome: np.ndarray) -> np.ndarray:
    """Means over windows of genes, centred per spot: `profiles` of spots by themselves, (n, windows)."""
    values = window_means(genes, chromosome)[0]
    return values - values.mean(1, keepdims=True)


def window_means(genes: np.ndarray, chromosome: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over windows of genes, (n, windows), and the chromosome of each window, (windows,)."""
    averages = _averages(chromosome)
    return genes @ averages, chromosome[averages.indices[averages.indptr[:-1]]]


def gene_slopes(slopes: np.ndarray, chromosome: np.ndarray) -> np.ndarray:
    """What a slope along each window is along each gene, the adjoint of `spot_profiles`.

    Parameters
    ----------
    slopes
        (n, windows).
    chromosome
        Of each gene, (genes,).

    Returns
    -------
    (n, genes).
    """
    return (slopes - slopes.mean(1, keepdims=True)) @ _averages(chromosome).T


def _averages(chromosome: np.ndarray) -> sparse.csc_matrix:
    members = windows(chromosome, WINDOW)
    return sparse.csc_matrix(members @ sparse.diags_array(1 / np.asarray(members.sum(0)).ravel()))


def contiguity(genes: np.ndarray, chromosome: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Largest ratio of a contrast's variance along the genome to that with permuted genes.

    A gained or lost arm moves genes that lie together, a programme of expression genes that lie anywhere.

    Parameters
    ----------
    genes
        Scaled expression in genome order, (n, genes).
    chromosome
        Of each gene, (genes,).
    rng
        Of the permutations.

    Returns
    -------
    The ratio, and the largest that permuted genes reach among themselves.
    """
    axes = np.linalg.svd(profiles(genes, chromosome), full_matrices=False)[0]
    axes = axes[:, : min(MAX_AXES, len(axes) // 5)]
    # A contrast of profiles is the profile of the contrast, which is no larger than a few spots.
    contrasts = (axes - axes.mean(0)).T @ genes

    def covariance(order: np.ndarray) -> np.ndarray:
        along = spot_profiles(contrasts[:, order], chromosome)
        return along @ along.T

    true = covariance(np.arange(len(chromosome)))
    permuted = np.stack([covariance(block_permutation(len(chromosome), rng)) for _ in range(PERMUTATIONS)])
    null = [largest_ratio(one, np.delete(permuted, i, 0).mean(0)) for i, one in enumerate(permuted)]
    return largest_ratio(true, permuted.mean(0)), float(max(null))


def paired_blocks(chromosome: np.ndarray) -> tuple[sparse.csr_matrix, sparse.csr_matrix, np.ndarray]:
    """Blocks of at least `BLOCK` neighbouring genes, every other one apart: two halves of the genes, side by side.

    Parameters
    ----------
    chromosome
        Of each gene, in genome order, (genes,).

    Returns
    -------
    (genes, pairs) twice: the column of each block holds one by its number of genes; and the chromosome of each pair of
    neighbouring blocks, (pairs,). A chromosome of fewer than two blocks has none.
    """
    block, of_pairs = np.full(len(chromosome), -1), list[str]()
    for name in dict.fromkeys(chromosome.tolist()):
        genes = np.flatnonzero(chromosome == name)
        if n_blocks := 2 * (len(genes) // (2 * BLOCK)):
            block[genes] = 2 * len(of_pairs) + np.arange(len(genes)) * n_blocks // len(genes)
            of_pairs += [name] * (n_blocks // 2)
    placed = np.flatnonzero(block >= 0)
    shape = len(chromosome), 2 * len(of_pairs)
    members = sparse.csc_matrix((np.ones(len(placed), np.float32), (placed, block[placed])), shape=shape)
    averages = members @ sparse.diags_array(1 / np.asarray(members.sum(0)).ravel())
    return sparse.csr_matrix(averages[:, ::2]), sparse.csr_matrix(averages[:, 1::2]), np.array(of_pairs)


def agreement_pvalue(one: np.ndarray, other: np.ndarray, members: sparse.csr_matrix, rng: np.random.Generator) -> float:
    """P(two halves of the genes agree as well if the blocks of the other one lay anywhere): a permutation test.

    ``p = (1 + #{orders that agree as well}) / (1 + #orders)`` of `ORDERS` random orders. What agrees is the covariance
    of means over windows.

    Parameters
    ----------
    one, other
        Contrast along the blocks of either half, (blocks,).
    members
        Which blocks lie in which window, (blocks, windows).
    rng
        Of the orders.
    """
    order = np.stack([np.arange(len(other)), *(rng.permutation(len(other)) for _ in range(ORDERS))])
    track = members.T @ one
    spread = track.std() * other.std()
    found = other[order] @ (members @ (track - track.mean())) / (spread or 1.0)
    return float((found >= found[0] - 1e-9 * abs(found[0])).mean())


def block_permutation(n: int, rng: np.random.Generator) -> np.ndarray:
    """Order of ``n`` genes in which blocks of `BLOCK` have changed places, (n,)."""
    n_blocks = -(-n // BLOCK)
    size, longer = divmod(n, n_blocks)  # the first blocks have one gene more
    first = np.arange(n_blocks) * size + np.minimum(np.arange(n_blocks), longer)
    drawn = rng.permutation(n_blocks)
    genes = first[drawn, None] + np.arange(size + 1)
    return np.asarray(genes[(np.arange(size + 1) < size) | (drawn < longer)[:, None]])


def largest_ratio(one: np.ndarray, other: np.ndarray) -> float:
    """Largest generalised eigenvalue of two covariances (p, p); a ridge keeps empty directions from blowing up."""
    ridge = np.trace(other) / len(other) * np.eye(len(other))
    return float(eigh(one, other + ridge, eigvals_only=True)[-1])
