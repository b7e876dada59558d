"""Results in the shape in which other libraries take them."""

from typing import TYPE_CHECKING, Any

from omib_spatial._keys import Written
from omib_spatial.slides.spatialdata import table_of

if TYPE_CHECKING:
    import geopandas as gpd


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
    >>> omib.tl.call(adata, question="part")
    >>> omib.tl.regions(adata, spot_diameter_um=55)
    >>> shapes = omib.get.regions(adata)
    >>> shapes[shapes["slice"] == "slide3"].drop(columns="unit").to_file("slide3.geojson")
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
