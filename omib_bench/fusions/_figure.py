"""One panel per metric, one row per method."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from omib_bench._records import Record
from omib_bench.fusions._runner import LINEAR, OURS, PAPER, PARAMETERS, SECONDS
from omib_spatial._colours import ANOMALOUS, INK, PALETTE, UNKNOWN
from omib_spatial.pl._figure import finish, quiet

COST = (PARAMETERS, SECONDS)


def draw(records: Sequence[Record], path: str | Path, metrics: Sequence[str] | None = None) -> None:
    """Draw the mean over seeds of every method with its standard deviation, and every seed as a small dot.

    The line is the linear model; diamonds are what the paper prints. Of tissue, every seed's value is its mean over the
    sections.

    Parameters
    ----------
    records
        Of one experiment.
    path
        PNG to write.
    metrics
        Those that are drawn; None draws all but the cost.
    """
    frame = pd.DataFrame(records)
    frame = frame.groupby(["method", "setting", "metric", "seed"], sort=False, as_index=False)["value"].mean()
    shown = list(metrics or (m for m in dict.fromkeys(frame["metric"]) if m not in COST))
    methods = [m for m in dict.fromkeys(frame["method"]) if m != LINEAR]
    size = (1.6 + 2.6 * len(shown), 1.1 + 0.28 * len(methods))
    figure, axes = plt.subplots(1, len(shown), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for ax, metric in zip(axes[0], shown, strict=True):
        rows = frame[frame["metric"] == metric]
        for y, method in enumerate(methods):
            own = rows[(rows["method"] == method) & (rows["setting"] != PAPER)]["value"]
            colour = ANOMALOUS if method == OURS else PALETTE[0]
            ax.plot(own, [y] * len(own), "o", color=colour, alpha=0.35, markersize=3, markeredgewidth=0)
            spread = own.std() if len(own) > 1 else 0.0
            ax.errorbar(own.mean(), y, xerr=spread, fmt="o", color=colour, markersize=6, capsize=2)
            theirs = rows[(rows["method"] == method) & (rows["setting"] == PAPER)]["value"]
            ax.plot(theirs, [y] * len(theirs), "D", color="none", markeredgecolor=INK, markersize=5)
        if len(linear := rows[rows["method"] == LINEAR]["value"]):
            ax.axvline(linear.mean(), color=UNKNOWN, linestyle="--", zorder=0, label="linear model")
        ax.plot([], [], "o", color=PALETTE[0], label="mean ± standard deviation")
        if (rows["setting"] == PAPER).any():
            ax.plot([], [], "D", color="none", markeredgecolor=INK, markersize=5, label="printed in the paper")
        ax.set(xlabel=metric)
        quiet(ax)
    axes[0][0].set_yticks(range(len(methods)), methods)
    axes[0][0].invert_yaxis()
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    finish(figure, "fusions", own=True, show=False, save=path)
    plt.close(figure)
