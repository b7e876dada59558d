"""What the genome says of called spots, ready to be grouped into clones."""

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from omib_spatial.modalities.genome import NO_POSITIONS, Genome
from omib_spatial.modalities.genome_rows import GenomeRows
from omib_spatial.slides import Tissue
from omib_spatial.slides.gene_positions import arm_names
from omib_spatial.slides.shared_genes import check_shared_genes
from omib_spatial.stats.arms import BLOCK
from omib_spatial.stats.clones import FOLDS, CalledSpots
from omib_spatial.stats.contiguity import windows

DENSE = 10
"""Genes to either side within which the density of genes is measured."""


def called_spots(tissue: Tissue, called: np.ndarray, healthy: Mapping[int, np.ndarray]) -> CalledSpots:
    """Genome profiles and counts of called spots, beside those of healthy tissue.

    Profiles are those of the modality `Genome`, learned of the healthy spots, with two changes: called spots are
    averaged with called neighbours alone, and genes weigh by how much a gain would move them.

    Parameters
    ----------
    tissue
        All spots, with positions of genes.
    called
        Of one patient, (n_obs,) bool, each with counts.
    healthy
        By position in `Tissue.libraries`, the healthy spots with which each slice of called spots is compared: rows.
    """
    reference = np.isin(np.arange(tissue.n_obs), np.concatenate(list(healthy.values())))
    placed = tissue.gene_positions
    if placed is None:
        raise KeyError(NO_POSITIONS)
    genome = Genome()
    genome.fit(tissue, reference)
    columns = check_shared_genes(genome.genes, tissue.adata.var)
    arm = arm_names(placed)[columns]
    fold = np.arange(len(columns)) // BLOCK % FOLDS
    prepared = genome.prepare(tissue)
    rows = np.flatnonzero(called)
    distinct = {some.tobytes(): some for some in healthy.values()}
    compared, names = list(distinct.values()), list(distinct)
    compared_with = {code: names.index(some.tobytes()) for code, some in healthy.items()}
    against = np.array([compared_with[code] for code in tissue.codes[rows]], int)
    usual = np.stack([mean_expression(prepared.masked(reference), some) for some in compared])
    # All genes together, and those without each fold, at once: expression is dense, and made only once.
    weights = [gene_weights(genome, arm, fold != f) for f in (-1, *range(FOLDS))]
    averages = sparse.hstack([each for each, _ in weights], format="csr")
    own = prepared.masked(called)
    stacked = np.concatenate(
        [(own.scaled(rows[i]) - usual[against[i]]) @ averages for i in own.chunks(np.arange(len(rows)))]
    )
    profiles = [
        centred(part, common) for part, (_, common) in zip(np.hsplit(stacked, len(weights)), weights, strict=True)
    ]
    counts = tissue.counts.chosen(columns, np.ones(tissue.n_obs, np.float32))
    return CalledSpots(
        profile=profiles[0],
        without=np.stack(profiles[1:]),
        precision=1 / own.noise[rows],
        counts=counts[rows],
        depth=tissue.depth[rows],
        reference=against,
        healthy=np.stack([np.asarray(counts[some].sum(0, dtype=np.float64)).ravel() for some in compared]),
        healthy_depth=np.array([tissue.depth[some].sum() for some in compared]),
        fold=fold,
        arm=arm,
        covariates=gene_covariates(genome),
    )


def mean_expression(prepared: GenomeRows, rows: np.ndarray) -> np.ndarray:
    """Mean scaled expression of each gene in ``rows``, (genes,)."""
    return np.sum([prepared.scaled(some).sum(0, dtype=np.float64) for some in prepared.chunks(rows)], axis=0) / len(
        rows
    )


def gene_weights(genome: Genome, arm: np.ndarray, kept: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Weights of genes in windows of each arm that tell a gain from counting noise best.

    A gain of x in log expression moves a gene's scaled logarithm by x times its slope, m / (1 + m) by its scale at
    expression m, and its noise is of unit size; so genes weigh by their slope.

    Parameters
    ----------
    genome
        That scales expression.
    arm
        Of each gene, (genes,).
    kept
        Genes that count, (genes,) bool.

    Returns
    -------
    weights
        (genes, windows); noise has unit size in every window. Zero where no gene of a window counts.
    gain
        What a gain of one in log expression of all genes adds to each window, (windows,).
    """
    mean = np.expm1(genome.mean.numpy().astype(np.float64))
    slope = mean / (1 + mean) / genome.scale.numpy() * kept
    members = windows(arm, genome.window, genome.step)
    gain = np.sqrt(np.asarray(members.T @ np.square(slope)).ravel())
    scale = np.divide(1, gain, out=np.zeros_like(gain), where=gain > 0)
    return sparse.csr_matrix(sparse.diags_array(slope) @ members @ sparse.diags_array(scale)), gain


def centred(profile: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """``profile`` (n, windows) without what all genes have more or less in common, which adds ``gain`` (windows,)."""
    return profile - np.outer(profile @ gain, gain) / max(float(gain @ gain), 1e-12)


def gene_covariates(genome: Genome) -> np.ndarray:
    """Logarithms of the length and of the density of genes around each, (2, genes): what expression leans on."""
    start, end = genome.start.numpy(), genome.end.numpy()
    density = np.zeros(len(start))
    for name in dict.fromkeys(genome.chromosomes):
        own = np.flatnonzero(np.asarray(genome.chromosomes) == name)
        at = np.arange(len(own))
        first, last = np.maximum(at - DENSE, 0), np.minimum(at + DENSE, len(own) - 1)
        density[own] = (last - first) / (start[own][last] - start[own][first] + 1)
    return np.log(np.stack([np.maximum(end - start, 1), density]))
