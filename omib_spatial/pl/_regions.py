"""Outlines of regions on the tissue."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba_array
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from omib_spatial import get
from omib_spatial._checked import FigSize, Flag, Key, KeyAdded, Names, Positive, SaveAs, Share, Text
from omib_spatial._colours import ANOMALOUS, HEALTHY, INK
from omib_spatial._keys import Written
from omib_spatial.pl._figure import finish
from omib_spatial.pl._inputs import OnAxes, plot
from omib_spatial.pl._panels import ClassLayer, Page, draw_panel, name_pages, pages
from omib_spatial.pl._slices import slices
from omib_spatial.slides.results import check_columns, recorded_params

_LISTED = 4
"""Regions of a slice that are described below it."""
_CASING = [withStroke(linewidth=3.2, foreground="white")]
"""White around lines and letters: they are seen on dark and on pale tissue, and by everyone."""
_SOLID, _DASHED = (0.0, ()), (0.0, (2.5, 1.5))


@plot
def regions(
    adata: AnnData,
    *,
    key_added: KeyAdded = "omib",
    library_key: Key | None = None,
    library_id: Names | None = None,
    spatial_key: Key | None = None,
    image_key: Key | None = None,
    spot_diameter_um: Positive | None = None,
    alpha: Share = 0.05,
    size: Positive = 1.0,
    figsize: FigSize | None = None,
    ax: OnAxes | None = None,
    title: Text | None = None,
    table_key: Key = "table",
    show: Flag | None = None,
    save: SaveAs | None = None,
) -> Axes | list[Axes]:
    """Outline regions on the H&E, or on the spots where a slice has no image: one panel per slice.

    A region has its number, as in its name, on it. The largest are described below the slice. There is a scale bar
    where the scale is known. There are six slices to a page. Nothing is written into ``adata``.

    Parameters
    ----------
    adata
        Spots by genes, after `omib_spatial.tl.regions`.
    key_added
        Prefix that was given to it.
    library_key, spatial_key, image_key
        ``obs`` column that separates slices, ``obsm`` key of the coordinates, and image of a slice; default: as in the
        run that gave the score.
    library_id
        Slice or slices to draw, in this order; default: all.
    spot_diameter_um
        Diameter of the spots in micrometres, 55 on Visium and 100 on ST arrays: gives the scale bar where neither the
        slide's scale factors nor `omib_spatial.tl.regions` know the scale.
    alpha
        Regions with a higher p-value, or with none, have a dashed outline.
    size
        Factor on the diameter of spots.
    figsize
        Width and height in inches; default: by the number and the shape of slices.
    ax
        Where to draw; only for one slice.
    title
        Title of the figure, or of the panel if there is but one.
    table_key
        Table of a SpatialData that is drawn.
    show
        Show the figure; default: if matplotlib is interactive and neither ``ax`` nor ``save`` is given.
    save
        File to write; True writes ``{key_added}_regions.png`` into the present folder. Pages as of
        `omib_spatial.pl.anomaly_map`.

    Returns
    -------
    The Axes if there is one slice, else the list of them.

    Raises
    ------
    KeyError
        Regions, coordinates, slices' column or an image's scale factor are not there.
    ValueError
        ``library_id`` is unknown, or ``ax`` is given for several slices.

    Examples
    --------
    >>> omib.tl.call(adata, question="part")
    >>> omib.tl.regions(adata, spot_diameter_um=55)
    >>> axes = omib.pl.regions(adata, library_id="slide3")
    """
    shapes = get.regions(adata, key_added)
    check_columns(adata, Written(key_added))
    shown = slices(
        adata, key_added, library_key=library_key, library_id=library_id, spatial_key=spatial_key,
        image_key=image_key, spot_diameter_um=spot_diameter_um,
    )  # fmt: skip
    several = library_key or recorded_params(adata.uns, key_added).get("library_key")
    found = pages(shown, ["image"], figsize, ax)
    inside = adata.obs[Written(key_added).region].notna().to_numpy().astype(int)
    layer = ClassLayer(inside, ["in no region", "in a region"], to_rgba_array([HEALTHY, ANOMALOUS]), "Regions")
    for page in found:
        _draw(page, shapes, layer, size, alpha, by_slice=bool(several))
    name_pages(found, title)
    finish([page.figure for page in found], f"{key_added}_regions", own=ax is None, show=show, save=save)
    axes = [cell for page in found for cell in page.grid.flat]
    return axes[0] if len(axes) == 1 else axes


def _draw(page: Page, shapes: pd.DataFrame, layer: ClassLayer, size: float, alpha: float, *, by_slice: bool) -> None:
    """Slices of a page with their regions, and what lines mean."""
    for item, (cell,) in zip(page.shown, page.grid, strict=True):
        own = shapes[shapes["slice"] == item.name] if by_slice else shapes
        draw_panel(cell, item, None if item.image is not None else layer, size)
        for name, region in own.iterrows():
            _outline(cell, str(name).rsplit(":", 1)[-1], region.geometry, sure=region.pvalue <= alpha)
        cell.set_xlabel(_described(own), color=INK, fontsize="small")
    page.name_rows()
    _explain(page.grid[0, 0], alpha)


def _outline(ax: Axes, label: str, shape: Any, *, sure: bool) -> None:
    """Borders of a region, of its holes too, and its number in the middle of its largest part."""
    parts = list(getattr(shape, "geoms", [shape]))
    rings = [np.asarray(ring.coords) for part in parts for ring in (part.exterior, *part.interiors)]
    lines = LineCollection(
        rings, colors=INK, linewidths=1.4, linestyles=[_SOLID if sure else _DASHED], path_effects=_CASING
    )
    ax.add_collection(lines, autolim=False)
    place = max(parts, key=lambda part: part.area).representative_point()
    ax.text(
        place.x, place.y, label, ha="center", va="center", color=INK, fontweight="bold", fontsize="small",
        path_effects=_CASING,
    )  # fmt: skip


def _described(table: pd.DataFrame) -> str:
    """A line for each of the first regions: number, spots, area where it is known, p-value."""
    if not len(table):
        return "no region"
    lines = []
    for name, region in table.iloc[:_LISTED].iterrows():
        area = f", {region.area / 1e6:.3g} mm²" if region.unit == "um" else ""
        chance = "" if np.isnan(region.pvalue) else f", p = {region.pvalue:.2g}"
        lines.append(f"{str(name).rsplit(':', 1)[-1]}: {region.n_spots} spots{area}{chance}")
    more = len(table) - len(lines)
    return "\n".join(lines + ([f"and {more} more"] if more else []))


def _explain(ax: Axes, alpha: float) -> None:
    """Say beside the first panel what the lines mean."""
    handles = [
        Line2D([], [], color=INK, linestyle=style, label=label)
        for style, label in ((_SOLID, f"p ≤ {alpha:g}"), (_DASHED, "larger p, or none"))
    ]
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, labelcolor=INK, fontsize="small",
        title="region", title_fontproperties={"size": "small"}, alignment="left",
    )  # fmt: skip
