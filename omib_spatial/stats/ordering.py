"""The spots of one slide in the order that the slide itself shows, at the values that healthy donors gave them."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from omib_spatial.stats.attribution import mean_slope
from omib_spatial.stats.contiguity import agreement_pvalue, windows
from omib_spatial.stats.self_training import GaussianOdds, Odds, self_train
from omib_spatial.stats.slide_test import cauchy_combination
from omib_spatial.stats.smooth import leading_directions

CLONAL_LEVEL = 0.01
"""`clone_pvalue` up to which the two sides of a slide are taken to differ as a clone does."""
FEWEST_BLOCKS = 5
"""Blocks of one half of the genes from which on `clone_pvalue` can be as small as that: 120 orders."""
BLOCKS = 5
"""Blocks of one half of the genes in a window: with the other half as many genes as a window of the genome has."""


@dataclass(frozen=True)
class SlideOrder:
    """Log distances of one slide's spots, put in another order.

    How far a spot lies from other donors' tissue holds this donor's own peculiarities, which cancel inside the slide.
    So the log distances teach a classifier the two sides of the slide by its genome profiles (self-training), and both
    opinions, each in units of its spread, are added. The sum says in which order the spots are; the values stay those
    that the slide had, and so does all that is learned from the values of healthy slides.

    Attributes
    ----------
    logs
        Log distances by comparison with the reference, (n,).
    odds
        What the classifier says, (n,).
    coordinates
        Of the spots along the leading axes of their profiles, (n, k).
    mean, axes
        Of the profiles, (windows,), and their leading axes, (windows, k).
    classifier
        That was taught, of coordinates.
    keys, values
        Opinions in ascending order, and the log distance that each stands for, (m,).
    """

    logs: np.ndarray
    odds: np.ndarray
    coordinates: np.ndarray
    mean: np.ndarray
    axes: np.ndarray
    classifier: Odds
    keys: np.ndarray
    values: np.ndarray

    @classmethod
    def fit(cls, logs: np.ndarray, profiles: np.ndarray, n_axes: int) -> Self | None:
        """Teach the classifier; None where all spots are alike.

        Parameters
        ----------
        logs
            Of the spots of one slide, (n,).
        profiles
            Along the genome, (n, windows).
        n_axes
            Leading axes of the profiles that the classifier sees.
        """
        mean = profiles.mean(0)
        centred = profiles - mean
        axes = leading_directions(centred, n_axes)
        along = (centred @ axes).astype(np.float64)
        if axes.shape[1] == 0 or not np.ptp(logs) > 0:
            return None
        unit = along.std(0).max()
        # What of the log distances the profiles follow: the classifier is taught no noise.
        start = along @ np.linalg.lstsq(along, logs - logs.mean())[0]
        if not (unit > 0 and np.ptp(start) > 0):
            return None
        along, axes = along / unit, axes / unit
        classifier = self_train(along, start, GaussianOdds.teach)
        odds = classifier(along)
        if not (np.isfinite(odds).all() and np.ptp(odds) > 0):
            return None
        keys, place = np.unique(logs / logs.std() + odds / odds.std(), return_inverse=True)
        sorted_logs, count = np.sort(logs), np.bincount(place)
        # Spots that are told apart by nothing share what they have together.
        values = np.add.reduceat(sorted_logs, np.cumsum(count) - count) / count
        return cls(logs, odds, along, mean, axes, classifier, keys, values)

    @property
    def key(self) -> np.ndarray:
        """Both opinions together, (n,)."""
        return self.key_of(self.logs, self.odds)

    @property
    def ordered(self) -> np.ndarray:
        """Log distances in the order of the key, (n,)."""
        return self.at(self.key)

    def key_of(self, logs: np.ndarray | float, odds: np.ndarray | float) -> np.ndarray:
        """Of log distances and odds as they may be."""
        return np.asarray(logs / self.logs.std() + odds / self.odds.std())

    def odds_of(self, profiles: np.ndarray) -> np.ndarray:
        """What the classifier says of profiles as they may be, (m, windows) to (m,)."""
        return self.classifier(((profiles - self.mean) @ self.axes).astype(np.float64))

    def at(self, key: np.ndarray) -> np.ndarray:
        """The log distance that a key stands for, between spots on a straight line."""
        return np.interp(key, self.keys, self.values)

    def slope(self, origin: float) -> np.ndarray:
        """Mean slope of `at` between the key of an origin and that of each spot, (n,)."""
        return mean_slope(self.at, self.key, origin)


def clone_pvalue(logs: np.ndarray, halves: tuple[np.ndarray, np.ndarray], chromosome: np.ndarray, n_axes: int) -> float:
    """P(the two sides of a slide differ along the genome in two halves of the genes alike, by chance).

    A gained or lost arm moves genes that lie together, a programme of expression genes that lie anywhere. So the sides
    that one half of the genes tells apart differ in the other half at the same places, if they differ as a clone does.
    The other half had no part in telling them apart, but for what of it is in the log distances. So each half is asked
    by the other, and both p-values, which say nearly the same, are combined as such (Liu and Xie 2020).

    Parameters
    ----------
    logs
        Log distances of the spots of one slide, (n,).
    halves
        Expression in blocks of neighbouring genes, every other one and those between, (n, blocks) each.
    chromosome
        Of the blocks, (blocks,).
    n_axes
        Leading axes of a half's profiles that tell the sides apart.

    Returns
    -------
    1 where no sides can be told apart, NaN of fewer than `FEWEST_BLOCKS`, whose orders could not reach `CLONAL_LEVEL`.
    """
    if len(chromosome) < FEWEST_BLOCKS:
        return float("nan")
    members, rng, pvalues = windows(chromosome, BLOCKS), np.random.default_rng(0), []
    members = sparse.csr_matrix(members @ sparse.diags_array(1 / np.asarray(members.sum(0)).ravel()))
    for own, other in (halves, halves[::-1]):
        profiles = own @ members
        order = SlideOrder.fit(logs, profiles - profiles.mean(1, keepdims=True), n_axes)
        if order is None:
            return 1.0
        side = order.odds - order.odds.mean()
        pvalues.append(agreement_pvalue(side @ own, side @ other, members, rng))
    return cauchy_combination(pvalues)
