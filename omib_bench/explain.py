"""Do the genes that are said to make up a score make it up? Deletion curves, and ranks of the amplified genes."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from omib_bench._planting import Counts, dense_counts
from omib_bench._records import Record, table
from omib_bench.her2st import learned, others, read, sections_of
from omib_spatial import get, tl
from omib_spatial._keys import ABNORMAL, HEALTHY, Written
from omib_spatial.datasets._her2st import PATIENT, SECTION
from omib_spatial.detector.distances import measure_distances
from omib_spatial.detector.explaining import Explainer
from omib_spatial.detector.ordering import clonal_modality
from omib_spatial.slides import Tissue

logger = logging.getLogger("omib_spatial")

NAME = "explain"
SETTING = "gene+image+genome"
STEPS = (10, 30, 100, 300, 1000)
"""Genes that are removed."""
AMPLIFIED = ("ERBB2", "GRB7", "STARD3", "MIEN1", "KRT19")
"""Genes of and beside the amplicon of HER2-positive tumours."""
OURS, TESTED, RANDOM, MATCHED = "contributions", "rank_genes_groups", "random", "random, as highly expressed"
DRAWS = 3
"""Random orders that are averaged."""
BINS = 20
"""Classes of expression within which random genes take the place of those that contribute most."""


def run(folder: str | Path, *, seeds: int = 3, say: Callable[[str], None] = logger.info) -> list[Record]:
    """Leave each patient out, explain the called spots of its sections, and remove genes in several orders.

    A gene is removed by drawing its counts anew in all spots of a section, at its mean rate on the healthy side of the
    border: it no longer tells spots apart. The depth that spots are normalised by stays as it was, and so do border and
    spread of the score. Nobody names a gene beforehand.

    Parameters
    ----------
    folder
        As `omib_spatial.datasets.her2st` takes it.
    seeds
        Number of seeds, 0, 1, ...
    say
        Takes one line per fit.

    Returns
    -------
    Records per section and seed. Of the methods ``contributions``, ``rank_genes_groups`` (scanpy's t-test between
    called spots and others), ``random`` and ``random, as highly expressed``: ``left 10`` and so on, the share of the
    called spots' mean score beyond the origin that is left without so many genes, and ``area``, the mean of these. Of
    ``contributions`` also the ``rank`` of each of `AMPLIFIED` (the setting), the number of ``genes`` that are ranked,
    and per modality (the setting) ``contribution`` and ``removed``.
    """
    adata, patients = read(folder)
    records = list[Record]()
    for seed in range(seeds):
        for patient in patients:
            started = perf_counter()
            sections = sections_of(adata, patient, SETTING.split("+"))
            target = adata[adata.obs[SECTION].isin(sections).to_numpy()].copy()
            options = {"reference_key": HEALTHY, "donor_key": PATIENT, "seed": seed, "enable_progress_bar": False}
            model = learned(others(adata, patient), SETTING, options)
            tl.score(target, model)
            tl.call(target, question="part")
            new = list(measure(target, model, seed))
            records += new
            took = f"{perf_counter() - started:.0f} s"
            areas = [f"{r.dataset} {r.value:.2f}" for r in new if r.metric == "area" and r.method == OURS]
            say(f"seed {seed}, patient {patient}: left of the score {', '.join(areas)} ({took})")
    return records


def measure(target: AnnData, model: tl.AnomalyModel, seed: int) -> Iterator[Record]:
    """Records of the sections in ``target``, which was scored with ``model`` and called; it gets the explanation."""
    tl.explain(target, model)
    sections = list(dict.fromkeys(target.obs[SECTION].astype(str)))
    group = {name: f"called: {name}" if len(sections) > 1 else "called" for name in sections}
    yield from _said(target, group, seed)
    deletion = Deletion(target, model)
    ranked = {name: get.explanation(target, "genes", group=group[name]) for name in sections}
    rng = np.random.default_rng(seed)
    orders = {name: orders_of(target, name, ranked[name], rng) for name in sections}
    whole = deletion.gaps({})
    for method in (OURS, TESTED, RANDOM, MATCHED):
        left = np.stack([deletion.curve({n: o[method] for n, o in orders.items()}, k, whole) for k in STEPS])
        for name, values in zip(sections, left.T, strict=True):
            for k, value in zip(STEPS, values, strict=True):
                yield Record(NAME, name, method, SETTING, seed, f"left {k}", float(value))
            yield Record(NAME, name, method, SETTING, seed, "area", float(values.mean()))


def report(records: Sequence[Record]) -> str:
    """What is left of the score, by method; then ranks and modalities, section by section."""
    curves = [r._replace(setting=r.method) for r in records if r.metric == "area" or r.metric.startswith("left")]
    frame = pd.DataFrame(curves, columns=list(Record._fields))
    means = frame.groupby(["setting", "metric", "seed"], sort=False)["value"].mean().reset_index()
    rows = [Record(NAME, r.setting, "", "", int(r.seed), r.metric, float(r.value)) for r in means.itertuples()]
    ranks = [r._replace(metric=r.setting) for r in records if r.metric == "rank"]
    ranks += [r for r in records if r.metric == "genes"]
    said = [r._replace(metric=f"{r.setting} {r.metric}") for r in records if r.metric in ("contribution", "removed")]
    areas = [r._replace(metric=r.method) for r in records if r.metric == "area"]
    blocks = {
        "Share of the called spots' score that is left without so many genes, mean of sections": table(
            rows, mean=False
        ),
        "Mean of these shares, by section": table(areas),
        "Rank by contribution, and genes that are ranked": table(ranks, mean=False, digits=0),
        "Contributions of modalities to called spots, and by how much the score falls without one": table(
            said, mean=False, digits=2
        ),
    }
    return "\n\n".join(f"{heading}:\n{body}" for heading, body in blocks.items())


def _said(target: AnnData, group: Mapping[str, str], seed: int) -> Iterator[Record]:
    for name, own in group.items():
        genes = get.explanation(target, "genes", group=own)
        yield Record(NAME, name, OURS, SETTING, seed, "genes", float(len(genes)))
        for gene in AMPLIFIED:
            yield Record(NAME, name, OURS, gene, seed, "rank", float(genes["rank"].get(gene, np.nan)))
        for modality, row in get.explanation(target, "modalities", group=own).iterrows():
            if modality in SETTING.split("+"):
                yield Record(NAME, name, OURS, str(modality), seed, "contribution", float(row["contribution"]))
                yield Record(NAME, name, OURS, str(modality), seed, "removed", float(row["removed"]))


def orders_of(
    target: AnnData, section: str, ranked: pd.DataFrame, rng: np.random.Generator
) -> dict[str, list[np.ndarray]]:
    """By method, orders (positions in ``var``) in which genes of a section are removed; of random ones several.

    Parameters
    ----------
    target
        Explained.
    section
        Its name.
    ranked
        Its genes, most important first.
    rng
        Draws random orders.
    """
    own = target[(target.obs[SECTION] == section).to_numpy()].copy()
    ours = target.var_names.get_indexer(ranked.index)
    level = np.asarray(own.X.sum(0)).ravel()[ours]
    classes = np.argsort(np.argsort(level, kind="stable"), kind="stable") * BINS // len(level)
    return {
        OURS: [ours],
        TESTED: [_tested(own, ours)],
        RANDOM: [rng.permutation(ours) for _ in range(DRAWS)],
        MATCHED: [ours[matched(classes, rng)] for _ in range(DRAWS)],
    }


def matched(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions (n,) in another order in which each place has a random one of the same class (n,)."""
    order = np.empty(len(classes), int)
    for name in np.unique(classes):
        places = np.flatnonzero(classes == name)
        order[places] = rng.permutation(places)
    return order


def _tested(own: AnnData, genes: np.ndarray) -> np.ndarray:
    """The same genes, by scanpy's t-test of log expression between called spots and others, strongest first."""
    import scanpy as sc

    key = Written().call
    own.obs[key] = own.obs[key].astype("category").cat.remove_unused_categories()
    if own.obs[key].value_counts().reindex([ABNORMAL]).min() < 2 or own.obs[key].value_counts().min() < 2:
        return genes
    sc.pp.normalize_total(own)
    sc.pp.log1p(own)
    sc.tl.rank_genes_groups(own, key, groups=[ABNORMAL], method="t-test")
    found = sc.get.rank_genes_groups_df(own, ABNORMAL)
    strength = pd.Series(np.abs(found["scores"].to_numpy()), found["names"]).reindex(own.var_names).fillna(0)
    return genes[np.argsort(-strength.to_numpy()[genes], kind="stable")]


class Deletion:
    """Scores beyond the origin, of called spots whose genes are removed.

    Parameters
    ----------
    target
        Scored and called.
    model
        By which.
    """

    def __init__(self, target: AnnData, model: tl.AnomalyModel) -> None:
        self.target, self.model = target, model
        self.layout = model.layout
        tissue = Tissue(target, self.layout)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.explainer = Explainer(model, tissue, model.prepare(tissue), n_steps=1, device="cpu")
        self.depth, self.counts = tissue.depth, dense_counts(target)
        self.section = target.obs[SECTION].astype(str).to_numpy()
        self.called = (target.obs[Written().call] == ABNORMAL).to_numpy(bool)
        self.healthy = np.zeros(target.n_obs, bool)
        for judged in self.explainer.slices:
            self.healthy[judged.rows] = judged.healthy > 0

    def without(self, genes: Mapping[str, np.ndarray]) -> Counts:
        """Counts in which the ``genes`` of each section (positions) tell nothing."""
        counts, rng = self.counts.copy(), np.random.default_rng(0)
        for name, columns in genes.items():
            own = np.flatnonzero(self.section == name)
            healthy = own[self.healthy[own]]
            rate = self.counts[np.ix_(healthy, columns)].sum(0) / self.depth[healthy].sum()
            counts[np.ix_(own, columns)] = rng.poisson(np.outer(self.depth[own], rate))
        return counts

    def gaps(self, genes: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Mean score beyond the origin of each section's called spots, without some genes."""
        changed = self.target.copy()
        changed.X = sparse.csr_matrix(self.without(genes).astype(np.float32))
        tissue, model = Tissue(changed, self.layout), self.model
        tissue.depth = self.depth
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spots = model.prepare(tissue)
        evidence = model.trained.evidence(spots, tissue, np.flatnonzero(spots.present.any(1)), "cpu")
        gap = np.full(changed.n_obs, np.nan)
        for judged in self.explainer.slices:
            distances = measure_distances(
                model.distances[judged.combination], evidence, spots, tissue, judged.rows,
                modalities=model.modalities, settings=model.calibration,
            )  # fmt: skip
            odds, name = judged.odds, clonal_modality(model, judged.combination)
            if judged.order is not None and name is not None:
                odds = judged.order.odds_of(spots.prepared[name].features(judged.rows))
            gap[judged.rows] = judged.gap(distances @ judged.unit, odds)
        names = dict.fromkeys(self.section)
        return {name: float(np.nanmean(gap[(self.section == name) & self.called])) for name in names}

    def curve(self, orders: Mapping[str, Sequence[np.ndarray]], k: int, whole: Mapping[str, float]) -> np.ndarray:
        """Share of ``whole`` that is left without the first ``k`` genes, mean over orders, (sections,)."""
        draws = max(len(own) for own in orders.values())
        left = [self.gaps({name: own[i % len(own)][:k] for name, own in orders.items()}) for i in range(draws)]
        return np.array([np.mean([one[name] for one in left]) / whole[name] for name in whole])
