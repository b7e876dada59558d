"""Maps of score and call over the tissue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.colors import Normalize, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from omib_spatial._keys import HEALTHY as HEALTHY_KEY
from omib_spatial._keys import SPATIAL, Written
from omib_spatial.pl._figure import ANOMALOUS, HEALTHY, INK, PALETTE, UNKNOWN, finish
from omib_spatial.pl._slices import Slice, slices

_PANELS = ("image", "truth", "score", "anomaly")
_PANEL_WIDTH = 3.2  # inches
_FADED = 0.35  # opacity of the image under spots
_TOUCHING = 0.95  # diameter of spots by their pitch, where they are not drawn in true size
_MANY = 20_000  # spots from which on a vector graphic is larger than its picture


def anomaly_map(
    adata: AnnData,
    *,
    key_added: str = "omib",
    color: str | Sequence[str] = ("image", "score", "anomaly"),
    truth: str | None = None,
    library_key: str | None = None,
    library_id: str | Sequence[str] | None = None,
    spatial_key: str | None = None,
    image_key: str | None = None,
    cmap: str = "magma",
    vmin: float | None = None,
    vmax: float | None = None,
    size: float = 1.0,
    figsize: tuple[float, float] | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
) -> Axes | list[Axes]:
    """Draw anomaly scores and calls on the tissue: one row per slice, one column per panel.

    Truth and call are drawn on the faded image in the spots' true size. Scores, and everything where there is no image,
    are drawn on white with spots that nearly touch. Nothing is written into ``adata``.

    Parameters
    ----------
    adata
        Spots by genes, with the results of :func:`omib_spatial.tl.fit` or :func:`omib_spatial.tl.score`.
    key_added
        Name under which the results were stored.
    color
        Panels: ``"image"`` (the image alone; left out if no slice has one), ``"truth"``, ``"score"``, ``"anomaly"``
        (the call).
    truth
        Boolean (True is anomalous) or categorical ``obs`` column to compare with. Its panel comes after the image
        unless ``color`` says where.
    library_key, spatial_key, image_key
        ``obs`` column that separates slices, ``obsm`` key of the coordinates in full-resolution pixels, and image of a
        slice; default: as in the run that gave the results.
    library_id
        Slice or slices to draw, in this order; default: all.
    cmap
        Colour map of the score.
    vmin, vmax
        Limits of the score's colour scale; default: 1st and 99th percentile of all spots in ``adata``, whatever is
        drawn, so that maps of its slices compare.
    size
        Factor on the diameter of spots.
    figsize
        Width and height in inches; default: by the number and the shape of slices.
    ax
        Where to draw; only for one slice and one panel.
    title
        Title of the figure, or of the panel if there is but one.
    show
        Show the figure; default: if matplotlib is interactive and neither ``ax`` nor ``save`` is given.
    save
        File to write; True writes ``{key_added}_anomaly_map.png`` into the present folder.

    Returns
    -------
    The Axes if there is one slice and one panel, else the list of them, row by row.

    Raises
    ------
    KeyError
        Results, ``truth``, coordinates, slices' column or an image's scale factor are not there.
    ValueError
        ``color`` or ``library_id`` is unknown, or ``ax`` is given for several panels.
    TypeError
        ``truth`` is neither boolean nor categorical.

    Notes
    -----
    Colours come from ``uns["{truth}_colors"]`` and ``uns["{key_added}_anomaly_colors"]`` (healthy, anomalous) where
    they are there.

    Examples
    --------
    >>> omib.pl.anomaly_map(adata, truth="anomaly_kind", library_id=["slide3", "slide4"])  # doctest: +SKIP
    """
    params = adata.uns.get(key_added, {}).get("params", {})
    shown = slices(
        adata,
        library_key or params.get("library_key") or None,
        library_id,
        spatial_key or params.get("spatial_key") or SPATIAL,
        image_key or params.get("image_key") or "hires",
    )
    panels = _panels(color, truth, any(item.image is not None for item in shown))
    layers = {name: _layer(adata, name, key_added, truth, cmap, vmin, vmax) for name in panels if name != "image"}
    figure, grid = _grid(shown, panels, figsize, ax)
    for item, row in zip(shown, grid, strict=True):
        for name, cell in zip(panels, row, strict=True):
            _draw(cell, item, layers.get(name), size)
        row[0].set_ylabel(item.name, color=INK)
    for name, column in zip(panels, grid.T, strict=True):
        column[0].set_title("H&E" if name == "image" else layers[name].title, color=INK)
        if name != "image":
            layers[name].explain(figure, column)
    if title is not None:
        (figure.suptitle if grid.size > 1 else grid[0, 0].set_title)(title, color=INK)
    finish(figure, f"{key_added}_anomaly_map", own=ax is None, show=show, save=save)
    return grid[0, 0] if grid.size == 1 else list(grid.flat)


@dataclass(frozen=True)
class _Score:
    values: np.ma.MaskedArray
    colours: ScalarMappable
    title: str = "Score"

    def faces(self, rows: np.ndarray) -> np.ndarray:
        return self.colours.to_rgba(self.values[rows])

    def explain(self, figure: Figure, column: np.ndarray) -> None:
        known, norm = self.values.compressed(), self.colours.norm
        beyond = bool((known < norm.vmin).any()), bool((known > norm.vmax).any())
        extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(beyond, "both")
        share = 1 / len(column)  # beside the first row, where legends are
        bar = figure.colorbar(
            self.colours, ax=list(column), extend=extend, extendfrac=0.03, pad=0.03,
            aspect=20, shrink=0.85 * share, anchor=(0.0, 1 - 0.05 * share), fraction=0.15 * share,
        )  # fmt: skip
        bar.set_label("anomaly score (s.d. above healthy)", color=INK)
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=INK, labelsize="small")


@dataclass(frozen=True)
class _Classes:
    codes: np.ndarray
    labels: list[str]
    colours: np.ndarray
    title: str

    def faces(self, rows: np.ndarray) -> np.ndarray:
        return self.colours[self.codes[rows]]

    def explain(self, figure: Figure, column: np.ndarray) -> None:
        there = np.unique(self.codes)
        dot: dict[str, Any] = {"marker": "o", "linestyle": "", "markeredgecolor": "none", "markersize": 7}
        handles = [
            Line2D([], [], color=colour, label=label, **dot)
            for code, (label, colour) in enumerate(zip(self.labels, self.colours, strict=True))
            if code < len(self.labels) - 1 or code in there
        ]
        column[0].legend(
            handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, labelcolor=INK, fontsize="small",
            handletextpad=0.2, borderaxespad=0.2, ncols=-(-len(handles) // 16),
        )  # fmt: skip


def _panels(color: str | Sequence[str], truth: str | None, pictured: bool) -> list[str]:
    panels = [color] if isinstance(color, str) else list(color)
    if unknown := [name for name in panels if name not in _PANELS]:
        raise ValueError(f"color has unknown panels {unknown}: pass some of {list(_PANELS)}.")
    if truth is None and "truth" in panels:
        raise ValueError("color has the panel 'truth': name its obs column with truth=.")
    if truth is not None and "truth" not in panels:
        panels.insert(panels.index("image") + 1 if "image" in panels else 0, "truth")
    drawn = [name for name in panels if pictured or name != "image"]
    if not drawn:
        raise KeyError("No slice has the image: pass image_key= or library_key=, or color='score' to draw without one.")
    return drawn


def _layer(
    adata: AnnData, name: str, key_added: str, truth: str | None, cmap: str, vmin: float | None, vmax: float | None
) -> _Score | _Classes:
    written = Written(key_added)
    if name == "truth":
        return _truth(adata, str(truth))
    for column in (written.score, written.anomaly):
        if column not in adata.obs:
            raise KeyError(
                f"obs[{column!r}] does not exist: run omib_spatial.tl.fit or omib_spatial.tl.score first, or pass the "
                "key_added= that was given to it."
            )
    score = np.ma.masked_invalid(adata.obs[written.score].to_numpy(dtype=np.float64))
    if name == "score":
        known = score.compressed()
        low, high = np.percentile(known, [1, 99]) if len(known) else (0.0, 1.0)
        norm = Normalize(low if vmin is None else vmin, high if vmax is None else vmax)
        return _Score(score, ScalarMappable(norm, plt.get_cmap(cmap).with_extremes(bad=UNKNOWN)))
    called = adata.obs[written.anomaly].astype("boolean").fillna(False).to_numpy(dtype=bool)
    codes = np.where(np.ma.getmaskarray(score), 2, called.astype(int))
    colours = _stored(adata.uns, written.anomaly, 2) or [HEALTHY, ANOMALOUS]
    return _Classes(codes, ["healthy", "anomalous", "not scored"], to_rgba_array([*colours, UNKNOWN]), "Call")


def _truth(adata: AnnData, key: str) -> _Classes:
    if key not in adata.obs:
        raise KeyError(f"obs[{key!r}] does not exist: pass truth= one of {list(adata.obs)}.")
    column = adata.obs[key]
    if pd.api.types.is_bool_dtype(column.dtype):
        codes = column.astype("boolean").astype("Int64").fillna(2).to_numpy(dtype=int)
        labels, colours = [f"not {key}", key], [HEALTHY, ANOMALOUS]
    elif pd.api.types.is_float_dtype(column.dtype):
        raise TypeError(f"obs[{key!r}] holds {column.dtype}: truth= must be boolean or categorical.")
    else:
        column = column.astype("category").cat.remove_unused_categories() if column.dtype != "category" else column
        labels = [str(name) for name in column.cat.categories]
        codes = column.cat.codes.to_numpy().astype(int) % (len(labels) + 1)
        colours = _distinct(labels)
    colours = _stored(adata.uns, key, len(labels)) or colours
    return _Classes(codes, [*labels, "not labelled"], to_rgba_array([*colours, UNKNOWN]), f"Truth: {key}")


def _distinct(labels: list[str]) -> list[Any]:
    """One colour per label; healthy looks the same here as in the call."""
    others = [label for label in labels if label != HEALTHY_KEY]
    palette: Any = PALETTE
    if len(others) > len(PALETTE):
        palette = plt.get_cmap("tab20" if len(others) <= 20 else "turbo").resampled(len(others))(range(len(others)))
    elif len(others) < len(labels):
        palette = sorted(PALETTE, key=lambda colour: colour != ANOMALOUS)
    by_label = dict(zip(others, palette, strict=False)) | {HEALTHY_KEY: HEALTHY}
    return [by_label[label] for label in labels]


def _stored(uns: Mapping[str, Any], key: str, n: int) -> list[str] | None:
    """Colours that the user chose, as scanpy stores them; None if there are not enough."""
    colours = [str(colour) for colour in uns.get(f"{key}_colors", ())]
    return colours[:n] if len(colours) >= n else None


def _grid(
    shown: list[Slice], panels: list[str], figsize: tuple[float, float] | None, ax: Axes | None
) -> tuple[Figure, np.ndarray]:
    if ax is not None:
        if len(shown) * len(panels) != 1:
            names = [item.name for item in shown]
            raise ValueError(f"ax= holds one panel of one slice, not {panels} of {names}: pass color= and library_id=.")
        return ax.figure.figure, np.array([[ax]], dtype=object)
    heights = [float(np.clip(item.aspect, 0.25, 4)) for item in shown]
    if figsize is None:
        beside = sum({"image": 0.1, "score": 0.9}.get(name, 1.1) for name in panels)
        figsize = (_PANEL_WIDTH * len(panels) + beside + 0.3, _PANEL_WIDTH * sum(heights) + 0.15 * len(heights) + 0.3)
    return plt.subplots(
        len(shown), len(panels), figsize=figsize, squeeze=False, layout="compressed", height_ratios=heights
    )


def _draw(ax: Axes, item: Slice, layer: _Score | _Classes | None, size: float) -> None:
    pictured = item.image is not None and not isinstance(layer, _Score)
    if pictured:
        part, extent = item.picture()
        ax.imshow(part, extent=extent, alpha=1.0 if layer is None else _FADED)
    elif layer is None:
        ax.text(0.5, 0.5, "no image", transform=ax.transAxes, ha="center", va="center", color=INK)
    if layer is not None:
        true = item.diameter if pictured else None
        width = np.full(len(item.rows), size * (_TOUCHING * item.pitch if true is None else true))
        ax.add_collection(
            EllipseCollection(
                width,
                width,
                np.zeros_like(width),
                units="xy",
                offsets=item.xy,
                offset_transform=ax.transData,
                facecolors=layer.faces(item.rows),
                edgecolors="none",
                rasterized=len(width) > _MANY,
            )  # fmt: skip
        )
    left, right, bottom, top = item.view
    ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)
