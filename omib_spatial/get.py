"""Results in the shape in which other libraries take them."""

from typing import TYPE_CHECKING, Any

from omib_spatial._checked import Key, KeyAdded, checked
from omib_spatial._keys import Written
from omib_spatial.slides.results import check_results
from omib_spatial.slides.spatialdata import annotated

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd


@checked
def regions(adata: Any, key_added: KeyAdded = "omib", *, table_key: Key = "table") -> "gpd.GeoDataFrame":
    """Regions as shapes.

    Parameters
    ----------
    adata
        AnnData or SpatialData after `omib_spatial.tl.regions`.
    key_added
        Prefix that was given to it.
    table_key
        Table of a SpatialData.

    Returns
    -------
    GeoDataFrame with the rows and columns of ``uns["{key_added}_regions"]``, but ``geometry`` in place of ``outline``:
    a polygon, or several, with holes, in full-resolution pixels. Its lengths and areas are therefore in pixels; the
    columns ``area`` and ``perimeter`` are in ``unit``.

    Raises
    ------
    KeyError
        There are no regions yet.

    Examples
    --------
    >>> omib.tl.call(adata, question="part")
    >>> omib.tl.regions(adata, spot_diameter_um=55)
    >>> shapes = omib.get.regions(adata)
    >>> shapes[shapes["slice"] == "slide3"].drop(columns="unit").to_file("slide3.geojson")
    """
    import geopandas as gpd

    table = annotated(adata, table_key)
    check_results(table, key_added)
    key = Written(key_added).regions
    if key not in table.uns:
        raise KeyError(
            f"uns[{key!r}] does not exist: run omib_spatial.tl.regions first, or pass the key_added= that was given to "
            "it."
        )
    found = table.uns[key]
    try:
        shapes = gpd.GeoSeries.from_wkt(found["outline"])
    except Exception as error:
        raise ValueError(
            f"uns[{key!r}] has an outline that cannot be read ({error}): run omib_spatial.tl.regions again."
        ) from error
    return gpd.GeoDataFrame(found.drop(columns="outline"), geometry=shapes)


@checked
def explanation(
    adata: Any,
    table: Key = "modalities",
    *,
    group: Key | None = None,
    key_added: KeyAdded = "omib",
    table_key: Key = "table",
) -> "pd.DataFrame":
    """A table of what makes up the scores.

    Parameters
    ----------
    adata
        AnnData or SpatialData after `omib_spatial.tl.explain`.
    table
        ``"modalities"``, ``"genes"``, ``"arms"``, ``"features"``, ``"check"`` or ``"slices"``.
    group
        Group whose rows are returned, such as ``"called"`` or a region; None returns all of them.
    key_added
        Prefix that was given to `omib_spatial.tl.explain`.
    table_key
        Table of a SpatialData.

    Returns
    -------
    A copy of the table, its columns as `omib_spatial.tl.explain` says. Of one group, the column ``group`` is left out,
    and rows are indexed by modality, gene, arm or feature.

    Raises
    ------
    KeyError
        Nothing was explained yet, or there is no such table or group.

    Examples
    --------
    >>> omib.tl.call(adata, question="part")
    >>> omib.tl.explain(adata, model)
    >>> len(omib.get.explanation(adata, "genes", group="called").head(20))
    20
    """
    found, key = annotated(adata, table_key), Written(key_added).explained
    check_results(found, key_added)
    if key not in found.uns:
        raise KeyError(
            f"uns[{key!r}] does not exist: run omib_spatial.tl.explain first, or pass the key_added= that was given to "
            "it."
        )
    known = [name for name in found.uns[key] if name != "params"]
    if table not in known:
        raise KeyError(f"table={table!r} is no table of what makes up the scores: pass one of {known}.")
    rows = found.uns[key][table].copy()
    if group is None:
        return rows
    if "group" not in rows:
        raise KeyError(f"The table {table!r} has no groups: leave out group=.")
    groups = list(dict.fromkeys(rows["group"].astype(str)))
    if group not in groups:
        raise KeyError(f"group={group!r} is no group of which something is said: pass one of {groups}.")
    name = {"modalities": "modality", "genes": "gene", "arms": "arm", "features": "feature"}[table]
    rows = rows[rows["group"].astype(str) == group].drop(columns="group")
    return rows.set_index(rows[name].astype(str).rename(name)).drop(columns=name)
