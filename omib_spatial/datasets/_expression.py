"""Genes of the simulated tissue: where they lie, what they do in which layer, and the counts they leave."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from omib_spatial.datasets._anatomy import REGIONS, Floats, Ints

_BLOCK = 8192  # spots that are dense at a time
N_SMOOTH = 3  # programmes that vary smoothly over the slice, whatever the layer
# Lengths of chr1..chr22 and chrX in megabases, GRCh38.
_MEGABASES = (
    *(248, 242, 198, 190, 181, 170, 159, 145, 138, 133, 135, 133),
    *(114, 107, 102, 90, 83, 80, 58, 64, 46, 50, 156),
)
CHROMOSOMES = (*(f"chr{number}" for number in range(1, 23)), "chrX")


def draw_genes(rng: np.random.Generator, n_genes: int) -> pd.DataFrame:
    """Draw a gene table with columns ``chromosome``, ``start`` and ``end``, in an order unrelated to the genome's."""
    lengths = np.array(_MEGABASES) * 1_000_000
    ends = np.cumsum(lengths)
    place = rng.integers(0, ends[-1], n_genes)
    code = np.searchsorted(ends, place, side="right")
    start = place - (ends - lengths)[code] + 1
    end = start + np.clip(rng.lognormal(np.log(25_000), 1.0, n_genes), 500, 400_000).astype(np.int64)
    return pd.DataFrame(
        {
            "chromosome": pd.Categorical.from_codes(code, list(CHROMOSOMES)),
            "start": start,
            "end": np.minimum(end, lengths[code]),
        },
        index=[f"GENE{number + 1:04d}" for number in range(n_genes)],
    )


@dataclass(frozen=True)
class Programmes:
    """What genes do, on the natural log scale; shared by all slices of one simulation."""

    base: Floats  # (n_genes,)
    region: Floats  # (n_regions, n_genes) change of genes
    smooth: Floats  # (N_SMOOTH, n_genes) change of genes per unit
    tumour: Floats  # (n_genes,) change of genes
    overuse: Floats  # (N_SMOOTH,) level of the smooth programmes in a tumour
    size: Floats  # (n_genes,) inverse dispersion of the negative binomial


def draw_programmes(rng: np.random.Generator, chromosome: Ints) -> Programmes:
    """Draw the programmes of all genes, the tumour's partly from gained and lost chromosomes.

    Parameters
    ----------
    rng
        Source of randomness.
    chromosome
        Index of every gene's chromosome, (n_genes,).
    """
    n_genes = len(chromosome)

    def subset(share: float, scale: float, rows: int) -> Floats:
        return rng.normal(scale=scale, size=(rows, n_genes)) * (rng.random((rows, n_genes)) < share)

    copies = np.zeros(len(CHROMOSOMES))
    copies[rng.choice(len(CHROMOSOMES), 6, replace=False)] = np.repeat([0.35, -0.45], 3)
    return Programmes(
        # Bounded, so that no single gene carries the depth of a spot.
        base=2.8 * np.clip(rng.normal(size=n_genes), -2.5, 2.0),
        region=subset(0.15, 0.8, len(REGIONS)),
        smooth=subset(0.20, 0.5, N_SMOOTH),
        tumour=subset(0.20, 0.8, 1)[0] + copies[chromosome],
        overuse=3.0 * rng.choice([-1.0, 1.0], N_SMOOTH),
        size=rng.lognormal(np.log(2.5), 0.5, n_genes),
    )


def draw_depth(rng: np.random.Generator, region: Ints, kind: Ints, field: Floats, depth: float) -> Floats:
    """Draw the expected total counts per spot, (n_spots,): log-normal, with factors of slice, layer and place.

    Every kind of anomaly is given the mean log depth of the healthy spots, so that totals do not betray a blob that
    happens to lie in deeply sequenced layers.

    Parameters
    ----------
    rng
        Source of randomness.
    region
        Layer of every spot, (n_spots,).
    kind
        Kind of anomaly of every spot, 0 where it is healthy, (n_spots,).
    field
        Smooth function of place at every spot, of variance 1, (n_spots,).
    depth
        Total counts of a typical spot.
    """
    log_depth = np.array([row.log_depth for row in REGIONS])[region] + 0.12 * field
    log_depth += rng.normal(scale=0.15) + rng.normal(scale=0.22, size=len(region))
    centre = log_depth[kind == 0].mean()
    for code in np.unique(kind[kind > 0]):
        log_depth[kind == code] += centre - log_depth[kind == code].mean()
    return depth * np.exp(log_depth)


def draw_counts(
    rng: np.random.Generator, programmes: Programmes, region: Ints, smooth: Floats, tumour: Floats, depth: Floats
) -> sparse.csr_matrix:
    """Draw gamma-Poisson (negative binomial) counts around the profile of every spot, (n_spots, n_genes) float32.

    Parameters
    ----------
    rng
        Source of randomness.
    programmes
        What genes do.
    region
        Layer of every spot, (n_spots,).
    smooth
        Strength of the smooth programmes, (n_spots, N_SMOOTH).
    tumour
        Strength of the tumour programme, (n_spots,).
    depth
        Expected total counts, (n_spots,).
    """
    base = programmes.base + rng.normal(scale=0.1, size=programmes.base.shape)
    pieces = []
    for start in range(0, len(region), _BLOCK):
        rows = slice(start, start + _BLOCK)
        # Tumours fix at an extreme what healthy tissue varies smoothly, besides doing what it never does.
        levels = smooth[rows] + tumour[rows, None] * (programmes.overuse - smooth[rows])
        log_mean = base + programmes.region[region[rows]] + levels @ programmes.smooth
        log_mean += tumour[rows, None] * programmes.tumour
        mean = np.exp(log_mean - log_mean.max(1, keepdims=True))
        rate = rng.gamma(programmes.size, mean / programmes.size)
        # Renormalised, so that totals are Poisson around depth whatever the profile, and cannot betray a tumour.
        counts = rng.poisson(rate * (depth[rows] / rate.sum(1))[:, None])
        pieces.append(sparse.csr_matrix(counts, dtype=np.float32))
    return sparse.vstack(pieces, format="csr")
