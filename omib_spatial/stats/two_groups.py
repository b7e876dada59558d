"""Two kinds of spots on a slide: how far its healthy spots lie, how far the abnormal ones, and how many these are."""

from typing import NamedTuple, Self

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from omib_spatial.stats.null import SlicePrior
from omib_spatial.stats.settings import CalibrationSettings

FEWEST_SD, MOST_SD = 1.0, 4.0
"""The border between the groups lies this many standard deviations above the healthy spots, at least and at most."""
TEMPERATURE = 2.5
"""By which log odds in favour of "abnormal" are divided (temperature scaling, Guo et al. 2017). Two normal groups are
too sure of what they call: neither group is normal, and spots beside a focus belong to none. Chosen on clones planted
in healthy tissue."""
STARTS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of abnormal spots that the fit starts from; the most probable end is kept."""
MAX_ITER, TOL = 500, 1e-6


class TwoGroups(NamedTuple):
    """Two-group model of a slide (Efron 2008): log distances are normal in healthy and in abnormal spots.

    Attributes
    ----------
    healthy_location, healthy_spread
        Mean and standard deviation of the healthy spots' log distances: the slide's own null distribution.
    abnormal_location, abnormal_spread
        Of the abnormal spots'; they lie above.
    share
        Of abnormal spots, given that there are some.
    """

    healthy_location: float
    healthy_spread: float
    abnormal_location: float
    abnormal_spread: float
    share: float

    @classmethod
    def fit(cls, values: np.ndarray, n_independent: float, prior: SlicePrior, settings: CalibrationSettings) -> Self:
        """Maximum a posteriori, by expectation maximisation from several starts.

        The healthy location is drawn towards that of healthy slides. The healthy spread is drawn towards theirs, as if
        this were ``settings.spread_prior_weight / (2 prior.log_spread_sd^2)`` spots. Of the abnormal group little is
        expected: half a spot, of half of the slide's variance, and a share from Beta(1.5, 1.5).

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
        points = np.sort(values)
        if len(points) > settings.n_quantiles:
            points = np.quantile(points, (np.arange(settings.n_quantiles) + 0.5) / settings.n_quantiles)
        worth = max(n_independent, 1.0) / len(points)
        prior_spots = 0.5 * settings.spread_prior_weight / prior.log_spread_sd**2
        wide = max(points.var(), prior.spread**2)
        ends = []
        for start in STARTS:
            posterior = (np.arange(len(points)) >= (1 - start) * len(points)).astype(float)
            groups, before = cls._maximise(points, posterior, worth, prior, prior.spread, prior_spots, wide), None
            for _ in range(MAX_ITER):
                posterior = expit(groups._log_odds(points))
                before, groups = (
                    groups,
                    cls._maximise(points, posterior, worth, prior, groups.healthy_spread, prior_spots, wide),
                )
                if np.abs(np.subtract(before, groups)).max() < TOL:
                    break
            ends.append((groups._log_posterior(points, worth, prior, prior_spots, wide), groups))
        return max(ends)[1]

    @classmethod
    def _maximise(
        cls,
        points: np.ndarray,
        posterior: np.ndarray,
        worth: float,
        prior: SlicePrior,
        spread: float,
        prior_spots: float,
        wide: float,
    ) -> Self:
        """Most probable groups, given each point's (n,) probability to be abnormal; ``spread`` was the healthy one."""
        rest = 1 - posterior
        weight, precision = worth / spread**2, 1 / prior.location_sd**2
        healthy = (weight * (rest @ points) + precision * prior.location) / (weight * rest.sum() + precision)
        abnormal = max(float(posterior @ points) / max(posterior.sum(), 1e-12), healthy)
        n_healthy, n_abnormal = worth * rest.sum(), worth * posterior.sum()
        squares = worth * (rest @ np.square(points - healthy)), worth * (posterior @ np.square(points - abnormal))
        return cls(
            float(healthy),
            float(np.sqrt((squares[0] + prior_spots * prior.spread**2) / (n_healthy + prior_spots))),
            float(abnormal),
            float(np.sqrt((squares[1] + 0.25 * wide) / (n_abnormal + 0.5))),
            float((n_abnormal + 0.5) / (n_abnormal + n_healthy + 1)),
        )

    def _log_posterior(
        self, points: np.ndarray, worth: float, prior: SlicePrior, prior_spots: float, wide: float
    ) -> float:
        """Of the parameters, up to a constant."""
        likelihood = np.logaddexp(
            np.log1p(-self.share) + norm.logpdf(points, self.healthy_location, self.healthy_spread),
            np.log(self.share) + norm.logpdf(points, self.abnormal_location, self.abnormal_spread),
        ).sum()
        healthy, abnormal = self.healthy_spread**2, self.abnormal_spread**2
        spreads = -0.5 * prior_spots * (np.log(healthy) + prior.spread**2 / healthy)
        spreads -= 0.25 * (np.log(abnormal) + 0.5 * wide / abnormal)
        location = norm.logpdf(self.healthy_location, prior.location, prior.location_sd)
        return float(worth * likelihood + spreads + location + 0.5 * np.log(self.share * (1 - self.share)))

    def _log_odds(self, values: np.ndarray) -> np.ndarray:
        # Of two normal densities, written out: it is asked thousands of times in a fit.
        healthy = (values - self.healthy_location) / self.healthy_spread
        abnormal = (values - self.abnormal_location) / self.abnormal_spread
        constant = np.log(self.share / (1 - self.share) * self.healthy_spread / self.abnormal_spread)
        return np.asarray(constant + 0.5 * (np.square(healthy) - np.square(abnormal)))

    def posterior(self, values: np.ndarray) -> np.ndarray:
        """Probability that a spot is abnormal, given that the slide has abnormal spots, (n,).

        It rises with the distance: 0 up to the healthy location, and held beyond the point where a wider healthy group
        would take over again. Odds in favour are tempered (`TEMPERATURE`).
        """
        held, healthy, abnormal = values, self.healthy_spread**2, self.abnormal_spread**2
        if abnormal < healthy:
            turn = (self.abnormal_location * healthy - self.healthy_location * abnormal) / (healthy - abnormal)
            held = np.minimum(values, turn)
        log_odds = self._log_odds(held)
        tempered = np.where(log_odds > 0, log_odds / TEMPERATURE, log_odds)
        return np.where(values > self.healthy_location, expit(tempered), 0.0 * values)

    @property
    def border(self) -> float:
        """Log distance from which on a spot is more probably abnormal than not.

        Held between `FEWEST_SD` and `MOST_SD` standard deviations above the healthy location: a spot as near as most
        healthy ones is not abnormal, however many others are, and one that far away is.
        """
        low, high = (self.healthy_location + sd * self.healthy_spread for sd in (FEWEST_SD, MOST_SD))

        def excess(value: float) -> float:
            return float(self.posterior(np.array(value))) - 0.5

        if excess(low) >= 0 or excess(high) <= 0:
            return low if excess(low) >= 0 else high
        return float(brentq(excess, low, high))

    def in_scores(self) -> Self:
        """The same groups on the scale of the score, `score`."""
        return type(self)(
            float(self.score(np.array(self.healthy_location))),
            1.0,
            float(self.score(np.array(self.abnormal_location))),
            self.abnormal_spread / self.healthy_spread,
            self.share,
        )

    def score(self, values: np.ndarray) -> np.ndarray:
        """Standard deviations of the healthy spots beyond the border, (n,) from log distances (n,)."""
        return (values - self.border) / self.healthy_spread

    @property
    def separation(self) -> float:
        """Probability that an abnormal spot lies further than a healthy one: the AUROC between the groups."""
        gap = self.abnormal_location - self.healthy_location
        return float(norm.cdf(gap / np.hypot(self.healthy_spread, self.abnormal_spread)))
