"""From distances to p-values and calls: what healthy tissue of a slide that was never seen looks like."""

from typing import NamedTuple, Self

import numpy as np
from scipy.stats import false_discovery_control, t
from sklearn.mixture import GaussianMixture

CREDIBLE = 0.05
"""A slide that is stranger as a whole than this share of healthy slides is not taken to be healthy."""
DIFFER = 0.3, 0.4
"""How much slides differ in mean log distance and in the logarithm of its spread, counted as one slide's evidence."""
AVERAGED = 19
"""Spots within two rings on a hexagonal grid, over which distances are averaged: so many are worth one."""
POINTS = 512
"""Quantiles that stand for the spots of a slide."""
NARROW = 1e-3
"""Least spread of log distances: of equal values nothing can be learned."""


class Belief(NamedTuple):
    """What is believed of a slide before it is seen, from healthy slides.

    Its healthy spots' log distances have this ``location`` and ``spread``, give or take ``shift`` and a factor of
    exp(``factor``), which are known from ``freedom`` degrees of freedom.
    """

    location: float
    spread: float
    shift: float
    factor: float
    freedom: int

    @classmethod
    def of(cls, slides: np.ndarray) -> Self:
        """From location and spread of each healthy slide, (n, 2): predictive, with `DIFFER` as one slide more."""
        values = np.stack([slides[:, 0], np.log(np.maximum(slides[:, 1], NARROW))])
        n, means = values.shape[1], values.mean(1)
        squares = np.square(values - means[:, None]).sum(1) + np.square(DIFFER)
        shift, factor = np.sqrt(squares / n * (1 + 1 / n))
        return cls(float(means[0]), float(np.exp(means[1])), float(shift), float(factor), n)


class Null(NamedTuple):
    """Distribution of healthy spots' log distances on one slide: Student's t, normal without end of ``freedom``."""

    location: float
    spread: float
    freedom: float = np.inf

    def pvalue(self, values: np.ndarray) -> np.ndarray:
        """P(a healthy spot of this slide lies at least as far), (n,)."""
        return t.sf((values - self.location) / self.spread, self.freedom)


def empirical_null(values: np.ndarray, belief: Belief) -> Null:
    """Estimate a slide's own null from its spots, most of which may be anomalous (Efron 2004, with a prior).

    Location and spread are those of all spots or, if `two_kinds`, of the lower of two normal components. They are drawn
    towards the belief, the more the fewer spots there are. If they lie higher than is credible of a healthy slide, the
    slide says nothing of healthy tissue, and the belief is the null.

    Parameters
    ----------
    values
        Log distances (n,), n >= 1, without NaN.
    belief
        From healthy slides.
    """
    points, n = np.sort(values), max(len(values) / AVERAGED, 1.0)
    if len(points) > POINTS:
        points = np.quantile(points, (np.arange(POINTS) + 0.5) / POINTS)
    location, spread = points.mean(), max(points.std(), NARROW)
    if len(points) > 1:
        mixture = two_components(points, belief.spread)
        if two_kinds(points, spread, n, mixture, belief):
            low = int(np.argmin(mixture.means_[:, 0]))
            location, spread = mixture.means_[low, 0], np.sqrt(mixture.covariances_[low, 0])
            n *= mixture.weights_[low]
    # As if the prior were so many spots: the logarithm of a spread learned from m spots varies by 1 / (2 m).
    prior = 0.5 / belief.factor**2
    spread = np.sqrt((n * spread**2 + prior * belief.spread**2) / (n + prior))
    weight, precision = n / spread**2, 1 / belief.shift**2
    location = (weight * location + precision * belief.location) / (weight + precision)
    if t.sf((location - belief.location) / belief.shift, belief.freedom) < CREDIBLE:
        return Null(belief.location, float(np.hypot(belief.spread, belief.shift)), belief.freedom)
    return Null(float(location), float(np.sqrt(spread**2 + 1 / (weight + precision))))


def two_components(points: np.ndarray, spread: float) -> GaussianMixture:
    """Two normal components of ``points`` (n,), sorted; both start at ``spread``."""
    # In one dimension a diagonal is all there is, and less work than a matrix.
    return GaussianMixture(
        2,
        covariance_type="diag",
        weights_init=[0.5, 0.5],
        means_init=np.quantile(points, [0.05, 0.5])[:, None],
        precisions_init=np.full((2, 1), spread**-2),
        reg_covar=(0.1 * spread) ** 2,
        tol=1e-5,
        max_iter=1000,
        random_state=0,
    ).fit(points[:, None])


def two_kinds(points: np.ndarray, spread: float, n: float, mixture: GaussianMixture, belief: Belief) -> bool:
    """Whether a slide of ``n`` independent spots holds two kinds of tissue.

    It does if its ``points`` are spread wider than is credible of a healthy slide, or if Schwarz's criterion prefers
    the ``mixture``, with three parameters more, to one normal distribution.
    """
    if t.sf(np.log(spread / belief.spread) / belief.factor, belief.freedom) < CREDIBLE:
        return True
    gain = mixture.score(points[:, None]) + 0.5 * np.log(2 * np.pi * np.e) + np.log(spread)
    return bool(n * gain > 1.5 * np.log(max(n, 2.0)))


def slice_pvalues(values: np.ndarray, codes: np.ndarray, belief: Belief) -> np.ndarray:
    """p-value of each spot under its own slice's null, (n,); NaN stays NaN.

    Parameters
    ----------
    values, codes
        Log distance and slice of each spot, (n,).
    belief
        From healthy slides.
    """
    pvalues = np.full(len(values), np.nan)
    for code in np.unique(codes):
        rows = np.flatnonzero((codes == code) & ~np.isnan(values))
        if len(rows):
            pvalues[rows] = empirical_null(values[rows], belief).pvalue(values[rows])
    return pvalues


def conformal_pvalues(scores: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """Conformal p-value of each score against held-out reference scores (Bates et al. 2023).

    ``p = (1 + #{calibration >= score}) / (1 + n)``: for a spot exchangeable with the reference, ``P(p <= t) <= t``.

    Parameters
    ----------
    scores
        (n,), higher is more anomalous; NaN stays NaN.
    calibration
        Scores of held-out reference spots (m,).

    Returns
    -------
    p-values (n,) in [1 / (m + 1), 1].
    """
    calibration = np.sort(calibration)
    above = len(calibration) - np.searchsorted(calibration, scores, side="left")
    return np.where(np.isnan(scores), np.nan, (1.0 + above) / (1.0 + len(calibration)))


def call(pvalues: np.ndarray, codes: np.ndarray, fdr: float) -> np.ndarray:
    """Benjamini-Hochberg calls at ``fdr``, each slice by itself; NaN is never called.

    Parameters
    ----------
    pvalues, codes
        p-value and slice of each spot, (n,).
    fdr
        Expected share of false calls among the calls of a slice.
    """
    called = np.zeros(len(pvalues), bool)
    for code in np.unique(codes):
        rows = np.flatnonzero((codes == code) & ~np.isnan(pvalues))
        if len(rows):
            called[rows] = false_discovery_control(pvalues[rows]) <= fdr
    return called
