"""What sentiment and rating benchmarks report."""

import numpy as np
import numpy.typing as npt

_STRONGEST = 3


def sentiment_scores(target: npt.ArrayLike, prediction: npt.ArrayLike) -> dict[str, float]:
    """Measures of CMU-MOSI, on sentiment from -3 to 3.

    Those without a suffix are the OMIB paper's: ``acc7`` on all samples, the others on samples whose label is not
    zero. Those with ``_has_zero`` are the field's other variant, on all samples, where zero counts as not negative
    (Zadeh et al. 2018); its ``acc7`` is the same.

    Parameters
    ----------
    target, prediction
        (N,) values.

    Returns
    -------
    ``acc7``
        Agreement after clipping to [-3, 3] and rounding to the nearest integer, halves to the even one.
    ``acc2``, ``f1``
        Accuracy of the sign (a prediction of exactly 0 is not positive), and F1 of either class weighted by its size.
    ``mae``, ``corr``
        Mean absolute error and Pearson correlation; the latter is NaN where target or prediction is constant.

    Raises
    ------
    ValueError
        Shapes differ, there is no sample, or a value is not finite.
    """
    target, prediction = _checked(target, prediction)
    if target.ndim != 1:
        raise ValueError(f"Sentiment is one value per sample, (N,), not {target.shape}.")
    kept = target != 0
    variants = {"": (kept, np.greater), "_has_zero": (np.ones_like(kept), np.greater_equal)}
    scores = {"acc7": float(np.mean(_seven(target) == _seven(prediction)))}
    for suffix, (rows, above) in variants.items():
        true, found = target[rows], prediction[rows]
        scores[f"acc2{suffix}"], scores[f"f1{suffix}"] = _binary(above(true, 0), above(found, 0))
        scores[f"mae{suffix}"] = _mean(np.abs(true - found))
        scores[f"corr{suffix}"] = pearson(true, found)
    return scores


def rating_scores(target: npt.ArrayLike, prediction: npt.ArrayLike) -> dict[str, np.ndarray]:
    """Mean absolute error ``mae`` and Pearson correlation ``corr`` of each rating, (ratings,).

    Parameters
    ----------
    target, prediction
        (N, ratings) values.

    Raises
    ------
    ValueError
        Shapes differ, there is no sample, or a value is not finite.
    """
    target, prediction = _checked(target, prediction)
    if target.ndim != 2:
        raise ValueError(f"Ratings are (N, ratings), not {target.shape}.")
    pairs = list(zip(target.T, prediction.T, strict=True))
    return {
        "mae": np.array([_mean(np.abs(true - found)) for true, found in pairs]),
        "corr": np.array([pearson(true, found) for true, found in pairs]),
    }


def pearson(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two (N,) arrays; NaN where one of them is constant."""
    if len(one) == 0 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    with np.errstate(invalid="ignore"):  # a spread whose square is below what a float can hold
        return float(np.corrcoef(one, other)[0, 1])


def _seven(values: np.ndarray) -> np.ndarray:
    return np.round(np.clip(values, -_STRONGEST, _STRONGEST))


def _binary(true: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Accuracy, and F1 weighted by the size of each true class."""
    from sklearn.metrics import f1_score

    if len(true) == 0:
        return float("nan"), float("nan")
    return float(np.mean(true == found)), float(f1_score(true, found, average="weighted", zero_division=0))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _checked(target: npt.ArrayLike, prediction: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    true, found = np.asarray(target, dtype=float), np.asarray(prediction, dtype=float)
    if true.shape != found.shape or true.size == 0:
        raise ValueError(f"target is {true.shape}, prediction {found.shape}: both need the same shape, and samples.")
    for name, values in (("target", true), ("prediction", found)):
        if not np.isfinite(values).all():
            rows = np.unique(np.argwhere(~np.isfinite(values))[:, 0])[:5].tolist()
            raise ValueError(f"{name} is not finite in rows {rows}.")
    return true, found
