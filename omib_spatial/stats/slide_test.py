"""Is there anything on a slide? How far its spots reach above its own level, against those of healthy slides."""

from collections.abc import Sequence

import numpy as np
from scipy.special import gamma
from scipy.stats import t

MAX_ITER, TOL = 1000, 1e-10


def spread(values: np.ndarray, power: float | None) -> float:
    """How much ``values`` (n,) spread: in normal ones the standard deviation.

    Parameters
    ----------
    values
        Such as the log distances of a slide's spots.
    power
        ``k`` of ``(2 mean(max(x - median, 0)^k) / E|Z|^k)^(1/k)``, which looks at values above the median alone, and
        the more at the farthest ones the higher ``k`` is. None for the standard deviation.
    """
    if power is None:
        return float(values.std())
    above = np.maximum(values - np.median(values), 0)
    # In units of the largest, whose power may be no number.
    unit = above.max() or 1.0
    return float(unit * (2 * np.power(above / unit, power).mean() / absolute_moment(power)) ** (1 / power))


def absolute_moment(power: float) -> float:
    """``E|Z|^k`` of a standard normal Z."""
    return float(2 ** (power / 2) * gamma((power + 1) / 2) / np.sqrt(np.pi))


def sampling_variance(power: float | None) -> float:
    """Variance of the logarithm of `spread`, times the number of independent normal values that it is of.

    By the delta method: the influence of a value is ``(2 max(z, 0)^k / E|Z|^k - 1) / k - b sign(z)``, the last term
    that of the median.
    """
    if power is None:
        return 0.5
    moment = absolute_moment(power)
    ratio = absolute_moment(2 * power) / moment**2
    b = np.sqrt(np.pi / 2) * absolute_moment(power - 1) / moment
    return float((2 * ratio - 1) / power**2 + b**2 - 2 * b / power)


def spread_pvalue(
    spread: float,
    n_independent: float,
    slides: np.ndarray,
    n_slides: np.ndarray,
    between_sd: float,
    power: float | None = None,
) -> float:
    """P(a healthy slide's log distances spread at least as much): two kinds of tissue spread more than one.

    A slide's own level cancels, whatever donor and staining do to it. The logarithm of the spread of a healthy slide
    is normal around a common mean, with a variance between slides and one of sampling, `sampling_variance` over the
    independent spots: a random-effects model (DerSimonian and Laird 1986), fitted by expectation maximisation with
    ``between_sd`` as the evidence of one slide more. The p-value is Student's t, with the healthy slides as degrees of
    freedom, of the slide's deviation from the prediction.

    Parameters
    ----------
    spread, n_independent
        `spread` of the slide's log distances, and independent spots that they are worth.
    slides, n_slides
        The same of each healthy slide, (n,) each; infinitely many spots mean no sampling error.
    between_sd
        Standard deviation between slides that is expected.
    power
        Of the spreads.

    Returns
    -------
    NaN without a healthy slide.
    """
    if len(slides) == 0:
        return float("nan")
    values, unit, between = np.log(slides), sampling_variance(power), between_sd**2
    sampling = unit / n_slides
    for _ in range(MAX_ITER):
        weight = 1 / (between + sampling)
        mean = weight @ values / weight.sum()
        shrunk = np.square(between * weight * (values - mean)) + between * sampling * weight
        before, between = between, (shrunk.sum() + between_sd**2) / len(values)
        if abs(before - between) < TOL:
            break
    predicted = np.sqrt(between + 1 / (1 / (between + sampling)).sum() + unit / n_independent)
    return float(t.sf((np.log(spread) - mean) / predicted, len(values)))


def cauchy_combination(pvalues: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """One p-value of several, whatever they have to do with each other (Liu and Xie 2020).

    That of equal ones up to .9 is theirs, and that of unrelated small ones about the smallest times their number. One
    of several above .9 counts as .9, or what finds nothing would take away what another one finds; in simulations of
    two, equally heavy, .071 to .107 are up to .1, whatever their correlation.

    Parameters
    ----------
    pvalues
        One or more.
    weights
        What each counts; None is the same of all.
    """
    if len(pvalues) == 1:
        return float(pvalues[0])
    inside = np.clip(pvalues, 1e-15, 0.9)
    return float(0.5 - np.arctan(np.average(np.tan((0.5 - inside) * np.pi), weights=weights)) / np.pi)
