"""What each modality makes up of scores, on the tissue."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from omib_spatial._checked import FigSize, Flag, Key, KeyAdded, Names, Positive, SaveAs, Text
from omib_spatial._colours import EITHER_WAY, INK, UNKNOWN
from omib_spatial._keys import Written
from omib_spatial.pl._figure import finish
from omib_spatial.pl._inputs import did_you_mean, plot
from omib_spatial.pl._panels import ScoreLayer, draw_pages, name_pages
from omib_spatial.pl._slices import slices

_NOISE = "noise"
_ALPHA = 0.8
"""Opacity over tissue."""


@dataclass(frozen=True)
class _ContributionLayer(ScoreLayer):
    """What a modality makes up of each spot's score."""

    def explain(self, figure: Figure, column: np.ndarray) -> None:
        """One bar for all panels: they have one scale."""
        bar = figure.colorbar(self.colours, ax=list(column), extend="both", extendfrac=0.03, pad=0.03, shrink=0.85)
        bar.set_label("contribution to the score: standard\ndeviations of healthy spots", color=INK, fontsize="small")
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=INK, labelsize="small")


@plot
def contributions(
    adata: AnnData,
    *,
    modalities: Names | None = None,
    key_added: KeyAdded = "omib",
    library_key: Key | None = None,
    library_id: Names | None = None,
    spatial_key: Key | None = None,
    image_key: Key | None = None,
    spot_diameter_um: Positive | None = None,
    vmax: Positive | None = None,
    size: Positive = 1.0,
    figsize: FigSize | None = None,
    title: Text | None = None,
    table_key: Key = "table",
    show: Flag | None = None,
    save: SaveAs | None = None,
) -> list[Axes]:
    """Draw what each modality makes up of every spot's score on the tissue: a row per slice, a column per modality.

    Orange raises the score above that of the healthy side of the slice, violet lowers it. All panels have one scale, so
    that they add up by eye. Spots without a modality are grey. There are six slices to a page.

    Parameters
    ----------
    adata
        After `omib_spatial.tl.explain`.
    modalities
        Which to draw; default: all of them.
    key_added
        Prefix that was given to it.
    library_key, library_id, spatial_key, image_key, spot_diameter_um
        As of `omib_spatial.pl.anomaly_map`.
    vmax
        Contribution at which colours end; default: the 99th percentile of their size.
    size
        Factor on the diameter of spots.
    figsize
        Width and height in inches; default: by the number and the shape of slices.
    title
        Title of the figure.
    table_key
        Table of a SpatialData that is drawn.
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
    key = Written(key_added).contributions
    if key not in adata.obsm:
        raise KeyError(
            f"obsm[{key!r}] does not exist: run omib_spatial.tl.explain first, or pass the key_added= that was given "
            "to it."
        )
    table = adata.obsm[key]
    asked = [name for name in table if name != _NOISE] if modalities is None else modalities
    names = [asked] if isinstance(asked, str) else list(asked)
    if unknown := [name for name in names if name not in table]:
        close = did_you_mean(str(unknown[0]), list(table))
        raise KeyError(f"modalities= has {unknown}, without contributions: {close}pass some of {list(table)}.")
    shown = slices(
        adata, key_added, library_key=library_key, library_id=library_id, spatial_key=spatial_key,
        image_key=image_key, spot_diameter_um=spot_diameter_um,
    )  # fmt: skip
    values = np.ma.masked_invalid(table[names].to_numpy(np.float64))
    limit = vmax or (float(np.percentile(np.abs(values.compressed()), 99)) if values.count() else 1.0) or 1.0
    colours = ScalarMappable(TwoSlopeNorm(0, -limit, limit), plt.get_cmap(EITHER_WAY).with_extremes(bad=UNKNOWN))
    layers = [_ContributionLayer(values[:, i], colours, name) for i, name in enumerate(names)]
    pages = draw_pages(
        shown, dict(zip(names, layers, strict=True)), size=size, alpha=_ALPHA, figsize=figsize, legends=False
    )
    for page in pages:
        layers[-1].explain(page.figure, page.grid.ravel())
    name_pages(pages, title, own_panel=False)
    finish([page.figure for page in pages], f"{key_added}_contributions", own=True, show=show, save=save)
    return [cell for page in pages for cell in page.grid.flat]
