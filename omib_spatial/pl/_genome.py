"""Expression along the chromosomes: which arms a spot has gained or lost."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes

from omib_spatial._keys import Written
from omib_spatial.pl._figure import ANOMALOUS, INK, finish

_ROWS = 600
"""Rows drawn at most: more than there are pixels only cost time."""


def genome(
    adata: AnnData,
    *,
    groupby: str | None = None,
    key_added: str = "omib",
    vmax: float | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
) -> Axes:
    """Draw the genome profile of every spot: called spots above, the others below, most anomalous first.

    Columns are windows in genome order, lines separate chromosomes. Red is more expression than the healthy reference
    has there, blue less, relative to the rest of the spot.

    Parameters
    ----------
    adata
        With the results of a fit or score with the modality ``"genome"``.
    groupby
        ``obs`` column whose groups are drawn below each other instead of called and other spots.
    key_added
        Name under which the results were stored.
    vmax
        Value, in standard deviations of the reference, at which colours end; None takes the 99 % quantile.
    ax
        Axes to draw on; None makes a figure.
    figsize
        Size of that figure in inches.
    show, save
        As scanpy has them: show the figure, save it under a name.

    Returns
    -------
    The axes of the heat map.

    Raises
    ------
    KeyError
        There is no profile, or no column ``groupby``.
    ValueError
        No spot has a profile.
    """
    key = Written(key_added)
    if key.drawn("genome") not in adata.obsm:
        raise KeyError(
            f"obsm[{key.drawn('genome')!r}] does not exist: fit or score with the modality 'genome', which needs "
            "var['chromosome'], var['start'] and var['end']."
        )
    profile = np.asarray(adata.obsm[key.drawn("genome")])
    groups = _groups(adata, key, groupby, np.isfinite(profile).all(1))
    if not groups:
        raise ValueError("No spot has a genome profile: their counts are all zero.")
    own = ax is None
    if ax is None:
        ax = plt.subplots(figsize=figsize or (9, 4.5), layout="constrained")[1]
    rows = np.concatenate(list(groups.values()))
    limit = vmax or float(np.quantile(np.abs(profile[rows]), 0.99)) or 1.0
    picture = ax.imshow(
        profile[rows], aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest", rasterized=True
    )
    ax.figure.colorbar(picture, ax=ax, label="against the healthy reference", shrink=0.7, pad=0.02)
    _chromosomes(ax, np.asarray(adata.uns[key.uns]["genome"]["chromosome"], object).astype(str))
    _names(ax, groups, coloured=groupby is None)
    finish(ax.figure, "genome", own=own, show=show, save=save)  # type: ignore[arg-type]
    return ax


def _groups(adata: AnnData, key: Written, groupby: str | None, there: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of each group, most anomalous first, thinned out evenly where there are many."""
    if groupby is not None and groupby not in adata.obs:
        raise KeyError(f"obs[{groupby!r}] does not exist: groupby is one of {list(adata.obs)}, or None.")
    if groupby is None:
        called = adata.obs[key.anomaly].to_numpy(bool)
        members = {"called": called, "other": ~called}
    else:
        column = adata.obs[groupby].astype("category")
        members = {str(name): (column == name).to_numpy() for name in column.cat.categories}
    order = np.argsort(-np.nan_to_num(adata.obs[key.score].to_numpy(float), nan=-np.inf), kind="stable")
    step = max(1, -(-int(there.sum()) // _ROWS))
    groups = {name: order[(mask & there)[order]][::step] for name, mask in members.items()}
    return {name: rows for name, rows in groups.items() if len(rows)}


def _chromosomes(ax: Axes, names: np.ndarray) -> None:
    """Lines between chromosomes, and their names where there is room."""
    edges = np.flatnonzero(names[1:] != names[:-1]) + 1
    starts, ends = np.append(0, edges), np.append(edges, len(names))
    for edge in edges:
        ax.axvline(edge - 0.5, color=INK, linewidth=0.4)
    wide = (ends - starts) / len(names) > 0.02
    ax.set_xticks((starts + ends)[wide] / 2 - 0.5, names[starts[wide]], fontsize="x-small")
    ax.tick_params(axis="x", length=0)
    ax.set_xlabel("chromosome")


def _names(ax: Axes, groups: dict[str, np.ndarray], *, coloured: bool) -> None:
    """Name and number of spots of each group, beside it, and a line between groups."""
    sizes = np.array([len(rows) for rows in groups.values()])
    ends = sizes.cumsum()
    for end in ends[:-1]:
        ax.axhline(end - 0.5, color=INK, linewidth=1.2)
    ax.set_yticks(ends - sizes / 2 - 0.5, list(groups))
    ax.tick_params(axis="y", length=0)
    for label, name in zip(ax.get_yticklabels(), groups, strict=True):
        label.set_color({"called": ANOMALOUS, "other": INK}.get(name, INK) if coloured else INK)
