"""The fusions that OMIB is compared with, each from its paper, around the same encoders, heads and training."""

from pathlib import Path
from typing import Any

from omib_bench.fusions._experiments import Experiment, Fold, ratings, sentiment, simulated
from omib_bench.fusions._figure import draw
from omib_bench.fusions._rival import FusionNet, FusionOutput, Rival, build
from omib_bench.fusions._runner import LINEAR, OURS, report, run
from omib_bench.fusions._tissue import report_tissue, run_tissue
from omib_bench.fusions.alignment import MMIBZhang
from omib_bench.fusions.bottlenecks import CMIB, EMIB, LMIB, DeepIB
from omib_bench.fusions.cui import MMIBCui
from omib_bench.fusions.dmib import DMIB
from omib_bench.fusions.gates import BiGated, Concat, FiLM
from omib_bench.fusions.misa import MISA
from omib_bench.fusions.ogmge import OGMGE

RIVALS: dict[str, type[Rival]] = {
    rival.__name__: rival
    for rival in (Concat, BiGated, FiLM, MISA, DeepIB, MMIBCui, MMIBZhang, DMIB, EMIB, LMIB, CMIB, OGMGE)
}
"""By name, in the order of the tables."""


def experiment(task: str, data: str | Path | None, *, part: str, **options: Any) -> Experiment:
    """The experiment ``"sim"``, ``"mosi"``, ``"pom"`` or ``"cremad"``, which takes of ``options`` what it knows.

    Parameters
    ----------
    task
        One of these.
    data
        Folder of the data; ``"sim"`` makes its own, and takes None.
    part
        Measure on the ``"test"`` or, to choose settings, on the ``"valid"`` part.
    options
        ``case`` for sim, ``bert`` and ``words`` for mosi, ``lists`` for cremad; a task's own must all be there.
    """
    if task == "sim":
        return simulated(part=part, case=options["case"])
    if data is None:
        raise ValueError(f"The experiment '{task}' needs data.")
    if task == "mosi":
        return sentiment(data, part=part, bert=options["bert"], words=options["words"])
    if task == "pom":
        return ratings(data, part=part)
    from omib_bench.fusions._emotions import emotions

    return emotions(data, part=part, lists=options["lists"])


def chosen(methods: str | None) -> tuple[bool, dict[str, type[Rival]]]:
    """Whether OMIB is among ``methods``, names with commas between them, and which rivals are; None is all.

    Raises
    ------
    KeyError
        If a name is none of these.
    """
    names = [OURS, *RIVALS] if methods is None else [name.strip() for name in methods.split(",")]
    if unknown := [name for name in names if name not in (OURS, *RIVALS)]:
        raise KeyError(f"There is no method {unknown}; there are {', '.join((OURS, *RIVALS))}.")
    return OURS in names, {name: RIVALS[name] for name in names if name != OURS}


__all__ = [
    "LINEAR",
    "OURS",
    "RIVALS",
    "Experiment",
    "Fold",
    "FusionNet",
    "FusionOutput",
    "Rival",
    "build",
    "chosen",
    "draw",
    "experiment",
    "ratings",
    "report",
    "report_tissue",
    "run",
    "run_tissue",
    "sentiment",
    "simulated",
    *RIVALS,
]
