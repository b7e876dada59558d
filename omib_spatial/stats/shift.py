"""How far a slide as a whole lies from healthy reference slides: one more slide's prediction interval per statistic."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import numpy as np
from scipy.stats import t

FALSE_ALARMS = 0.05
"""Share of healthy slides that lie beyond some limit of one modality, over its statistics together (Bonferroni)."""
PRIOR_SLIDES = 5
"""Slides that the prior spread of a statistic counts as: two or three reference slides cannot tell a spread, and their
own, if they happen to be alike, would flag every other healthy slide."""

Compare = Callable[[np.ndarray, np.ndarray], float]
"""Of the profile of a slide (p,) with that of the reference (p,), NaN where either was not measured."""


class Statistic(NamedTuple):
    """One number that describes a slide as a whole.

    Attributes
    ----------
    name
        In words that a biologist knows.
    spread
        Standard deviation between healthy slides of one study, as it is expected before any slide is seen; of the
        natural logarithm where the statistic is ``logarithmic``.
    advice
        What to look at where a slide lies beyond.
    logarithmic
        Whether slides differ by factors, not by differences. Its values are positive.
    strange
        Which side says that a slide is unlike the reference.
    compare
        Of a statistic that compares the slide's profile with the reference's; None of all others.
    """

    name: str
    spread: float
    advice: str
    logarithmic: bool = False
    strange: Literal["low", "high", "both"] = "both"
    compare: Compare | None = None


@dataclass(frozen=True)
class ReferenceInterval:
    """What healthy slides show of some statistics, and how far one more healthy slide may lie from it.

    Attributes
    ----------
    location
        Mean over donors (m,); of logarithms where a statistic is logarithmic, and so all others.
    spread
        Standard deviation of one more slide from ``location`` (m,).
    low, high
        Limits of one more healthy slide (m,), infinite on a side that is not strange.
    profile
        Mean profile over donors (p,), empty where no statistic compares profiles.
    """

    location: np.ndarray
    spread: np.ndarray
    low: np.ndarray
    high: np.ndarray
    profile: np.ndarray

    @classmethod
    def fit(
        cls,
        values: np.ndarray,
        profiles: np.ndarray,
        donors: np.ndarray,
        statistics: Sequence[Statistic],
    ) -> Self:
        """Predictive distribution of the next slide, Student's t, with the prior spread as `PRIOR_SLIDES` slides.

        Parameters
        ----------
        values
            Of each healthy slide, (n, m), n >= 2; a single slide comes as its two halves. What compares profiles is
            made here, each against the other donors' profiles.
        profiles
            (n, p).
        donors
            Of each slide, (n,); every donor weighs the same.
        statistics
            What the columns are; they share `FALSE_ALARMS`.
        """
        donor = np.unique(donors, return_inverse=True)[1]
        n_donors = int(donor.max()) + 1
        weights = 1 / (n_donors * np.bincount(donor)[donor])
        # Slides of one donor are left out one by one: there is nothing else to compare them with.
        fold = donor if n_donors > 1 else np.arange(len(donor))
        compared = [
            column if statistic.compare is None else left_out_comparison(profiles, weights, fold, statistic.compare)
            for column, statistic in zip(values.T, statistics, strict=True)
        ]
        x = comparable(np.stack(compared, 1), statistics)
        location = weights @ x
        prior = np.array([statistic.spread for statistic in statistics])
        degrees_of_freedom = PRIOR_SLIDES + n_donors - 1
        squares = PRIOR_SLIDES * np.square(prior) + n_donors * (weights @ np.square(x - location))
        spread = np.sqrt(squares / degrees_of_freedom * (1 + 1 / n_donors))
        sides = np.array([2 if statistic.strange == "both" else 1 for statistic in statistics])
        reach = spread * t.isf(FALSE_ALARMS / (len(statistics) * sides), degrees_of_freedom)
        low = np.where([statistic.strange == "high" for statistic in statistics], -np.inf, location - reach)
        high = np.where([statistic.strange == "low" for statistic in statistics], np.inf, location + reach)
        return cls(location, spread, low, high, weights @ profiles)

    def excess(self, x: np.ndarray) -> np.ndarray:
        """How far `comparable` values x (m,) lie towards the limit: 0 at the location, 1 at the limit, more beyond."""
        return np.where(
            x > self.location,
            (x - self.location) / (self.high - self.location),
            (self.location - x) / (self.location - self.low),
        )


def comparable(values: np.ndarray, statistics: Sequence[Statistic]) -> np.ndarray:
    """The logarithm where a statistic is logarithmic, of (m,) or (n, m)."""
    logarithmic = np.array([statistic.logarithmic for statistic in statistics])
    return np.where(logarithmic, np.log(np.where(logarithmic, values, 1)), values)


def natural(x: np.ndarray, statistics: Sequence[Statistic]) -> np.ndarray:
    """The inverse of `comparable`."""
    logarithmic = np.array([statistic.logarithmic for statistic in statistics])
    return np.where(logarithmic, np.exp(np.where(logarithmic, x, 0)), x)


def left_out_comparison(profiles: np.ndarray, weights: np.ndarray, fold: np.ndarray, compare: Compare) -> np.ndarray:
    """Each profile compared with the mean of all that are not of its fold, (n,).

    Parameters
    ----------
    profiles, weights, fold
        Of each slide, (n, p), (n,) and (n,), of two folds or more.
    compare
        Says how like or unlike two profiles are.
    """
    found = np.empty(len(profiles))
    for i, profile in enumerate(profiles):
        others = weights * (fold != fold[i])
        found[i] = compare(profile, others @ profiles / others.sum())
    return found


def correlation(profile: np.ndarray, reference: np.ndarray) -> float:
    """Pearson's correlation over what both have; 0 where either is constant."""
    both = np.isfinite(profile) & np.isfinite(reference)
    one, other = (values[both] - values[both].mean() for values in (profile, reference)) if both.any() else ([], [])
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.dot(one, other)) / norm if norm > 0 else 0.0


def coverage(profile: np.ndarray, reference: np.ndarray) -> float:
    """Share of the reference's expression, of which profiles are ``log1p``, in genes that the slide has at all."""
    expression = np.nan_to_num(np.expm1(reference))
    return float(expression[profile > 0].sum() / max(expression.sum(), np.finfo(float).tiny))


def distance(profile: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square of the difference over what both have."""
    both = np.isfinite(profile) & np.isfinite(reference)
    return float(np.sqrt(np.mean(np.square(profile[both] - reference[both])))) if both.any() else 0.0
