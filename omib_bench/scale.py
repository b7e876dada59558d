"""How time and memory grow with the number of spots, and how far they are from the floor."""

import json
import logging
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omib_bench._records import Record
from omib_spatial._atomic import replacing

logger = logging.getLogger("omib_spatial")

NAME = "scale"
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
RATIO_SPOTS, RATIO_GENES = 10_000, 2000
"""Spots and genes that ratios are measured on."""
REPEATS = 5
"""Alternations of the two sides of a ratio; medians are compared."""
FEATURES = 64
"""Ready features of the image at every spot."""


def run(
    *,
    sizes: Sequence[int] = SIZES,
    n_genes: int = 500,
    ratios: bool = True,
    seed: int = 0,
    say: Callable[[str], None] = logger.info,
) -> list[Record]:
    """Fit and score simulated slices of growing size, each in a process of its own.

    Counts are about 6 % filled, ready image features have 64 columns; settings are the defaults, except that few
    epochs are run, all of the main phase.

    Parameters
    ----------
    sizes
        Spots per slice.
    n_genes
        Genes, all of which the model keeps (up to 3,000).
    ratios
        Measure the ratios too, on 10,000 spots and 2,000 genes.
    seed
        Of tissue and training.
    say
        Takes one line per step.

    Returns
    -------
    By size: ``seconds_per_epoch``, ``seconds_score``, ``spots_per_second_score``, ``seconds_fit_outside_epochs``,
    ``peak_rss_bytes``, ``anndata_bytes``. Over all sizes: ``slope_epoch`` and ``slope_score``, of log time on log N.
    Ratios, within one process: ``ratio_epoch_to_bare_loop`` and ``ratio_score_to_bare_forward``, over plain PyTorch on
    ready dense tensors; ``ratio_epoch_to_sparse_loop`` and ``ratio_score_to_sparse_forward``, over the same on the
    sparse inputs that ours makes of counts; ``ratio_graph_to_squidpy`` and, if scvi-tools is installed,
    ``ratio_epoch_to_scvi``. ``import_seconds``.
    """
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as folder:
        for n in sizes:
            path = str(Path(folder) / f"{n}.h5ad")
            _child("simulate", path=path, n_spots=n, n_genes=n_genes, seed=seed)
            found = _child("measure", path=path, seed=seed)
            Path(path).unlink()
            records += [Record(NAME, str(n), "omib", _setting(n_genes), seed, key, v) for key, v in found.items()]
            say(
                f"{n} spots: {found['seconds_per_epoch']:.1f} s per epoch, {found['spots_per_second_score']:.0f} "
                f"spots/s scored, peak {found['peak_rss_bytes'] / 2**30:.2f} GiB"
            )
    everything = "all sizes"
    for metric in ("seconds_per_epoch", "seconds_score"):
        if len(sizes) > 1:
            value = slope(sizes, [row.value for row in records if row.metric == metric])
            name = f"slope_{metric.removeprefix('seconds_').removeprefix('per_')}"
            records.append(Record(NAME, everything, "omib", _setting(n_genes), seed, name, value))
    if ratios:
        found = _child("compare", n_genes=RATIO_GENES, seed=seed) | {"import_seconds": import_seconds()}
        if "ratio_epoch_to_scvi" not in found:
            say("scvi-tools is not installed: its epoch is left out (pip install 'omib-spatial[bench]').")
        setting = _setting(RATIO_GENES)
        records += [Record(NAME, str(RATIO_SPOTS), "omib", setting, seed, k, v) for k, v in found.items()]
    return records


def slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Exponent p of the power law ``seconds ~ sizes ** p``, by least squares on logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def draw(records: Iterable[Record], path: str | Path) -> None:
    """Draw time and memory against the number of spots into the file ``path``."""
    from matplotlib.figure import Figure

    rows = list(records)
    panels = {
        "seconds_per_epoch": ("seconds per epoch", 1.0),
        "seconds_score": ("seconds to score", 1.0),
        "peak_rss_bytes": ("peak memory, GiB", 2.0**30),
    }
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    for axes, (metric, (label, unit)) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        points = [(int(row.dataset), row.value / unit) for row in rows if row.metric == metric]
        sizes, values = map(np.array, zip(*points, strict=True))
        axes.plot(sizes, values, "o-", color="#20639b")
        axes.set(xlabel="spots", ylabel=label, xscale="log")
        if metric == "peak_rss_bytes":
            axes.set_ylim(bottom=0)
        else:
            axes.plot(sizes, values[0] * sizes / sizes[0], ":", color="0.5", label="straight line")
            axes.set_yscale("log")
            axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=150)


def import_seconds() -> float:
    """Time of ``import omib_spatial`` in a fresh process, median of several."""
    code = "import time; t = time.perf_counter(); import omib_spatial; print(time.perf_counter() - t)"
    return statistics.median(float(_python(code)) for _ in range(REPEATS))


def _setting(n_genes: int) -> str:
    return f"gene+features, {n_genes} genes"


def _child(step: str, **arguments: Any) -> dict[str, float]:
    """Run one of the steps in `_steps` in a fresh process, so that its peak memory is its own."""
    code = f"from omib_bench import _scale_steps; _scale_steps.main({step!r}, {json.dumps(arguments)!r})"
    return json.loads(_python(code))


def _python(code: str) -> str:
    """Last line that ``code`` prints in a fresh process."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"A step of the benchmark failed: {done.stderr.strip()[-2000:]}")
    return done.stdout.strip().splitlines()[-1]
