"""What is said of slides on their maps: the question, verdicts, how many spots are called, and from which score on."""

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._keys import ABNORMAL, Written
from omib_spatial.pl._slices import Slice

QUESTIONS = {"any": "Is there anything?", "part": "Which part is it?"}
SCORE_UNIT = "anomaly score:\nstandard deviations of the slide's\nhealthy spots beyond its border"


def called_spots(adata: AnnData, key_added: str) -> np.ndarray:
    """Which spots are called abnormal, (n_obs,) bool; none where nothing was called."""
    keys = Written(key_added)
    if keys.call in adata.obs:
        return (adata.obs[keys.call].astype(object) == ABNORMAL).to_numpy(dtype=bool)
    if keys.anomaly not in adata.obs:
        return np.zeros(adata.n_obs, bool)
    return adata.obs[keys.anomaly].astype("boolean").fillna(False).to_numpy(dtype=bool)


def call_threshold(score: np.ndarray, called: np.ndarray) -> float | None:
    """Score from which on spots of one slide are called, None where none is.

    It is the border, 0, where all that lie above it are called, else the lowest score of a called spot.

    Parameters
    ----------
    score, called
        Of the spots of the slide, (n,); a score may be NaN.
    """
    known = np.isfinite(score)
    chosen, others = score[known & called], score[known & ~called]
    if not len(chosen):
        return None
    return 0.0 if chosen.min() >= 0 and others.max(initial=-np.inf) <= 0 else float(chosen.min())


def score_marks(score: np.ndarray, called: np.ndarray, shown: list[Slice]) -> dict[float, str]:
    """What is told on the colour bar of the score, (n_obs,): where calls begin on the slices, and the border."""
    found = [call_threshold(score[item.rows], called[item.rows]) for item in shown]
    begins = sorted({round(value, 6) for value in found if value is not None})
    if not begins:
        return {0.0: "border"}
    words = "calls begin" if len(begins) == 1 else f"calls begin\n(by slice, up to {begins[-1]:.2g})"
    return {begins[0]: words} | {0.0: f"border,\n{words}" if begins[0] == 0 else "border"}


def captions(adata: AnnData, key_added: str, shown: list[Slice]) -> dict[str, str]:
    """By slice: its verdict and how many of its spots are called."""
    verdicts, called = _verdicts(adata, key_added), called_spots(adata, key_added)
    said = {}
    for item in shown:
        counts = f"{called[item.rows].sum():,} of {len(item.rows):,} spots called"
        said[item.name] = f"{verdicts[item.name]}: {counts}" if item.name in verdicts else counts
    return said


def map_title(adata: AnnData, key_added: str, shown: list[Slice]) -> str:
    """One line: slide, question, verdict and number of called spots."""
    verdicts, called = _verdicts(adata, key_added), called_spots(adata, key_added)
    table = adata.uns.get(Written(key_added).verdicts)
    asked = [] if table is None else [QUESTIONS[q] for q in pd.unique(table["question"]) if q in QUESTIONS]
    rows = np.concatenate([item.rows for item in shown])
    own = [verdicts[item.name] for item in shown if item.name in verdicts]
    counted = {verdict: own.count(verdict) for verdict in dict.fromkeys(own)}
    if len(shown) == 1:
        verdict = f"verdict: {own[0]}" if own else ""
    else:
        verdict = ", ".join(f"{n} × {name}" for name, n in counted.items())
    what = shown[0].name if len(shown) == 1 else f"{len(shown)} slides"
    parts = [what, *asked[:1], verdict, f"{called[rows].sum():,} of {len(rows):,} spots called"]
    return " · ".join(part for part in parts if part)


def _verdicts(adata: AnnData, key_added: str) -> dict[str, str]:
    table = adata.uns.get(Written(key_added).verdicts)
    if table is None or not {"slice", "verdict"} <= set(table):
        return {}
    return dict(zip(table["slice"].astype(str), table["verdict"].astype(str), strict=True))
