"""What makes up scores: modalities and genes of groups of spots, and modalities on the tissue."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from omib_spatial import get
from omib_spatial._keys import SPATIAL, Written
from omib_spatial.pl._figure import INK, PALETTE, UNKNOWN, finish, quiet
from omib_spatial.pl._panels import ScoreLayer, draw_panel, panel_grid
from omib_spatial.pl._slices import slices

_UNIT = "contribution to the score (s.d.)"
_WAYS = {"by_expression": "through expression", "by_genome": "through the genome"}
_NOISE = "noise"


def modalities(
    adata: AnnData,
    groups: str | Sequence[str] | None = None,
    *,
    key_added: str = "omib",
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    title: str | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
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


def top_genes(
    adata: AnnData,
    groups: str | Sequence[str] = "called",
    *,
    n_genes: int = 20,
    key_added: str = "omib",
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    title: str | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
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


@dataclass(frozen=True)
class _ContributionLayer(ScoreLayer):
    """What a modality makes up of each spot's score."""

    last: bool = True

    def explain(self, figure: Figure, column: np.ndarray) -> None:
        """One bar for all panels: they have one scale."""
        if not self.last:
            return
        bar = figure.colorbar(self.colours, ax=list(column), extend="both", extendfrac=0.03, pad=0.03, shrink=0.85)
        bar.set_label("contribution (s.d.)", color=INK)
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=INK, labelsize="small")


def contributions(
    adata: AnnData,
    *,
    modalities: Sequence[str] | None = None,
    key_added: str = "omib",
    library_key: str | None = None,
    library_id: str | Sequence[str] | None = None,
    spatial_key: str | None = None,
    image_key: str | None = None,
    vmax: float | None = None,
    size: float = 1.0,
    figsize: tuple[float, float] | None = None,
    title: str | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
) -> list[Axes]:
    """Draw what each modality makes up of every spot's score on the tissue: a row per slice, a column per modality.

    Red raises the score above that of the healthy side of the slice, blue lowers it. All panels have one scale, so that
    they add up by eye. Spots without a modality are grey.

    Parameters
    ----------
    adata
        After `omib_spatial.tl.explain`.
    modalities
        Which to draw; default: all of them.
    key_added
        Prefix that was given to it.
    library_key, library_id, spatial_key, image_key
        As of `omib_spatial.pl.anomaly_map`.
    vmax
        Contribution at which colours end; default: the 99th percentile of their size.
    size
        Factor on the diameter of spots.
    figsize
        Width and height in inches; default: by the number and the shape of slices.
    title
        Title of the figure.
    show, save
        As scanpy has them.

    Returns
    -------
    The Axes, row by row.

    Raises
    ------
    KeyError
        Nothing was explained yet, or a modality, coordinates or a slices' column do not exist.
    ValueError
        ``library_id`` is unknown.

    Examples
    --------
    >>> omib.tl.call(adata, question="part")
    >>> omib.tl.explain(adata, model)
    >>> axes = omib.pl.contributions(adata, library_id="slide3")
    """
    key, params = Written(key_added).contributions, adata.uns.get(key_added, {}).get("params", {})
    if key not in adata.obsm:
        raise KeyError(
            f"obsm[{key!r}] does not exist: run omib_spatial.tl.explain first, or pass the key_added= that was given "
            "to it."
        )
    table = adata.obsm[key]
    names = [name for name in table if name != _NOISE] if modalities is None else list(modalities)
    if unknown := [name for name in names if name not in table]:
        raise KeyError(f"No contributions of {unknown}: pass some of {list(table)}.")
    shown = slices(
        adata,
        library_key or params.get("library_key") or None,
        library_id,
        spatial_key or params.get("spatial_key") or SPATIAL,
        image_key or params.get("image_key") or None,
    )
    values = np.ma.masked_invalid(table[names].to_numpy(np.float64))
    limit = vmax or (float(np.percentile(np.abs(values.compressed()), 99)) if values.count() else 1.0) or 1.0
    colours = ScalarMappable(TwoSlopeNorm(0, -limit, limit), plt.get_cmap("RdBu_r").with_extremes(bad=UNKNOWN))
    layers = [_ContributionLayer(values[:, i], colours, name, i == len(names) - 1) for i, name in enumerate(names)]
    figure, grid = panel_grid(shown, names, figsize, None)
    for item, row in zip(shown, grid, strict=True):
        for layer, cell in zip(layers, row, strict=True):
            draw_panel(cell, item, layer, size)
        row[0].set_ylabel(item.name, color=INK)
    for layer, cell in zip(layers, grid[0], strict=True):
        cell.set_title(layer.title, color=INK)
    layers[-1].explain(figure, grid.ravel())
    if title is not None:
        figure.suptitle(title, color=INK)
    finish(figure, f"{key_added}_contributions", own=True, show=show, save=save)
    return list(grid.flat)


def _groups(wanted: str | Sequence[str] | None, known: list[str]) -> list[str]:
    names = known if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)
    if unknown := [name for name in names if name not in known]:
        raise KeyError(f"Nothing is said of groups {unknown}: pass some of {known}.")
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
