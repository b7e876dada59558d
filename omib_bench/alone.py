"""her2st, each section by itself: nobody says what is healthy, and there is no other slide."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from anndata import AnnData
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture

from omib_bench._records import Record, table, tables
from omib_bench.her2st import measure
from omib_spatial import tl
from omib_spatial._keys import ANOMALY, IMAGES, REFERENCE, SPATIAL, Written
from omib_spatial.datasets import her2st
from omib_spatial.datasets._her2st import SECTION
from omib_spatial.modalities.contrast_views import slide_views
from omib_spatial.modalities.signatures import DIVIDING
from omib_spatial.slides import Layout, Tissue
from omib_spatial.stats.contiguity import profiles
from omib_spatial.stats.replicas import components, orientation

logger = logging.getLogger("omib_spatial")

NAME = "her2st alone"
OURS = "omib"
COMPONENTS = 20
"""Principal components of expression that the detectors of scikit-learn see."""


def run(
    folder: str | Path, *, seeds: int = 3, say: Callable[[str], None] = logger.info, **options: Any
) -> list[Record]:
    """Fit every section by itself, with ``tl.fit(adata)`` and nothing else, and measure its score.

    Parameters
    ----------
    folder
        As `omib_spatial.datasets.her2st` takes it.
    seeds
        Number of seeds, 0, 1, ...
    say
        Takes one line per section and seed.
    options
        Passed to `omib_spatial.tl.fit`.

    Returns
    -------
    Records per section: `omib_bench.her2st.measure` of ``omib``, and its ``purity`` (share of the labelled reference
    spots that are no tumour, NaN without any), ``reference`` (share of spots) and ``agreement``; ``auroc`` of the
    evidence inside the slide that the reference was found by, and of simple detectors. A section that does not tell
    what is healthy has an ``auroc`` of NaN.
    """
    adata = her2st(folder)
    records: list[Record] = []
    for section in adata.obs[SECTION].cat.categories:
        own = alone(adata, str(section))
        records += [Record(NAME, str(section), method, "", 0, "auroc", value) for method, value in simple(own)]
        for seed in range(seeds):
            started = perf_counter()
            new = list(_fitted(own.copy(), str(section), seed, {"enable_progress_bar": False} | options))
            records += new
            told = ", ".join(f"{r.metric} {r.value:.3f}" for r in new if r.metric in ("auroc", "purity", "agreement"))
            say(f"{section}, seed {seed}: {told} ({perf_counter() - started:.0f} s)")
    return records


def alone(adata: AnnData, section: str) -> AnnData:
    """One section as its user would have it."""
    own = adata[(adata.obs[SECTION] == section).to_numpy()].copy()
    entries = own.uns.get(SPATIAL, {})
    own.uns[SPATIAL] = {name: entry for name, entry in entries.items() if name == section and IMAGES in entry}
    return own


def _fitted(adata: AnnData, section: str, seed: int, options: dict[str, Any]) -> Iterator[Record]:
    truth, key = adata.obs[ANOMALY].to_numpy(), Written()
    try:
        tl.fit(adata, seed=seed, **options)
    except ValueError as error:
        if "no slide tells" not in str(error):
            raise
        logger.warning("%s: %s", section, error)
        yield Record(NAME, section, OURS, "", seed, "auroc", float("nan"))
        return
    depth = np.asarray(adata.X.sum(1), np.float64).ravel()
    score, called = (adata.obs[name].to_numpy() for name in (key.score, key.anomaly))
    for metric, value in measure(truth, score, called, depth).items():
        yield Record(NAME, section, OURS, "", seed, metric, value)
    reference, known = adata.obs[REFERENCE].to_numpy(bool), truth >= 0
    marked = truth[reference & known]
    extra = {
        "purity": float((marked == 0).mean()) if len(marked) else float("nan"),
        "reference": float(reference.mean()),
        "agreement": float(adata.uns[REFERENCE]["agreement"][0]),
        "evidence": _auroc(truth, adata.obs[f"{REFERENCE}_score"].to_numpy()),
    }
    for metric, value in extra.items():
        yield Record(NAME, section, OURS, "", seed, metric, value)


def simple(adata: AnnData) -> Iterator[tuple[str, float]]:
    """AUROC of what a script would try: counts, the signature, the genome's first axis, two detectors on expression."""
    truth = adata.obs[ANOMALY].to_numpy()
    yield "total counts", _auroc(truth, np.asarray(adata.X.sum(1)).ravel())
    tissue = Tissue(adata, Layout())
    views = next(slide_views(tissue, np.arange(adata.n_obs), [DIVIDING]))
    signature = np.mean([orientation(views.signatures, np.random.default_rng(i)) for i in range(25)], 0)
    yield "signature", _auroc(truth, signature)
    axis = components(profiles(views.genes, views.chromosome), 1)[0][:, 0]
    yield "first genome axis, sign of the signature", _auroc(truth, axis * np.corrcoef(axis, signature)[0, 1])
    values = PCA(COMPONENTS, random_state=0).fit_transform(views.expression)
    yield (
        "Isolation Forest on expression",
        _auroc(truth, -IsolationForest(random_state=0).fit(values).score_samples(values)),
    )
    mixture = GaussianMixture(2, covariance_type="diag", random_state=0).fit(values)
    smaller = int(np.argmin(mixture.weights_))
    yield "Gaussian mixture, smaller part", _auroc(truth, mixture.predict_proba(values)[:, smaller])


def _auroc(truth: np.ndarray, score: np.ndarray) -> float:
    known = (truth >= 0) & np.isfinite(score)
    return float(roc_auc_score(truth[known] == 1, score[known])) if len(np.unique(truth[known])) == 2 else float("nan")


def report(records: list[Record]) -> str:
    """Ours section by section, then AUROC of everyone."""
    shown = ("auroc", "evidence", "purity", "reference", "agreement", "recall_call", "false_discoveries")
    ours = [r for r in records if r.method == OURS and r.metric in shown]
    everyone = [r for r in records if r.metric == "auroc"]
    by_method = [
        table([r for r in everyone if r.method == m], columns="method")
        for m in dict.fromkeys(r.method for r in everyone)
    ]
    return "\n\n".join([tables(ours), *by_method])
