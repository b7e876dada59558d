"""Maps of score and call over the tissue."""

from collections.abc import Iterable

from anndata import AnnData
from matplotlib.axes import Axes

from omib_spatial._checked import FigSize, Flag, Key, KeyAdded, Names, Number, Positive, SaveAs, Share, Text
from omib_spatial._colours import SCORE
from omib_spatial.pl._figure import finish
from omib_spatial.pl._inputs import ColourMap, OnAxes, column_of, plot
from omib_spatial.pl._layers import result_layer, truth_layer
from omib_spatial.pl._panels import draw_pages, name_pages
from omib_spatial.pl._slices import slices
from omib_spatial.pl._words import captions, map_title


@plot
def anomaly_map(
    adata: AnnData,
    *,
    key_added: KeyAdded = "omib",
    color: Names = ("image", "score", "call"),
    truth: Key | None = None,
    library_key: Key | None = None,
    library_id: Names | None = None,
    spatial_key: Key | None = None,
    image_key: Key | None = None,
    spot_diameter_um: Positive | None = None,
    cmap: ColourMap = SCORE,
    vmin: Number | None = None,
    vmax: Number | None = None,
    size: Positive = 1.0,
    alpha: Share = 0.8,
    figsize: FigSize | None = None,
    ax: OnAxes | None = None,
    title: Text | None = None,
    table_key: Key = "table",
    show: Flag | None = None,
    save: SaveAs | None = None,
) -> Axes | list[Axes]:
    """Draw anomaly scores and calls on the tissue: one row per slice, one column per panel, six slices to a page.

    Spots are drawn on the faded image in their true size, or on white where there is no image, where they nearly touch.
    The colour bar of the score tells where calls begin. There is a scale bar where the scale is known. The title says
    the slide, the question that was asked, the verdict and how many spots are called. Nothing is written into
    ``adata``.

    Parameters
    ----------
    adata
        AnnData or SpatialData with the results of :func:`omib_spatial.tl.fit` or :func:`omib_spatial.tl.score`.
    key_added
        Name under which the results were stored.
    color
        Panels: ``"image"`` (the image alone; left out if no slice has one), ``"truth"``, and results by their short or
        full names: ``"score"``, ``"call"``, ``"pvalue"``, ``"slice_pvalue"``, ``"region"``, ``"zone"``, ``"clone"``,
        ``"subtype"``, ``"label"``.
    truth
        Boolean (True is anomalous) or categorical ``obs`` column to compare with. Its panel comes after the image
        unless ``color`` says where.
    library_key, spatial_key, image_key
        ``obs`` column that separates slices, ``obsm`` key of the coordinates in full-resolution pixels, and image of a
        slice; default: as in the run that gave the results.
    library_id
        Slice or slices to draw, in this order; default: all.
    spot_diameter_um
        Diameter of the spots in micrometres, 55 on Visium and 100 on ST arrays: gives the scale bar where neither the
        slide's scale factors nor `omib_spatial.tl.regions` know the scale.
    cmap
        Colour map of the score.
    vmin, vmax
        Limits of the score's colour scale; default: 1st and 99th percentile of all spots in ``adata``, whatever is
        drawn, so that maps of its slices compare.
    size
        Factor on the diameter of spots.
    alpha
        Opacity of scores over tissue; 1 hides the tissue under spots.
    figsize
        Width and height of a page in inches; default: by the number and the shape of slices.
    ax
        Where to draw; only for one slice and one panel.
    title
        Title of the figure, or of the panel if there is but one; ``""`` leaves it out.
    table_key
        Table of a SpatialData that is drawn.
    show
        Show the figure; default: if matplotlib is interactive and neither ``ax`` nor ``save`` is given.
    save
        File to write; True writes ``{key_added}_anomaly_map.png`` into the present folder. More than six slices are
        pages of one PDF, or files ``map_1.png``, ``map_2.png`` and so on. At the default resolution a file stays below
        2 MB.

    Returns
    -------
    The Axes if there is one slice and one panel, else the list of them, row by row.

    Raises
    ------
    KeyError
        Results, ``truth``, coordinates, slices' column or an image's scale factor are not there.
    ValueError
        ``color`` or ``library_id`` is unknown, ``ax`` is given for several panels, a number is out of its range, or two
        slides lie on top of each other as one slice.
    TypeError
        ``truth`` is neither boolean nor categorical, or an argument is of a wrong kind.

    Warns
    -----
    UserWarning
        One slice holds two slides, which lie beside each other.

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
    shown = slices(
        adata, key_added, library_key=library_key, library_id=library_id, spatial_key=spatial_key,
        image_key=image_key, spot_diameter_um=spot_diameter_um,
    )  # fmt: skip
    panels = _panels(adata, key_added, color, truth, any(item.image is not None for item in shown))
    layers = {
        name: None if name == "image" else truth_layer(adata, str(truth)) if name == "truth"
        else result_layer(adata, name, key_added, shown, cmap=cmap, vmin=vmin, vmax=vmax)
        for name in panels
    }  # fmt: skip
    said = captions(adata, key_added, shown) if ax is None and len(shown) > 1 else {}
    pages = draw_pages(shown, layers, size=size, alpha=alpha, figsize=figsize, ax=ax, captions=said)
    if title is not None:
        name_pages(pages, title)
    elif ax is None:
        name_pages(pages, map_title(adata, key_added, shown), own_panel=False)
    finish([page.figure for page in pages], f"{key_added}_anomaly_map", own=ax is None, show=show, save=save)
    axes = [cell for page in pages for cell in page.grid.flat]
    return axes[0] if len(axes) == 1 else axes


def _panels(adata: AnnData, key_added: str, color: str | Iterable[str], truth: str | None, pictured: bool) -> list[str]:
    """``"image"``, ``"truth"``, and the ``obs`` columns of results."""
    if not isinstance(color, str | Iterable):
        raise TypeError(f"color= is {color!r}: it is a name such as 'score', or several.")
    asked = [color] if isinstance(color, str) else list(color)
    names = ("image", "truth")
    panels = [
        name if name in names else column_of(adata, name, key_added, "color", written_only=True) for name in asked
    ]
    if truth is None and "truth" in panels:
        raise ValueError("color has the panel 'truth': name its obs column with truth=.")
    if truth is not None and "truth" not in panels:
        panels.insert(panels.index("image") + 1 if "image" in panels else 0, "truth")
    drawn = [name for name in dict.fromkeys(panels) if pictured or name != "image"]
    if not drawn:
        raise KeyError("No slice has the image: pass image_key= or library_key=, or color='score' to draw without one.")
    return drawn
