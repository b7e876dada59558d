"""her2st, all sections together: nobody says what is healthy, and no section is judged by a model of its patient."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.metrics import roc_auc_score

from omib_bench._records import Record, tables
from omib_bench.her2st import TUMOUR, measure, read
from omib_spatial import pp, tl
from omib_spatial._keys import ANOMALY, HEALTHY, REFERENCE, Written
from omib_spatial.datasets._her2st import PATIENT, SECTION

logger = logging.getLogger("omib_spatial")

NAME = "her2st cohort"
POOLED = "all sections"
CROSS_FIT, TOGETHER, EVIDENCE = "cross_fit", "fit", "evidence inside each slide"
MARKED = "cross_fit, found reference as if it were marked"
TAUGHT = "cross_fit, found tails as classes"
_TOLD = "told"


def run(
    folder: str | Path, *, seeds: int = 3, say: Callable[[str], None] = logger.info, **options: Any
) -> list[Record]:
    """Score a cohort of which nothing is known, in five ways, and measure by the pathologist's labels.

    Parameters
    ----------
    folder
        As `omib_spatial.datasets.her2st` takes it.
    seeds
        Number of seeds, 0, 1, ...
    say
        Takes one line per way and seed.
    options
        Passed to `omib_spatial.tl.fit`.

    Returns
    -------
    Records per section and of all sections together (`POOLED`), `omib_bench.her2st.measure` of the score, by method:

    - `CROSS_FIT`: ``tl.cross_fit(adata)`` by patient, nothing else.
    - `TOGETHER`: ``tl.fit(adata)``, which scores the sections that it learned from.
    - `EVIDENCE`: what `omib_spatial.pp.find_reference` finds inside each section. Nothing is trained.
    - `MARKED`: cross-fitted on the found reference alone; a section's own evidence is no part of its score.
    - `TAUGHT`: the found reference, and as many spots at the other end of the evidence, are the classes that OMIB is
      taught by; its setting says whether the anomaly score or the probability is measured.
    """
    adata, _ = read(folder)
    asked = adata.copy()
    pp.find_reference(asked, library_key=SECTION)
    records = [*_measured(asked, asked.obs[f"{REFERENCE}_score"].to_numpy(float), EVIDENCE, "", 0)]
    asked.obs[_TOLD] = tails(asked)
    told = {"library_key": SECTION, "donor_key": PATIENT, "enable_progress_bar": False} | options
    ways: dict[str, Callable[[AnnData, dict[str, Any]], Any]] = {
        CROSS_FIT: lambda own, given: tl.cross_fit(own, **given),
        TOGETHER: lambda own, given: tl.fit(own, **given),
        MARKED: lambda own, given: tl.cross_fit(own, reference_key=REFERENCE, **given),
        TAUGHT: lambda own, given: tl.cross_fit(own, labels_key=_TOLD, healthy_label=HEALTHY, **given),
    }
    for seed in range(seeds):
        for method, way in ways.items():
            started = perf_counter()
            own = (asked if method in (MARKED, TAUGHT) else adata).copy()
            way(own, {"seed": seed} | told)
            new = list(_results(own, method, seed))
            records += new
            say(f"{method}, seed {seed}: AUROC {_in_short(new)} ({perf_counter() - started:.0f} s)")
    return records


def tails(adata: AnnData) -> pd.Categorical:
    """Class of the spots at both ends of each section's evidence: the found reference, and as many at the other end."""
    evidence, reference = adata.obs[f"{REFERENCE}_score"].to_numpy(float), adata.obs[REFERENCE].to_numpy(bool)
    classes = np.full(adata.n_obs, None, object)
    classes[reference] = HEALTHY
    for section in adata.obs[SECTION].unique():
        rows = np.flatnonzero((adata.obs[SECTION] == section).to_numpy() & ~reference & np.isfinite(evidence))
        n = int((reference & (adata.obs[SECTION] == section).to_numpy()).sum())
        classes[rows[np.argsort(-evidence[rows], kind="stable")[:n]]] = TUMOUR
    return pd.Categorical(classes)


def _in_short(records: list[Record]) -> str:
    """Mean AUROC of sections, and that of all together, by setting."""
    aurocs = [r for r in records if r.metric == "auroc"]
    found = []
    for setting in dict.fromkeys(r.setting for r in aurocs):
        own = {r.dataset: r.value for r in aurocs if r.setting == setting}
        pooled = own.pop(POOLED)
        found.append(f"{setting} {np.mean(list(own.values())):.3f}, pooled {pooled:.3f}".strip())
    return "; ".join(found)


def _results(adata: AnnData, method: str, seed: int) -> Iterator[Record]:
    keys = Written()
    taught = keys.probability in adata.obsm
    yield from _measured(adata, adata.obs[keys.score].to_numpy(float), method, "score" if taught else "", seed)
    if taught:
        classes = list(adata.uns[keys.uns]["classes"])
        yield from _measured(adata, adata.obsm[keys.probability][:, classes.index(TUMOUR)], method, "probability", seed)


def _measured(adata: AnnData, score: np.ndarray, method: str, setting: str, seed: int) -> Iterator[Record]:
    truth, key = adata.obs[ANOMALY].to_numpy(), Written().anomaly
    called = adata.obs[key].to_numpy(bool) if key in adata.obs else np.zeros(adata.n_obs, bool)
    depth = np.asarray(adata.X.sum(1), float).ravel()
    for section in adata.obs[SECTION].cat.categories:
        rows = (adata.obs[SECTION] == section).to_numpy()
        for metric, value in measure(truth[rows], score[rows], called[rows], depth[rows]).items():
            yield Record(NAME, str(section), method, setting, seed, metric, value)
    known = (truth >= 0) & np.isfinite(score)
    yield Record(NAME, POOLED, method, setting, seed, "auroc", float(roc_auc_score(truth[known] == 1, score[known])))


def report(records: list[Record]) -> str:
    """AUROC of every way section by section; of the calls of the first two, what was found and what is false."""
    shown = []
    for method in dict.fromkeys(r.method for r in records):
        metrics = ("auroc", "recall_call", "false_discoveries") if method in (CROSS_FIT, TOGETHER) else ("auroc",)
        shown += [r for r in records if r.method == method and r.metric in metrics]
    within = tables([r for r in shown if r.dataset != POOLED])
    return within + f"\n\nAUROC over {POOLED}:\n" + tables([r for r in shown if r.dataset == POOLED])
