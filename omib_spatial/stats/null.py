"""Null distributions: what healthy tissue of a slide looks like that was never seen, and p-values under it."""

from typing import NamedTuple, Self

import numpy as np
from scipy.stats import t
from sklearn.mixture import GaussianMixture

from omib_spatial.stats.settings import CalibrationSettings


class SlicePrior(NamedTuple):
    """What is expected of the healthy spots of a slide before it is seen, from healthy slides.

    Attributes
    ----------
    location, spread
        Mean and standard deviation of their log distances.
    location_sd, log_spread_sd
        How much the location, and the logarithm of the spread, differ between slides.
    degrees_of_freedom
        From which these are known.
    """

    location: float
    spread: float
    location_sd: float
    log_spread_sd: float
    degrees_of_freedom: int

    @classmethod
    def fit(cls, slides: np.ndarray, settings: CalibrationSettings) -> Self:
        """Predictive distribution of the next slide, with ``settings.between_slice_sd`` as one slide more.

        Parameters
        ----------
        slides
            Location and spread of each healthy slide, (n, 2).
        settings
            Of the calibration.
        """
        values = np.stack([slides[:, 0], np.log(np.maximum(slides[:, 1], settings.min_log_spread))])
        n, means = values.shape[1], values.mean(1)
        squares = np.square(values - means[:, None]).sum(1) + np.square(settings.between_slice_sd)
        location_sd, log_spread_sd = np.sqrt(squares / n * (1 + 1 / n))
        return cls(float(means[0]), float(np.exp(means[1])), float(location_sd), float(log_spread_sd), n)


class SliceNull(NamedTuple):
    """Distribution of healthy spots' log distances on one slide: Student's t, normal at infinite degrees of freedom."""

    location: float
    spread: float
    degrees_of_freedom: float = np.inf

    def pvalue(self, values: np.ndarray) -> np.ndarray:
        """P(a healthy spot of this slide lies at least as far), (n,)."""
        return t.sf((values - self.location) / self.spread, self.degrees_of_freedom)


def empirical_null(
    values: np.ndarray, n_independent: float, prior: SlicePrior, settings: CalibrationSettings
) -> SliceNull:
    """Estimate a slide's own null from its spots, most of which may be anomalous (Efron 2004, with a prior).

    Location and spread are those of all spots or, if `has_two_kinds`, of the lower of two normal components. They are
    drawn towards the prior, the more the fewer spots there are. If they lie higher than is credible of a healthy slide,
    the slide says nothing of healthy tissue, and the prior is the null.

    Parameters
    ----------
    values
        Log distances (n,), n >= 1, without NaN.
    n_independent
        Independent spots that these are worth, as they are averages over neighbours; at least 1 is taken.
    prior
        From healthy slides.
    settings
        Of the calibration.
    """
    points, n = np.sort(values), max(n_independent, 1.0)
    if len(points) > settings.n_quantiles:
        points = np.quantile(points, (np.arange(settings.n_quantiles) + 0.5) / settings.n_quantiles)
    location, spread = points.mean(), max(points.std(), settings.min_log_spread)
    if len(points) > 1:
        mixture = two_components(points, prior.spread)
        if has_two_kinds(points, spread, n, mixture, prior, settings.credible):
            low = int(np.argmin(mixture.means_[:, 0]))
            location, spread = mixture.means_[low, 0], np.sqrt(mixture.covariances_[low, 0])
            n *= mixture.weights_[low]
    # As if the prior were so many spots: the logarithm of a spread learned from m spots varies by 1 / (2 m).
    prior_spots = 0.5 / prior.log_spread_sd**2
    spread = np.sqrt((n * spread**2 + prior_spots * prior.spread**2) / (n + prior_spots))
    weight, precision = n / spread**2, 1 / prior.location_sd**2
    location = (weight * location + precision * prior.location) / (weight + precision)
    excess = (location - prior.location) / prior.location_sd
    if t.sf(excess, prior.degrees_of_freedom) < settings.credible:
        return SliceNull(prior.location, float(np.hypot(prior.spread, prior.location_sd)), prior.degrees_of_freedom)
    return SliceNull(float(location), float(np.sqrt(spread**2 + 1 / (weight + precision))))


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


def has_two_kinds(
    points: np.ndarray, spread: float, n: float, mixture: GaussianMixture, prior: SlicePrior, credible: float
) -> bool:
    """Whether a slide holds two kinds of tissue.

    It does if its points are spread wider than is credible of a healthy slide, or if Schwarz's criterion prefers
    the mixture, with three parameters more, to one normal distribution.

    Parameters
    ----------
    points, spread
        Log distances of the slide (m,), and their standard deviation.
    n
        Independent spots that these are worth.
    mixture
        Two components of the points.
    prior
        From healthy slides.
    credible
        Least probability of a healthy slide's spread.
    """
    if t.sf(np.log(spread / prior.spread) / prior.log_spread_sd, prior.degrees_of_freedom) < credible:
        return True
    gain = mixture.score(points[:, None]) + 0.5 * np.log(2 * np.pi * np.e) + np.log(spread)
    return bool(n * gain > 1.5 * np.log(max(n, 2.0)))


def slice_pvalues(
    values: np.ndarray, codes: np.ndarray, share: np.ndarray, prior: SlicePrior, settings: CalibrationSettings
) -> np.ndarray:
    """p-value of each spot under its own slice's null, (n,); NaN stays NaN.

    Parameters
    ----------
    values, codes
        Log distance and slice of each spot, (n,).
    share
        Independent spots that each spot is worth, (n,).
    prior
        From healthy slides.
    settings
        Of the calibration.
    """
    pvalues = np.full(len(values), np.nan)
    for code in np.unique(codes):
        rows = np.flatnonzero((codes == code) & ~np.isnan(values))
        if len(rows):
            pvalues[rows] = empirical_null(values[rows], share[rows].sum(), prior, settings).pvalue(values[rows])
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
