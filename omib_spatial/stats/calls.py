"""Which spots are called abnormal, from the probability of each that it is."""

import numpy as np


def largest_call(posterior: np.ndarray, fdr: float) -> np.ndarray:
    """Call as many spots as possible with an expected share of false calls of at most ``fdr`` (Newton et al. 2004).

    Parameters
    ----------
    posterior
        Probability that each spot is abnormal, (n,).
    fdr
        In [0, 1].

    Returns
    -------
    (n,) bool; spots with the same probability are called together.
    """
    ordered = np.sort(posterior)[::-1]
    expected = np.cumsum(1 - ordered) / np.arange(1, len(ordered) + 1)
    n = int(np.sum(expected <= fdr + 1e-12))
    # Ties of the last one would be called by their order alone.
    while 0 < n < len(ordered) and ordered[n] == ordered[n - 1]:
        n = int(np.sum(ordered > ordered[n - 1]))
    return posterior >= ordered[n - 1] if n else np.zeros(len(posterior), bool)


def smallest_call(posterior: np.ndarray, miss: float) -> np.ndarray:
    """Call as few spots as possible with an expected share of abnormal spots missed of at most ``miss``.

    Parameters
    ----------
    posterior
        Probability that each spot is abnormal, (n,).
    miss
        In [0, 1].

    Returns
    -------
    (n,) bool; spots of probability 0 are never called, those with the same probability together.
    """
    ordered = np.sort(posterior)[::-1]
    found = np.cumsum(ordered)
    if len(found) == 0 or (1 - miss) * found[-1] <= 0:
        return np.zeros(len(posterior), bool)
    last = int(np.searchsorted(found, (1 - miss) * found[-1] * (1 - 1e-12)))
    return (posterior >= ordered[last]) & (posterior > 0)


def false_share(posterior: np.ndarray, called: np.ndarray) -> float:
    """Expected share of false calls among the ``called`` (n,), 0 without any."""
    return float((1 - posterior[called]).mean()) if called.any() else 0.0


def missed_share(posterior: np.ndarray, called: np.ndarray) -> float:
    """Expected share of the abnormal spots that are not ``called`` (n,), 0 if none is expected."""
    return float(posterior[~called].sum() / posterior.sum()) if posterior.sum() > 0 else 0.0
