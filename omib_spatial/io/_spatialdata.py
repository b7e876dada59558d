"""Results as a SpatialData: spots, image and regions under one coordinate system per slide."""

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial import get
from omib_spatial._checked import Key, KeyAdded, checked
from omib_spatial._keys import SPATIAL, Written
from omib_spatial.slides.results import check_results
from omib_spatial.slides.scored import ScoredSlide, file_name, scored_slides
from omib_spatial.slides.validation import require_anndata

if TYPE_CHECKING:
    from spatialdata import SpatialData

logger = logging.getLogger("omib_spatial")

REGION, INSTANCE = "region", "instance_id"
"""Columns by which a table says which shape each of its rows is."""


@checked
def to_spatialdata(
    adata: AnnData,
    *,
    key_added: KeyAdded = "omib",
    library_key: Key | None = None,
    spatial_key: Key | None = None,
    image_key: Key | None = None,
) -> "SpatialData":
    """Give slides, spots and regions as a `spatialdata.SpatialData`, for napari, Vitessce, squidpy and storage as zarr.

    Parameters
    ----------
    adata
        Scored or not; with regions if there are any. It is copied where it is written to, and stays as it is.
    key_added
        Prefix of what is read.
    library_key, spatial_key, image_key
        ``obs`` column that separates slides, ``obsm`` key of the coordinates, image of a slide; default: as in the run.

    Returns
    -------
    SpatialData. Each slide has a coordinate system by its name (``"global"`` where it has none) in full-resolution
    pixels, and in it

    - ``images["{slide}_image"]`` with the scaling from its pixels, where it has an image;
    - ``shapes["{slide}_spots"]``: circles;
    - ``shapes["{slide}_regions"]``: polygons, where it has regions.

    ``tables["table"]`` is ``adata``, its rows annotating the spots; ``tables["regions"]`` annotates the regions: its
    ``obs`` is the table of regions.

    Raises
    ------
    KeyError, ValueError
        Coordinates or the slides' column are not there.

    Examples
    --------
    >>> sdata = omib.io.to_spatialdata(adata)
    >>> list(sdata.tables)
    ['table']
    """
    from spatialdata import SpatialData
    from spatialdata.models import ShapesModel, TableModel
    from spatialdata.transformations import Identity

    require_anndata(adata)
    check_results(adata, key_added)
    keys = Written(key_added)
    options: dict[str, Any] = {"library_key": library_key, "spatial_key": spatial_key, "image_key": image_key}
    slides = scored_slides(adata, key_added, **options)
    shapes = get.regions(adata, key_added) if keys.regions in adata.uns else None
    images: dict[str, Any] = {}
    elements: dict[str, Any] = {}
    spot_of, region_of = np.full(adata.n_obs, "", object), {}
    for slide in slides:
        stem, system = file_name(slide.name), slide.name or "global"
        spot_of[slide.rows] = f"{stem}_spots"
        radius = slide.usual_diameter / 2
        elements[f"{stem}_spots"] = ShapesModel.parse(
            slide.xy, geometry=0, radius=radius, index=slide.rows, transformations={system: Identity()}
        )
        if slide.image is not None:
            images[f"{stem}_image"] = _image(slide, system)
        own = None if shapes is None else shapes if len(slides) == 1 else shapes[shapes["slice"] == slide.name]
        if own is not None and len(own):
            plain = own[["geometry"]].reset_index(drop=True)
            elements[f"{stem}_regions"] = ShapesModel.parse(plain, transformations={system: Identity()})
            region_of[f"{stem}_regions"] = own
    tables = {"table": _spots(adata, spot_of)}
    if region_of:
        tables["regions"] = _regions(region_of)
    tables = {
        name: TableModel.parse(
            table, region=list(pd.unique(table.obs[REGION])), region_key=REGION, instance_key=INSTANCE
        )
        for name, table in tables.items()
    }
    return SpatialData(images=images, shapes=elements, tables=tables)


def _image(slide: ScoredSlide, system: str) -> Any:
    """Image of a slide, with the scaling to full-resolution pixels."""
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import Scale

    pixels = np.asarray(slide.image[:, :])[..., :3]
    scaling = Scale([1 / slide.scale, 1 / slide.scale], axes=("x", "y"))
    colours = ["r", "g", "b"]
    return Image2DModel.parse(
        np.moveaxis(pixels, -1, 0), dims=("c", "y", "x"), c_coords=colours, transformations={system: scaling}
    )


def _spots(adata: AnnData, spot_of: np.ndarray) -> AnnData:
    """The AnnData, without what the elements hold now, and with the columns that link its rows to spots."""
    own = {key: value for key, value in adata.uns.items() if key not in (SPATIAL, "spatialdata_attrs")}
    table = AnnData(
        adata.X, obs=adata.obs.copy(), var=adata.var, layers=dict(adata.layers), obsm=dict(adata.obsm),
        varm=dict(adata.varm), obsp=dict(adata.obsp), uns=own,
    )  # fmt: skip
    if taken := [key for key in (REGION, INSTANCE) if key in table.obs]:
        logger.info("obs %s are needed to link spots: what was there is now in '%s'.", taken, f"{taken[0]}_of_adata")
        table.obs = table.obs.rename(columns={key: f"{key}_of_adata" for key in taken})
    table.obs[REGION] = pd.Categorical(spot_of)
    table.obs[INSTANCE] = np.arange(adata.n_obs)
    return table


def _regions(region_of: dict[str, pd.DataFrame]) -> AnnData:
    """A table whose rows are regions."""
    parts = []
    for element, own in region_of.items():
        part = pd.DataFrame(own.drop(columns="geometry"))
        parts.append(part.assign(**{REGION: element, INSTANCE: np.arange(len(part))}))
    obs = pd.concat(parts)
    # The index would have the name of the column that links.
    obs.index = obs.index.astype(str).rename(None)
    obs[REGION] = obs[REGION].astype("category")
    return AnnData(obs=obs)
