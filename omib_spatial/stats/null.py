"""What is expected of healthy tissue of a slide that was never seen, and p-values against healthy spots."""

from typing import NamedTuple, Self

import numpy as np

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
