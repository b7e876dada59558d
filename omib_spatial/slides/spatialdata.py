"""A table of a SpatialData object as AnnData: coordinates and images through its transformations, nothing copied."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._keys import IMAGES, SCALEFACTORS, SPATIAL, SPOT_DIAMETER, scale_key
from omib_spatial.slides.slides import named


def annotated(source: Any, table_key: str = "table", argument: str = "adata") -> AnnData:
    """An AnnData as it is, or the table of a SpatialData.

    Raises
    ------
    TypeError
        ``source``, which was given as ``argument``, is neither.
    KeyError
        There is no such table.
    """
    if isinstance(source, AnnData):
        return source
    if not hasattr(source, "tables"):
        read = ", as anndata.read_h5ad reads it" if isinstance(source, str | Path) else ""
        raise TypeError(f"{argument} is {type(source).__name__}: pass an AnnData{read}, or a SpatialData.")
    return table_of(source, table_key)


def table_of(sdata: Any, table_key: str) -> AnnData:
    """The table, which is not copied; KeyError names those that are there."""
    if table_key not in sdata.tables:
        raise KeyError(f"tables[{table_key!r}] does not exist: pass table_key= one of {list(sdata.tables)}.")
    return sdata.tables[table_key]


def to_anndata(
    sdata: Any, table_key: str, *, image_key: str | None = "hires", spatial_key: str = SPATIAL
) -> tuple[AnnData, str]:
    """Lay a table out as everything else takes it. ``sdata`` stays as it is.

    Each region of the table is a slice. Its spots are mapped through the transformations of its shapes, and back
    through those of its image, into pixels of that image. Without an image they are in the shapes' coordinate system.

    Parameters
    ----------
    sdata
        A `spatialdata.SpatialData`.
    table_key
        Table that annotates shapes: circles, or polygons such as the bins of Visium HD.
    image_key
        Name of the image, or a part of it that tells it from the others that share a coordinate system with the shapes,
        such as ``"hires"``. It need not fit if there is one such image. None takes the hires image, or else the lowres.
    spatial_key
        ``obsm`` key that gets the coordinates.

    Returns
    -------
    The AnnData, and the ``obs`` column that separates its slices.

    Raises
    ------
    KeyError
        There is no such table, element or spot, or several images are possible.
    ValueError
        The table annotates nothing.
    TypeError
        It annotates something else than shapes.
    """
    table = table_of(sdata, table_key)
    attrs = table.uns.get("spatialdata_attrs")
    if not attrs:
        raise ValueError(f"tables[{table_key!r}] annotates no element: set its region with spatialdata's TableModel.")
    column = table.obs[attrs["region_key"]].astype(str).to_numpy()
    xy, entries = np.full((table.n_obs, 2), np.nan), {}
    for region in pd.unique(column):
        rows = np.flatnonzero(column == region)
        xy[rows], entries[region] = _region(sdata, region, table.obs[attrs["instance_key"]].iloc[rows], image_key)
    adata = AnnData(
        table.X,
        obs=table.obs.copy(),
        var=table.var,
        layers=dict(table.layers),
        obsm=dict(table.obsm) | {spatial_key: xy},
        obsp=dict(table.obsp),
        uns=dict(table.uns) | {SPATIAL: entries},
    )
    return adata, attrs["region_key"]


def _region(sdata: Any, region: str, instances: pd.Series, image_key: str | None) -> tuple[np.ndarray, dict[str, Any]]:
    """Coordinates (n, 2) of a region's spots, and its entry of ``uns["spatial"]``."""
    if region not in sdata.shapes:
        kind = "is no shapes element" if region in sdata else "does not exist"
        raise TypeError(f"Region {region!r} of the table {kind}: circles or polygons are needed for spots.")
    shapes = sdata.shapes[region]
    if not (known := instances.isin(shapes.index).to_numpy()).all():
        raise KeyError(f"shapes[{region!r}] lacks spots of the table: {named(instances.index, ~known)}.")
    shapes = shapes.loc[instances]
    centre = shapes.geometry.centroid
    xy = np.stack([centre.x, centre.y], 1)
    # A bin of Visium HD is a square, whose side takes the place of the diameter.
    size = 2 * shapes["radius"] if "radius" in shapes else np.sqrt(shapes.geometry.area)
    diameter = float(np.median(size))
    system, image = _image_of(sdata, region, image_key)
    to_system = _matrix(sdata.shapes[region], system)
    to_pixels = to_system if image is None else np.linalg.inv(_matrix(sdata.images[image], system)) @ to_system
    xy = xy @ to_pixels[:2, :2].T + to_pixels[:2, 2]
    # Of an affine map, the diameter of the circle of equal area.
    diameter *= float(np.sqrt(abs(np.linalg.det(to_pixels[:2, :2]))))
    if image is None:
        return xy, {SCALEFACTORS: {SPOT_DIAMETER: diameter}}
    key = image_key or "hires"
    factors = {scale_key(key): 1.0, SPOT_DIAMETER: diameter}
    return xy, {IMAGES: {key: _pixels(sdata.images[image])}, SCALEFACTORS: factors}


def _image_of(sdata: Any, region: str, image_key: str | None) -> tuple[str, str | None]:
    """Coordinate system that a region's shapes share with its image, and the image's name, None if there is none."""
    own = list(_transformations(sdata.shapes[region]))
    shared = {}
    for name, image in sdata.images.items():
        common = [system for system in own if system in _transformations(image)]
        if common:
            shared[name] = common[0]
    if not shared:
        return own[0], None
    # The closest name first: the image's own, one that has the key in it, of these one that begins with the region's.
    for key in ("hires", "lowres", "") if image_key is None else (image_key, ""):
        named_so = [name for name in shared if key in name]
        for chosen in (
            [name for name in named_so if name == key],
            [name for name in named_so if name.startswith(region)],
            named_so,
        ):
            if len(chosen) == 1:
                return shared[chosen[0]], chosen[0]
        if named_so:
            break
    raise KeyError(f"Region {region!r} has several images: pass image_key= one of {sorted(shared)}.")


def _transformations(element: Any) -> Mapping[str, Any]:
    from spatialdata.transformations import get_transformation

    return get_transformation(element, get_all=True)


def _matrix(element: Any, system: str) -> np.ndarray:
    """Affine map from an element's own x and y to a coordinate system, (3, 3)."""
    axes = ("x", "y")
    return np.asarray(_transformations(element)[system].to_affine_matrix(input_axes=axes, output_axes=axes), float)


def _pixels(image: Any) -> Any:
    """Largest scale of an image element, lazily."""
    largest = next(iter(image["scale0"].values())) if "scale0" in getattr(image, "children", {}) else image
    return largest.transpose("y", "x", "c").data
