"""Clones: groups of abnormal spots with one genome profile."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.stats import false_discovery_control, t
from sklearn.cluster import KMeans

from omib_spatial.stats.arms import ArmEffects, arm_effects

MIN_STRENGTH = 0.8
"""Prediction strength from which on clusters are there (Tibshirani & Walther 2005 take .8 to .9)."""
MIN_SPOTS = 10
"""Spots of a clone at least."""
AXES = 8
"""Principal axes of the profiles in which clones are looked for."""


@dataclass(frozen=True)
class CalledSpots:
    """Called spots of one patient, beside healthy tissue of the slices that they lie on.

    Genes are in genome order, and each belongs to one of two halves: what is found with one is checked with the other.

    Attributes
    ----------
    halves
        Genome profiles from the genes of either half, in the same windows, less those of healthy tissue of the same
        slice; (n, windows) each.
    precision
        Inverse of the variance that counting adds to the profile of each spot, in any unit, (n,).
    counts
        Raw counts, (n, genes).
    depth
        Total counts of each spot, (n,).
    slices
        Slice of each spot, (n,) int.
    healthy
        Molecules in the healthy tissue that each slice is compared with, (n_slices, genes).
    healthy_depth
        Its total counts, (n_slices,).
    arm
        Chromosome arm of each gene, (genes,).
    half
        Half of each gene, 0 or 1, (genes,).
    """

    halves: tuple[np.ndarray, np.ndarray]
    precision: np.ndarray
    counts: sparse.csr_matrix
    depth: np.ndarray
    slices: np.ndarray
    healthy: np.ndarray
    healthy_depth: np.ndarray
    arm: np.ndarray
    half: np.ndarray
    covariates: np.ndarray


@dataclass(frozen=True)
class Clones:
    """What was found.

    Attributes
    ----------
    clone
        Of each spot, (n,) int; the largest clone is 0.
    effects
        On the arms of each clone; each gene was compared in clones that had been formed without it.
    strength
        Prediction strength of every number of clones that was tried, from 2 on.
    """

    clone: np.ndarray
    effects: ArmEffects
    strength: np.ndarray


def find_clones(spots: CalledSpots, *, max_clones: int = 6, fdr: float = 0.05, seed: int = 0) -> Clones:
    found = Clones(np.zeros(len(spots.depth), int), effects_without(spots, np.zeros((2, len(spots.depth)), int)), np.empty(0))
    strengths = []
    for k in range(2, max_clones + 1):
        if len(spots.depth) < k * MIN_SPOTS:
            break
        labels, own = split_in(spots, k, seed)
        strength = min(prediction_strength(spots, own, h) for h in (0, 1))
        strengths.append(strength)
        if min(np.bincount(each, minlength=k).min() for each in (labels, *own)) < MIN_SPOTS:
            continue
        if strength >= MIN_STRENGTH:
            effects = effects_without(spots, own)
            ok = all(differ(effects, a, b, fdr) for a in range(k) for b in range(a))
            if ok:
                found = Clones(labels, effects, np.empty(0))
    return Clones(found.clone, found.effects, np.array(strengths))


def cluster(profile: np.ndarray, precision: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and directions (k, windows)"""
    root = np.sqrt(precision)[:, None]
    axes = np.linalg.svd(root * profile, full_matrices=False)[2][:AXES]
    along = profile @ axes.T
    length = np.linalg.norm(along, axis=1)
    unit = along / np.maximum(length, 1e-12)[:, None]
    model = KMeans(k, n_init=10, random_state=seed).fit(unit, sample_weight=precision * length**2)
    return model.labels_, model.cluster_centers_ @ axes


def assign(profile: np.ndarray, directions: np.ndarray) -> np.ndarray:
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return (profile @ unit.T).argmax(1)


def split_in(spots, k, seed):
    both = (spots.halves[0] + spots.halves[1]) / 2
    labels, _ = cluster(both, spots.precision, k, seed)
    order = np.argsort(-np.bincount(labels, minlength=k), kind="stable")
    labels = np.argsort(order)[labels]
    own = np.stack([matched(cluster(h, spots.precision, k, seed)[0], labels, k) for h in spots.halves])
    return labels, own


def matched(labels, to, k):
    table = np.zeros((k, k))
    np.add.at(table, (labels, to), 1)
    return linear_sum_assignment(-table)[1][labels]


def prediction_strength(spots, own, h):
    k = own.max() + 1
    mean = np.stack([np.average(spots.halves[1-h][own[1-h] == c], axis=0, weights=spots.precision[own[1-h] == c]) for c in range(k)])
    predicted = assign(spots.halves[h], mean)
    worst = 1.0
    for c in range(k):
        n = np.bincount(predicted[own[h] == c])
        if n.sum() > 1:
            worst = min(worst, (n * (n - 1)).sum() / (n.sum() * (n.sum() - 1)))
    return worst


def effects_without(spots: CalledSpots, own: np.ndarray) -> ArmEffects:
    k, n_slices = own.max() + 1, len(spots.healthy)
    parts = []
    rate = spots.healthy / spots.healthy_depth[:, None]
    var = spots.healthy / np.square(spots.healthy_depth)[:, None]
    out = [np.empty((k, len(spots.arm))) for _ in range(3)]
    for half in (0, 1):
        g = np.flatnonzero(spots.half == half)
        labels = own[1 - half]
        member = sparse.csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))), shape=(k, len(labels)))
        depth = np.zeros((k, n_slices))
        np.add.at(depth, (labels, spots.slices), spots.depth)
        out[0][:, g] = (member @ spots.counts[:, g]).toarray()
        expected = depth @ rate[:, g]
        out[1][:, g] = expected
        out[2][:, g] = (depth**2) @ var[:, g] / np.maximum(expected, 1e-12) ** 2
    return arm_effects(*out, spots.arm, spots.covariates)


def differ(effects: ArmEffects, a: int, b: int, fdr: float) -> bool:
    if not len(effects.arms):
        return False
    ratio = np.exp(effects.log_ratio[[a, b]])
    cov = effects.covariance[:, [[a], [b]], [a, b]] * ratio.T[:, :, None] * ratio.T[:, None, :]
    angle = np.linspace(0, np.pi / 2, 181)
    normal = np.stack([-np.sin(angle), np.cos(angle)])
    z = (normal.T @ (ratio - 1)) / np.sqrt(np.einsum("ia,rij,ja->ar", normal, cov, normal))
    best = z[np.square(z).sum(1).argmin()]
    return bool(false_discovery_control(2 * t.sf(np.abs(best), effects.df)).min() <= fdr)
