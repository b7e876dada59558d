"""The fusions as one-class detectors of tumour: one patient of her2st left out at a time."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from anndata import AnnData
from torch import nn

from omib_bench._records import Record, table
from omib_bench.fusions._printed import TISSUE
from omib_bench.fusions._rival import Rival, build
from omib_bench.fusions._runner import NAME, OURS, PAPER, PARAMETERS, SECONDS, n_parameters
from omib_bench.her2st import measure
from omib_spatial import tl
from omib_spatial._keys import ANOMALY, HEALTHY, Written
from omib_spatial.core import Config, Network, Task
from omib_spatial.datasets import her2st
from omib_spatial.datasets._her2st import PATIENT, SECTION
from omib_spatial.detector.objective import SVDD

logger = logging.getLogger("omib_spatial")

MODALITIES = ("gene", "image")


def objective_of(rival: type[Rival]) -> SVDD:
    """The paper's one-class objective with a rival in OMIB's place: no warm-up, as many epochs."""

    class RivalSVDD(SVDD):
        name = f"{SVDD.name}, {rival.__name__}"
        config = replace(SVDD.config, warmup_epochs=0)

        def network(self, encoders: Mapping[str, nn.Module], task: Task, config: Config) -> Network:
            return build(rival, encoders, task, config.latent_dim)

    return RivalSVDD()


def run_tissue(
    folder: str | Path,
    rivals: Mapping[str, type[Rival]],
    *,
    seeds: int = 1,
    ours: bool = True,
    patients: Sequence[str] | None = None,
    modalities: Sequence[str] = MODALITIES,
    say: Callable[[str], None] = logger.info,
    **options: Any,
) -> list[Record]:
    """Fit each method with the one-class head on the other patients' healthy spots, score the held-out patient.

    Preparation, encoders, training and calibration are those of ``omib_spatial.tl.fit(objective="svdd")``; the network
    alone differs.

    Parameters
    ----------
    folder
        As `omib_spatial.datasets.her2st` takes it.
    rivals, seeds, ours, say
        As for `run`.
    patients
        Those that are held out, one at a time; None is all.
    modalities, options
        Passed to `omib_spatial.tl.fit`.

    Returns
    -------
    Records of `omib_bench.her2st.measure` per section, method and seed; ``parameters`` and ``seconds`` of
    every fit with the patient as the dataset. What the paper prints has the setting ``paper``.

    Raises
    ------
    KeyError
        If a patient does not exist.
    """
    adata = her2st(folder)
    adata.obs[HEALTHY] = (adata.obs[ANOMALY] == 0).to_numpy()
    known = list(adata.obs[PATIENT].cat.categories)
    if unknown := [name for name in patients or () if name not in known]:
        raise KeyError(f"There is no patient {unknown}; there are {known}.")
    methods: dict[str, type[Rival] | None] = ({OURS: None} if ours else {}) | dict(rivals)
    records: list[Record] = []
    for seed in range(seeds):
        for patient in patients or known:
            for method, rival in methods.items():
                given = {"seed": seed, "enable_progress_bar": False, "modalities": list(modalities)} | options
                new = list(_fold(adata, patient, method, rival, given))
                told = ", ".join(f"{r.dataset} {r.value:.3f}" for r in new if r.metric == "auroc")
                seconds = next(r.value for r in new if r.metric == SECONDS)
                say(f"tissue, seed {seed}, {method}, without patient {patient}: AUROC {told} ({seconds:.0f} s)")
                records += new
    for method in [name for name in TISSUE if name in methods]:
        records += [Record(NAME, section, method, PAPER, 0, "auroc", v) for section, v in TISSUE[method].items()]
    return records


def _fold(
    adata: AnnData, patient: str, method: str, rival: type[Rival] | None, options: Mapping[str, Any]
) -> Iterator[Record]:
    own, key = (adata.obs[PATIENT] == patient).to_numpy(), Written()
    reference, target = adata[~own].copy(), adata[own].copy()
    started = perf_counter()
    keys = {"reference_key": HEALTHY, "donor_key": PATIENT, "library_key": SECTION}
    objective = SVDD() if rival is None else objective_of(rival)
    model = tl.fit(reference, objective=objective, **{**keys, **options})
    seconds = perf_counter() - started
    tl.score(target, model)
    seed, depth = options["seed"], np.asarray(target.X.sum(1), np.float64).ravel()
    for section in dict.fromkeys(target.obs[SECTION]):
        rows = (target.obs[SECTION] == section).to_numpy()
        truth, score, called = (target.obs[name].to_numpy()[rows] for name in (ANOMALY, key.score, key.anomaly))
        for metric, value in measure(truth, score, called, depth[rows]).items():
            yield Record(NAME, section, method, "", seed, metric, value)
    for metric, value in ((PARAMETERS, float(n_parameters(model.network))), (SECONDS, seconds)):
        yield Record(NAME, f"without {patient}", method, "", seed, metric, value)


def report_tissue(records: Sequence[Record]) -> str:
    """AUROC by method and section with their mean, what the paper prints below, then parameters and seconds."""
    measured = [r for r in records if r.metric == "auroc" and r.setting != PAPER]
    groups = dict.fromkeys((r.method, r.seed) for r in measured)
    for method, seed in groups:
        found = [r.value for r in measured if (r.method, r.seed) == (method, seed)]
        measured.append(Record(NAME, "mean", method, "", seed, "auroc", float(np.mean(found))))
    blocks = [table(measured, rows="method", columns="dataset", mean=False)]
    if printed := [r for r in records if r.setting == PAPER]:
        blocks.append(
            f"The paper, trained on other tissue:\n{table(printed, rows='method', columns='dataset', mean=False)}"
        )
    for metric, digits in ((PARAMETERS, 0), (SECONDS, 1)):
        cost = [r for r in records if r.metric == metric]
        blocks.append(f"{metric}:\n{table(cost, rows='method', columns='dataset', mean=False, digits=digits)}")
    return "\n\n".join(blocks)
