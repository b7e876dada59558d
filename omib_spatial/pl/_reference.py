"""Map of the spots that were taken as healthy."""

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array

from omib_spatial._checked import FigSize, Flag, Key, Names, Positive, SaveAs
from omib_spatial._colours import REFERENCE_COLOURS
from omib_spatial._keys import REFERENCE
from omib_spatial.pl._figure import finish
from omib_spatial.pl._inputs import did_you_mean, plot
from omib_spatial.pl._panels import ClassLayer, draw_pages
from omib_spatial.pl._slices import slices
from omib_spatial.slides.results import recorded_params


@plot
def reference(
    adata: AnnData,
    key: Key | None = None,
    *,
    library_key: Key | None = None,
    library_id: Names | None = None,
    spatial_key: Key | None = None,
    image_key: Key | None = None,
    spot_diameter_um: Positive | None = None,
    size: Positive = 1.0,
    figsize: FigSize | None = None,
    table_key: Key = "table",
    show: Flag | None = None,
    save: SaveAs | None = None,
) -> list[Axes]:
    """Draw on the H&E what was taken as healthy: one row per slice, the image beside its spots.

    There are six slices to a page. Nothing is written into ``adata``.

    Parameters
    ----------
    adata
        After `omib_spatial.pp.find_reference`, or `omib_spatial.tl.fit` that found its own reference.
    key
        Boolean ``obs`` column; default: that of the last fit, else ``"omib_reference"``. Where ``uns[key]`` says how
        sure the reference of a slice is, or why it has none, that is written below it.
    library_key, library_id, spatial_key, image_key, spot_diameter_um
        As of `omib_spatial.pl.anomaly_map`.
    size
        Factor on the diameter of spots.
    figsize
        Width and height of a page in inches; default: by the number and the shape of slices.
    table_key
        Table of a SpatialData that is drawn.
    show
        Show the figure; default: if matplotlib is interactive and ``save`` is not given.
    save
        File to write; True writes ``{key}.png`` into the present folder. Pages as of
        `omib_spatial.pl.anomaly_map`.

    Returns
    -------
    The Axes, row by row.

    Raises
    ------
    KeyError
        ``obs[key]``, coordinates, slices' column or an image's scale factor are not there.
    TypeError
        ``obs[key]`` is not boolean.
    ValueError
        ``library_id`` is unknown, or ``library_key`` is needed to tell slices apart.

    Examples
    --------
    >>> omib.pp.find_reference(adata, library_key="library_id")
    >>> axes = omib.pl.reference(adata, library_key="library_id")
    """
    key = key or recorded_params(adata.uns, "omib").get("reference_key") or REFERENCE
    if key not in adata.obs:
        raise KeyError(
            f"obs[{key!r}] does not exist: run omib_spatial.pp.find_reference, or "
            f"{did_you_mean(key, list(adata.obs))}pass key= one of {list(adata.obs)}."
        )
    if not pd.api.types.is_bool_dtype(adata.obs[key].dtype):
        raise TypeError(f"obs[{key!r}] holds {adata.obs[key].dtype}: a boolean column is needed.")
    shown = slices(
        adata, library_key=library_key, library_id=library_id, spatial_key=spatial_key, image_key=image_key,
        spot_diameter_um=spot_diameter_um,
    )  # fmt: skip
    healthy = adata.obs[key].astype("boolean").fillna(False).to_numpy(bool)
    layer = ClassLayer(
        (~healthy).astype(int), list(REFERENCE_COLOURS), to_rgba_array(list(REFERENCE_COLOURS.values())), "Reference"
    )
    pictured = any(item.image is not None for item in shown)
    said = _said(adata, key)
    told = {
        item.name: f"{healthy[item.rows].sum()} of {len(item.rows)} spots{said.get(item.name, '')}" for item in shown
    }
    pages = draw_pages(
        shown, ({"image": None} if pictured else {}) | {"reference": layer}, size=size, figsize=figsize, captions=told
    )
    finish([page.figure for page in pages], key, own=True, show=show, save=save)
    return [cell for page in pages for cell in page.grid.flat]


def _said(adata: AnnData, key: str) -> dict[str, str]:
    """By slice, how sure its reference is, or that it has none."""
    record = adata.uns.get(key, {})
    if "slices" not in record:
        return {}
    columns = (np.asarray(record[name], object).tolist() for name in ("slices", "answered", "agreement"))
    return {
        str(name): f", agreement {agreement:.2f}" if answered else ", cannot tell"
        for name, answered, agreement in zip(*columns, strict=True)
    }
