"""Regions and spots as a GeoJSON file that QuPath reads."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

import numpy as np
from anndata import AnnData

from omib_spatial import get
from omib_spatial._atomic import check_target, replacing
from omib_spatial._checked import File, Flag, Key, KeyAdded, Names, checked
from omib_spatial._keys import ABNORMAL, CALL_COLOURS, Written
from omib_spatial.slides.results import check_results
from omib_spatial.slides.scored import ScoredSlide, file_name, scored_slides
from omib_spatial.slides.validation import require_anndata

if TYPE_CHECKING:
    import pandas as pd
    from shapely.geometry.base import BaseGeometry

logger = logging.getLogger("omib_spatial")

_DECIMALS = 2
"""Of coordinates: QuPath itself writes hundredths of a pixel."""
_MEASURED = {
    "n_spots": "Spots", "n_called": "Spots called", "area": "Area {unit}^2", "perimeter": "Perimeter {unit}",
    "mean_score": "Mean score", "max_score": "Largest score", "pvalue": "p-value",
}  # fmt: skip
"""Columns of the table of regions, and their names in QuPath's table of measurements."""
_OF_SPOTS = {"score": "Score", "pvalue": "p-value, healthy slides", "slice_pvalue": "p-value, same slide"}


@checked
def to_qupath(
    adata: AnnData,
    path: File,
    *,
    spots: Flag = False,
    key_added: KeyAdded = "omib",
    library_key: Key | None = None,
    library_id: Names | None = None,
    spatial_key: Key | None = None,
) -> list[Path]:
    """Write regions, and spots if asked, as GeoJSON: drag the file onto the full-resolution image in QuPath.

    Regions are annotations of the class ``"abnormal"`` under their own names, with what `omib_spatial.tl.regions`
    measured. Spots are detections, circles of the class of their call with their score and p-values. Coordinates are
    in full-resolution pixels: open that image in QuPath, not a small copy of it.

    Parameters
    ----------
    adata
        After `omib_spatial.tl.regions`; for spots alone, after `omib_spatial.tl.score`.
    path
        File to write, ``.geojson``. Of several slides, each gets a file of its own, since each has an image of its own:
        the slide's name is put before the suffix.
    spots
        Write every spot that has a call, too.
    key_added
        Prefix of what is read.
    library_key, spatial_key
        ``obs`` column that separates slides, ``obsm`` key of the coordinates; default: as in the run.
    library_id
        Write this slide alone.

    Returns
    -------
    The files written.

    Raises
    ------
    KeyError
        There are no regions, or with ``spots`` no calls.
    ValueError
        ``library_id`` has no spots.
    OSError
        A file cannot be written; those that were there are as they were.

    Notes
    -----
    The format is a schema in the package, ``omib_spatial/io/qupath.schema.json``. The same region has the same id each
    time.

    Examples
    --------
    >>> omib.tl.call(adata, question="part")
    >>> omib.tl.regions(adata, spot_diameter_um=55)
    >>> omib.io.to_qupath(adata, "regions.geojson", library_id="slide3")
    [PosixPath('regions.geojson')]
    """
    require_anndata(adata)
    check_results(adata, key_added)
    keys, target = Written(key_added), Path(path)
    if keys.regions not in adata.uns and not spots:
        raise KeyError(
            f"uns[{keys.regions!r}] does not exist: run omib_spatial.tl.regions first, pass spots=True for the spots "
            "alone, or the key_added= that was given to the run."
        )
    if spots and keys.call not in adata.obs:
        raise KeyError(f"obs[{keys.call!r}] does not exist: run omib_spatial.tl.score first, or leave out spots=True.")
    options: dict[str, Any] = {"library_key": library_key, "library_id": library_id, "spatial_key": spatial_key}
    slides = scored_slides(adata, key_added, **options)
    shapes = get.regions(adata, key_added) if keys.regions in adata.uns else None
    check_target(target)
    texts = {}
    for slide in slides:
        own = target if len(slides) == 1 else target.with_stem(f"{target.stem}-{file_name(slide.name)}")
        if own in texts:
            raise ValueError(f"Two slides would be written to {own}: write them one by one, with library_id=.")
        features = [] if shapes is None else _regions(shapes, slide.name if len(slides) > 1 or library_id else None)
        features += _spots(adata, slide, keys) if spots else []
        texts[own] = json.dumps(
            {"type": "FeatureCollection", "features": features}, ensure_ascii=False, allow_nan=False
        )
        logger.info("%s: %d regions and spots.", own, len(features))
    for own, text in texts.items():
        with replacing(own) as partial:
            partial.write_text(text, encoding="utf-8")
    return list(texts)


def _regions(shapes: "pd.DataFrame", name: str | None) -> list[dict[str, Any]]:
    """A feature per region, of the slide ``name`` or of all."""
    own = shapes if name is None else shapes[shapes["slice"].astype(str) == name]
    features = []
    for region, row in own.iterrows():
        measured = {text.format(unit=row["unit"]): row[column] for column, text in _MEASURED.items() if column in row}
        features.append(feature(row.geometry, "annotation", ABNORMAL, CALL_COLOURS[ABNORMAL], measured, str(region)))
    return features


def _spots(adata: AnnData, slide: ScoredSlide, keys: Written) -> list[dict[str, Any]]:
    """A feature per spot that has a call."""
    import shapely

    if slide.diameter is None:
        logger.info("The diameter of spots of %r is not known: half of their distance was taken.", slide.name)
    obs = adata.obs.iloc[slide.rows]
    circles = shapely.buffer(shapely.points(slide.xy), slide.usual_diameter / 2, quad_segs=8)
    measured = [(text, obs[f"{keys.key_added}_{key}"]) for key, text in _OF_SPOTS.items() if getattr(keys, key) in obs]
    values = {text: column.to_numpy(float) for text, column in measured}
    features = []
    for i, (barcode, called) in enumerate(zip(obs.index.astype(str), obs[keys.call], strict=True)):
        if isinstance(called, str):
            own = {text: column[i] for text, column in values.items()}
            features.append(feature(circles[i], "detection", called, CALL_COLOURS[called], own, barcode, ellipse=True))
    return features


def feature(
    shape: "BaseGeometry",
    kind: str,
    label: str,
    colour: str,
    measured: Mapping[str, float],
    name: str,
    *,
    ellipse: bool = False,
) -> dict[str, Any]:
    """One object as QuPath reads it.

    Parameters
    ----------
    shape
        Polygon, or several, in full-resolution pixels.
    kind
        ``"annotation"`` or ``"detection"``.
    label, colour
        Its class, and the class's colour as ``#RRGGBB``: QuPath refuses a class without colour.
    measured
        Numbers; those that are not finite are left out.
    name
        Of the object.
    ellipse
        Whether the polygon stands for the ellipse in its bounding box.
    """
    import shapely
    from shapely.geometry.polygon import orient

    # A polygon in one piece must not be written as several.
    parts = [orient(part) for part in shapely.get_parts(shape) if part.geom_type == "Polygon" and not part.is_empty]
    if not parts:
        raise ValueError(f"{name!r} has no area: it cannot be written.")
    rings = [[_closed(ring) for ring in (part.exterior, *part.interiors)] for part in parts]
    geometry: dict[str, Any] = {"type": "Polygon", "coordinates": rings[0]}
    if len(parts) > 1:
        geometry = {"type": "MultiPolygon", "coordinates": rings}
    if ellipse:
        geometry["isEllipse"] = True
    return {
        "type": "Feature",
        "id": str(uuid5(NAMESPACE_OID, f"omib_spatial {kind} {name} {shape.wkt}")),
        "geometry": geometry,
        "properties": {
            "objectType": kind,
            "name": name,
            "classification": {"name": label, "color": [int(colour[i : i + 2], 16) for i in (1, 3, 5)]},
            "measurements": {key: float(value) for key, value in measured.items() if np.isfinite(float(value))},
        },
    }


def _closed(ring: Any) -> list[list[float]]:
    """Points of a ring, the first one again at the end."""
    points = np.round(np.asarray(ring.coords)[:, :2], _DECIMALS).tolist()
    return points if points[0] == points[-1] else [*points, points[0]]
