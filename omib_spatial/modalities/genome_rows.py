"""Spots as the genome modality sees them: normalised counts, and profiles along the genome when asked for."""

from functools import cached_property
from typing import Self

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from omib_spatial.modalities.base import Prepared
from omib_spatial.slides.graph import cut
from omib_spatial.stats.contiguity import paired_blocks
from omib_spatial.stats.smooth import counting_noise, walk

CHUNK_VALUES = 2**23
"""Averaged expression is made this many numbers at a time."""
TRUSTED = 10.0
"""A spot takes part fully in an average of spots down to the typical depth divided by this, then less and less."""


class GenomeRows(Prepared):
    """Depth-normalised counts of all spots, and the profiles made of them.

    Parameters
    ----------
    counts
        (n_obs, genes) counts per ``target_sum``.
    graph
        (n_obs, n_obs) spatial graph.
    share
        ``target_sum`` by depth of each spot, (n_obs,): what one count weighs.
    averages
        (genes, windows); the column of each window holds one by its number of genes.
    scaling
        Mean and scale of each gene's averaged log expression in the reference, and the clip.
    chromosome
        Of each gene, in genome order, (genes,).
    hops
        Steps of the walk that averages spots.
    present
        Spots that are there, (n_obs,) bool; None takes all.
    noise_ratio
        Variance of a count by its mean, of every spot (n_obs,); 1 if None.
    """

    def __init__(
        self,
        counts: sp.csr_matrix,
        graph: sp.csr_matrix,
        share: np.ndarray,
        averages: sp.csr_matrix,
        scaling: tuple[np.ndarray, np.ndarray, float],
        chromosome: np.ndarray,
        hops: int,
        present: np.ndarray | None = None,
        noise_ratio: np.ndarray | None = None,
    ) -> None:
        self.counts, self.graph, self.share, self.averages = counts, graph, share, averages
        self.noise_ratio = noise_ratio
        self.scaling, self.chromosome, self.hops = scaling, chromosome, hops
        self.present = np.ones(counts.shape[0], bool) if present is None else present

    def masked(self, visible: np.ndarray) -> Self:
        """Also cut every edge to a spot that is not visible."""
        if visible[self.present].all():
            return self
        present = self.present & visible
        graph = cut(self.graph, present)
        return type(self)(
            self.counts, graph, self.share, self.averages, self.scaling, self.chromosome, self.hops, present,
            self.noise_ratio,
        )  # fmt: skip

    @cached_property
    def weights(self) -> sp.csr_matrix:
        """(n_obs, n_obs) weight of each spot in the average of another; rows sum to 1."""
        trust = np.minimum(1, TRUSTED / np.maximum(self.share, 1e-12)) * (self.share > 0)
        weights = sp.csr_matrix(walk(self.graph, self.hops) @ sp.diags_array(trust.astype(np.float32)))
        total = np.asarray(weights.sum(1)).ravel()
        return sp.csr_matrix(sp.diags_array(1 / np.where(total > 0, total, 1)) @ weights, dtype=np.float32)

    @cached_property
    def noise(self) -> np.ndarray:
        """(n_obs,) variance that counting adds to the averaged counts."""
        return counting_noise(self.weights, self.share if self.noise_ratio is None else self.share * self.noise_ratio)

    @cached_property
    def profile(self) -> np.ndarray:
        """(n_obs, windows) float32, NaN for spots that are not there."""
        rows = np.flatnonzero(self.present)
        profile = np.full((len(self.present), self.averages.shape[1]), np.nan, np.float32)
        for some in self.chunks(rows):
            values = self.scaled(some) @ self.averages
            profile[some] = values - values.mean(1, keepdims=True)
        return profile

    def chunks(self, rows: np.ndarray) -> list[np.ndarray]:
        """Cut ``rows`` so that no piece has more than `CHUNK_VALUES` numbers."""
        return np.array_split(rows, len(rows) * self.counts.shape[1] // CHUNK_VALUES + 1)

    def expression(self, rows: np.ndarray) -> np.ndarray:
        """(n, genes) float32: logarithm of the averaged counts."""
        return np.log1p((self.weights[rows] @ self.counts).toarray())

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """(n, genes) float32: the same in standard deviations of the reference, clipped."""
        mean, scale, clip = self.scaling
        return np.clip((self.expression(rows) - mean) / scale, -clip, clip)

    def halves(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scaled expression of two halves of the genes, in blocks that take turns along the genome.

        Returns
        -------
        Means of each half's blocks, (n, pairs) twice, and the chromosome of each pair of neighbours, (pairs,).
        """
        one, other, chromosome = paired_blocks(self.chromosome)
        both = sp.csr_matrix(sp.hstack([one, other]))
        values = np.concatenate([self.scaled(some) @ both for some in self.chunks(rows)])
        return values[:, : len(chromosome)], values[:, len(chromosome) :], chromosome

    def genes_of(self, profile: np.ndarray) -> np.ndarray:
        """Scaled expression (genes,) with a ``profile`` (windows,), the one nearest to 0."""
        gram = self._centred_averages.T @ self._centred_averages
        return self._centred_averages @ (np.linalg.pinv(gram, rcond=1e-9, hermitian=True) @ profile)

    @cached_property
    def _centred_averages(self) -> np.ndarray:
        """(genes, windows): what makes profiles of scaled expression."""
        averages = self.averages.toarray().astype(np.float64)
        return averages - averages.mean(1, keepdims=True)

    def batch(self, rows: np.ndarray) -> Tensor:
        """(n, windows) profiles."""
        return torch.from_numpy(self.profile[rows])

    def features(self, rows: np.ndarray) -> np.ndarray:
        """(n, windows) profiles."""
        return self.profile[rows]
