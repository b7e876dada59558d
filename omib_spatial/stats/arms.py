"""Chromosome arms that a group of spots has gained or lost, with errors that hold where neighbours are alike."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control, t

MIN_EXPECTED = 3.0
"""Molecules of a gene at least, expected in every group and seen in healthy tissue, so that it has a log ratio."""
BLOCK = 20
"""Neighbouring genes of an arm that count as one piece of evidence: they share more than their arm."""
MIN_GENES = 30
"""Genes of an arm at least."""
CLIP = 2.0
"""A gene counts for no more than it would this many standard deviations off its arm's median."""
MIN_BIOLOGY = 0.01
"""Variance of genes' log ratios between two tissues at least, beside counting."""
SHARED = 0.05
"""Standard deviation of what genes of one arm share without any gain or loss, measured between parts of healthy tissue
after gene density, length and expression are taken out (docs/clones.md)."""
ROUNDS = 3
"""Rounds of clipping and regression."""


@dataclass(frozen=True)
class ArmEffects:
    """How much more the genes of each arm are expressed in each group of spots than in healthy tissue.

    Attributes
    ----------
    arms
        Names, (arms,).
    log_ratio
        Natural logarithm of the ratio to healthy tissue, less that of the median gene; (groups, arms).
    covariance
        Of the groups' log ratios on each arm, (arms, groups, groups).
    df
        Degrees of freedom of the covariance.
    """

    arms: np.ndarray
    log_ratio: np.ndarray
    covariance: np.ndarray
    df: int

    @property
    def standard_error(self) -> np.ndarray:
        """(groups, arms)."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2)).T

    @property
    def pvalue(self) -> np.ndarray:
        """Two-sided p-value of neither gain nor loss, (groups, arms)."""
        return 2 * t.sf(np.abs(self.log_ratio) / self.standard_error, self.df)

    @property
    def adjusted_pvalue(self) -> np.ndarray:
        """The same adjusted over all groups and arms (Benjamini & Hochberg 1995), (groups, arms)."""
        pvalue = self.pvalue
        return false_discovery_control(pvalue, axis=None).reshape(pvalue.shape) if pvalue.size else pvalue


@dataclass(frozen=True)
class GeneRatios:
    """Log ratios of the genes that have enough molecules, in genome order.

    Attributes
    ----------
    values
        Natural logarithm of the ratio to healthy tissue, (groups, genes).
    noise
        Variance that counting adds, (groups, genes).
    arm
        Position in ``arms`` of each gene, (genes,).
    arms
        Names in the order of the genes, (arms,).
    covariates
        What else moves neighbouring genes, standardised, (p, genes).
    """

    values: np.ndarray
    noise: np.ndarray
    arm: np.ndarray
    arms: np.ndarray
    covariates: np.ndarray


def arm_effects(
    observed: np.ndarray, expected: np.ndarray, noise: np.ndarray, arm: np.ndarray, covariates: np.ndarray
) -> ArmEffects:
    """Mean log ratio of the genes on each arm, and how far it would be off by chance.

    All that moves genes one by one, or few neighbours together, is chance: counting, what neighbouring spots share, and
    that a tumour is another kind of cell than the tissue around it. How much that is follows from how far blocks of
    neighbouring genes scatter around the mean of their arm, so that spots need not be independent. Expression also
    depends on the density, length and expression of genes, in ways that differ between tissues and with the quality of
    RNA; this is regressed out within arms. What genes of one arm share beside that, `SHARED`, is added.

    Parameters
    ----------
    observed
        Molecules of each gene in each group of spots, (groups, genes), genes in genome order.
    expected
        Molecules that as much healthy tissue would have, (groups, genes).
    noise
        Variance of the logarithm of ``expected``, (groups, genes).
    arm
        Of each gene, (genes,); empty text where it is unknown.
    covariates
        Of each gene, (p, genes); the logarithm of its expression is added.

    Returns
    -------
    Effects on all arms that have `MIN_GENES` genes with enough molecules, in the order of the genes; none where they
    are too few to tell chance.
    """
    genes, n_groups = gene_ratios(observed, expected, noise, arm, covariates), len(observed)
    n = len(genes.arms)
    block = gene_blocks(genes.arm)
    df = len(np.unique(block)) - n
    if df < 1:
        return ArmEffects(genes.arms[:0], np.empty((n_groups, 0)), np.empty((0, n_groups, n_groups)), 0)
    held, weight = adjusted(genes)
    mean, total = _means(held, weight, genes.arm)
    block_mean, block_total = _means(held, weight, block)
    off = block_mean - mean[:, genes.arm[np.unique(block, return_index=True)[1]]]
    covariance = (off * block_total) @ off.T / df / total[:, None, None]
    # Two groups of one patient differ without cause as much as either of them from healthy tissue.
    covariance += SHARED**2 * (np.eye(n_groups) + 1) / 2
    centre = np.array([[weighted_median(row, weight)] for row in held])
    return ArmEffects(genes.arms, mean - centre, covariance, df)


def gene_ratios(
    observed: np.ndarray, expected: np.ndarray, noise: np.ndarray, arm: np.ndarray, covariates: np.ndarray
) -> GeneRatios:
    """Log ratios of genes on arms that have enough of them.

    Genes are chosen by what is expected of them, never by what is observed, which would bias the ratio.

    Parameters
    ----------
    observed, expected, noise, arm, covariates
        As of `arm_effects`.
    """
    enough = (expected >= MIN_EXPECTED).all(0) & (noise <= 1 / MIN_EXPECTED).all(0) & (arm != "")
    names, size = np.unique(arm[enough], return_counts=True)
    genes = np.flatnonzero(enough & np.isin(arm, names[size >= MIN_GENES]))
    observed, expected = observed[:, genes], expected[:, genes]
    arms = np.array(list(dict.fromkeys(arm[genes].tolist())), str)
    beside = np.vstack([covariates[:, genes], np.log(expected).mean(0)])
    if len(genes):
        beside = (beside - beside.mean(1, keepdims=True)) / (beside.std(1, keepdims=True) + 1e-9)
    order = np.argsort(arms)
    position = order[np.searchsorted(arms[order], arm[genes])]
    return GeneRatios(
        np.log((observed + 0.5) / (expected + 0.5)), 1 / expected + noise[:, genes], position, arms, beside
    )


def adjusted(genes: GeneRatios) -> tuple[np.ndarray, np.ndarray]:
    """Log ratios (groups, genes) without what the covariates explain, outliers held in, and genes' weights (genes,).

    A gene's weight is the inverse of the variance that biology and counting give it.
    """
    values, n = genes.values, len(genes.arms)
    for step in range(ROUNDS):
        middle = np.stack([np.median(values[:, genes.arm == a], axis=1) for a in range(n)], axis=1)[:, genes.arm]
        off = values - middle
        spread = np.square(1.4826 * np.median(np.abs(off), axis=1, keepdims=True))
        biology = np.maximum(spread - np.median(genes.noise, axis=1, keepdims=True), MIN_BIOLOGY)
        variance = biology + genes.noise
        held = middle + np.clip(off, -CLIP * np.sqrt(variance), CLIP * np.sqrt(variance))
        weight = 1 / variance.mean(0)
        if step < ROUNDS - 1:
            values = values - slopes(held, weight, genes) @ genes.covariates
    return held, weight


def slopes(values: np.ndarray, weight: np.ndarray, genes: GeneRatios) -> np.ndarray:
    """(groups, p) least-squares slopes of ``values`` on the covariates, within arms: gains and losses have no part."""
    x = genes.covariates - _means(genes.covariates, weight, genes.arm)[0][:, genes.arm]
    y = values - _means(values, weight, genes.arm)[0][:, genes.arm]
    return np.linalg.lstsq((x * weight) @ x.T, (x * weight) @ y.T)[0].T


def gene_blocks(arm: np.ndarray) -> np.ndarray:
    """Block of each gene, (n,): at least `BLOCK` neighbours of one ``arm`` (n,), and fewer than twice as many."""
    block, first = np.empty(len(arm), int), 0
    for code in np.unique(arm):
        genes = np.flatnonzero(arm == code)
        n = max(len(genes) // BLOCK, 1)
        block[genes] = first + np.arange(len(genes)) * n // len(genes)
        first += n
    return block


def weighted_median(values: np.ndarray, weight: np.ndarray) -> float:
    """Smallest of ``values`` (n,) up to which lies half of the ``weight`` (n,)."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])


def _means(values: np.ndarray, weight: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means (rows, groups) of ``values`` (rows, n), and the weight of each group."""
    total = np.bincount(group, weight)
    return np.stack([np.bincount(group, weight * row) for row in values]) / total, total
