"""From scores to p-values and calls."""

import numpy as np
from scipy.stats import false_discovery_control


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
