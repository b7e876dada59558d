"""The demonstration: what each modality finds of three kinds of planted anomaly, and what both find together."""

import logging
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from anndata import AnnData
from sklearn.metrics import roc_auc_score

from omib_bench._records import Record
from omib_spatial import tl
from omib_spatial._keys import HEALTHY, KIND, LIBRARY, Written
from omib_spatial.datasets import simulate_tissue

logger = logging.getLogger("omib_spatial")

NAME = "demo"
SETTINGS = ("gene", "image", "gene+image")
"""Modalities of each fit, joined by +; the results of the last one are left under ``omib``."""
DEPTH = "total counts"


def run(
    *,
    seed: int = 0,
    n_slides: int = 6,
    n_healthy: int = 4,
    n_spots: int = 900,
    settings: Sequence[str] = SETTINGS,
    say: Callable[[str], None] = logger.info,
    **options: Any,
) -> tuple[AnnData, list[Record]]:
    """Simulate slides, fit on the healthy ones with each choice of modalities, and measure on the others.

    Parameters
    ----------
    seed
        Of tissue and training.
    n_slides, n_healthy, n_spots
        As by `omib_spatial.datasets.simulate_tissue`.
    settings
        Modalities of each fit, joined by ``+``.
    say
        Takes one line per fit.
    options
        Passed to `omib_spatial.tl.fit`.

    Returns
    -------
    adata
        The slides with the results of each fit, under ``key_added`` ``omib_gene``, ``omib_image``, ...; those of the
        last one under ``omib``.
    records
        AUROC per kind of anomaly and setting: spots of this kind against healthy spots of the same slides. The
        setting ``total counts`` ranks by depth.
    """
    adata = simulate_tissue(n_slides, n_healthy=n_healthy, n_spots=n_spots, seed=seed)
    n_reference = int(adata.obs[HEALTHY].sum())
    say(f"{n_slides} slides of {n_spots} spots, {n_healthy} of them healthy, seed {seed}; {len(settings)} fits follow")
    records = _records(adata, DEPTH, np.asarray(adata.X.sum(1)).ravel(), DEPTH, seed)
    for setting in settings:
        started, key = (
            perf_counter(),
            Written("omib" if setting == settings[-1] else f"omib_{setting.replace('+', '_')}"),
        )
        model = tl.fit(
            adata,
            reference_key=HEALTHY,
            library_key=LIBRARY,
            modalities=setting.split("+"),
            seed=seed,
            key_added=key.key_added,
            **({"enable_progress_bar": False} | options),
        )
        method = f"omib {model.params['objective']}"
        records += _records(adata, setting, adata.obs[key.score].to_numpy(), method, seed)
        say(
            f"{setting}, seed {seed}: fitted on {n_reference} healthy spots, scored {adata.n_obs} "
            f"({perf_counter() - started:.0f} s)"
        )
    return adata, records


def _records(adata: AnnData, setting: str, score: np.ndarray, method: str, seed: int) -> list[Record]:
    """AUROC of each kind of anomaly against the healthy spots of the slides that have anomalies."""
    kind, abnormal = adata.obs[KIND], ~adata.obs[HEALTHY].to_numpy()
    records = []
    for name in (name for name in kind.cat.categories if name != HEALTHY):
        rows = abnormal & kind.isin([HEALTHY, name]).to_numpy() & np.isfinite(score)
        auroc = float(roc_auc_score(kind[rows] == name, score[rows]))
        records.append(Record(NAME, str(name), method, setting, seed, "auroc", auroc))
    return records
