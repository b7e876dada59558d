"""Maps of score and call over the tissue."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba_array

from omib_spatial._keys import ABNORMAL, NOT_CALLED, SPATIAL, Written
from omib_spatial._keys import HEALTHY as HEALTHY_KEY
from omib_spatial.pl._figure import ANOMALOUS, HEALTHY, INK, PALETTE, UNKNOWN, finish
from omib_spatial.pl._panels import ClassLayer, ScoreLayer, draw_panel, panel_grid, stored_colours
from omib_spatial.pl._slices import slices

_PANELS = ("image", "truth", "score", "anomaly")


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
    Colours come from ``uns["{truth}_colors"]`` and ``uns["{key_added}_call_colors"]`` (not called, abnormal) where they
    are there.

    Examples
    --------
    >>> axes = omib.pl.anomaly_map(adata, library_id="slide3", truth="anomaly_kind", save="map.png")
    >>> [ax.get_title() for ax in axes]
    ['H&E', 'Truth: anomaly_kind', 'Score', 'Call']
    """
    params = adata.uns.get(key_added, {}).get("params", {})
    shown = slices(
        adata,
        library_key or params.get("library_key") or None,
        library_id,
        spatial_key or params.get("spatial_key") or SPATIAL,
        image_key or params.get("image_key") or None,
    )
    panels = _panels(color, truth, any(item.image is not None for item in shown))
    layers = {name: _layer(adata, name, key_added, truth, cmap, vmin, vmax) for name in panels if name != "image"}
    figure, grid = panel_grid(shown, panels, figsize, ax)
    for item, row in zip(shown, grid, strict=True):
        for name, cell in zip(panels, row, strict=True):
            draw_panel(cell, item, layers.get(name), size)
        row[0].set_ylabel(item.name, color=INK)
    for name, column in zip(panels, grid.T, strict=True):
        column[0].set_title("H&E" if name == "image" else layers[name].title, color=INK)
        if name != "image":
            layers[name].explain(figure, column)
    if title is not None:
        (figure.suptitle if grid.size > 1 else grid[0, 0].set_title)(title, color=INK)
    finish(figure, f"{key_added}_anomaly_map", own=ax is None, show=show, save=save)
    return grid[0, 0] if grid.size == 1 else list(grid.flat)


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
) -> ScoreLayer | ClassLayer:
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
        return ScoreLayer(score, ScalarMappable(norm, plt.get_cmap(cmap).with_extremes(bad=UNKNOWN)))
    called = adata.obs[written.anomaly].astype("boolean").fillna(False).to_numpy(dtype=bool)
    codes = np.where(np.ma.getmaskarray(score), 2, called.astype(int))
    stored = (stored_colours(adata.uns, key, 2) for key in (written.anomaly, written.call))
    colours = next((found for found in stored if found), [HEALTHY, ANOMALOUS])
    return ClassLayer(codes, [NOT_CALLED, ABNORMAL, "not scored"], to_rgba_array([*colours, UNKNOWN]), "Call")


def _truth(adata: AnnData, key: str) -> ClassLayer:
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
    colours = stored_colours(adata.uns, key, len(labels)) or colours
    return ClassLayer(codes, [*labels, "not labelled"], to_rgba_array([*colours, UNKNOWN]), f"Truth: {key}")


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
