"""What makes up scores: modalities and genes of groups of spots, and modalities on the tissue."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from omib_spatial import get
from omib_spatial._checked import Few, FigSize, Flag, Key, KeyAdded, Names, SaveAs, Text
from omib_spatial._colours import INK, PALETTE, UNKNOWN
from omib_spatial.pl._figure import finish, quiet
from omib_spatial.pl._inputs import OnAxes, did_you_mean, plot

_UNIT = "contribution to the score (s.d.)"
_WAYS = {"by_expression": "through expression", "by_genome": "through the genome"}
_NOISE = "noise"


@plot
def modalities(
    adata: AnnData,
    groups: Names | None = None,
    *,
    key_added: KeyAdded = "omib",
    ax: OnAxes | None = None,
    figsize: FigSize | None = None,
    title: Text | None = None,
    table_key: Key = "table",
    show: Flag | None = None,
    save: SaveAs | None = None,
) -> Axes:
    """Draw how much each modality makes up of the mean score of groups of spots, one bar per group.

    Pieces to the right of 0 raise the score, pieces to the left lower it. The dot is their sum: how far the group lies
    beyond the healthy side of its slices. Noise is drawn where it is worth a hundredth of that.

    Parameters
    ----------
    adata
        After `omib_spatial.tl.explain`.
    groups
        Groups to draw, from above; None draws all.
    key_added
        Prefix that was given to it.
    ax
        Axes to draw on; None makes a figure.
    figsize
        Size of that figure in inches.
    title
        Of the panel.
    table_key
        Table of a SpatialData that is drawn.
    show, save
        As scanpy has them: show the figure, save it under a name.

    Returns
    -------
    The Axes.

    Raises
    ------
    KeyError
        Nothing was explained yet, or a group does not exist.

    Examples
    --------
    >>> omib.tl.call(adata, question="part")
    >>> omib.tl.explain(adata, model)
    >>> ax = omib.pl.modalities(adata)
    """
    table = get.explanation(adata, "modalities", key_added=key_added)
    wide = table.assign(group=table["group"].astype(str), modality=table["modality"].astype(str)).pivot(
        index="group", columns="modality", values="contribution"
    )[list(dict.fromkeys(table["modality"].astype(str)))]
    names = _groups(groups, list(dict.fromkeys(table["group"].astype(str))))
    wide, size = wide.loc[names], table.groupby(table["group"].astype(str))["n_spots"].first()
    if (wide.get(_NOISE, pd.Series(0.0, wide.index)).abs() < 0.01 * wide.sum(axis=1).abs()).all():
        wide = wide.drop(columns=_NOISE, errors="ignore")
    own = ax is None
    if ax is None:
        ax = plt.subplots(figsize=figsize or (6.5, 1.2 + 0.35 * len(names)), layout="constrained")[1]
    _stack(ax, wide, [f"{name} ({size[name]})" for name in names])
    ax.plot(wide.sum(axis=1), range(len(names)), "o", color=INK, markersize=4, label="all", zorder=3)
    _finish_bars(ax, title)
    finish(ax.figure, f"{key_added}_modalities", own=own, show=show, save=save)  # type: ignore[arg-type]
    return ax


@plot
def top_genes(
    adata: AnnData,
    groups: Names = "called",
    *,
    n_genes: Few = 20,
    key_added: KeyAdded = "omib",
    ax: OnAxes | None = None,
    figsize: FigSize | None = None,
    title: Text | None = None,
    table_key: Key = "table",
    show: Flag | None = None,
    save: SaveAs | None = None,
) -> Axes | list[Axes]:
    """Draw the genes that make up most of the mean score of each group, the most important above.

    An arrow behind a name says whether the gene is expressed more (↑) or less (↓) than on the healthy side. A gene
    counts through expression, by its own level, and through the genome, with its neighbours on the chromosome.

    Parameters
    ----------
    adata
        After `omib_spatial.tl.explain`.
    groups
        Group or groups, one panel each.
    n_genes
        Genes of each.
    key_added
        Prefix that was given to it.
    ax
        Axes to draw on, for one group; None makes a figure.
    figsize
        Size of that figure in inches.
    title
        Of the figure, or of the panel if there is but one; default: the group.
    table_key
        Table of a SpatialData that is drawn.
    show, save
        As scanpy has them.

    Returns
    -------
    The Axes, or the list of them where there are several groups.

    Raises
    ------
    KeyError
        Nothing was explained yet, or a group does not exist.
    ValueError
        ``ax`` is given for several groups, or ``n_genes`` is not positive.

    Examples
    --------
    >>> omib.tl.call(adata, question="part")
    >>> omib.tl.explain(adata, model)
    >>> axes = omib.pl.top_genes(adata, "called")
    """
    names = [groups] if isinstance(groups, str) else list(groups)
    if n_genes < 1 or not names:
        raise ValueError(f"n_genes is at least 1 and groups names one group: {n_genes}, {names}.")
    if ax is not None and len(names) > 1:
        raise ValueError(f"ax= holds one group, not {names}.")
    tables = [get.explanation(adata, "genes", group=name, key_added=key_added).head(n_genes) for name in names]
    own, size = ax is None, figsize or (4.2 * len(names), 1.2 + 0.22 * n_genes)
    if ax is not None:
        axes = [ax]
    else:
        axes = list(plt.subplots(1, len(names), figsize=size, layout="constrained", squeeze=False)[1].flat)
    for cell, name, table in zip(axes, names, tables, strict=True):
        drawn = [way for way in _WAYS if (table[way] != 0).any()]
        arrow = np.where(table["change"] > 0, " ↑", np.where(table["change"] < 0, " ↓", ""))
        _stack(
            cell,
            table[drawn].rename(columns=_WAYS),
            [f"{gene}{sign}" for gene, sign in zip(table.index, arrow, strict=True)],
        )
        _finish_bars(cell, name if title is None or len(names) > 1 else title, legend=cell is axes[-1])
    if title is not None and len(names) > 1:
        axes[0].figure.suptitle(title, color=INK)
    finish(axes[0].figure, f"{key_added}_top_genes", own=own, show=show, save=save)  # type: ignore[arg-type]
    return axes[0] if len(axes) == 1 else axes


def _groups(wanted: str | Sequence[str] | None, known: list[str]) -> list[str]:
    names = known if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)
    if unknown := [name for name in names if name not in known]:
        raise KeyError(
            f"groups= has {unknown}, without explanation: {did_you_mean(str(unknown[0]), known)}pass some of {known}."
        )
    return names


def _stack(ax: Axes, table: pd.DataFrame, labels: list[str]) -> None:
    """Bars of pieces: those above 0 to the right, those below to the left."""
    at = np.arange(len(table))
    right, left = np.zeros(len(table)), np.zeros(len(table))
    for number, column in enumerate(table):
        values = table[column].to_numpy(float)
        colour = UNKNOWN if column == _NOISE else PALETTE[number % len(PALETTE)]
        ax.barh(at, values, left=np.where(values >= 0, right, left), color=colour, label=str(column), height=0.75)
        right, left = right + np.maximum(values, 0), left + np.minimum(values, 0)
    ax.set_yticks(at, labels)
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.axvline(0, color=INK, linewidth=0.8)


def _finish_bars(ax: Axes, title: str | None, *, legend: bool = True) -> None:
    quiet(ax)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel(_UNIT, color=INK, fontsize="small")
    if legend:
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, labelcolor=INK, fontsize="small")
    if title is not None:
        ax.set_title(title, color=INK)
