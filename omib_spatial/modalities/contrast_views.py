"""One slide as seen by its genome profiles, its expression, signatures and its image."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse

from omib_spatial.modalities.signatures import Signatures
from omib_spatial.slides import Tissue
from omib_spatial.slides.gene_table import translate
from omib_spatial.slides.rows import size_factors
from omib_spatial.stats.replicas import SlideViews
from omib_spatial.stats.smooth import walk

HOPS = 2
"""Rings of neighbours that expression is averaged over."""
VARIABLE = 2000
"""Most variable genes in the view of expression."""
MIN_MEMBERS = 5
"""Genes of a signature that must be seen: with fewer, replicas may draw the same ones, and agree for that reason."""
OFTEN, PLACED_OFTEN = 0.05, 0.03
"""Share of spots that a gene must be seen in, for the view of expression and for that of the genome."""


def slide_views(
    tissue: Tissue, rows: np.ndarray, signatures: Sequence[Signatures], shown: np.ndarray | None = None
) -> Iterator[SlideViews]:
    """One slide for `omib_spatial.stats.contrast.slide_contrast`, with each of several sets of signatures.

    Counts are normalised for depth and averaged over neighbours before the logarithm is taken: the mean of logarithms
    depends on depth.

    Parameters
    ----------
    tissue
        That the slide is of.
    rows
        Its spots, (n,).
    signatures
        Sets of what is taken for abnormal.
    shown
        Statistics of the image around each spot, (n, p), NaN where there is none.

    Yields
    ------
    The slide with each set, when it is asked for; all else is computed once.
    """
    counts, depth = tissue.counts[rows], tissue.depth[rows]
    typical = float(np.median(depth[depth > 0])) if depth.any() else 1.0
    rates = sparse.csr_matrix(sparse.diags_array(size_factors(depth, typical)) @ counts)
    around = walk(sparse.csr_matrix(tissue.graph[rows][:, rows]), HOPS)
    often = counts.getnnz(0) / len(rows)

    def logs(columns: np.ndarray) -> np.ndarray:
        return np.log1p((around @ rates[:, columns]).toarray()).astype(np.float64)

    placed, chromosome = autosomal_genes(tissue, often > PLACED_OFTEN)
    genes = logs(placed)
    genes = np.clip((genes - np.median(genes, 0)) / (genes.std(0) + 0.1), -3, 3)
    expressed = np.flatnonzero(often > OFTEN)
    expression = logs(expressed)
    variable = np.argsort(-expression.var(0), kind="stable")[:VARIABLE]
    image, image_own = (None, None) if shown is None else _surroundings(shown, around)
    expression, columns = _scaled(expression[:, variable], 0.05), (placed, expressed[variable])
    for given in signatures:
        members = [(weight, logs(_find(tissue, names))) for weight, names in given.values()]
        scaled = [(w, _scaled(own, 0.1)) for w, own in members if (np.ptp(own, axis=0) > 0).sum() >= MIN_MEMBERS]
        yield SlideViews(genes, chromosome, expression, scaled, image, columns, image_own)


def _surroundings(shown: np.ndarray, around: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Statistics averaged over those neighbours that have an image, and scaled; None where most spots have none.

    Returns
    -------
    (n, p), and how far each moves with the spot's own statistic, (n, p).
    """
    seen = np.isfinite(shown).all(1)
    if 2 * seen.sum() < len(shown):
        return None, None
    weight = (around @ seen.astype(np.float64))[:, None]
    total = around @ np.where(seen[:, None], shown, 0).astype(np.float64)
    usual = shown[seen].mean(0, dtype=np.float64)
    values = np.where(weight > 0, total / np.maximum(weight, 1e-12), usual)
    if np.ptp(values, axis=0).max() <= 1e-6:
        return None, None
    own, spread = around.diagonal()[:, None] / np.maximum(weight, 1e-12), values.std(0)
    return _scaled(values, 1e-9), np.where(spread > 1e-6, own / np.maximum(spread, 1e-6), 0)


def autosomal_genes(tissue: Tissue, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the autosomal genes that are ``kept`` (n_vars,), in genome order, and their chromosomes."""
    if tissue.gene_positions is None:
        return np.empty(0, int), np.empty(0, int)
    table = tissue.gene_positions.table
    names = table["chromosome"].astype(str)
    number = np.where(names.str.isdigit(), names.where(names.str.isdigit(), "0").astype(int), 0)
    start = table["start"].to_numpy(float)
    genes = np.flatnonzero((number > 0) & np.isfinite(start) & kept)
    genes = genes[np.lexsort((table["end"].to_numpy(float)[genes], start[genes], number[genes]))]
    return genes, number[genes]


def _find(tissue: Tissue, genes: Sequence[str]) -> np.ndarray:
    """Columns of the genes that are there, by symbol in the writing of human or mouse, or by Ensembl id.

    In the order of ``genes``, so that repetitions draw the same ones in whatever order the data has them.
    """
    position = np.concatenate(
        [translate(written, tissue.adata.var) for written in (genes, [gene.capitalize() for gene in genes])]
    )
    return np.array(list(dict.fromkeys(position[position >= 0].tolist())), int)


def _scaled(values: np.ndarray, soften: float) -> np.ndarray:
    """Columns with mean 0 and about unit spread; those that hardly vary are not blown up."""
    return (values - values.mean(0)) / (values.std(0) + soften)
