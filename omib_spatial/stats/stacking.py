"""Several opinions on a spot weighed together by what cross-fitted ones were worth: stacking (Wolpert 1992)."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

PRIOR_DONORS = 0.03
"""Donors that what is expected of weights before labels are seen counts for (chosen on simulated tissue)."""
N_PAIRS = 2000
"""Pairs of an unhealthy and a healthy spot that are drawn from each slice: means over these are exact enough."""


@dataclass(frozen=True)
class Stacking:
    """Log odds that a spot is not healthy, from several predictors.

    A network that was taught a few patients' tumours knows these, and may be wrong about the next patient's; a distance
    from healthy tissue asks for no likeness to them. The first predictor is the network's log odds, the others are log
    distances.

    Attributes
    ----------
    healthy
        Which classes are healthy, (n_classes,) bool.
    location, spread
        Mean and standard deviation of every predictor in labelled spots, (predictors,).
    weight
        Of every predictor, (predictors,).
    line
        Intercept and slope from the weighed sum to log odds, (2,), as if half of the spots were healthy.
    """

    healthy: np.ndarray
    location: np.ndarray
    spread: np.ndarray
    weight: np.ndarray
    line: np.ndarray

    @classmethod
    def fit(
        cls, predictors: np.ndarray, labels: np.ndarray, slices: np.ndarray, donors: np.ndarray, healthy: np.ndarray
    ) -> Self:
        """Learn the weights that rank unhealthy above healthy spots **within** a slice.

        Parameters
        ----------
        predictors
            (n, predictors), of models that did not learn from the spot's donor, NaN where a spot has none.
        labels, slices, donors
            Class of each spot, negative where it is not known, its slice and the slice's donor, (n,).
        healthy
            Which classes are healthy, (n_classes,) bool.

        Raises
        ------
        ValueError
            Known spots are all healthy, or all not.
        """
        known = labels >= 0
        # A predictor that no spot has gets a mean of NaN, and no say.
        there = np.ma.masked_invalid(predictors[known])
        location, spread = np.ma.filled(there.mean(0), np.nan), np.ma.filled(there.std(0), np.nan) + 1e-12
        standard = np.nan_to_num((predictors[known] - location) / spread)
        sick = ~healthy[labels[known]]
        if sick.all() or not sick.any():
            raise ValueError(
                "Weights are learned from healthy and unhealthy spots: all that are known are of one kind."
            )
        # Until labels say otherwise, distances weigh as much as each other and the network nothing.
        prior = np.ones(predictors.shape[1])
        prior[0] = 0
        weight = ranking_weights(*pairs(standard, sick, slices[known], donors[known]), prior)
        model = LogisticRegression(class_weight="balanced").fit((standard @ weight)[:, None], sick)
        return cls(healthy, location, spread, weight, np.array([model.intercept_[0], model.coef_[0, 0]]))

    def log_odds(self, predictors: np.ndarray) -> np.ndarray:
        """(n, predictors) to (n,): log odds of not healthy; a missing distance has no say, without the network NaN."""
        standard = (predictors - self.location) / self.spread
        standard[:, 1:] = np.nan_to_num(standard[:, 1:])
        return self.line[0] + self.line[1] * (standard @ self.weight)

    def probability(self, predictors: np.ndarray, network: np.ndarray) -> np.ndarray:
        """Class probabilities (n, classes), shared among (un)healthy classes as by the ``network`` (n, classes)."""
        sick = 1 / (1 + np.exp(-self.log_odds(predictors)))
        share = np.clip(network, 1e-7, None)
        for group, total in ((self.healthy, 1 - sick), (~self.healthy, sick)):
            share[:, group] *= (total / share[:, group].sum(1))[:, None]
        return share.astype(np.float32)


def class_log_odds(probability: np.ndarray, healthy: np.ndarray) -> np.ndarray:
    """Log odds of not healthy, (n,), of class probabilities (n, classes)."""
    clear = np.clip(probability.astype(np.float64), 1e-7, None)
    return np.log(clear[:, ~healthy].sum(1) / clear[:, healthy].sum(1))


def pairs(
    values: np.ndarray, sick: np.ndarray, slices: np.ndarray, donors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of an unhealthy and a healthy spot of one slice; where no slice has both, all spots are taken as one slice.

    Parameters
    ----------
    values
        Of each spot, (n, p).
    sick, slices, donors
        Whether it is unhealthy, its slice and donor, (n,).

    Returns
    -------
    excess
        By how much the unhealthy spot's values exceed the other's, (m, p).
    share
        What each pair weighs, (m,): every donor 1, its slices alike.
    """
    rng = np.random.default_rng(0)
    both = [code for code in np.unique(slices) if len(np.unique(sick[slices == code])) == 2]
    if not both:
        slices = donors = np.zeros(len(sick), int)
        both = [0]
    owner = [donors[slices == code][0] for code in both]
    found = []
    for code in both:
        ill, well = (np.flatnonzero((slices == code) & kind) for kind in (sick, ~sick))
        found.append(values[rng.choice(ill, N_PAIRS)] - values[rng.choice(well, N_PAIRS)])
    return np.concatenate(found), np.repeat([1 / (owner.count(donor) * N_PAIRS) for donor in owner], N_PAIRS)


def ranking_weights(excess: np.ndarray, share: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Weights w >= 0 of the least ``sum_i share_i log(1 + exp(-w . excess_i)) + PRIOR_DONORS |w - prior|^2 / 2``.

    The first term is a smooth count of wrongly ranked pairs (RankNet, Burges et al. 2005).

    Parameters
    ----------
    excess, share
        As `pairs` gives them, (m, p) and (m,).
    prior
        Weights before labels are seen, (p,).
    """

    def loss(weight: np.ndarray) -> tuple[float, np.ndarray]:
        lead = excess @ weight
        value = share @ np.logaddexp(0, -lead) + PRIOR_DONORS * np.square(weight - prior).sum() / 2
        return value, -(share * expit(-lead)) @ excess + PRIOR_DONORS * (weight - prior)

    return np.asarray(minimize(loss, prior, jac=True, bounds=[(0, None)] * len(prior), tol=1e-10).x)
