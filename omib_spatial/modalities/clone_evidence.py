"""What the genome says of called spots, ready to be grouped into clones."""

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from omib_spatial.modalities.genome import NO_POSITIONS, Genome, GenomeRows
from omib_spatial.slides import Tissue
from omib_spatial.slides.gene_table import arm_names
from omib_spatial.slides.validation import check_shared_genes
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
    rows, codes = np.flatnonzero(called), np.fromiter(healthy, int)
    slices = np.searchsorted(np.sort(codes), tissue.codes[rows])
    compared = [healthy[code] for code in np.sort(codes)]
    usual = np.stack([mean_expression(prepared.masked(reference), some) for some in compared])
    averages = sparse.hstack([gene_weights(genome, arm, fold != f) for f in (-1, *range(FOLDS))], format="csr")
    own = prepared.masked(called)
    profile = np.concatenate(
        [(own.scaled(rows[i]) - usual[slices[i]]) @ averages for i in own.chunks(np.arange(len(rows)))]
    ).reshape(len(rows), FOLDS + 1, -1)
    profile -= profile.mean(2, keepdims=True)
    counts = tissue.counts.chosen(columns, np.ones(tissue.n_obs, np.float32))
    return CalledSpots(
        profile=profile[:, 0],
        without=profile[:, 1:].transpose(1, 0, 2),
        precision=1 / own.noise[rows],
        counts=counts[rows],
        depth=tissue.depth[rows],
        slices=slices,
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


def gene_weights(genome: Genome, arm: np.ndarray, kept: np.ndarray) -> sparse.csr_matrix:
    """(genes, windows) averages of scaled expression over windows of each arm: the log ratio that fits it best.

    A gain of x in log expression moves a gene's scaled, softened logarithm by about x times its slope; genes weigh by
    their slope, so that those that are hardly expressed add little noise.

    Parameters
    ----------
    genome
        That scales expression.
    arm
        Of each gene, (genes,).
    kept
        Genes that count, (genes,) bool.
    """
    mean = np.expm1(genome.mean.numpy().astype(np.float64))
    slope = mean / (1 + mean) / genome.scale.numpy() * kept
    members = windows(arm, genome.window, genome.step)
    total = np.asarray(members.T @ np.square(slope)).ravel()
    return sparse.csr_matrix(sparse.diags_array(slope) @ members @ sparse.diags_array(1 / np.maximum(total, 1e-9)))


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
