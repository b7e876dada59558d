"""A slide as seen in several ways, and what half of the evidence says of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh

from omib_spatial.stats.contiguity import profiles, window_means
from omib_spatial.stats.self_training import GaussianOdds, LogisticOdds, Odds, self_train, standard

GENOME_AXES, EXPRESSION_AXES = 8, 20
"""Principal axes of each view, as the modalities genome and gene have them."""

_RANK = 1e-7
"""Singular values below this share of the largest one are rounding, when squares were decomposed."""


@dataclass(frozen=True)
class SlideViews:
    """One slide as seen in several ways, all averaged over neighbouring spots.

    Attributes
    ----------
    genes
        Scaled log expression of genes in genome order, (n, genes).
    chromosome
        Of each of these genes, (genes,).
    expression
        Scaled log expression of the most variable genes, (n, p).
    signatures
        Weight of each signature, and scaled log expression of its genes, (n, q).
    image
        Scaled statistics of the H&E around each spot, (n, s); none without an image.
    columns
        Of the data, that ``genes`` and ``expression`` are.
    image_own
        How far each feature of ``image`` moves with a spot's own statistic, (n, s): the rest is its neighbours'.
    """

    genes: np.ndarray
    chromosome: np.ndarray
    expression: np.ndarray
    signatures: Sequence[tuple[float, np.ndarray]]
    image: np.ndarray | None = None
    columns: tuple[np.ndarray, ...] = ()
    image_own: np.ndarray | None = None

    @cached_property
    def windows(self) -> tuple[np.ndarray, np.ndarray]:
        """Means of genes over windows along the genome, (n, windows), and the chromosome of each window."""
        return window_means(self.genes, self.chromosome)


class TrainedView(NamedTuple):
    """One view of a slide as one replica has learned to see it.

    Attributes
    ----------
    seen
        Which features of the view the replica sees, (p,) bool.
    chromosome
        Of each of these, where the replica sees their profiles along the genome; else None.
    axes
        From centred features, or profiles, to components, (q, k).
    values
        Components of all spots, (n, k).
    odds
        That a spot is abnormal, from its components.
    """

    seen: np.ndarray
    chromosome: np.ndarray | None
    axes: np.ndarray
    values: np.ndarray
    odds: Odds

    @property
    def score(self) -> np.ndarray:
        """Log odds with mean 0 and standard deviation 1, (n,)."""
        return standard(self.odds(self.values))


def replica(views: SlideViews, rng: np.random.Generator) -> list[TrainedView]:
    """What genome, expression and the image, if there is one, say from a random half of chromosomes and genes.

    The signatures' genes are drawn with replacement. The image is always the whole one.
    """
    numbers = np.unique(views.chromosome)
    drawn = rng.choice(numbers, -(-len(numbers) // 2), replace=False)
    half = np.asarray(rng.random(views.expression.shape[1]) < 0.5)
    means, place = views.windows
    along = means[:, np.isin(place, drawn)]
    genome, axes = components(along - along.mean(1, keepdims=True), GENOME_AXES)
    start = orientation(views.signatures, rng) if views.signatures else deviation(views.genes, views.chromosome)
    basis = genome / np.maximum(np.linalg.norm(genome, axis=0), 1e-12)
    start = basis @ (basis.T @ (start - start.mean()))
    own = np.isin(views.chromosome, drawn)
    found = [TrainedView(own, views.chromosome[own], axes, genome, self_train(genome, start, GaussianOdds.teach))]
    seen = [(views.expression, half)]
    if views.image is not None:
        seen.append((views.image, np.ones(views.image.shape[1], bool)))
    for values, columns in seen:
        some, axes = components(values[:, columns], EXPRESSION_AXES)
        found.append(TrainedView(columns, None, axes, some, self_train(some, start, LogisticOdds.teach)))
    return found


def components(values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal components (n_obs, n), in units of the first one's standard deviation, and their axes.

    Returns
    -------
    Components, and axes (p, n) that make them of the centred ``values`` (n_obs, p).
    """
    values = values - values.mean(0)
    tall = len(values) >= values.shape[1]
    vectors = leading_vectors(values.T @ values if tall else values @ values.T, n)
    axes = vectors if tall else values.T @ vectors
    length = np.linalg.norm(axes, axis=0)
    # Beyond the rank an axis is rounding: of length zero, it says nothing.
    axes = np.where(length > _RANK * length.max(), axes / np.maximum(length, 1e-300), 0)
    scores = values @ axes
    unit = scores[:, 0].std() + 1e-9
    return scores / unit, axes / unit


def leading_vectors(product: np.ndarray, n: int) -> np.ndarray:
    """Eigenvectors of the ``n`` largest eigenvalues of a symmetric matrix (m, m), or of all, largest first, (m, n)."""
    size = len(product)
    if size < 5 * n or not product.any():  # Lanczos is for few of many, and needs some to start with.
        return np.asarray(eigh(product, subset_by_index=[max(size - n, 0), size - 1])[1][:, ::-1])
    start = np.random.default_rng(0).normal(size=size)
    return np.asarray(eigsh(product, n, v0=start)[1][:, ::-1])


def orientation(signatures: Sequence[tuple[float, np.ndarray]], rng: np.random.Generator) -> np.ndarray:
    """Weighted sum of signatures, each the mean of a bootstrap of its genes, (n,)."""
    parts = [w * standard(v[:, rng.integers(0, v.shape[1], v.shape[1])].mean(1)) for w, v in signatures]
    return np.sum(parts, axis=0)


def deviation(genes: np.ndarray, chromosome: np.ndarray) -> np.ndarray:
    """Squared deviation of each spot's profile from the slide's median profile, free of noise, (n,).

    Profiles of the odd and of the even genes have independent counting noise, so that their product has none: the
    square of a single profile would rank spots by how few counts they have.

    Parameters
    ----------
    genes, chromosome
        As of `SlideViews`.
    """
    place, size = np.zeros(len(chromosome), int), np.zeros(len(chromosome), int)
    for name in np.unique(chromosome):
        own = np.flatnonzero(chromosome == name)
        place[own], size[own] = np.arange(len(own)), len(own)
    # As many odd as even genes of each chromosome, or its windows would be compared with another's.
    paired = place < size // 2 * 2
    halves = [paired & (place % 2 == first) for first in (0, 1)]
    one, other = (profiles(genes[:, half], chromosome[half]) for half in halves)
    return ((one - np.median(one, 0)) * (other - np.median(other, 0))).mean(1)
