"""Clones: groups of abnormal spots with one genome profile."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment, minimize
from scipy.stats import false_discovery_control, t
from sklearn.cluster import KMeans

from omib_spatial.stats.arms import ArmEffects, arm_effects

FOLDS = 4
"""Parts of the genes: spots are grouped by all but one, and the groups are compared by that one."""
MIN_SPOTS = 10
"""Spots of a clone at least."""
SPLIT = 0.05
"""Chance at which a clone is taken for one though it is a mixture of the others."""
MAX_SHARE = 20.0
"""Tumour cells in one clone by those in another, at most."""


@dataclass(frozen=True)
class CalledSpots:
    """Called spots of one patient, beside healthy tissue of the slices that they lie on.

    Attributes
    ----------
    profile
        Genome profile of each spot less that of healthy tissue on its slice, (n, windows), centred per spot.
    without
        The same without the genes of each fold, (`FOLDS`, n, windows).
    precision
        Inverse of the variance that counting adds to each profile, in any unit, (n,).
    counts
        Raw counts, (n, genes), genes in genome order.
    depth
        Total counts of each spot, (n,).
    reference
        Which healthy tissue each spot is compared with, (n,) int; slices that share one also share its counting noise.
    healthy
        Molecules in each of these, (n_references, genes).
    healthy_depth
        Its total counts, (n_references,).
    fold
        Of each gene, (genes,) int.
    arm
        Chromosome arm of each gene, (genes,); empty text where it is unknown.
    covariates
        What makes neighbouring genes alike without any gain or loss, (p, genes).
    """

    profile: np.ndarray
    without: np.ndarray
    precision: np.ndarray
    counts: sparse.csr_matrix
    depth: np.ndarray
    reference: np.ndarray
    healthy: np.ndarray
    healthy_depth: np.ndarray
    fold: np.ndarray
    arm: np.ndarray
    covariates: np.ndarray


@dataclass(frozen=True)
class Clones:
    """What was found.

    Attributes
    ----------
    clone
        Of each spot, (n,) int; the largest clone is 0.
    effects
        Arms of each clone; each gene was compared in clones that had been formed without it.
    """

    clone: np.ndarray
    effects: ArmEffects


def find_clones(spots: CalledSpots, *, max_clones: int = 6, fdr: float = 0.05, seed: int = 0) -> Clones:
    """Group spots by their genome profiles, in as many clones as differ in genes that had no part in forming them.

    The number is chosen by splitting data, as prediction strength does (Tibshirani & Walther 2005). Spots cannot be
    split, since neighbours are alike; genes can. A programme of expression moves the genes of one fold and those of the
    others alike only by chance, a gained arm moves all. So clones are formed without one fold of genes and compared by
    it, each fold in turn. There are as many as will do: none is a mixture of the others, and at most one has no arm
    gained or lost; one if no larger number will do.

    Parameters
    ----------
    spots
        Of one patient.
    max_clones
        At most so many, and no more than have `MIN_SPOTS` spots each.
    fdr
        Expected share of false ones among the arms that are called.
    seed
        Of the clustering.
    """
    one = np.zeros(len(spots.depth), int)
    found = Clones(one, effects_across_folds(spots, np.tile(one, (FOLDS, 1)), 1))
    for k in range(2, min(max_clones, len(one) // MIN_SPOTS) + 1):
        labels, across = cluster_across_folds(spots, k, seed)
        if min(np.bincount(row, minlength=k).min() for row in (labels, *across)) < MIN_SPOTS:
            continue
        effects = effects_across_folds(spots, across, k)
        apart = all(mixture_pvalue(effects, clone) <= SPLIT for clone in range(k))
        if apart and (effects.adjusted_pvalue.min(1) <= fdr).sum() >= k - 1:
            found = Clones(labels, effects)
    return found


def cluster(profile: np.ndarray, precision: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Group profiles by their direction, (n,) int in [0, k).

    A spot's profile is its clone's times its share of tumour cells, so that length says nothing of the clone. Noise has
    no direction: spots weigh by squared length and precision, and all but the leading ``k + 1`` axes are dropped.

    Parameters
    ----------
    profile
        (n, windows).
    precision
        (n,).
    k
        Number of groups.
    seed
        Of k-means' starts.
    """
    root = np.sqrt(precision)[:, None]
    axes = np.linalg.svd(root * profile, full_matrices=False)[2][: k + 1]
    along = profile @ axes.T
    length = np.linalg.norm(along, axis=1)
    direction = along / np.maximum(length, 1e-12)[:, None]
    weight = precision * np.square(length)
    labels: np.ndarray = KMeans(k, n_init=10, random_state=seed).fit(direction, sample_weight=weight).labels_
    return labels.astype(int)


def cluster_across_folds(spots: CalledSpots, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clones by all genes, (n,), the largest first, and without each fold, (`FOLDS`, n), in the same order."""
    labels = cluster(spots.profile, spots.precision, k, seed)
    labels = np.argsort(np.argsort(-np.bincount(labels, minlength=k), kind="stable"))[labels]
    across = [matched(cluster(profile, spots.precision, k, seed), labels, k) for profile in spots.without]
    return labels, np.stack(across)


def matched(labels: np.ndarray, to: np.ndarray, k: int) -> np.ndarray:
    """Groups ``labels`` (n,) under the names of those in ``to`` (n,) with which they share most spots."""
    shared = np.zeros((k, k))
    np.add.at(shared, (labels, to), 1)
    return linear_sum_assignment(shared, maximize=True)[1][labels]


def effects_across_folds(spots: CalledSpots, across: np.ndarray, k: int) -> ArmEffects:
    """Arms of ``k`` clones: the genes of each fold in clones that were formed without them, ``across`` (`FOLDS`, n)."""
    rate = spots.healthy / spots.healthy_depth[:, None]
    variance = spots.healthy / np.square(spots.healthy_depth)[:, None]
    observed, expected, noise = np.zeros((3, k, len(spots.fold)))
    for fold, labels in enumerate(across):
        genes = np.flatnonzero(spots.fold == fold)
        member = sparse.csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))), (k, len(labels)))
        depth = np.zeros((k, len(rate)))
        np.add.at(depth, (labels, spots.reference), spots.depth)
        observed[:, genes] = (member @ spots.counts[:, genes]).toarray()
        expected[:, genes] = depth @ rate[:, genes]
        noise[:, genes] = np.square(depth) @ variance[:, genes] / np.maximum(np.square(expected[:, genes]), 1e-12)
    return arm_effects(observed, expected, noise, spots.arm, spots.covariates)


def mixture_pvalue(effects: ArmEffects, clone: int) -> float:
    """p-value (Simes 1986) of a clone being no more than a mixture of the others and healthy tissue.

    Where s of the cells of a group are of a clone, an arm's ratio to healthy tissue is 1 + s (r - 1), and so adds up
    for several clones. The mixture is chosen that fits best; what is left must be chance. This covers two groups of one
    clone that differ in their share of tumour cells, and spots on the border of two clones.

    Parameters
    ----------
    effects
        Of all groups.
    clone
        Which of them.
    """
    n_groups = len(effects.log_ratio)
    if len(effects.arms) == 0:
        return 1.0
    ratio = np.exp(effects.log_ratio)
    covariance = effects.covariance * ratio.T[:, :, None] * ratio.T[:, None, :]
    others = np.delete(np.arange(n_groups), clone)

    def left(shares: np.ndarray) -> np.ndarray:
        """What a mixture leaves of each arm, in standard errors, (arms,)."""
        part = np.zeros(n_groups)
        part[clone], part[others] = 1, -shares
        return part @ (ratio - 1) / np.sqrt(np.einsum("i,aij,j->a", part, covariance, part))

    starts = [np.full(len(others), 1 / len(others)), *np.eye(len(others))]
    fits = [minimize(lambda x: float(np.square(left(x)).sum()), x, bounds=[(0, MAX_SHARE)] * len(x)) for x in starts]
    best = left(min(fits, key=lambda fit: fit.fun).x)
    return float(false_discovery_control(2 * t.sf(np.abs(best), effects.df)).min())
