"""Which spots are called anomalous."""

import numpy as np
from scipy.stats import false_discovery_control


def call(pvalues: np.ndarray, codes: np.ndarray, fdr: float) -> np.ndarray:
    """Benjamini-Hochberg calls, each slice by itself.

    Parameters
    ----------
    pvalues, codes
        p-value and slice of each spot, (n,); NaN is never called.
    fdr
        Expected share of false calls among the calls of a slice.

    Returns
    -------
    (n,) bool.
    """
    called = np.zeros(len(pvalues), bool)
    for code in np.unique(codes):
        rows = np.flatnonzero((codes == code) & ~np.isnan(pvalues))
        if len(rows):
            called[rows] = false_discovery_control(pvalues[rows]) <= fdr
    return called
