"""What each modality finds alone, in pairs and together, with and without the fused code."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omib_bench import alone, demo, her2st, planted
from omib_bench._records import Record, table
from omib_spatial.core import Config
from omib_spatial.detector.objective import Objective, Summaries

logger = logging.getLogger("omib_spatial")

NAME = "modalities"
STRENGTH = 0.5
"""Share of foreign molecules and pixels in what is planted."""
HARD = "E1"
"""The section of her2st on which expression misleads."""


class SummariesAlone(Summaries):
    """The network, of which nothing is used, is trained for one epoch."""

    name = "summaries alone"
    config = Config(latent_dim=8, learning_rate=1e-3, max_epochs=1, warmup_epochs=0)


METHODS: dict[str, Objective | None] = {"with the code": None, "without the code": SummariesAlone()}


def run(
    folder: str | Path | None = None,
    *,
    mob: str | Path | None = None,
    seeds: int = 3,
    say: Callable[[str], None] = logger.info,
    **options: Any,
) -> list[Record]:
    """Measure every choice of modalities on simulated, planted and real tissue, with and without the fused code.

    Parameters
    ----------
    folder
        Of her2st, as `omib_spatial.datasets.her2st` takes it; None leaves it out.
    mob
        Of the olfactory bulb, as `omib_bench.planted.run` takes it; None leaves it out.
    seeds
        Number of seeds, 0, 1, ...
    say
        Takes one line per fit.
    options
        Passed to `omib_spatial.tl.fit`.

    Returns
    -------
    Records of ``auroc``, the mean over sections. Datasets: ``simulated: KIND`` per kind of anomaly, ``planted: KIND``,
    ``her2st`` (nine sections, one patient left out), ``her2st: image`` (the four with an image), ``her2st: E1``, and
    ``her2st alone`` (each section by itself, all modalities that the package takes by default). The setting has the
    modalities joined by ``+``.

    Raises
    ------
    FileNotFoundError, KeyError, ValueError
        As the experiments that are run.
    """
    records: list[Record] = []
    for method, objective in METHODS.items():
        given = options | ({} if objective is None else {"objective": objective})
        for seed in range(seeds):
            found = demo.run(seed=seed, say=say, **given)[1]
            records += _means(
                (r for r in found if r.setting in demo.SETTINGS), method, lambda r: f"simulated: {r.dataset}"
            )
        if mob is not None:
            found = planted.run(
                mob, seeds=seeds, strengths=(STRENGTH,), references=planted.REFERENCES[:1], say=say, **given
            )
            records += list(_planted(found, method))
        if folder is not None:
            records += _her2st(her2st.run(folder, seeds=seeds, settings=her2st.SUBSETS, say=say, **given), method)
            own = [r for r in alone.run(folder, seeds=seeds, say=say, **given) if r.method == alone.OURS]
            records += _means((r._replace(setting="all") for r in own), method, lambda _: "her2st alone")
    return records


def _means(records: Any, method: str, dataset: Callable[[Record], str]) -> list[Record]:
    """Mean AUROC over sections of each dataset, setting and seed."""
    values: dict[tuple[str, str, int], list[float]] = {}
    for r in records:
        if r.metric == "auroc":
            values.setdefault((dataset(r), r.setting, r.seed), []).append(r.value)
    return [Record(NAME, d, method, s, seed, "auroc", float(np.mean(v))) for (d, s, seed), v in values.items()]


def _planted(records: Sequence[Record], method: str) -> Iterator[Record]:
    ours = [r for r in records if r.method == "omib" and r.metric == "auroc"]
    named = [(r.setting.split("; "), r) for r in ours]
    rows = [r._replace(setting=modalities, dataset=kind) for (_, modalities, kind, _), r in named]
    yield from _means(rows, method, lambda r: f"planted: {r.dataset}")


def _her2st(records: Sequence[Record], method: str) -> list[Record]:
    ours = [r for r in records if r.method.startswith("omib") and r.metric == "auroc" and r.dataset != her2st.ALL]
    pictured = {r.dataset for r in ours if r.setting == "image"}
    every = [r for r in ours if r.setting != "image"]
    return [
        *_means(every, method, lambda _: "her2st"),
        *_means((r for r in ours if r.dataset in pictured), method, lambda _: "her2st: image"),
        *_means((r for r in every if r.dataset == HARD), method, lambda _: f"her2st: {HARD}"),
    ]


def report(records: Sequence[Record]) -> str:
    """One table with and one without the code: a row per choice of modalities, a column per dataset."""
    blocks = []
    for method in dict.fromkeys(r.method for r in records):
        for group in ("simulated", "planted", "her2st"):
            rows = [r for r in records if r.method == method and r.dataset.startswith(group)]
            if rows:
                blocks.append(f"AUROC, {method}\n{table(rows, rows='setting', columns='dataset', mean=False)}")
    return "\n\n".join(blocks)
