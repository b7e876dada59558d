"""What scores are made of: the records that are filled slice by slice."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from omib_spatial.modalities import Modality


@dataclass(frozen=True)
class FeatureTerms:
    """Weighted sums of the contributions of one modality's features.

    Attributes
    ----------
    values
        (g, p).
    rest
        What none of the features makes up: what noisier spots are expected to show, (g,).
    """

    values: np.ndarray
    rest: np.ndarray

    def __add__(self, other: Self) -> "FeatureTerms":
        return FeatureTerms(self.values + other.values, self.rest + other.rest)


@dataclass(kw_only=True)
class FeatureSums:
    """Weighted sums over spots, by modality.

    Attributes
    ----------
    features
        Of features' contributions.
    genes
        Of the contributions of the genome's genes.
    change
        Of the features less the healthy side's, (g, p).
    gene_change
        The same of the genome's genes, in standard deviations of the reference.
    inside
        Of the contributions that come from a comparison inside the slide, by the class of the modality that shows the
        same: of all genes of the data, or of the image's statistics.
    inside_change
        Of these features less the healthy side's, in standard deviations of the slide; 0 of those that had no part.
    """

    features: dict[str, FeatureTerms] = field(default_factory=dict)
    genes: dict[str, FeatureTerms] = field(default_factory=dict)
    change: dict[str, np.ndarray] = field(default_factory=dict)
    gene_change: dict[str, np.ndarray] = field(default_factory=dict)
    inside: dict[type[Modality], FeatureTerms] = field(default_factory=dict)
    inside_change: dict[type[Modality], np.ndarray] = field(default_factory=dict)


@dataclass(kw_only=True)
class Explanation(FeatureSums):
    """What scores are made of.

    Attributes
    ----------
    score, origin
        Of every spot, and of the healthy side of its slice, (n_obs,).
    contributions
        Of each modality, (n_obs, modalities), NaN where a spot was not judged by it; with ``noise`` they sum to score
        less origin.
    noise
        What the same code counts more or less, as a spot is more or less noisy, (n_obs,).
    removed
        By how much the score beyond the origin falls if one modality alone is put at its origin, (n_obs, modalities).
    deviation
        Coordinates of each modality's summary, whitened, averaged as distances are, less those of the healthy side.
    """

    score: np.ndarray
    origin: np.ndarray
    contributions: np.ndarray
    noise: np.ndarray
    removed: np.ndarray
    deviation: np.ndarray

    @classmethod
    def blank(cls, n_obs: int, n_modalities: int, width: int) -> Self:
        """Of ``n_obs`` spots of which nothing is known yet, whose summaries have ``width`` columns in all."""
        score, origin, noise = np.full((3, n_obs), np.nan)
        contributions, removed = np.full((2, n_obs, n_modalities), np.nan)
        deviation = np.full((n_obs, width), np.nan, np.float32)
        return cls(
            score=score, origin=origin, contributions=contributions, noise=noise, removed=removed, deviation=deviation
        )
