"""Pictures of benchmarks that are curves."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from omib_spatial.benchmarks._records import Record
from omib_spatial.pl._figure import PALETTE, finish, quiet


def beta_sweep(records: Sequence[Record], path: str | Path) -> None:
    """Draw the accuracy of `omib_spatial.benchmarks.sim.sweep_beta` against beta, M_l and M_u marked.

    Points are means over seeds, the band is one standard deviation.
    """
    frame = pd.DataFrame(records)
    runs = frame[frame["setting"].str.startswith("beta ")]
    beta = runs["setting"].str.removeprefix("beta ").astype(float)
    by_beta = runs.groupby(beta)["value"].agg(["mean", "std"]).fillna(0.0).sort_index()
    figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    ax.fill_between(by_beta.index, by_beta["mean"] - by_beta["std"], by_beta["mean"] + by_beta["std"], alpha=0.2)
    ax.plot(by_beta.index, by_beta["mean"], "o-", color=PALETTE[0], markersize=4)
    for metric, label, style in (("M_l", "$M_l$", ":"), ("M_u", "$M_u$", "--")):
        value = frame.loc[frame["metric"] == metric, "value"].mean()
        ax.axvline(value, color=PALETTE[5], linestyle=style, label=f"{label} = {value:.2g}")
    ax.set(xscale="log", xlabel="beta", ylabel="accuracy", title=", ".join(dict.fromkeys(frame["dataset"])))
    ax.legend(frameon=False)
    quiet(ax)
    finish(figure, "beta_sweep", own=True, show=False, save=path)
    plt.close(figure)


def seconds_per_epoch(records: Sequence[Record], path: str | Path) -> None:
    """Draw the seconds per epoch of `omib_spatial.benchmarks.sim.scale` against the number of samples."""
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
