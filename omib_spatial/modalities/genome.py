"""Expression along the genome: gains and losses of chromosome arms, which tumours have and healthy tissue has not."""

import logging
from collections.abc import Sequence
from typing import Annotated, Any, Self, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from omib_spatial._checked import Count, Fits, Integers, Positive, Share, checked
from omib_spatial.encoders.tabular import MLP
from omib_spatial.modalities.base import Modality, Prepared, State
from omib_spatial.modalities.gene import refuse_no_counts
from omib_spatial.modalities.genome_rows import GenomeRows
from omib_spatial.modalities.slide_statistics import EXPRESSION, SlideDescription, describe_expression
from omib_spatial.slides import Tissue
from omib_spatial.slides.gene_positions import arm_names, positions
from omib_spatial.slides.rows import size_factors
from omib_spatial.slides.shared_genes import check_shared_genes
from omib_spatial.stats.contiguity import windows

logger = logging.getLogger("omib_spatial")

POSITION = ("chromosome", "start", "end")
"""``var`` columns, as infercnvpy names them."""
SOFTEN = 0.1
"""Added to every gene's standard deviation: a gene that hardly varies in the reference must not blow up."""
FEWEST = 5
"""A chromosome needs at least this many genes: contigs and thin panels give none."""
MIN_PLACED = 1000
"""Genes that the package's table must place, so that a fit uses the genome without being asked; the user's own columns
may place fewer."""
Chromosomes = Annotated[
    Sequence[str],
    Fits(
        "a list of chromosomes, as text",
        lambda names: isinstance(names, list | tuple) and all(isinstance(name, str) for name in names),
    ),
]
NO_POSITIONS = (
    "Expression along the genome is not used: var has no columns 'chromosome', 'start' and 'end', and its names are no "
    "human or mouse genes that the package knows. Add the columns with infercnvpy.io.genomic_position_from_gtf or "
    "omib_spatial.datasets.gene_positions."
)


class Genome(Modality):
    """Expression averaged over neighbouring spots, then over neighbouring genes along each chromosome.

    The idea of inferCNV (Tirosh et al. 2016): a gained arm raises all its genes a little, which the mean of many genes
    shows. Counts are normalised by depth, averaged over the spatial graph **before** the logarithm (the mean of
    logarithms depends on depth), scaled and clipped gene by gene by the healthy reference, averaged in windows, and
    centred per spot.

    Parameters
    ----------
    window
        Genes per window; a chromosome with fewer is one window.
    step
        Genes from one window to the next; None takes a fifth of the window.
    hops
        Rings of neighbours that a spot is averaged with: a walk of this many steps on the spatial graph.
    clip
        Scaled expression is held within this many standard deviations of the reference.
    exclude
        Chromosomes left out, without the prefix ``chr``: the sexes differ in theirs, mitochondria in number.
    min_fraction
        A gene must be seen in at least this share of the reference spots.

    Examples
    --------
    >>> from omib_spatial.modalities import Genome
    >>> genome = Genome(window=21, hops=1)
    >>> genome.window, genome.exclude
    (21, ('X', 'Y', 'M', 'MT'))
    >>> adata.obsm["X_omib_genome"].shape[1] == len(adata.uns["omib"]["genome"]["chromosome"])
    True
    """

    components = 40
    clonal_axes = 8
    statistics = EXPRESSION

    @checked
    def __init__(
        self,
        window: Count = 101,
        step: Count | None = None,
        hops: Annotated[int, Integers(0, 100)] = 2,
        clip: Positive = 3.0,
        exclude: Chromosomes = ("X", "Y", "M", "MT"),
        min_fraction: Share = 0.03,
    ) -> None:
        self.window, self.step, self.hops, self.clip = window, step, hops, clip
        self.exclude, self.min_fraction = tuple(exclude), min_fraction
        self.genes: list[str] = []
        self.chromosomes: list[str] = []
        self.target_sum = 1e4
        self.mean = self.scale = self.start = self.end = torch.empty(0)

    @classmethod
    def offered(cls, tissue: Tissue) -> bool:
        """Whether genes can be placed, by ``var`` or by the package's table; says so, or what to do."""
        placed = tissue.gene_positions
        if placed is None:
            logger.warning(NO_POSITIONS)
            return False
        if not placed.own and placed.n_placed < MIN_PLACED:
            logger.warning(
                "Expression along the genome is not used: %s At least %d are needed, unless modalities= "
                "names 'genome'.",
                placed.source,
                MIN_PLACED,
            )
            return False
        genes = genes_in_order(placed.table, cls().exclude)
        if len(genes) == 0 or windows(genes["chromosome"].tolist(), cls().window).shape[1] < 2:
            return False
        logger.info("Expression along the genome is used: %s", placed.source)
        return True

    def check(self, tissue: Tissue, *, required: bool) -> None:
        """Raise what is wrong with the counts and, where the model is yet to learn them, with the positions."""
        tissue.check_counts()
        if not required:
            return
        refuse_no_counts(tissue)
        if (placed := tissue.gene_positions) is None:
            raise KeyError(NO_POSITIONS)
        placed_genes = genes_in_order(placed.table, self.exclude)
        if len(placed_genes) == 0:
            found = list(pd.unique(placed.table["chromosome"].astype(str))[:5])
            raise ValueError(
                f"No chromosome (of such as {found}) has {FEWEST} genes with a position, apart from those excluded "
                f"{list(self.exclude)}."
            )

        self._refuse_one_window(placed_genes["chromosome"].tolist())

    def _refuse_one_window(self, chromosomes: Sequence[str]) -> None:
        if windows(chromosomes, self.window, self.step).shape[1] < 2:
            raise ValueError(
                f"All {len(chromosomes)} genes with a position are in one window of chromosome {chromosomes[0]!r}: a "
                "profile along the genome compares several. Leave 'genome' out of modalities, or use more genes."
            )

    def fit(self, tissue: Tissue, reference: np.ndarray, visible: np.ndarray | None = None) -> None:
        """Learn genes and depth of the spots that are visible, means and scales of the reference among them."""
        depth = tissue.depth
        reference = reference & (depth > 0)
        visible = reference if visible is None else (reference | visible) & (depth > 0)
        n_spots = tissue.counts.n_spots_by_gene(np.flatnonzero(visible))
        placed = genes_in_order(self._table(tissue)[n_spots >= self.min_fraction * visible.sum()], self.exclude)
        if len(placed) == 0:
            raise ValueError(
                f"No chromosome has {FEWEST} genes seen in {self.min_fraction:.0%} of the reference spots: leave "
                "'genome' out of modalities, or lower min_fraction."
            )
        self._refuse_one_window(placed["chromosome"].tolist())
        self.genes, self.chromosomes = [str(g) for g in placed.index], placed["chromosome"].tolist()
        self.start, self.end = (torch.from_numpy(placed[c].to_numpy(np.float64)) for c in ("start", "end"))
        self.target_sum = float(np.median(depth[visible]))
        self.mean, self.scale = torch.zeros(len(self.genes)), torch.ones(len(self.genes))
        rows = self.prepare(tissue).masked(visible)
        total, squares, n = 0.0, 0.0, int(reference.sum())
        for some in rows.chunks(np.flatnonzero(reference)):
            values = rows.expression(some).astype(np.float64)
            total, squares = total + values.sum(0), squares + np.square(values).sum(0)
        mean = total / n
        spread = np.sqrt(np.maximum(squares / n - np.square(mean), 0))
        self.mean, self.scale = torch.from_numpy(mean).float(), torch.from_numpy(spread + SOFTEN).float()

    def _table(self, tissue: Tissue) -> pd.DataFrame:
        if tissue.gene_positions is None:
            raise KeyError(NO_POSITIONS)
        return tissue.gene_positions.table

    def prepare(self, tissue: Tissue) -> GenomeRows:
        """Normalised counts of the model's genes, sparse, and the spatial graph; profiles follow when asked for."""
        position = check_shared_genes(self.genes, tissue.adata.var)
        known = np.flatnonzero(position >= 0)
        share = size_factors(tissue.depth, self.target_sum)
        averages = windows(self.chromosomes, self.window, self.step)[known]
        present = np.asarray(averages.sum(0)).ravel()
        # A gene that the data lacks drops out of its windows; a window without any gene stays at the reference's mean.
        averages = sp.csr_matrix(averages @ sp.diags_array(1 / np.maximum(present, 1)))
        scaling = self.mean.numpy()[known], self.scale.numpy()[known], self.clip
        counts = tissue.normalised(position[known], self.target_sum)
        chromosome, ratio = np.array(self.chromosomes)[known], tissue.noise_ratio
        rows = GenomeRows(counts, tissue.graph, share, averages, scaling, chromosome, self.hops, noise_ratio=ratio)
        return rows.masked(tissue.depth > 0)

    def describe_slides(self, tissue: Tissue, visible: np.ndarray) -> dict[int, SlideDescription]:
        """Depth, genes and expression of each slide."""
        return describe_expression(tissue, visible, self.genes)

    def encoder(self) -> nn.Module:
        """A two-layer perceptron."""
        return MLP(windows(self.chromosomes, self.window, self.step).shape[1])

    def drawn(self, prepared: Prepared) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The profiles (n_obs, windows), NaN for spots without counts, and `window_positions`."""
        return cast(GenomeRows, prepared).profile, self.window_positions()

    def window_positions(self) -> dict[str, np.ndarray]:
        """Chromosome, arm of most genes, first and last base pair of every window, each (windows,)."""
        members = windows(self.chromosomes, self.window, self.step).tocsc()
        pieces = [members.indices[a:b] for a, b in zip(members.indptr[:-1], members.indptr[1:], strict=True)]
        arms = self._arms()
        return {
            "chromosome": np.array([self.chromosomes[piece[0]] for piece in pieces]),
            "arm": np.array([most_common(arms[piece]) for piece in pieces], str),
            "start": np.array([float(self.start[piece.min()]) for piece in pieces]),
            "end": np.array([float(self.end[piece].max()) for piece in pieces]),
        }

    def _arms(self) -> np.ndarray:
        """Arm of each gene, (genes,)."""
        places = {"chromosome": self.chromosomes, "start": self.start.numpy(), "end": self.end.numpy()}
        placed = positions(pd.DataFrame(places, index=self.genes))
        return np.array(self.chromosomes) if placed is None else arm_names(placed)

    def feature_names(self, tissue: Tissue, width: int) -> list[str]:
        """The arm of every window."""
        return [str(arm) for arm in self.window_positions()["arm"]]

    def state(self) -> State:
        """Settings, genes in genome order with their places, depth, means, scales."""
        names = ("window", "step", "hops", "clip", "min_fraction", "genes", "chromosomes", "target_sum")
        config = {name: getattr(self, name) for name in names} | {"exclude": list(self.exclude)}
        return config, {"mean": self.mean, "scale": self.scale, "start": self.start, "end": self.end}

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """A fitted modality from its state."""
        settings = ("window", "step", "hops", "clip", "exclude", "min_fraction")
        new = cls(**{name: config[name] for name in settings})
        new.genes, new.chromosomes, new.target_sum = config["genes"], config["chromosomes"], config["target_sum"]
        new.mean, new.scale, new.start, new.end = (tensors[name] for name in ("mean", "scale", "start", "end"))
        return new


def most_common(names: np.ndarray) -> str:
    """Name that most of ``names`` (n,) are; of several the first in the alphabet."""
    values, number = np.unique(names, return_counts=True)
    return str(values[number.argmax()])


def genes_in_order(var: pd.DataFrame, exclude: Sequence[str]) -> pd.DataFrame:
    """Genes with a place, in genome order: chromosome without prefix, start, end; none of thin chromosomes."""
    table = pd.DataFrame({name: var[name].to_numpy() for name in POSITION}, index=var.index)
    table = table[table.notna().all(1).to_numpy()]
    table["chromosome"] = table["chromosome"].astype(str).str.removeprefix("chr")
    table = table[~table["chromosome"].isin({*exclude, "nan", ""})]
    table = table[table.groupby("chromosome")["start"].transform("size") >= FEWEST]
    number = pd.to_numeric(table["chromosome"], errors="coerce")
    return table.assign(number=number).sort_values(["number", "chromosome", "start", "end"], kind="stable")[[*POSITION]]
