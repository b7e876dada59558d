"""Kinds of anomaly: groups of spots that deviate in different directions, and whether there is more than one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

from omib_spatial.stats.smooth import walk

MAX_AXES = 10
"""Principal components of directions that are clustered, at most."""
MOST_HOPS = 8
"""A null field is averaged over neighbours this often, at most."""
SAMPLE = 2000
"""Spots that a silhouette is taken of, at most."""
FEWEST = 10
"""Spots per kind on average, at least."""


@dataclass(frozen=True)
class Kinds:
    """Kinds that were found.

    Attributes
    ----------
    label
        Of each spot, (n,), 0 the largest kind.
    n_kinds
        Numbers that were tried, (k,).
    silhouette
        Mean silhouette of each, (k,).
    expected, spread
        Mean and standard deviation of the same where there is one kind, (k,).
    pvalue
        That one kind gives as large a silhouette, of the number that stands out most; NaN where none was tried.
    hops
        Averages over neighbours that make noise as smooth as the spots are.
    """

    label: np.ndarray
    n_kinds: np.ndarray
    silhouette: np.ndarray
    expected: np.ndarray
    spread: np.ndarray
    pvalue: float
    hops: int


def find_kinds(
    values: np.ndarray, graph: sparse.csr_matrix, *, max_kinds: int, level: float, n_null: int, seed: int
) -> Kinds:
    """Cluster the directions of ``values``; as many kinds as stand out from what one kind would give.

    Each spot counts by its direction alone, not by how far out it lies: how much tumour a spot holds is no kind.
    Directions are clustered by k-means on their leading principal components. The null of one kind is a normal
    distribution with the mean and covariance of the spots, as smooth over neighbours as they are, treated in the same
    way.
    A number k is judged by how many standard deviations its mean silhouette lies above that of the null; the k that
    stands out most is taken if its excess is larger than the largest excess of a null in a share ``level`` of nulls
    (one test for all numbers together), else there is one kind.

    Parameters
    ----------
    values
        Deviations from healthy tissue, (n, p), finite.
    graph
        Who is next to whom, (n, n).
    max_kinds
        Numbers up to which are tried, as far as there are `FEWEST` spots for each.
    level
        Of the test.
    n_null
        Draws of the null.
    seed
        Of clustering and draws.
    """
    rng = np.random.default_rng(seed)
    tried = np.arange(2, min(max_kinds, len(values) // FEWEST) + 1)
    nothing = np.full(len(tried), np.nan)
    axes, loads = _axes(values)
    if len(tried) == 0 or not axes.size:
        return Kinds(np.zeros(len(values), int), tried, nothing, nothing, nothing, np.nan, 0)
    steps, hops = smoothness(axes, graph)
    judge = partial(_silhouettes, tried=tried, seed=seed)
    labels, found = judge(values)
    draws = np.stack([judge(_null(values.mean(0), loads, steps, hops, rng))[1] for _ in range(n_null)])
    expected, spread = draws.mean(0), draws.std(0) + 1e-9
    excess = (found - expected) / spread
    largest = ((draws - expected) / spread).max(1)
    pvalue = (1 + (largest >= excess.max()).sum()) / (1 + n_null)
    label = labels[int(excess.argmax())] if pvalue <= level else np.zeros(len(values), int)
    # Of kinds of one size the one that comes first is first.
    order = np.lexsort((np.unique(label, return_index=True)[1], -np.bincount(label)))
    return Kinds(np.argsort(order)[label], tried, found, expected, spread, float(pvalue), hops)


def directions(values: np.ndarray) -> np.ndarray:
    """Leading principal components of each row's direction, (n, q)."""
    length = np.linalg.norm(values, axis=1, keepdims=True)
    unit = values / np.maximum(length, 1e-12)
    return PCA(min(MAX_AXES, *unit.shape), random_state=0).fit_transform(unit)


def smoothness(axes: np.ndarray, graph: sparse.csr_matrix) -> tuple[sparse.csr_matrix, int]:
    """A step of the average over neighbours, and how many of them make noise as alike between neighbours as ``axes``.

    Parameters
    ----------
    axes
        Standardised values of the spots, (n, q).
    graph
        (n, n).
    """
    step = walk(graph, 1)
    if graph.nnz == 0:
        return step, 0
    noise = np.random.default_rng(0).normal(size=(graph.shape[0], 50))
    aim, best, hops = _alike(axes, graph), np.inf, 0
    for number in range(MOST_HOPS + 1):
        gap = abs(_alike(noise, graph) - aim)
        best, hops = min((best, hops), (gap, number))
        noise = step @ noise
    return step, hops


def _alike(values: np.ndarray, graph: sparse.csr_matrix) -> float:
    """Correlation between neighbours (Moran's I), mean over columns weighted by their variance."""
    centred = values - values.mean(0)
    return float((centred * (graph @ centred)).sum() / graph.sum() / np.square(centred).mean(0).sum())


def _axes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal components (n, q), and their loadings (q, p), whose products give back the values less their mean."""
    centred = values - values.mean(0)
    left, size, right = np.linalg.svd(centred, full_matrices=False)
    kept = size > size.max(initial=0) * 1e-6
    return left[:, kept] * size[kept], right[kept] * size[kept, None] / np.sqrt(len(values))


def _null(
    mean: np.ndarray, loads: np.ndarray, step: sparse.csr_matrix, hops: int, rng: np.random.Generator
) -> np.ndarray:
    """Spots (n, p) of one kind, with this mean and the covariance ``loads.T @ loads``."""
    noise = rng.normal(size=(step.shape[0], len(loads)))
    for _ in range(hops):
        noise = step @ noise
    noise -= noise.mean(0)
    return mean + noise / (noise.std(0) + 1e-12) @ loads


def _silhouettes(values: np.ndarray, tried: np.ndarray, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Labels (n,) and mean silhouette of every number of kinds."""
    points = directions(values)
    some = np.random.default_rng(seed).permutation(len(points))[:SAMPLE]
    labels = [KMeans(int(k), n_init=3, random_state=seed).fit_predict(points) for k in tried]
    silhouette: Callable[[np.ndarray], float] = lambda label: (  # noqa: E731
        float(silhouette_score(points[some], label[some])) if 1 < len(np.unique(label[some])) < len(some) else -1.0
    )
    return labels, np.array([silhouette(label) for label in labels])
