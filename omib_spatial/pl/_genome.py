"""Expression along the chromosomes: which arms a spot has gained or lost."""

import matplotlib.pyplot as plt
import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from numpy.typing import ArrayLike

from omib_spatial._checked import FigSize, Flag, Key, KeyAdded, Positive, SaveAs
from omib_spatial._colours import ANOMALOUS, INK, group_colours
from omib_spatial._keys import Written
from omib_spatial.pl._figure import finish
from omib_spatial.pl._inputs import OnAxes, column_of, plot
from omib_spatial.pl._words import called_spots

_ROWS = 600
"""Rows drawn at most: more than there are pixels only cost time."""


@plot
def genome(
    adata: AnnData,
    *,
    groupby: Key | None = None,
    key_added: KeyAdded = "omib",
    vmax: Positive | None = None,
    ax: OnAxes | None = None,
    figsize: FigSize | None = None,
    table_key: Key = "table",
    show: Flag | None = None,
    save: SaveAs | None = None,
) -> Axes:
    """Draw the genome profile of every spot: called spots above, the others below, most anomalous first.

    Columns are windows in genome order, lines separate chromosomes, dotted lines their arms. Red is more expression
    than the healthy reference has there, blue less, relative to the rest of the spot. A strip in the colours of
    ``uns[f"{groupby}_colors"]`` tells groups apart.

    Parameters
    ----------
    adata
        With the results of a fit or score with the modality ``"genome"``.
    groupby
        ``obs`` column whose groups are drawn below each other instead of called and other spots, such as
        ``"omib_clone"``, or ``"clone"`` for short. Spots without a group are left out.
    key_added
        Name under which the results were stored.
    vmax
        Value, in standard deviations of the reference, at which colours end; None takes the 99 % quantile.
    ax
        Axes to draw on; None makes a figure.
    figsize
        Size of that figure in inches.
    table_key
        Table of a SpatialData that is drawn.
    show, save
        As scanpy has them: show the figure, save it under a name.

    Returns
    -------
    The axes of the heat map. Where there are groups of a column, an inset of it holds the strip.

    Raises
    ------
    KeyError
        There is no profile, or no column ``groupby``.
    ValueError
        No spot has a profile, or none of those that have one has a group.

    Examples
    --------
    >>> ax = omib.pl.genome(adata, groupby="anomaly_kind")
    >>> ax.figure.savefig("genome.png")
    """
    key = Written(key_added)
    if key.drawn("genome") not in adata.obsm:
        raise KeyError(
            f"obsm[{key.drawn('genome')!r}] does not exist: fit or score with the modality 'genome', which needs "
            "var['chromosome'], var['start'] and var['end']."
        )
    if groupby is not None:
        groupby = column_of(adata, groupby, key_added, "groupby")
    profile = np.asarray(adata.obsm[key.drawn("genome")])
    groups = _groups(adata, key, groupby, np.isfinite(profile).all(1))
    if not groups:
        grouped = "" if groupby is None else f" and a group in obs[{groupby!r}]"
        raise ValueError(f"No spot has a genome profile{grouped}: those without counts have no profile.")
    own = ax is None
    if ax is None:
        ax = plt.subplots(figsize=figsize or (9, 4.5), layout="constrained")[1]
    rows = np.concatenate(list(groups.values()))
    limit = vmax or float(np.quantile(np.abs(profile[rows]), 0.99)) or 1.0
    picture = ax.imshow(
        profile[rows], aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest", rasterized=True
    )
    ax.figure.colorbar(picture, ax=ax, label="against the healthy reference", shrink=0.7, pad=0.02)
    described = adata.uns[key.uns]["genome"]
    _chromosomes(ax, _text(described["chromosome"]))
    if "arm" in described:
        _arms(ax, _text(described["chromosome"]), _text(described["arm"]))
    _names(ax, groups, coloured=groupby is None)
    if groupby is not None:
        _strip(ax, groups, _colours(adata, groupby))
    finish(ax.figure, "genome", own=own, show=show, save=save)  # type: ignore[arg-type]
    return ax


def _groups(adata: AnnData, key: Written, groupby: str | None, there: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of each group, most anomalous first, thinned out evenly where there are many."""
    if groupby is None:
        called = called_spots(adata, key.key_added)
        members = {"called": called, "other": ~called}
    else:
        column = adata.obs[groupby].astype("category")
        members = {str(name): (column == name).to_numpy() for name in column.cat.categories}
    order = np.argsort(-np.nan_to_num(adata.obs[key.score].to_numpy(float), nan=-np.inf), kind="stable")
    step = max(1, -(-sum(int((mask & there).sum()) for mask in members.values()) // _ROWS))
    groups = {name: order[(mask & there)[order]][::step] for name, mask in members.items()}
    return {name: rows for name, rows in groups.items() if len(rows)}


def _colours(adata: AnnData, groupby: str) -> dict[str, str]:
    """Colour of each group: that in ``uns`` where there is one for each, else of the palette."""
    names = [str(name) for name in adata.obs[groupby].astype("category").cat.categories]
    given = _text(adata.uns.get(f"{groupby}_colors", [])).tolist()
    colours = given if len(given) >= len(names) else [*group_colours(names)]
    return dict(zip(names, colours, strict=False))


def _text(values: ArrayLike) -> np.ndarray:
    """Text as numpy has it, from whatever a file gave: an h5ad objects, zarr variable-length strings."""
    return np.asarray(values, object).astype(str)


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


def _arms(ax: Axes, chromosomes: np.ndarray, arms: np.ndarray) -> None:
    """Dotted lines where an arm ends within its chromosome."""
    within = (chromosomes[1:] == chromosomes[:-1]) & (arms[1:] != arms[:-1])
    for edge in np.flatnonzero(within) + 1:
        ax.axvline(edge - 0.5, color=INK, linewidth=0.4, linestyle=":")


def _strip(ax: Axes, groups: dict[str, np.ndarray], colours: dict[str, str]) -> None:
    """A narrow column along the rows, in the colour of each group."""
    strip = ax.inset_axes((-0.02, 0, 0.014, 1))
    rows = [to_rgb(colours[name]) for name, members in groups.items() for _ in members]
    strip.imshow(np.array(rows)[:, None], aspect="auto", interpolation="nearest")
    strip.set_axis_off()
    ax.tick_params(axis="y", pad=12)


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
