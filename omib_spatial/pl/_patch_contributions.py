"""Patches of a few spots, and which parts of them speak for the score."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm

from omib_spatial._checked import Flag, Key, KeyAdded, Positive
from omib_spatial._colours import EITHER_WAY, INK
from omib_spatial._keys import Written
from omib_spatial.pl._figure import finish, scale_bar
from omib_spatial.pl._inputs import plot
from omib_spatial.pl._patches import draw_patch, label_patch, short
from omib_spatial.pl._slices import slices
from omib_spatial.pl._words import called_spots

_CELL = 1.7  # inches
_ALPHA = 0.6


@plot
def patch_contributions(
    adata: AnnData,
    spots: str | Sequence[str] | None = None,
    *,
    vmax: Positive | None = None,
    key_added: KeyAdded = "omib",
    library_key: Key | None = None,
    spatial_key: Key | None = None,
    image_key: Key | None = None,
    spot_diameter_um: Positive | None = None,
    table_key: Key = "table",
    show: Flag | None = None,
    save: str | Path | bool | None = None,
) -> list[Axes]:
    """Show the patches of a few spots as they are, and below each one which parts of it speak for the score.

    Orange parts raise the score, violet ones lower it; all patches share one scale. Above each patch is the barcode of
    its spot, cut short, below it what all parts make up together. The circle is the spot, red where it is called.

    Parameters
    ----------
    adata
        After `omib_spatial.tl.patch_contributions`.
    spots
        Name or names of spots that were asked about there; None draws all of them.
    vmax
        Contribution at which colours end; default: the largest that is drawn.
    key_added
        Prefix that was given to it.
    library_key, spatial_key, image_key, spot_diameter_um
        As of `omib_spatial.pl.patches`.
    table_key
        Table of a SpatialData that is drawn.
    show, save
        As scanpy has them.

    Returns
    -------
    Axes: the patches, then the maps, both in the order of the spots.

    Raises
    ------
    KeyError
        Nothing was said of any patch yet, or not of one of the ``spots``.
    ValueError
        The slice of a spot has no image.

    Examples
    --------
    >>> omib.tl.patch_contributions(adata, model, n_parts=4, n_samples=2)
    >>> axes = omib.pl.patch_contributions(adata)
    """
    record = _record(adata, key_added)
    known = [str(name) for name in record["spots"]]
    names = known if spots is None else [spots] if isinstance(spots, str) else list(spots)
    if unknown := [name for name in names if name not in known or name not in adata.obs_names]:
        raise KeyError(f"Nothing is said of the patches of {unknown[:5]}: pass some of {known}.")
    shown = slices(
        adata, key_added, library_key=library_key, spatial_key=spatial_key, image_key=image_key,
        spot_diameter_um=spot_diameter_um,
    )  # fmt: skip
    places = {r: (one, xy) for one in shown if one.image is not None for r, xy in zip(one.rows, one.xy, strict=True)}
    rows = adata.obs_names.get_indexer(names)
    if without := [name for name, row in zip(names, rows, strict=True) if row not in places]:
        raise ValueError(f"The slices of {without[:5]} have no image: nothing can be shown.")
    chosen = [known.index(name) for name in names]
    maps, called = np.asarray(record["contributions"])[chosen], called_spots(adata, key_added)
    limit = vmax or float(np.abs(maps).max()) or 1.0
    colours = ScalarMappable(TwoSlopeNorm(0, -limit, limit), EITHER_WAY)
    figure, grid = plt.subplots(
        2, len(names), figsize=(_CELL * len(names) + 1, 2.4 * _CELL), layout="constrained", squeeze=False
    )
    for column, (name, row) in enumerate(zip(names, rows, strict=True)):
        item, xy = places[row]
        for cell in grid[:, column]:
            draw_patch(cell, item, xy, float(record["side"][chosen[column]]), bool(called[row]))
        (left, right), (bottom, top) = grid[1, column].get_xlim(), grid[1, column].get_ylim()
        grid[1, column].imshow(
            maps[column], extent=(left, right, bottom, top), cmap=colours.cmap, norm=colours.norm, alpha=_ALPHA,
            interpolation="nearest",
        )  # fmt: skip
        label_patch(grid[0, column], item, short(name))
        label_patch(grid[1, column], item, f"{maps[column].sum():+.2g} in all")
    item, xy = places[rows[0]]
    if item.um_per_pixel is not None:
        scale_bar(grid[0, 0], item.um_per_pixel, xy[None])
    bar = figure.colorbar(colours, ax=grid[1], shrink=0.8)
    bar.set_label("contribution to the score (s.d.)", color=INK, fontsize="x-small")
    bar.ax.tick_params(colors=INK, labelsize="x-small")
    finish(figure, f"{key_added}_patch_contributions", own=True, show=show, save=save)
    return list(grid.flat)


def _record(adata: AnnData, key_added: str) -> dict:
    key = Written(key_added).patch_contributions
    if key not in adata.uns:
        raise KeyError(
            f"uns[{key!r}] does not exist: run omib_spatial.tl.patch_contributions first, or pass the key_added= that "
            "was given to it."
        )
    return adata.uns[key]
