"""Anomalies of known strength planted in healthy tissue: from what strength on they are found."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from anndata import AnnData
from sklearn.metrics import roc_auc_score

from omib_bench._figures import planted as draw
from omib_bench._planting import Region, dense_counts, draw_region, plant
from omib_bench._records import Record, table
from omib_bench.detectors import COUNTS
from omib_spatial import tl
from omib_spatial._keys import ANOMALY, SPATIAL, Written
from omib_spatial.datasets import mob
from omib_spatial.datasets._her2st import SECTION
from omib_spatial.datasets._mob import ANIMALS
from omib_spatial.modalities import Gene, Image, Modality
from omib_spatial.tl import AnomalyModel

logger = logging.getLogger("omib_spatial")

__all__ = ["KINDS", "REFERENCES", "SETTINGS", "STRENGTHS", "draw", "report", "run"]

NAME = "planted"
STRENGTHS = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Share of the molecules, and weight of the pixels, that come from elsewhere; 0 is the region as it is."""
KINDS: dict[str, frozenset[str]] = {
    "expression": frozenset({"gene"}),
    "patches": frozenset({"image"}),
    "both": frozenset({"gene", "image"}),
}
"""What is planted, and the modalities that show it."""
SETTINGS = ("gene", "image", "gene+image")
REFERENCES = ("other animal", "same animal")
"""What a model is fitted on: both sections of the other animal, or the other section of the same one."""


class Case(NamedTuple):
    """A section with something planted in the hosts of a region."""

    adata: AnnData
    region: Region
    kind: str
    strength: float


def run(
    folder: str | Path,
    *,
    seeds: int = 3,
    n_spots: int = 30,
    strengths: Sequence[float] = STRENGTHS,
    references: Sequence[str] = REFERENCES,
    say: Callable[[str], None] = logger.info,
    **options: Any,
) -> list[Record]:
    """Plant anomalies of every kind and strength in the olfactory bulb and see which a model of healthy tissue finds.

    A compact region of a section receives molecules, pixels or both from the region of the same section that is least
    like it: healthy tissue in the wrong place. One model per reference, setting and seed is fitted, on sections that
    nothing is planted in, and scores every kind and strength that its modalities show. The seed chooses the region,
    too.

    Parameters
    ----------
    folder
        Of the four sections, ``MOB1.h5ad`` and ``MOB1.jpg`` and so on.
    seeds
        Number of seeds, 0, 1, ...
    n_spots
        Spots of the region.
    strengths
        In [0, 1].
    references
        Some of `REFERENCES`.
    say
        Takes one line per fitted reference and seed.
    options
        Passed to `omib_spatial.tl.fit`.

    Returns
    -------
    Records with the section as dataset, ``omib`` or ``total counts`` as method, and
    ``"reference; modalities; kind; strength %"`` as setting. Metrics:

    - ``auroc``: planted spots against the rest of the section.
    - ``auroc_donor``: the spots that were taken from, in their own place, against the rest without the planted ones:
      how unusual that tissue is where it belongs.
    - ``called`` and ``called_rest``: share of the planted spots, and of the rest, that is called if it is asked which
      part is abnormal.

    Total counts, which planting leaves as they are, have one ``auroc`` per section and seed, of the setting
    ``total counts``.

    Raises
    ------
    FileNotFoundError
        A section is not in ``folder``.
    ValueError
        A strength or a reference is unknown, or two regions of ``n_spots`` do not fit into a section.
    """
    _check(strengths, references)
    folder, records = Path(folder), list[Record]()
    for seed in range(seeds):
        given = {"seed": seed, "enable_progress_bar": False} | options
        for section in sum(ANIMALS, ()):
            records.append(_counts_record(mob(folder, sections=[section]), section, n_spots, seed))
        for reference, fitted, scored in _folds(references):
            started, new = perf_counter(), list[Record]()
            models = _models(mob(folder, sections=fitted), given)
            for section in scored:
                adata = mob(folder, sections=[section])
                for case in _cases(adata, n_spots, strengths, seed):
                    new += _found(case, models, section, reference, seed)
            records += new
            say(
                f"{' and '.join(scored)} by {' and '.join(fitted)} ({reference}), seed {seed}: {len(new)} numbers "
                f"({perf_counter() - started:.0f} s)"
            )
    return records


def report(records: Sequence[Record], metric: str = "auroc") -> str:
    """One table per reference and kind: a row per modalities, a column per strength; mean of the sections.

    Spreads are the standard deviation of the seeds' means.
    """
    wanted = [row for row in records if row.metric == metric and row.method != COUNTS]
    blocks = []
    for reference, kind in dict.fromkeys(tuple(row.setting.split("; ")[::2]) for row in wanted):
        means: dict[tuple[str, str, int], list[float]] = {}
        for row in wanted:
            about, modalities, planted, strength = row.setting.split("; ")
            if (about, planted) == (reference, kind):
                means.setdefault((modalities, strength, row.seed), []).append(row.value)
        rows = [Record(NAME, s, "", m, seed, "", float(np.mean(v))) for (m, s, seed), v in means.items()]
        text = table(rows, rows="setting", columns="dataset", mean=False)
        blocks.append(f"{metric}, {kind}, model of the {reference}\n{text}")
    counts = [row for row in records if row.metric == metric and row.method == COUNTS]
    return "\n\n".join([*blocks, *([table(counts, rows="setting", columns="dataset", mean=False)] if counts else [])])


def _check(strengths: Sequence[float], references: Sequence[str]) -> None:
    if unknown := [name for name in references if name not in REFERENCES]:
        raise ValueError(f"references {unknown} are unknown: pass some of {list(REFERENCES)}.")
    if wrong := [value for value in strengths if not 0 <= value <= 1]:
        raise ValueError(f"strengths {wrong} are not in [0, 1]: 0 changes nothing, 1 exchanges everything.")


def _folds(references: Sequence[str]) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
    """Reference, sections that are fitted on, sections that are scored."""
    for own, other in (ANIMALS, ANIMALS[::-1]):
        if REFERENCES[0] in references:
            yield REFERENCES[0], other, own
        if REFERENCES[1] in references:
            yield from ((REFERENCES[1], own[1:], own[:1]), (REFERENCES[1], own[:1], own[1:]))


def _cases(adata: AnnData, n_spots: int, strengths: Sequence[float], seed: int) -> Iterator[Case]:
    """The section with every kind and strength planted, in one region."""
    region = _region(adata, n_spots, seed)
    for kind, modalities in KINDS.items():
        for strength in strengths:
            yield Case(plant(adata, region, modalities, strength, seed), region, kind, strength)


def _models(train: AnnData, options: Mapping[str, Any]) -> dict[str, AnomalyModel]:
    """One fitted model for each of `SETTINGS`."""
    models = {}
    for setting in SETTINGS:
        every: dict[str, Modality] = {"gene": Gene(), "image": Image()}
        modalities = {name: every[name] for name in setting.split("+")}
        models[setting] = tl.fit(train.copy(), library_key=SECTION, modalities=modalities, all_healthy=True, **options)
    return models


def _found(case: Case, models: Mapping[str, AnomalyModel], section: str, reference: str, seed: int) -> Iterator[Record]:
    """How well the models whose modalities show what is planted tell it from the rest."""
    key, planted = Written(), case.adata.obs[ANOMALY].to_numpy()
    donor = np.isin(np.arange(case.adata.n_obs), case.region.donor)
    for modalities, model in models.items():
        if not KINDS[case.kind] & set(modalities.split("+")):
            continue
        tl.score(case.adata, model)
        # One or two healthy slides cannot say whether there is anything: asked is which part it is.
        tl.call(case.adata, question="part")
        score, called = (case.adata.obs[column].to_numpy() for column in (key.score, key.anomaly))
        values = {
            "auroc": _auroc(planted, score),
            "auroc_donor": _auroc(donor[~planted], score[~planted]),
            "called": called[planted].mean(),
            "called_rest": called[~planted].mean(),
        }
        setting = f"{reference}; {modalities}; {case.kind}; {case.strength:.0%}"
        for metric, value in values.items():
            yield Record(NAME, section, "omib", setting, seed, metric, float(value))


def _auroc(planted: np.ndarray, score: np.ndarray) -> float:
    """Of the spots that have a score."""
    scored = np.isfinite(score)
    return float(roc_auc_score(planted[scored], score[scored]))


def _region(adata: AnnData, n_spots: int, seed: int) -> Region:
    return draw_region(adata.obsm[SPATIAL], dense_counts(adata), n_spots, np.random.default_rng([seed, 0]))


def _counts_record(adata: AnnData, section: str, n_spots: int, seed: int) -> Record:
    planted = np.isin(np.arange(adata.n_obs), _region(adata, n_spots, seed).host)
    depth = np.asarray(adata.X.sum(1), float).ravel()
    return Record(NAME, section, COUNTS, COUNTS, seed, "auroc", float(roc_auc_score(planted, depth)))
