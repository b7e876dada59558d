"""Connected regions of called spots, their zones, and how often smoothed noise gives one as heavy."""

from collections.abc import Callable

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

MIN_SPOTS = 5
"""Called spots that a region has at least. Scores are averaged over neighbours, so that one deviating spot lifts those
around it: of noise averaged twice, of which a twentieth is called, two in three pieces have fewer."""
ZONES = ("core", "edge", "ring")
"""Names of the codes that `zones` gives."""
CORE, EDGE, RING = range(3)
N_FIELDS = 999
"""Random fields that a p-value rests on; the smallest is one in a thousand."""
_BLOCK = 2**22
"""Numbers of random fields that are held at a time."""


def connected_regions(
    graph: sparse.csr_matrix,
    called: np.ndarray,
    closed: np.ndarray,
    min_spots: int = MIN_SPOTS,
    min_hole_spots: int | None = None,
) -> np.ndarray:
    """Region of each spot: connected called spots, without specks, holes filled.

    Called spots that hang together are a region. One of fewer than ``min_spots`` is a speck and dropped; its spots stay
    called. Then spots outside regions that hang together are a hole where they are fewer than ``min_hole_spots``, all
    ``closed``, and touch one region and nothing else; a hole becomes part of its region.

    Parameters
    ----------
    graph
        Which spots lie side by side, (n, n), symmetric.
    called
        (n,) bool.
    closed
        Spots that may lie in a hole, (n,) bool: those with a known call and with tissue on all sides. Tissue that a
        region cuts off at the border of the slide is no hole, nor are spots of which nothing is known.
    min_spots
        Called spots of the smallest region, at least 1.
    min_hole_spots
        Spots of the smallest hole that is left open; None takes ``min_spots``: what is too small for a region is too
        small for a hole.

    Returns
    -------
    (n,) int64: 0 for the region with most spots, then 1 and so on, first come first of equal ones; -1 outside.

    Examples
    --------
    >>> chain = sparse.csr_matrix(np.eye(6, k=1) + np.eye(6, k=-1))
    >>> connected_regions(chain, np.array([1, 0, 1, 1, 0, 0], bool), np.ones(6, bool), min_spots=2)
    array([-1, -1,  0,  0, -1, -1])
    """
    labels = components(graph, called)
    labels[(labels >= 0) & (np.bincount(labels[called], minlength=1)[labels] < min_spots)] = -1
    _fill_holes(graph, labels, closed, min_spots if min_hole_spots is None else min_hole_spots)
    inside = labels >= 0
    if not inside.any():
        return labels
    first, number, size = np.unique(labels[inside], return_index=True, return_inverse=True, return_counts=True)[1:]
    rank = np.empty(len(size), np.int64)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    labels[inside] = rank[number]
    return labels


def components(graph: sparse.csr_matrix, mask: np.ndarray) -> np.ndarray:
    """Connected component of each spot of ``mask`` (n,) bool among these, (n,) int64 from 0; -1 outside."""
    rows = np.flatnonzero(mask)
    labels = np.full(len(mask), -1, np.int64)
    labels[rows] = connected_components(graph[rows][:, rows], directed=False)[1]
    return labels


def _fill_holes(graph: sparse.csr_matrix, labels: np.ndarray, closed: np.ndarray, min_hole_spots: int) -> None:
    """Give holes of fewer than ``min_hole_spots`` spots the label of the region around, in place."""
    outside = components(graph, labels < 0)
    n = int(outside.max(initial=-1)) + 1
    size = np.bincount(outside[outside >= 0], minlength=n)
    open_ = np.bincount(outside[(outside >= 0) & ~closed], minlength=n) > 0
    edges = graph.tocoo()
    across = (outside[edges.row] >= 0) & (labels[edges.col] >= 0)
    hole, around = outside[edges.row[across]], labels[edges.col[across]]
    least, most = np.full(n, len(labels)), np.full(n, -1)
    np.minimum.at(least, hole, around)
    np.maximum.at(most, hole, around)
    filled = (size < min_hole_spots) & ~open_ & (least == most)
    rows = np.flatnonzero(outside >= 0)
    rows = rows[filled[outside[rows]]]
    labels[rows] = most[outside[rows]]


def zones(graph: sparse.csr_matrix, labels: np.ndarray, not_called: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Where in or around a region each spot lies.

    Parameters
    ----------
    graph
        Which spots lie side by side, (n, n), symmetric.
    labels
        Region of each spot, (n,), -1 outside.
    not_called
        Spots that are known not to be called, (n,) bool.
    border
        Spots at the border of the tissue or of a gap in it, (n,) bool.

    Returns
    -------
    (n,) int64 of positions in `ZONES`. Core: in a region, and so is all around. Edge: in a region, with a neighbour
    outside it or at the tissue's border. Ring: not called, with a neighbour in a region. -1 elsewhere.
    """
    edges = graph.tocoo()
    inside = labels >= 0
    leaves = np.zeros(len(labels), bool)
    leaves[edges.row[labels[edges.row] != labels[edges.col]]] = True
    result = np.full(len(labels), -1, np.int64)
    result[inside] = np.where(leaves | border, EDGE, CORE)[inside]
    result[~inside & leaves & not_called] = RING
    return result


def region_pvalues(
    score: np.ndarray,
    labels: np.ndarray,
    called: np.ndarray,
    graph: sparse.csr_matrix,
    smooth: Callable[[np.ndarray], np.ndarray],
    n_fields: int = N_FIELDS,
    seed: int = 0,
) -> np.ndarray:
    """p-value of each region of one slide: how often smoothed noise has a region as heavy anywhere on the slide.

    The weight of a region is its cluster mass (`cluster_masses` of `excess_over_level`). Random fields of independent
    normal noise on the same spots are smoothed as the scores were, and as many spots of each are called, the highest.
    The heaviest region of each field makes the null distribution (Bullmore et al. 1999, for images of the brain).
    Neither location nor scale of the scores matters.

    **It says** that smoothed noise, cut at the same share, would seldom give a region this heavy, whichever region of
    the slide one looks at: the maximum corrects for looking at all regions of a slide, though not at several slides.
    **It does not say** that the region is abnormal. Healthy tissue is no noise: a gland or a vessel hangs together,
    too. Nor does it account for how much donors, or slides as wholes, differ. Where scores of healthy tissue have a
    long upper tail, or calls hang together for other reasons than smoothed scores, p-values are too small. Of several
    regions the smaller ones have p-values that are too large, as each is compared with the largest of noise.

    Parameters
    ----------
    score, labels, called
        Of each spot that has a score: (n,), without NaN; region, -1 outside; bool.
    graph
        Which of these spots lie side by side, (n, n), symmetric.
    smooth
        Takes values (n, fields) of these spots and smooths each column as scores were smoothed.
    n_fields
        Random fields; no p-value is below ``1 / (n_fields + 1)``.
    seed
        Of the noise.

    Returns
    -------
    One per region, in the order of labels. NaN where all spots are called, or called and other spots all score alike.
    """
    n_regions, n_called = int(labels.max(initial=-1)) + 1, int(called.sum())
    if n_regions == 0 or n_called == len(score):
        return np.full(n_regions, np.nan)
    edges = sparse.triu(graph).tocoo()
    excess = excess_over_level(score, n_called)
    if np.isnan(excess).any():
        return np.full(n_regions, np.nan)
    mass = cluster_masses(edges, np.where(called & (labels >= 0), excess, 0), labels, n_regions)
    null = largest_masses(edges, n_called, smooth, n_fields, seed)
    return (1 + (null >= mass[:, None]).sum(1)) / (n_fields + 1)


def excess_over_level(values: np.ndarray, n_called: int) -> np.ndarray:
    """What ``values`` (n,) exceed the level by that ``n_called`` of them lie above; 0 for the others.

    In standard deviations within called and other spots, each around their own mean: what lies between the two does not
    hide itself, nor do high values by spreading. NaN if there is no spread.
    """
    ordered = np.sort(values)
    others, above = ordered[:-n_called], ordered[-n_called:]
    spread = np.sqrt((len(others) * others.var() + n_called * above.var()) / len(values))
    return np.maximum(values - others[-1], 0) / (spread if spread > 0 else np.nan)


def cluster_masses(edges: sparse.coo_matrix, excess: np.ndarray, labels: np.ndarray, n_regions: int) -> np.ndarray:
    """Cluster mass of each region: the sum, over its pairs of neighbours, of their mean excess.

    A sum over spots would count a thin net like a compact region; where a third or more of a slide is called, noise
    hangs together as a net.

    Parameters
    ----------
    edges
        Each pair of neighbours once, (n, n).
    excess
        Of each spot above the level of the calls, (n,); 0 for spots that do not count.
    labels
        Region of each spot, (n,); neighbours that count are of one region.
    n_regions
        Number of regions.

    Returns
    -------
    (n_regions,).
    """
    counts = (excess[edges.row] > 0) & (excess[edges.col] > 0)
    row, col = edges.row[counts], edges.col[counts]
    return np.bincount(labels[row], (excess[row] + excess[col]) / 2, minlength=n_regions)


def largest_masses(
    edges: sparse.coo_matrix,
    n_called: int,
    smooth: Callable[[np.ndarray], np.ndarray],
    n_fields: int,
    seed: int,
) -> np.ndarray:
    """Largest cluster mass of each random field, (n_fields,); arguments as above."""
    n, rng = edges.shape[0], np.random.default_rng(seed)
    masses: list[float] = []
    while len(masses) < n_fields:
        n_now = min(n_fields - len(masses), max(_BLOCK // n, 1))
        # Fields are rows while they are drawn, so that they do not depend on the size of a block.
        fields = smooth(rng.standard_normal((n_now, n)).T).T
        masses += [_largest_mass(edges, excess_over_level(field, n_called)) for field in fields]
    return np.array(masses)


def _largest_mass(edges: sparse.coo_matrix, excess: np.ndarray) -> float:
    """Largest cluster mass of connected spots that have some ``excess`` (n,)."""
    above = excess > 0
    kept = above[edges.row] & above[edges.col]
    pairs = (edges.row[kept], edges.col[kept])
    joined = sparse.coo_matrix((np.ones(len(pairs[0]), np.int8), pairs), shape=edges.shape)
    n_pieces, pieces = connected_components(joined, directed=False)
    return float(cluster_masses(edges, excess, pieces, n_pieces).max())
