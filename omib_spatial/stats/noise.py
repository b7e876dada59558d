"""Whether columns of numbers show anything at all: over the tissue, or of one another."""

import numpy as np
from scipy import sparse
from scipy.stats import norm

LEVEL = 0.01
"""Of each of the four looks: noise is taken for more than noise by about one in 25."""
N_SHUFFLES = 99
MAX_ROWS, MAX_COLUMNS = 2000, 200
"""Drawn at most: noise is noise in any choice of its columns."""
MIN_ROWS, MIN_COLUMNS = 300, 10
"""Fewer say too little: five genes, or 20 rare ones on 200 spots, may look like noise and be none."""
SAME = 0.8
"""Columns with a larger share of one value are passed over, as genes that few spots have: they say too little, too."""


def is_noise(values: np.ndarray, graph: sparse.csr_matrix, seed: int = 0) -> bool:
    """Whether neither neighbours are alike in any column, nor columns vary together.

    Two looks are along the graph: Moran's I of the column that has the highest, and the mean over columns, against
    what independent normal numbers give. Two are across columns: the sum of squared correlations, and the variance of
    the mean of a row, against the same after each column was shuffled by itself, as in parallel analysis (Horn 1965).

    Parameters
    ----------
    values
        (n, p) finite.
    graph
        (n, n) symmetric, of ones.
    seed
        Of what is drawn and shuffled.

    Returns
    -------
    False also where there are too few rows or columns to tell.
    """
    rng = np.random.default_rng(seed)
    values = values[:, rng.permutation(values.shape[1])[:MAX_COLUMNS]]
    values = values[:, (values == np.median(values, axis=0)).mean(0) < SAME].astype(np.float64)
    if len(values) < MIN_ROWS or values.shape[1] < MIN_COLUMNS or graph.nnz == 0:
        return False
    deviations = morans_deviations(values, graph)
    p = len(deviations)
    highest = -np.expm1(p * np.log1p(-norm.sf(deviations.max())))
    # One look for a few columns that are smooth, one for many that are so a little.
    if min(highest, norm.sf(deviations.mean() * np.sqrt(p))) <= LEVEL:
        return False
    values = values[rng.permutation(len(values))[:MAX_ROWS]]
    found = _together(values)
    shuffled = np.array([_together(rng.permuted(values, axis=0)) for _ in range(N_SHUFFLES)])
    return bool((1 + (shuffled >= found).sum(0)).min() > LEVEL * (1 + N_SHUFFLES))


def morans_deviations(values: np.ndarray, graph: sparse.csr_matrix) -> np.ndarray:
    """Moran's I of every column (n, p), in standard deviations from what independent normal numbers have: (p,).

    Parameters
    ----------
    values
        Without constant columns.
    graph
        (n, n) symmetric, of ones.
    """
    n, degree = len(values), np.asarray(graph.sum(1), np.float64).ravel()
    centred = values - values.mean(0)
    moran = n / degree.sum() * (centred * (graph @ centred)).sum(0) / np.square(centred).sum(0)
    # Cliff and Ord 1981, under normality, for symmetric weights of one.
    s0, s1, s2 = degree.sum(), 2 * degree.sum(), 4 * degree @ degree
    expected = -1 / (n - 1)
    variance = (n**2 * s1 - n * s2 + 3 * s0**2) / ((n**2 - 1) * s0**2) - expected**2
    return np.asarray((moran - expected) / np.sqrt(variance))


def _together(values: np.ndarray) -> np.ndarray:
    """How much columns vary together: the sum of their squared correlations, and the variance of rows' means."""
    standard = (values - values.mean(0)) / np.maximum(values.std(0), 1e-12)
    short = standard if values.shape[0] < values.shape[1] else standard.T
    return np.array([np.square(short @ short.T).sum(), standard.mean(1).var()])
