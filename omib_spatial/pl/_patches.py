"""The tissue itself, of the spots that stand out and of those that do not."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from omib_spatial._keys import SPATIAL, Written
from omib_spatial.pl._figure import ANOMALOUS, HEALTHY, INK, finish
from omib_spatial.pl._slices import Slice, slices

_CELL = 1.25  # inches


def patches(
    adata: AnnData,
    by: str | None = None,
    *,
    n: int = 8,
    rows: int = 2,
    patch_diameter: float = 4.0,
    key_added: str = "omib",
    library_key: str | None = None,
    library_id: str | Sequence[str] | None = None,
    spatial_key: str | None = None,
    image_key: str | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
) -> list[Axes]:
    """Show the tissue around the most and the least anomalous spots, so that a person can judge at a glance.

    The upper rows hold the highest values of ``by``, the highest first, the lower rows the lowest, the lowest first. A
    circle marks the spot; it is red where the spot is called. Nothing is written into ``adata``.

    Parameters
    ----------
    adata
        Spots by genes with images and the results of :func:`omib_spatial.tl.fit` or :func:`omib_spatial.tl.score`.
    by
        Numeric ``obs`` column; default: ``{key_added}_score``. Spots without a value or an image are left out.
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
    if n < 1 or rows < 1 or not patch_diameter > 0:
        raise ValueError(f"n ({n}), rows ({rows}) and patch_diameter ({patch_diameter}) must be positive.")
    by = by or Written(key_added).score
    values = _values(adata, by)
    params = adata.uns.get(key_added, {}).get("params", {})
    pictured = [
        item
        for item in slices(
            adata,
            library_key or params.get("library_key") or None,
            library_id,
            spatial_key or params.get("spatial_key") or SPATIAL,
            image_key or params.get("image_key") or None,
        )
        if item.image is not None
    ]
    places = {row: (item, xy) for item in pictured for row, xy in zip(item.rows.tolist(), item.xy, strict=True)}
    order = [row for row in np.argsort(values, kind="stable").tolist() if row in places and np.isfinite(values[row])]
    if not order:
        raise ValueError(f"No spot has both obs[{by!r}] and an image: nothing can be shown.")
    half = min(n * rows, max(len(order) // 2, 1))
    blocks = [order[: -half - 1 : -1], order[:half] if len(order) > 1 else []]
    called = adata.obs.get(Written(key_added).anomaly, pd.Series(False, adata.obs_names)).to_numpy(bool)
    figure, grid = plt.subplots(
        2 * rows, n, figsize=(_CELL * n, _CELL * 2.25 * rows), squeeze=False, layout="constrained"
    )
    for block, cells, title in zip(blocks, (grid[:rows], grid[rows:]), ("highest", "lowest"), strict=True):
        cells[0, 0].set_title(f"{title} {by}", loc="left", color=INK)
        for cell in cells.flat[len(block) :]:
            cell.set_axis_off()
        for row, cell in zip(block, cells.flat, strict=False):
            _draw(cell, *places[row], patch_diameter, bool(called[row]))
            cell.set_xlabel(f"{places[row][0].name} {values[row]:.3g}".strip(), fontsize="x-small", color=INK)
    finish(figure, f"{key_added}_patches", own=True, show=show, save=save)
    return [cell for cell in grid.flat if cell.axison]


def _values(adata: AnnData, by: str) -> np.ndarray:
    if by not in adata.obs:
        raise KeyError(f"obs[{by!r}] does not exist: pass by= one of {list(adata.obs)}, or fit or score first.")
    if not pd.api.types.is_numeric_dtype(adata.obs[by].dtype):
        raise TypeError(f"obs[{by!r}] must be numeric, got {adata.obs[by].dtype}.")
    return adata.obs[by].to_numpy(float)


def _draw(ax: Axes, item: Slice, xy: np.ndarray, patch_diameter: float, called: bool) -> None:
    """One patch, and a circle around its spot."""
    diameter = item.diameter or item.pitch
    half = patch_diameter * diameter / 2
    view = (float(xy[0] - half), float(xy[0] + half), float(xy[1] + half), float(xy[1] - half))
    part, extent = item.picture(view)
    if 0 not in part.shape:
        ax.imshow(part, extent=extent, interpolation="antialiased")
    ax.add_patch(Circle((xy[0], xy[1]), diameter / 2, fill=False, lw=1.2, ec=ANOMALOUS if called else HEALTHY))
    ax.set(xlim=view[:2], ylim=view[2:], xticks=[], yticks=[])
