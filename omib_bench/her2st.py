"""Leave one patient out on HER2-positive breast cancer: tumour against a model of the other patients' tissue.

The model knows their healthy tissue only or, supervised, their tumours too.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from anndata import AnnData
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from omib_bench import detectors
from omib_bench._bootstrap import ALL, Ranking, interval_records
from omib_bench._records import Record, table, tables
from omib_bench.calls import call_records
from omib_spatial import tl
from omib_spatial._keys import ANOMALY, HEALTHY, Written
from omib_spatial.datasets import her2st
from omib_spatial.datasets._her2st import PATIENT, SECTION
from omib_spatial.modalities import Image
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides.validation import check_images

logger = logging.getLogger("omib_spatial")

NAME = "her2st"
SETTINGS = ("gene", "genome", "gene+genome", "gene+image", "gene+image+genome")
"""Modalities of each setting, joined by +."""
SUBSETS = ("gene", "image", "genome", "gene+image", "gene+genome", "image+genome", "gene+image+genome")
"""All settings of three modalities."""
TISSUE = "tissue"
"""``obs`` column of the labels that a supervised model learns from."""
TUMOUR = "tumour"
DEPTH = detectors.COUNTS
"""Method that only counts: what a detector must beat, and must not be a copy of."""


def run(
    folder: str | Path,
    *,
    seeds: int = 1,
    settings: Sequence[str] = SETTINGS,
    simple: bool = False,
    supervised: bool = False,
    say: Callable[[str], None] = logger.info,
    **options: Any,
) -> list[Record]:
    """Fit on the other patients' healthy spots, score the held-out patient's sections, and measure.

    One model per held-out patient, setting and seed, fitted on the spots with ``anomaly == 0`` of all other patients;
    their remaining spots are in the object, but training sees neither them nor edges to them. A section without an
    image is scored on the other modalities of the setting, and left out where the image is the only one. Spots with
    ``anomaly == -1`` are scored, not measured.

    Parameters
    ----------
    folder
        As `omib_spatial.datasets.her2st` takes it.
    seeds
        Number of seeds, 0, 1, ...
    settings
        Modalities of each setting, joined by ``+``.
    simple
        Also run `omib_bench.detectors` on the same folds.
    supervised
        Also learn from the other patients' tumours: the probability of tumour and the most probable class are measured
        as well as the anomaly score and its call, whose method is ``omib classification, anomaly score``.
    say
        Takes one line per fit, and one at the end.
    options
        Passed to `omib_spatial.tl.fit`: ``objective``, ``max_epochs``, ...

    Returns
    -------
    Records of `measure` per section, setting and seed; the method is ``omib`` with its objective. Both questions of
    `omib_spatial.tl.call` have those of `omib_bench.calls.call_records`. ``total counts`` has its own, once, and each
    simple detector its ``auroc``. Of every row that has all sections, the dataset ``all`` holds ``pooled_auroc``, of
    all spots at once, and 95 % bootstrap intervals of the mean AUROC, over spots and over patients.

    Raises
    ------
    FileNotFoundError, KeyError, ValueError
        As `omib_spatial.datasets.her2st` and `omib_spatial.tl.fit`; ValueError also with fewer than two patients.
    """
    started, (adata, patients) = perf_counter(), read(folder)
    records, rankings = list(_depth_records(adata)), list[Ranking]()
    measured = {(s, p): sections_of(adata, p, s.split("+")) for s in settings for p in patients}
    folds = [(*fold, seed) for fold in measured if measured[fold] for seed in range(seeds)]
    for setting, patient, seed in folds:
        labels = {"labels_key": TISSUE} if supervised else {"reference_key": HEALTHY}
        fit_options = {"seed": seed, "enable_progress_bar": False, "donor_key": PATIENT} | labels | options
        new, ranked, line = _fold(adata, patient, measured[setting, patient], setting, fit_options)
        records += new
        rankings += ranked
        say(line)
    if simple:
        tissue = detectors.Features(adata)
        for patient in patients:
            ranked = list(_simple(tissue, patient, seeds))
            rankings += ranked
            records += [Record(NAME, r.section, r.method, r.setting, r.seed, "auroc", r.auroc) for r in ranked]
            say(f"simple detectors without patient {patient}: {len(ranked)} rankings")
    records += interval_records(NAME, rankings)
    say(
        f"{NAME}: {adata.obs[SECTION].nunique()} sections of {len(patients)} patients, each scored by a model of the "
        f"other patients' healthy spots; {len(folds)} fits, {seeds} seed{'s' * (seeds != 1)}, "
        f"{(perf_counter() - started) / 60:.1f} min."
    )
    return records


def read(folder: str | Path) -> tuple[AnnData, list[str]]:
    """All sections, ``obs["healthy"]`` marking spots without anomaly, ``obs["tissue"]`` labelled; and the patients.

    Features of the image do not depend on who is held out, and are kept for all fits as `omib_spatial.tl.fit` does.

    Raises
    ------
    FileNotFoundError, KeyError, ValueError
        As `omib_spatial.datasets.her2st`; ValueError also with fewer than two patients.
    """
    adata = her2st(folder)
    adata.obs[HEALTHY] = (adata.obs[ANOMALY] == 0).to_numpy()
    adata.obs[TISSUE] = adata.obs[ANOMALY].map({0: HEALTHY, 1: TUMOUR}).astype("category")
    patients = list(adata.obs[PATIENT].cat.categories)
    if len(patients) < 2:
        raise ValueError(f"{folder} has sections of {patients} only: at least two patients are needed.")
    tissue, image = Tissue(adata, Layout(library_key=SECTION)), Image()
    if Image.offered(tissue):
        image.fit(tissue, np.ones(adata.n_obs, bool))
        image.prepare(tissue).keep(adata)
    return adata, patients


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
    spots as there are anomalies, so it looks at the truth; the paper's) and, of the model's call, ``f1_call``,
    ``recall_call`` and ``false_discoveries`` (share of the called spots, 0 if there are none). Over all:
    ``depth_correlation`` (Spearman, score with depth), ``called`` (share of spots) and ``distinct`` (number of
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
        "false_discoveries": float((~y[called[known]]).sum() / max(called[known].sum(), 1)),
        "recall_call": float(called[known][y].mean()) if y.any() else nan,
        "depth_correlation": float(spearmanr(score[scored], depth[scored])[0]) if len(values) > 1 else nan,
        "called": float(called.mean()),
        "distinct": len(values) / len(score),
    }


def report(records: Sequence[Record]) -> str:
    """Lay out ours section by section, then mean AUROC and intervals of everyone."""
    each = [r for r in records if r.dataset != ALL and (r.method.startswith("omib") or r.setting == DEPTH)]
    means = [
        r._replace(setting=r.method if r.method == r.setting else f"{r.method}, {r.setting}")
        for r in records
        if r.dataset == ALL
    ]
    by_setting = defaultdict(list)
    for r in means:
        by_setting[r.setting].append(r)
    blocks = [table(rows, rows="setting", mean=False).splitlines() for rows in by_setting.values()]
    return "\n".join([tables(each), "", *(blocks[0][:1] if blocks else ()), *(block[-1] for block in blocks)])


def sections_of(adata: AnnData, patient: str, modalities: Sequence[str]) -> list[str]:
    """The patient's sections that have a modality; none if the image is asked for and no other patient has one."""
    own = (adata.obs[PATIENT] == patient).to_numpy()
    sections = list(dict.fromkeys(adata.obs[SECTION][own]))
    if "image" not in modalities:
        return sections
    pictured = check_images(adata, library_key=SECTION, required=False)
    if set(pictured) <= set(sections):
        return []
    return sections if len(modalities) > 1 else [name for name in sections if name in pictured]


def _fold(
    adata: AnnData, patient: str, sections: Sequence[str], setting: str, options: Mapping[str, Any]
) -> tuple[list[Record], list[Ranking], str]:
    """Records and rankings of one held-out patient, and a line about the fit."""
    started = perf_counter()
    target = adata[adata.obs[SECTION].isin(sections).to_numpy()].copy()
    model = learned(others(adata, patient), setting, options)
    tl.score(target, model)
    seed, rankings, records = model.params["seed"], list[Ranking](), list[Record]()
    for method, (score, called) in judged(target, model).items():
        for ranking in ranked(target, score, method, setting, seed):
            rankings.append(ranking)
            rows = (target.obs[SECTION] == ranking.section).to_numpy()
            found = measure(ranking.truth, ranking.score, called[rows], total_counts(target)[rows])
            records += [Record(NAME, ranking.section, method, setting, seed, m, value) for m, value in found.items()]
    records += call_records(NAME, target, model, f"omib {model.params['objective']}", setting)
    said = ", ".join(f"{r.dataset} {r.value:.3f}" for r in records if r.metric == "auroc")
    return (
        records,
        rankings,
        (
            f"{setting}, seed {model.params['seed']}, without patient {patient}: {model.params['n_reference']} healthy "
            f"spots, AUROC {said} ({perf_counter() - started:.0f} s)"
        ),
    )


def judged(target: AnnData, model: tl.AnomalyModel) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By method, score and call of every spot, (n_obs,) each; also by the probability of tumour where that is known."""
    key, method = Written(), f"omib {model.params['objective']}"
    anomaly = target.obs[key.score].to_numpy(), target.obs[key.anomaly].to_numpy()
    if not model.classes:
        return {method: anomaly}
    probability = target.obsm[key.probability][:, model.classes.index(TUMOUR)]
    likely = (target.obs[key.label] == TUMOUR).to_numpy()
    return {method: (probability, likely), f"{method}, anomaly score": anomaly}


def others(adata: AnnData, patient: str) -> AnnData:
    """Sections of all patients but one, to fit on."""
    return adata[(adata.obs[PATIENT] != patient).to_numpy()].copy()


def learned(train: AnnData, setting: str, options: Mapping[str, Any]) -> tl.AnomalyModel:
    """A model of the modalities in ``setting``; ``options`` go to `omib_spatial.tl.fit`."""
    options = {"modalities": setting.split("+"), **options}
    return tl.fit(train, library_key=SECTION, **options)


def ranked(target: AnnData, score: Any, method: str, setting: str, seed: int) -> Iterator[Ranking]:
    """``score`` (n_obs,) section by section.

    Parameters
    ----------
    target
        Sections that were scored, with the truth.
    score
        Of every spot, higher is more anomalous, NaN where there is none.
    method, setting, seed
        What was scored, and how.
    """
    score, truth = np.asarray(score), target.obs[ANOMALY].to_numpy()
    for section, patient in target.obs[[SECTION, PATIENT]].drop_duplicates().itertuples(index=False):
        rows = (target.obs[SECTION] == section).to_numpy()
        yield Ranking(section, patient, method, setting, seed, truth[rows], score[rows])


def _simple(tissue: detectors.Features, patient: str, seeds: int) -> Iterator[Ranking]:
    """What the simple detectors say of one held-out patient's sections, where they say anything."""
    fold = detectors.fold(tissue.adata, patient)
    own = tissue.adata[fold.target]
    for row in detectors.rows(tissue, fold, seeds):
        for ranking in ranked(own, row.score, row.method, row.setting, row.seed):
            if np.isfinite(ranking.score).any():
                yield ranking


def total_counts(adata: AnnData) -> np.ndarray:
    """(n_obs,) float64."""
    return np.asarray(adata.X.sum(1), np.float64).ravel()


def _depth_records(adata: AnnData) -> Iterator[Record]:
    """The ranking by total counts, which makes no call."""
    depth, truth = total_counts(adata), adata.obs[ANOMALY].to_numpy()
    for section in adata.obs[SECTION].cat.categories:
        rows = (adata.obs[SECTION] == section).to_numpy()
        found = measure(truth[rows], depth[rows], np.zeros(rows.sum(), bool), depth[rows])
        for metric in ("auroc", "average_precision", "prevalence", "f1_oracle"):
            yield Record(NAME, section, DEPTH, DEPTH, 0, metric, found[metric])
