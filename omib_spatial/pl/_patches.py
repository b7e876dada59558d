"""The tissue itself, of the spots that stand out and of those that do not."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from omib_spatial._checked import Few, Flag, Key, KeyAdded, Names, Positive, SaveAs
from omib_spatial._colours import ANOMALOUS, HEALTHY, INK
from omib_spatial._keys import Written
from omib_spatial.pl._figure import finish, scale_bar
from omib_spatial.pl._inputs import column_of, plot
from omib_spatial.pl._slices import Slice, slices
from omib_spatial.pl._words import called_spots

_CELL = 1.25  # inches
_LETTERS = 15


@plot
def patches(
    adata: AnnData,
    by: Key | None = None,
    *,
    n: Few = 8,
    rows: Few = 2,
    patch_diameter: Positive = 4.0,
    key_added: KeyAdded = "omib",
    library_key: Key | None = None,
    library_id: Names | None = None,
    spatial_key: Key | None = None,
    image_key: Key | None = None,
    spot_diameter_um: Positive | None = None,
    table_key: Key = "table",
    show: Flag | None = None,
    save: SaveAs | None = None,
) -> list[Axes]:
    """Show the tissue around the most and the least anomalous spots, so that a person can judge at a glance.

    The upper rows hold the highest values of ``by``, the highest first, the lower rows the lowest, the lowest first. A
    circle marks the spot; it is red where the spot is called. Above each patch are the barcode of its spot, cut short,
    and the value. The first patch has a scale bar where the scale is known. Nothing is written into ``adata``.

    Parameters
    ----------
    adata
        Spots by genes with images and the results of :func:`omib_spatial.tl.fit` or :func:`omib_spatial.tl.score`.
    by
        Numeric ``obs`` column, or ``"score"`` or ``"pvalue"`` for short; default: ``{key_added}_score``. Spots
        without a value or an image are left out.
    n
        Patches in a row.
    rows
        Rows of the highest, and as many of the lowest values.
    patch_diameter
        Side of the squares in spot diameters.
    key_added
        Name under which the results were stored.
    library_key, spatial_key, image_key
        ``obs`` column that separates slices, ``obsm`` key of the coordinates, and image of a slice; default: as in the
        run that gave the results. ``"fullres"`` reads no more of the file than is shown.
    library_id
        Slice or slices to choose from; default: all.
    spot_diameter_um
        Diameter of the spots in micrometres, 55 on Visium and 100 on ST arrays: gives the scale bar where neither the
        slide's scale factors nor `omib_spatial.tl.regions` know the scale.
    table_key
        Table of a SpatialData that is drawn.
    show
        Show the figure; default: if matplotlib is interactive and ``save`` is not given.
    save
        File to write; True writes ``{key_added}_patches.png`` into the present folder.

    Returns
    -------
    Axes of the patches, row by row.

    Raises
    ------
    KeyError
        ``by``, coordinates, slices' column or an image's scale factors are not there.
    TypeError
        ``by`` is not numeric.
    ValueError
        No spot has both a value and an image, or ``n`` or ``rows`` is not positive.

    Examples
    --------
    >>> axes = omib.pl.patches(adata, n=4, by="omib_score", save="patches.png")
    """
    by = column_of(adata, by or Written(key_added).score, key_added, "by")
    values = _values(adata, by)
    shown = slices(
        adata, key_added, library_key=library_key, library_id=library_id, spatial_key=spatial_key,
        image_key=image_key, spot_diameter_um=spot_diameter_um,
    )  # fmt: skip
    pictured = [item for item in shown if item.image is not None]
    places = {row: (item, xy) for item in pictured for row, xy in zip(item.rows.tolist(), item.xy, strict=True)}
    order = [row for row in np.argsort(values, kind="stable").tolist() if row in places and np.isfinite(values[row])]
    if not order:
        raise ValueError(f"No spot has both obs[{by!r}] and an image: nothing can be shown.")
    half = min(n * rows, max(len(order) // 2, 1))
    blocks = [order[: -half - 1 : -1], order[:half] if len(order) > 1 else []]
    called = called_spots(adata, key_added)
    figure = plt.figure(figsize=(_CELL * n, _CELL * 2.75 * rows), layout="constrained")
    halves: Any = figure.subfigures(2, 1)
    axes: list[Axes] = []
    for block, half_figure, title in zip(blocks, halves, ("highest", "lowest"), strict=True):
        cells = half_figure.subplots(rows, n, squeeze=False)
        half_figure.suptitle(f"{title} {by}", x=0.01, ha="left", color=INK)
        for cell in cells.flat[len(block) :]:
            cell.set_axis_off()
        for row, cell in zip(block, cells.flat, strict=False):
            item, xy = places[row]
            draw_patch(cell, item, xy, patch_diameter * (item.diameter or item.pitch), bool(called[row]))
            label_patch(cell, item, f"{short(str(adata.obs_names[row]))}\n{values[row]:.3g}")
        axes += list(cells.flat[: len(block)])
        if block:
            item, xy = places[block[0]]
            if item.um_per_pixel is not None:
                scale_bar(cells[0, 0], item.um_per_pixel, xy[None])
    finish(figure, f"{key_added}_patches", own=True, show=show, save=save)
    return axes


def _values(adata: AnnData, by: str) -> np.ndarray:
    if not pd.api.types.is_numeric_dtype(adata.obs[by].dtype):
        raise TypeError(f"obs[{by!r}] must be numeric, got {adata.obs[by].dtype}.")
    return adata.obs[by].to_numpy(float)


def short(barcode: str) -> str:
    """A barcode that fits above its patch: both ends, with what is between left out."""
    return barcode if len(barcode) <= _LETTERS else f"{barcode[: _LETTERS - 6]}…{barcode[-5:]}"


def draw_patch(ax: Axes, item: Slice, xy: np.ndarray, side: float, called: bool) -> None:
    """The square of tissue around a spot, and a circle around the spot.

    Parameters
    ----------
    ax
        Where.
    item, xy
        The slice, and the place of the spot in it (2,).
    side
        Of the square, in full-resolution pixels.
    called
        Whether the circle is red.
    """
    half = side / 2
    view = (float(xy[0] - half), float(xy[0] + half), float(xy[1] + half), float(xy[1] - half))
    part, extent = item.picture(view)
    if 0 not in part.shape:
        ax.imshow(part, extent=extent, interpolation="antialiased")
    radius = (item.diameter or item.pitch) / 2
    ax.add_patch(Circle((xy[0], xy[1]), radius, fill=False, lw=1.2, ec=ANOMALOUS if called else HEALTHY))
    ax.set(xlim=view[:2], ylim=view[2:], xticks=[], yticks=[])


def label_patch(ax: Axes, item: Slice, title: str) -> None:
    """Small letters: what is said of the spot above it, its slice below."""
    ax.set_title(title, fontsize="x-small", color=INK, pad=2)
    ax.set_xlabel(item.name, fontsize="x-small", color=INK)
