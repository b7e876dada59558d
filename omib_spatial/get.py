"""Results in the shape in which other libraries take them."""

from typing import TYPE_CHECKING, Any

from omib_spatial._checked import checked
from omib_spatial._keys import Written
from omib_spatial.slides.spatialdata import table_of

if TYPE_CHECKING:
    import geopandas as gpd


@checked
def regions(adata: Any, key_added: str = "omib", *, table_key: str = "table") -> "gpd.GeoDataFrame":
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
    >>> shapes = omib_spatial.get.regions(adata)  # doctest: +SKIP
    >>> shapes[shapes.slice == "A1"].to_file("A1.geojson")  # doctest: +SKIP
    """
    import geopandas as gpd

    table = adata if hasattr(adata, "uns") else table_of(adata, table_key)
    key = Written(key_added).regions
    if key not in table.uns:
        raise KeyError(
            f"uns[{key!r}] does not exist: run omib_spatial.tl.regions first, or pass the key_added= that was given to "
            "it."
        )
    found = table.uns[key]
    return gpd.GeoDataFrame(found.drop(columns="outline"), geometry=gpd.GeoSeries.from_wkt(found["outline"]))
