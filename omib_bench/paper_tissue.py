"""The tissue experiment of the paper: learn healthy sections of one data set, find the tumour in another."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
from anndata import AnnData

from omib_bench._records import Record, table
from omib_bench.fusions._printed import TISSUE, TISSUE_F1
from omib_bench.fusions._rival import Rival
from omib_bench.fusions._runner import OURS, PAPER, SECONDS
from omib_bench.fusions._tissue import objective_of
from omib_bench.her2st import measure, total_counts
from omib_spatial import tl
from omib_spatial._keys import ANOMALY, HEALTHY, Written
from omib_spatial.datasets import cellxgene, her2st
from omib_spatial.datasets._cellxgene import is_cellxgene
from omib_spatial.datasets._her2st import PATIENT, SECTION
from omib_spatial.detector.objective import SVDD, Objective
from omib_spatial.modalities import Gene, Image, Modality
from omib_spatial.slides.validation import check_images

logger = logging.getLogger("omib_spatial")

NAME = "paper-tissue"
PAPERS, DEFAULTS = f"{OURS}, paper's settings", f"{OURS}, our defaults"
METRICS = {
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "f1_oracle": "F1 of the paper, an oracle: as many spots are flagged as the pathologist calls anomalous",
    "f1_call": "F1 of the model's own call, which no label went into",
    "called": "Share of the spots that the model calls",
}
"""What the report shows, in order, under which heading; the prevalence goes with the average precision."""


class Fold(NamedTuple):
    """Healthy spots to learn from, and the sections that are scored."""

    reference: AnnData
    target: AnnData


def read(source: str | Path) -> AnnData:
    """Sections of a folder or of one ``.h5ad``, in whichever layout they are.

    Parameters
    ----------
    source
        CELLxGENE's layout (`omib_spatial.datasets.cellxgene`), her2st's (`omib_spatial.datasets.her2st`), or plain
        files with raw counts in ``X`` and ``obsm["spatial"]``, one per section.

    Returns
    -------
    AnnData with ``obs["section"]``, ``obs["patient"]`` (CELLxGENE's ``donor_id``; of plain files the section) and,
    where the files have it, ``obs["anomaly"]``: 1 tumour, 0 other, -1 unknown.

    Raises
    ------
    FileNotFoundError
        There is no such folder or file, or none in it.
    """
    source = Path(source)
    files = [source] if source.is_file() else sorted(source.glob("*.h5ad"))
    if files and is_cellxgene(files[0]):
        adata = cellxgene(source)
        adata.obs[PATIENT] = adata.obs.get("donor_id", adata.obs[SECTION]).astype(str).astype("category")
        return adata
    if not files or all(PATIENT in ad.read_h5ad(path, backed="r").obs for path in files):
        return her2st(source)
    parts = {path.stem: ad.read_h5ad(path) for path in files}
    for name, part in parts.items():
        part.obs = part.obs.assign(**{SECTION: name, PATIENT: name})
        part.obs_names = [f"{name}_{spot}" for spot in part.obs_names]
    adata = ad.concat(parts.values(), join="inner", merge="same", uns_merge="first")
    adata.obs = adata.obs.astype({SECTION: "category", PATIENT: "category"})
    return adata


def run(
    reference: str | Path,
    target: str | Path,
    rivals: Mapping[str, type[Rival]],
    *,
    seeds: int = 1,
    ours: bool = True,
    sections: Sequence[str] | None = None,
    image_encoder: str = "resnet18",
    say: Callable[[str], None] = logger.info,
    **options: Any,
) -> list[Record]:
    """Fit OMIB twice and every rival once on healthy sections, score the target's, and measure.

    Parameters
    ----------
    reference
        Healthy sections, as `read` takes them; where there is ``obs["anomaly"]``, the spots with 0.
    target
        Sections with labels, as `read` takes them. **A patient who is in both is learned from in none of the fits that
        score this patient**: the others' healthy spots are the reference, so that one folder may be both.
    rivals, seeds, ours, say
        As for `omib_bench.fusions.run`.
    sections
        Of the target; None is all.
    image_encoder
        Of the paper's settings and of the rivals, as `omib_spatial.modalities.Image` takes it.
    options
        Passed to `omib_spatial.tl.fit`, such as ``max_epochs``.

    Returns
    -------
    Records of `omib_bench.her2st.measure` per section, method and seed, and ``seconds`` of every fit. What the paper
    prints has the setting ``paper``.

    Raises
    ------
    FileNotFoundError
        As `read`.
    KeyError
        A section does not exist.
    ValueError
        Reference and target share no gene.
    """
    healthy, scored = _read_both(reference, target, sections, say)
    names = _modalities(healthy, scored, say)
    methods = _methods(rivals, ours, names, image_encoder, say)
    records: list[Record] = []
    for fold in _folds(healthy, scored, say):
        for seed in range(seeds):
            for method, fit_options in methods.items():
                given = {"seed": seed, "enable_progress_bar": False} | fit_options | options
                new = list(_fit_and_measure(fold, method, given))
                told = ", ".join(f"{r.dataset} {r.value:.3f}" for r in new if r.metric == "auroc")
                seconds = next(r.value for r in new if r.metric == SECONDS)
                say(f"{NAME}, seed {seed}, {method}: AUROC {told} ({seconds:.0f} s)")
                records += new
    return records + list(_printed({method.partition(",")[0] for method in methods}))


def _read_both(
    reference: str | Path, target: str | Path, sections: Sequence[str] | None, say: Callable[[str], None]
) -> tuple[AnnData, AnnData]:
    healthy, scored = read(reference), read(target)
    if ANOMALY in healthy.obs:
        healthy.obs[HEALTHY] = (healthy.obs[ANOMALY] == 0).to_numpy()
    else:
        healthy.obs[HEALTHY] = True
        say(f"{reference} has no obs column '{ANOMALY}': every spot of it is taken for healthy.")
    if ANOMALY not in scored.obs:
        scored.obs[ANOMALY] = -1
    if sections is not None:
        there = list(scored.obs[SECTION].unique())
        if unknown := [name for name in sections if name not in there]:
            raise KeyError(f"There is no section {unknown} in {target}; there are {there}.")
        scored = scored[scored.obs[SECTION].isin(list(sections))].copy()
    if (scored.obs[ANOMALY] < 0).all():
        say(f"No spot of {target} is labelled: only the share of called spots can be measured.")
    shared = [gene for gene in healthy.var_names if gene in set(scored.var_names)]
    if not shared:
        raise ValueError(
            f"{reference} and {target} share no gene: their names are {list(healthy.var_names[:3])} and "
            f"{list(scored.var_names[:3])}; give both as symbols."
        )
    say(f"{len(shared)} genes are in both: {healthy.n_vars} in the reference, {scored.n_vars} in the target.")
    return healthy[:, shared].copy(), scored[:, shared].copy()


def _modalities(healthy: AnnData, scored: AnnData, say: Callable[[str], None]) -> tuple[str, ...]:
    """Genes, and the image where sections of both sides have one."""
    pictured = [bool(check_images(adata, library_key=SECTION, required=False)) for adata in (healthy, scored)]
    if all(pictured):
        return ("gene", "image")
    lacking = " and ".join(side for side, has in zip(("the reference", "the target"), pictured, strict=True) if not has)
    say(f"No section of {lacking} has an image: genes alone are used, where the paper has both.")
    return ("gene",)


def _methods(
    rivals: Mapping[str, type[Rival]], ours: bool, names: Sequence[str], encoder: str, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """By name, what `tl.fit` is told."""

    def one_class(objective: Objective) -> dict[str, Any]:
        made: dict[str, Modality] = {"gene": Gene(), "image": Image(encoder)}
        return {"objective": objective, "modalities": {name: made[name] for name in names}}

    methods: dict[str, dict[str, Any]] = {}
    if ours:
        methods = {PAPERS: one_class(SVDD()), DEFAULTS: {}}
    for name, rival in rivals.items():
        if len(names) < rival.least:
            say(f"{name} fuses {rival.least} modalities or more, and is left out.")
        else:
            methods[name] = one_class(objective_of(rival))
    return methods


def _folds(healthy: AnnData, scored: AnnData, say: Callable[[str], None]) -> Iterator[Fold]:
    """All at once, or patient by patient where one is on both sides."""
    both = sorted(set(healthy.obs[PATIENT].astype(str)) & set(scored.obs[PATIENT].astype(str)))
    if not both:
        yield Fold(healthy, scored)
        return
    say(f"Patients {both} are in the reference too: each is scored by a model of the others.")
    for patient in dict.fromkeys(scored.obs[PATIENT].astype(str)):
        own = (scored.obs[PATIENT].astype(str) == patient).to_numpy()
        yield Fold(healthy[(healthy.obs[PATIENT].astype(str) != patient).to_numpy()].copy(), scored[own].copy())


def _fit_and_measure(fold: Fold, method: str, options: Mapping[str, Any]) -> Iterator[Record]:
    reference, target, key, started = fold.reference.copy(), fold.target.copy(), Written(), perf_counter()
    keys = {"reference_key": HEALTHY, "donor_key": PATIENT, "library_key": SECTION}
    # Modalities learn their own statistics, and belong to one model.
    model = tl.fit(reference, **deepcopy({**keys, **options}))
    seconds = perf_counter() - started
    tl.score(target, model)
    depth, seed = total_counts(target), int(options["seed"])
    sections = list(dict.fromkeys(target.obs[SECTION]))
    for section in sections:
        rows = (target.obs[SECTION] == section).to_numpy()
        truth, score, called = (target.obs[name].to_numpy()[rows] for name in (ANOMALY, key.score, key.anomaly))
        for metric, value in measure(truth, score, called, depth[rows]).items():
            yield Record(NAME, str(section), method, "", seed, metric, value)
    yield Record(NAME, f"fit for {', '.join(map(str, sections))}", method, "", seed, SECONDS, seconds)


def _printed(methods: set[str]) -> Iterator[Record]:
    for metric, printed in (("auroc", TISSUE), ("f1_oracle", TISSUE_F1)):
        for method in [name for name in printed if name in methods]:
            for section, value in printed[method].items():
                yield Record(NAME, section, method, PAPER, 0, metric, value)


def report(records: Sequence[Record]) -> str:
    """A table per measure that is defined, methods down, sections across, their mean; the paper's Table 5 below."""
    measured = [r for r in records if r.setting != PAPER]
    blocks = []
    for metric, heading in METRICS.items():
        rows = [r for r in measured if r.metric == metric]
        if not any(np.isfinite(r.value) for r in rows):
            continue  # without labels there is nothing to measure
        for method, seed in dict.fromkeys((r.method, r.seed) for r in rows):
            values = np.array([r.value for r in rows if (r.method, r.seed) == (method, seed)])
            mean = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
            rows.append(Record(NAME, "mean", method, "", seed, metric, mean))
        blocks.append(f"{heading}:\n{table(rows, rows='method', columns='dataset', mean=False)}")
        if printed := [r for r in records if r.setting == PAPER and r.metric == metric]:
            blocks.append(f"Table 5 prints:\n{table(printed, rows='method', columns='dataset', mean=False)}")
        if metric == "average_precision":
            first = measured[0]
            rows = [
                r for r in measured if r.metric == "prevalence" and (r.method, r.seed) == (first.method, first.seed)
            ]
            blocks.append(
                f"Prevalence, which chance reaches:\n{table(rows, rows='metric', columns='dataset', mean=False)}"
            )
    return "\n\n".join(blocks)
