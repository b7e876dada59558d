"""Is there anything on a slide? Its spread of distances against that of healthy slides."""

import numpy as np
from scipy.stats import t

MAX_ITER, TOL = 1000, 1e-10


def spread_pvalue(
    spread: float, n_independent: float, slides: np.ndarray, n_slides: np.ndarray, between_sd: float
) -> float:
    """P(a healthy slide's log distances spread at least as much): two kinds of tissue spread more than one.

    A slide's own level cancels, whatever donor and staining do to it. The logarithm of the spread of a healthy slide
    is normal around a common mean, with a variance between slides and one of sampling, ``1 / (2 n)`` for ``n``
    independent spots: a random-effects model (DerSimonian and Laird 1986), fitted by expectation maximisation with
    ``between_sd`` as the evidence of one slide more. The p-value is Student's t, with the healthy slides as degrees of
    freedom, of the slide's deviation from the prediction.

    Parameters
    ----------
    spread, n_independent
        Standard deviation of the slide's log distances, and independent spots that they are worth.
    slides, n_slides
        The same of each healthy slide, (n,) each; infinitely many spots mean no sampling error.
    between_sd
        Standard deviation between slides that is expected.

    Returns
    -------
    NaN without a healthy slide.
    """
    if len(slides) == 0:
        return float("nan")
    values, sampling, between = np.log(slides), 0.5 / n_slides, between_sd**2
    for _ in range(MAX_ITER):
        weight = 1 / (between + sampling)
        mean = weight @ values / weight.sum()
        shrunk = np.square(between * weight * (values - mean)) + between * sampling * weight
        before, between = between, (shrunk.sum() + between_sd**2) / len(values)
        if abs(before - between) < TOL:
            break
    predicted = np.sqrt(between + 1 / (1 / (between + sampling)).sum() + 0.5 / n_independent)
    return float(t.sf((np.log(spread) - mean) / predicted, len(values)))
