"""Leave one patient out on HER2-positive breast cancer: tumour against a model of the other patients' tissue."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from anndata import AnnData
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from omib_spatial import tl
from omib_spatial._keys import ANOMALY, HEALTHY, Written
from omib_spatial.benchmarks._records import Record
from omib_spatial.data import validation as check
from omib_spatial.datasets import her2st
from omib_spatial.datasets._her2st import PATIENT, SECTION

logger = logging.getLogger("omib_spatial")

NAME = "her2st"
SETTINGS = ("gene", "gene+image")
"""Modalities of each setting, joined by +."""
DEPTH = "total counts"
"""Method that only counts: what a detector must beat, and must not be a copy of."""


def run(
    folder: str | Path,
    *,
    seeds: int = 1,
    settings: Sequence[str] = SETTINGS,
    say: Callable[[str], None] = logger.info,
    **options: Any,
) -> list[Record]:
    """Fit on the other patients' healthy spots, score the held-out patient's sections, and measure.

    One model per held-out patient, setting and seed, fitted on the spots with ``anomaly == 0`` of all other patients;
    their remaining spots are in the object, but training sees neither them nor edges to them. A setting with the image
    is measured on the sections that have one, and trained on all. Spots with ``anomaly == -1`` are scored, not
    measured.

    Parameters
    ----------
    folder
        As `omib_spatial.datasets.her2st` takes it.
    seeds
        Number of seeds, 0, 1, ...
    settings
        Modalities of each setting, joined by ``+``.
    say
        Takes one line per fit, and one at the end.
    options
        Passed to `omib_spatial.tl.fit`: ``objective``, ``max_epochs``, ...

    Returns
    -------
    Records of `measure` per section, setting and seed; the method is ``omib`` with its objective. ``total counts``
    has its own, once.

    Raises
    ------
    FileNotFoundError, KeyError, ValueError
        As `omib_spatial.datasets.her2st` and `omib_spatial.tl.fit`; ValueError also with fewer than two patients.
    """
    started, adata = perf_counter(), her2st(folder)
    adata.obs[HEALTHY] = (adata.obs[ANOMALY] == 0).to_numpy()
    patients = list(adata.obs[PATIENT].cat.categories)
    if len(patients) < 2:
        raise ValueError(f"{folder} has sections of {patients} only: at least two patients are needed.")
    records = list(_depth_records(adata))
    measured = {(s, p): _measured(adata, p, s.split("+")) for s in settings for p in patients}
    folds = [(*fold, seed) for fold in measured if measured[fold] for seed in range(seeds)]
    for setting, patient, seed in folds:
        fit_options = {"seed": seed, "progress_bar": False} | options
        new, line = _fold(adata, patient, measured[setting, patient], setting, fit_options)
        records += new
        say(line)
    say(
        f"{NAME}: {adata.obs[SECTION].nunique()} sections of {len(patients)} patients, each scored by a model of the "
        f"other patients' healthy spots; {len(folds)} fits, {seeds} seed{'s' * (seeds != 1)}, "
        f"{(perf_counter() - started) / 60:.1f} min."
    )
    return records


def measure(truth: np.ndarray, score: np.ndarray, called: np.ndarray, depth: np.ndarray) -> dict[str, float]:
    """Say how well scores find the anomalies of one section.

    Parameters
    ----------
    truth
        1 anomalous, 0 not, -1 unknown, (n,).
    score
        Higher is more anomalous, NaN where there is none, (n,).
    called
        The model's own call, (n,) bool.
    depth
        Total counts, (n,).

    Returns
    -------
    Over spots with a truth and a score: ``auroc``, ``average_precision``, ``prevalence``, ``f1_oracle`` (flags as many
    spots as there are anomalies, so it looks at the truth; the paper's) and ``f1_call`` (at the model's call). Over
    all: ``depth_correlation`` (Spearman, score with depth), ``called`` (share of spots) and ``distinct`` (number of
    different scores per spot). NaN where not defined.
    """
    scored = np.isfinite(score)
    known = scored & (truth >= 0)
    y, s = truth[known] == 1, score[known]
    both = y.any() and not y.all()
    flagged = np.zeros(len(y), bool)
    flagged[np.argsort(-s, kind="stable")[: y.sum()]] = True
    values = np.unique(score[scored])
    nan = float("nan")
    return {
        "auroc": float(roc_auc_score(y, s)) if both else nan,
        "average_precision": float(average_precision_score(y, s)) if both else nan,
        "prevalence": float(y.mean()) if len(y) else nan,
        "f1_oracle": float(f1_score(y, flagged)) if y.any() else nan,
        "f1_call": float(f1_score(y, called[known], zero_division=0)) if y.any() else nan,
        "depth_correlation": float(spearmanr(score[scored], depth[scored])[0]) if len(values) > 1 else nan,
        "called": float(called.mean()),
        "distinct": len(values) / len(score),
    }


def _measured(adata: AnnData, patient: str, modalities: Sequence[str]) -> list[str]:
    """The patient's sections that have the modalities; none if no other patient has an image to learn from."""
    own = (adata.obs[PATIENT] == patient).to_numpy()
    sections = list(dict.fromkeys(adata.obs[SECTION][own]))
    if "image" not in modalities:
        return sections
    pictured = check.check_images(adata, library_key=SECTION, required=False)
    return [name for name in sections if name in pictured] if not set(pictured) <= set(sections) else []


def _fold(
    adata: AnnData, patient: str, sections: Sequence[str], setting: str, options: Mapping[str, Any]
) -> tuple[list[Record], str]:
    """Records of one held-out patient, and a line about the fit."""
    started, key = perf_counter(), Written()
    train = adata[(adata.obs[PATIENT] != patient).to_numpy()].copy()
    target = adata[adata.obs[SECTION].isin(sections).to_numpy()].copy()
    options = {"modalities": setting.split("+"), **options}
    model = tl.fit(train, reference_key=HEALTHY, library_key=SECTION, **options)
    tl.score(target, model)
    method, records = f"omib {model.params['objective']}", []
    for section in sections:
        rows = (target.obs[SECTION] == section).to_numpy()
        truth, score, called = (target.obs[name].to_numpy()[rows] for name in (ANOMALY, key.score, key.anomaly))
        for metric, value in measure(truth, score, called, _depth(target)[rows]).items():
            records.append(Record(NAME, section, method, setting, model.params["seed"], metric, value))
    found = ", ".join(f"{r.dataset} {r.value:.3f}" for r in records if r.metric == "auroc")
    return records, (
        f"{setting}, seed {model.params['seed']}, without patient {patient}: {model.params['n_reference']} healthy "
        f"spots, AUROC {found} ({perf_counter() - started:.0f} s)"
    )


def _depth(adata: AnnData) -> np.ndarray:
    return np.asarray(adata.X.sum(1), np.float64).ravel()


def _depth_records(adata: AnnData) -> Iterator[Record]:
    """The ranking by total counts, which makes no call."""
    depth, truth = _depth(adata), adata.obs[ANOMALY].to_numpy()
    for section in adata.obs[SECTION].cat.categories:
        rows = (adata.obs[SECTION] == section).to_numpy()
        found = measure(truth[rows], depth[rows], np.zeros(rows.sum(), bool), depth[rows])
        for metric in ("auroc", "average_precision", "prevalence", "f1_oracle"):
            yield Record(NAME, section, DEPTH, DEPTH, 0, metric, found[metric])
