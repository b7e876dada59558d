"""Pictures of benchmarks that are curves."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from omib_bench._records import Record
from omib_spatial._colours import PALETTE, UNKNOWN
from omib_spatial.pl._figure import finish, quiet


def beta_sweep(records: Sequence[Record], path: str | Path) -> None:
    """Draw the accuracy of `omib_bench.sim.sweep_beta` against beta, M_l and M_u marked: a panel per case.

    Points are means over seeds, the band is one standard deviation.
    """
    frame = pd.DataFrame(records)
    cases = list(dict.fromkeys(frame["dataset"]))
    figure, axes = plt.subplots(
        1, len(cases), figsize=(2 + 4 * len(cases), 3.6), layout="constrained", sharey=True, squeeze=False
    )
    for ax, case in zip(axes[0], cases, strict=True):
        _against_beta(ax, frame[frame["dataset"] == case])
        ax.set(xscale="log", xlabel="beta", title=case)
        ax.legend(frameon=False)
        quiet(ax)
    axes[0, 0].set_ylabel("accuracy")
    finish(figure, "beta_sweep", own=True, show=False, save=path)
    plt.close(figure)


def _against_beta(ax: Axes, frame: pd.DataFrame) -> None:
    """One case."""
    runs = frame[frame["setting"].str.startswith("beta ")]
    beta = runs["setting"].str.removeprefix("beta ").astype(float)
    by_beta = runs.groupby(beta)["value"].agg(["mean", "std"]).fillna(0.0).sort_index()
    ax.fill_between(by_beta.index, by_beta["mean"] - by_beta["std"], by_beta["mean"] + by_beta["std"], alpha=0.2)
    ax.plot(by_beta.index, by_beta["mean"], "o-", color=PALETTE[0], markersize=4)
    for metric, label, style in (("M_l", "$M_l$", ":"), ("M_u", "$M_u$", "--")):
        value = frame.loc[frame["metric"] == metric, "value"].mean()
        ax.axvline(value, color=PALETTE[5], linestyle=style, label=f"{label} = {value:.2g}")


def seconds_per_epoch(records: Sequence[Record], path: str | Path) -> None:
    """Draw the seconds per epoch of `omib_bench.sim.scale` against the number of samples."""
    frame = pd.DataFrame(records)
    frame["n"] = frame["dataset"].str.extract(r"n = (\d+)", expand=False).astype(int)
    figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for colour, (phase, rows) in zip(PALETTE, frame.groupby("setting", sort=False), strict=False):
        ax.plot(rows["n"], rows["value"], "o-", color=colour, label=phase)
    ax.set(xscale="log", yscale="log", xlabel="samples", ylabel="seconds per epoch")
    ax.legend(frameon=False)
    quiet(ax)
    finish(figure, "seconds_per_epoch", own=True, show=False, save=path)
    plt.close(figure)


def planted(records: Sequence[Record], path: str | Path) -> None:
    """Draw what `omib_bench.planted.run` found against strength: a column per kind of anomaly.

    For each reference a row with the AUROC and one with the share of the planted spots that is called; the dotted
    lines are the share of the other spots. Points are means over sections and seeds, the band is one standard
    deviation of the seeds' means.
    """
    frame = pd.DataFrame([row for row in records if "; " in row.setting])
    parts = frame["setting"].str.split("; ", expand=True)
    frame["reference"], frame["modalities"], frame["kind"] = parts[0], parts[1], parts[2]
    frame["strength"] = parts[3].str.rstrip("%").astype(float)
    means = frame.groupby(["reference", "metric", "kind", "modalities", "strength", "seed"])["value"].mean()
    depth = np.mean([row.value for row in records if row.setting == row.method])
    references, kinds = list(dict.fromkeys(frame["reference"])), list(dict.fromkeys(frame["kind"]))
    figure, axes = plt.subplots(
        2 * len(references), len(kinds), figsize=(3 * len(kinds), 4.4 * len(references)), layout="constrained",
        sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    for row, (reference, metric) in enumerate((r, m) for r in references for m in ("auroc", "called")):
        for ax, kind in zip(axes[row], kinds, strict=True):
            _against_strength(ax, means[reference, metric, kind], "o-")
            if metric == "auroc":
                ax.axhline(depth, color=PALETTE[7], linewidth=1, label="total counts")
                ax.axhline(0.5, color=UNKNOWN, linewidth=1, linestyle="--")
            else:
                _against_strength(ax, means[reference, "called_rest", kind], ":")
            ax.set(ylim=(-0.02, 1.02), title=kind if row == 0 else "")
            quiet(ax)
        axes[row, 0].set_ylabel(f"{'AUROC' if metric == 'auroc' else 'share called'}\n{reference}")
    for ax in axes[-1]:
        ax.set_xlabel("strength, %")
    axes[0, -1].legend(frameon=False, fontsize="small")
    finish(figure, "planted", own=True, show=False, save=path)
    plt.close(figure)


def _against_strength(ax: Axes, means: pd.Series, style: str) -> None:
    """A line for each of the modalities, in a colour that depends on its name alone."""
    for colour, modalities in zip(PALETTE, ("gene", "image", "gene+image"), strict=False):
        if modalities in means.index.get_level_values("modalities"):
            by_strength = means[modalities].groupby("strength").agg(["mean", "std"]).fillna(0.0)
            low, high = (by_strength["mean"] + sign * by_strength["std"] for sign in (-1, 1))
            ax.plot(by_strength.index, by_strength["mean"], style, color=colour, markersize=3, label=modalities)
            ax.fill_between(by_strength.index, low, high, color=colour, alpha=0.15, linewidth=0)
