"""Chromosome arms that a group of spots has gained or lost, with errors that hold where neighbouring spots are alike."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t

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
SHARED = 0.08
"""Share of that variance that genes of one arm have in common without any gain or loss: measured between parts of
healthy tissue, after gene density, length and expression are taken out (docs/clones.md)."""
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


@dataclass(frozen=True)
class GeneRatios:
    """Log ratios of genes, in genome order.

    Attributes
    ----------
    values
        (groups, genes).
    noise
        Variance that counting adds, (groups, genes).
    arm
        Position in `arms` of each gene, (genes,).
    arms
        Names, (arms,).
    covariates
        What else moves genes that lie together, standardised, (p, genes).
    """

    values: np.ndarray
    noise: np.ndarray
    arm: np.ndarray
    arms: np.ndarray
    covariates: np.ndarray


def gene_ratios(
    observed: np.ndarray, expected: np.ndarray, noise: np.ndarray, arm: np.ndarray, covariates: np.ndarray
) -> GeneRatios:
    """Log ratios of the genes that have enough molecules, on arms that have enough genes; as of `arm_effects`."""
    enough = (expected >= MIN_EXPECTED).all(0) & (noise <= 1 / MIN_EXPECTED).all(0)
    names, size = np.unique(arm[enough], return_counts=True)
    genes = np.flatnonzero(enough & np.isin(arm, names[size >= MIN_GENES]))
    observed, expected, arm = observed[:, genes], expected[:, genes], arm[genes]
    arms = np.array(list(dict.fromkeys(arm.tolist())), str)
    beside = np.vstack([covariates[:, genes], np.log(expected).mean(0)])
    beside = (beside - beside.mean(1, keepdims=True)) / (beside.std(1, keepdims=True) + 1e-9)
    values = np.log((observed + 0.5) / (expected + 0.5))
    position = np.searchsorted(np.sort(arms), arm)
    return GeneRatios(values, 1 / expected + noise[:, genes], np.argsort(arms)[position], arms, beside)


def arm_effects(
    observed: np.ndarray, expected: np.ndarray, noise: np.ndarray, arm: np.ndarray, covariates: np.ndarray
) -> ArmEffects:
    """Mean log ratio of the genes on each arm, and how far it would be off by chance.

    Everything that moves genes one by one, or few neighbours together, is chance: counting, whatever spots and their
    neighbours share, and that a tumour is another kind of cell than the tissue around it. Its size is taken from how
    far blocks of neighbouring genes scatter around the mean of their arm, so that it does not matter that spots are
    alike. Gene density, length and expression are regressed out within arms: expression depends on them in ways that
    differ between tissues and with the quality of RNA, and whole arms are dense or thin. What genes of one arm share
    beside that (`SHARED`) is added.

    Parameters
    ----------
    observed
        Molecules of each gene in each group of spots, (groups, genes), genes in genome order.
    expected
        Molecules that as much healthy tissue would have, (groups, genes).
    noise
        Variance of the logarithm of ``expected``, (groups, genes).
    arm
        Of each gene, (genes,).
    covariates
        Of each gene, (p, genes); the logarithm of its expression is added.

    Returns
    -------
    Effects on all arms that have `MIN_GENES` genes with enough molecules, in the order of the genes.
    """
    genes, n_groups = gene_ratios(observed, expected, noise, arm, covariates), len(observed)
    n = len(genes.arms)
    block = _blocks(genes.arm)
    if n == 0 or block.max() + 1 <= n:
        return ArmEffects(genes.arms[:0], np.empty((n_groups, 0)), np.empty((0, n_groups, n_groups)), 0)
    values = genes.values
    for step in range(ROUNDS):
        middle = _medians(values, genes.arm, n)[:, genes.arm]
        spread = np.square(1.4826 * np.median(np.abs(values - middle), axis=1, keepdims=True))
        biology = np.maximum(spread - np.median(genes.noise, axis=1, keepdims=True), MIN_BIOLOGY)
        sd = np.sqrt(biology + genes.noise)
        held = middle + np.clip(values - middle, -CLIP * sd, CLIP * sd)
        weight = 1 / np.square(sd).mean(0)
        if step < ROUNDS - 1:
            values = values - slopes(held, weight, genes) @ genes.covariates
    mean, total = _means(held, weight, genes.arm)
    block_mean, block_total = _means(held, weight, block)
    off = block_mean - mean[:, genes.arm[np.unique(block, return_index=True)[1]]]
    df = len(block_total) - n
    off_gene = held - mean[:, genes.arm]
    common = np.cov(off_gene) if n_groups > 1 else np.array([[off_gene.var()]])
    common = np.clip(common, -1, 1) 
    level = biology[:, 0]
    root = np.sqrt(np.outer(level, level))
    shared = np.where(np.eye(n_groups) > 0, root, np.clip(common, -root, root))
    centre = np.array([[weighted_median(row, weight)] for row in held])
    covariance = (off * block_total) @ off.T / df / total[:, None, None] + SHARED * shared
    return ArmEffects(genes.arms, mean - centre, covariance, df)


def slopes(values: np.ndarray, weight: np.ndarray, genes: GeneRatios) -> np.ndarray:
    """(groups, p) least-squares slopes of ``values`` on the covariates, within arms: gains and losses have no part."""
    x = genes.covariates - _means(genes.covariates, weight, genes.arm)[0][:, genes.arm]
    y = values - _means(values, weight, genes.arm)[0][:, genes.arm]
    return np.linalg.lstsq((x * weight) @ x.T, (x * weight) @ y.T)[0].T


def weighted_median(values: np.ndarray, weight: np.ndarray) -> float:
    """Smallest of ``values`` (n,) up to which lies half of the ``weight`` (n,)."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])


def _medians(values: np.ndarray, group: np.ndarray, n: int) -> np.ndarray:
    return np.stack([np.median(values[:, group == g], axis=1) for g in range(n)], axis=1)


def _means(values: np.ndarray, weight: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means (rows, groups) of ``values`` (rows, n), and the weight of each group."""
    total = np.bincount(group, weight)
    return np.stack([np.bincount(group, weight * row) for row in values]) / total, total


def _blocks(of_arm: np.ndarray) -> np.ndarray:
    """Block of each gene, (n,): `BLOCK` or a few more neighbours on one arm."""
    block, first = np.empty(len(of_arm), int), 0
    for code in np.unique(of_arm):
        genes = np.flatnonzero(of_arm == code)
        n = max(len(genes) // BLOCK, 1)
        block[genes] = first + np.arange(len(genes)) * n // len(genes)
        first += n
    return block
