"""Map of the spots that were taken as healthy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array

from omib_spatial._keys import REFERENCE, SPATIAL
from omib_spatial.pl._figure import HEALTHY, INK, UNKNOWN, finish
from omib_spatial.pl._panels import ClassLayer, draw_panel, panel_grid
from omib_spatial.pl._slices import slices


def reference(
    adata: AnnData,
    key: str | None = None,
    *,
    library_key: str | None = None,
    library_id: str | Sequence[str] | None = None,
    spatial_key: str = SPATIAL,
    image_key: str = "hires",
    size: float = 1.0,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
) -> list[Axes]:
    """Draw on the H&E what was taken as healthy: one row per slice, the image beside its spots.

    Nothing is written into ``adata``.

    Parameters
    ----------
    adata
        After `omib_spatial.pp.find_reference`, or `omib_spatial.tl.fit` that found its own reference.
    key
        Boolean ``obs`` column; default: that of the last fit, else ``"omib_reference"``. Where ``uns[key]`` says how
        sure the reference of a slice is, or why it has none, that is written below it.
    library_key, library_id, spatial_key, image_key
        As of `omib_spatial.pl.anomaly_map`.
    size
        Factor on the diameter of spots.
    figsize
        Width and height in inches; default: by the number and the shape of slices.
    show
        Show the figure; default: if matplotlib is interactive and ``save`` is not given.
    save
        File to write; True writes ``{key}.png`` into the present folder.

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
    key = key or adata.uns.get("omib", {}).get("params", {}).get("reference_key") or REFERENCE
    if key not in adata.obs:
        raise KeyError(
            f"obs[{key!r}] does not exist: run omib_spatial.pp.find_reference, or pass key= one of {list(adata.obs)}."
        )
    if not pd.api.types.is_bool_dtype(adata.obs[key].dtype):
        raise TypeError(f"obs[{key!r}] holds {adata.obs[key].dtype}: a boolean column is needed.")
    shown = slices(adata, library_key, library_id, spatial_key, image_key)
    healthy = adata.obs[key].astype("boolean").fillna(False).to_numpy(bool)
    labels = ["taken as healthy", "not taken"]
    layer = ClassLayer((~healthy).astype(int), labels, to_rgba_array([HEALTHY, UNKNOWN]), "Reference")
    panels = ["image", "reference"] if any(item.image is not None for item in shown) else ["reference"]
    figure, grid = panel_grid(shown, panels, figsize, None)
    said = _said(adata, key)
    for item, row in zip(shown, grid, strict=True):
        for name, cell in zip(panels, row, strict=True):
            draw_panel(cell, item, layer if name == "reference" else None, size)
        row[0].set_ylabel(item.name, color=INK)
        n = int(healthy[item.rows].sum())
        row[-1].set_xlabel(f"{n} of {len(item.rows)} spots{said.get(item.name, '')}", color=INK, fontsize="small")
    for name, cell in zip(panels, grid[0], strict=True):
        cell.set_title("H&E" if name == "image" else layer.title, color=INK)
    layer.explain(figure, grid[:, -1])
    finish(figure, key, own=True, show=show, save=save)
    return list(grid.flat)


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
