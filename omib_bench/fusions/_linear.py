"""The row to beat: a linear model on the concatenation, its penalty chosen on the validation part; and measures."""

from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score

from omib_bench.datasets import Split

Scores = dict[str, float]


def classes(target: np.ndarray, probability: np.ndarray) -> Scores:
    """Accuracy, and F1 of all classes weighted by their size, of ``probability`` (N, classes)."""
    found = probability.argmax(1)
    return {
        "accuracy": float((found == target).mean()),
        "f1": float(f1_score(target, found, average="weighted", zero_division=0)),
    }


def values(
    measure: Callable[[np.ndarray, np.ndarray], Scores],
    target: np.ndarray,
    centre: np.ndarray,
    spread: np.ndarray,
    found: np.ndarray,
) -> Scores:
    """``measure`` of standardised predictions (N, n) brought back to the target's units.

    Parameters
    ----------
    measure
        Scores by metric of a target and predictions of the same shape.
    target
        True values in their own units, (N,) or (N, n).
    centre, spread
        Mean and standard deviation that the target was standardised by, (n,).
    found
        Standardised predictions, (N, n).
    """
    return measure(target, (found * spread + centre).reshape(target.shape))


def linear_classes(x: np.ndarray, target: np.ndarray, rows: Split, other: np.ndarray) -> Scores:
    """L2-penalised logistic regression; the strength with the best accuracy on the validation rows.

    Parameters
    ----------
    x
        Features, (N, p).
    target
        Class of each sample, (N,) int.
    rows
        Samples to fit on, ``train``, and to choose the strength on, ``valid``.
    other
        Samples to measure on, (m,).

    Returns
    -------
    Scores of the samples ``other``, those of `classes`.
    """
    fits = [
        LogisticRegression(C=strength, max_iter=1000).fit(x[rows.train], target[rows.train])
        for strength in 10.0 ** np.arange(-5, 1)
    ]
    best = max(fits, key=lambda fit: fit.score(x[rows.valid], target[rows.valid]))
    return classes(target[other], best.predict_proba(x[other]))


def linear_values(x: np.ndarray, target: np.ndarray, rows: Split, other: np.ndarray) -> np.ndarray:
    """Ridge regression; the strength with the least squared error on the validation rows. (len(other), n).

    Parameters
    ----------
    x
        As in `linear_classes`.
    target
        Values of each sample, (N, n).
    rows
        As in `linear_classes`.
    other
        Samples to predict.
    """
    fits = [Ridge(alpha=strength).fit(x[rows.train], target[rows.train]) for strength in 10.0 ** np.arange(0, 6)]
    best = min(fits, key=lambda fit: float(np.square(_of(fit, x[rows.valid]) - target[rows.valid]).mean()))
    return _of(best, x[other])


def _of(fit: Ridge, x: np.ndarray) -> np.ndarray:
    return np.asarray(fit.predict(x)).reshape(len(x), -1)
