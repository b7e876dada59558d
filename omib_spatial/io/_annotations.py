"""A pathologist's polygons from QuPath as a column of ``obs``."""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._checked import File, Flag, Key, KeyAdded, Numbers, checked
from omib_spatial._warn import warn
from omib_spatial.slides import validation as check
from omib_spatial.slides.scored import ScoredSlide, scored_slides
from omib_spatial.slides.slides import named

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

logger = logging.getLogger("omib_spatial")

_LEGACY = {"PathAnnotationObject": "annotation", "PathDetectionObject": "detection", "PathCellObject": "cell"}
"""QuPath 0.2 wrote the kind of an object in the place of its id."""
_CIRCLE = 16
"""Segments of a quarter of a spot's outline: its polygon has .998 of the circle's area."""


@checked
def annotate(
    adata: AnnData,
    path: File,
    *,
    key_added: KeyAdded = "annotation",
    min_share: Annotated[float, Numbers("a share of a spot's area, above 0 and at most 1", gt=0, le=1)] = 0.5,
    objects: Literal["annotation", "detection"] = "annotation",
    library_key: Key | None = None,
    library_id: Key | None = None,
    spatial_key: Key | None = None,
    copy: Flag = False,
) -> AnnData | None:
    """Take polygons that were drawn in QuPath (or any GeoJSON) as classes of spots.

    A spot is a circle of ``spot_diameter_fullres``. It gets the class that covers the largest share of its area, if
    that is at least ``min_share``. Of two classes that cover it alike, as where a tumour was drawn within an outline of
    the tissue, it gets the one with less area in the file. Holes are outside. Spots in no polygon stay missing: nobody
    has said what they are. The column serves as ``labels_key`` or, compared with a class, as ``reference_key`` of
    `omib_spatial.tl.fit`.

    Parameters
    ----------
    adata
        Spots with coordinates in full-resolution pixels of the image that was annotated.
    path
        In QuPath: File > Export objects as GeoJSON.
    key_added
        ``obs`` column to write; one that is there is replaced on this slide and kept on others.
    min_share
        Smallest share of a spot's area that must be inside, above 0.
    objects
        ``"annotation"``: what a person drew. ``"detection"``: what a program found, such as spots that
        `omib_spatial.io.to_qupath` wrote.
    library_key, spatial_key
        ``obs`` column that separates slides, ``obsm`` key of the coordinates; default: as in the run that scored
        ``adata``, if it was scored.
    library_id
        Slide whose image was annotated; needed where there are several, for a file belongs to one image.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    None, or the copy. Writes ``obs[key_added]``, categorical.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no GeoJSON; polygons lie on several planes or time points; no polygon has a class; no spot lies in any;
        or there are several slides and no ``library_id``.

    Warns
    -----
    UserWarning
        Once, of all that was left out or guessed.

    Examples
    --------
    >>> omib.tl.call(adata, question="part")
    >>> files = omib.io.to_qupath(adata, "slide.geojson", spots=True, library_id="slide3")
    >>> omib.io.annotate(adata, files[0], key_added="drawn", objects="detection", library_id="slide3")
    >>> int(adata.obs["drawn"].notna().sum())
    200
    """
    check.require_anndata(adata)
    adata = adata.copy() if copy else adata
    check.refuse_view(adata)
    check.load_tables(adata)
    slides = scored_slides(adata, library_key=library_key, library_id=library_id, spatial_key=spatial_key)
    if len(slides) > 1:
        raise ValueError(
            f"{path} belongs to one image, and there are {len(slides)} slides ({named([s.name for s in slides])}): "
            "say which one with library_id=."
        )
    notes: list[str] = []
    shapes = read_classes(path, objects, notes)
    own = _classes_of(slides[0], shapes, min_share, path, notes)
    values = adata.obs[key_added].astype(object) if key_added in adata.obs else pd.Series(None, adata.obs_names, object)
    values = values.where(values.notna(), None).to_numpy(object).copy()
    values[slides[0].rows] = own
    categories = [*dict.fromkeys([*shapes, *(value for value in values if value is not None)])]
    adata.obs[key_added] = pd.Categorical(values, categories=categories)
    counts = pd.Series(own, dtype=object).value_counts()
    logger.info(
        "Added obs['%s']: %s; %d of %d spots lie in no polygon and stay missing.",
        key_added, ", ".join(f"{n} {name}" for name, n in counts.items()), len(own) - counts.sum(), len(own),
    )  # fmt: skip
    if notes:
        warn(f"{path}: {'; '.join(notes)}.")
    return adata if copy else None


def read_classes(path: str | Path, objects: str, notes: list[str]) -> dict[str, "BaseGeometry"]:
    """Area of each class of a GeoJSON file, in the order of the file.

    Parameters
    ----------
    path
        GeoJSON: a FeatureCollection, a list of features, or one.
    objects
        ``"annotation"`` or ``"detection"``.
    notes
        Gets a sentence for each kind of thing that is left out.
    """
    import shapely

    parts: dict[str, list[Any]] = {}
    left = dict.fromkeys(("no class", "no area", "another kind", "the class of QuPath for what is to be ignored"), 0)
    planes, broken = set(), 0
    for item in _features(path):
        geometry, properties = item.get("geometry") or {}, item.get("properties") or {}
        if _kind(item, properties) != objects:
            left["another kind"] += 1
        elif not (name := _class_name(properties.get("classification"))):
            left["no class"] += 1
        elif name.endswith("*"):
            left["the class of QuPath for what is to be ignored"] += 1
        else:
            drawn = _shape(geometry, path)
            crossing = not drawn.is_valid
            # The halves of a crossing outline cancel each other until it is mended.
            shape = shapely.make_valid(drawn) if crossing else drawn
            if shape.area == 0:
                left["no area"] += 1
                continue
            plane = geometry.get("plane") or properties.get("plane") or {}
            planes.add((int(plane.get("z", 0)), int(plane.get("t", 0))))
            broken += crossing
            parts.setdefault(name, []).append(shape)
    if len(planes) > 1:
        raise ValueError(
            f"{path} has polygons on {len(planes)} planes or time points (z and t: {sorted(planes)}): a section of "
            "tissue has one. In QuPath, move to one plane, select the objects there, and export the selected ones."
        )
    notes += [f"{n} objects were left out: {why}" for why, n in left.items() if n and why != "another kind"]
    if broken:
        notes.append(f"{broken} outlines cross themselves and were mended: look at them in QuPath")
    if not parts:
        others = ", ".join(f"{n} with {why}" for why, n in left.items() if n)
        raise ValueError(
            f"{path} has no {objects} with a class and an area ({others or 'it is empty'}): "
            "in QuPath give each one a class (select it, choose the class, 'Set selected') and export again."
        )
    return {name: shapely.union_all(own) for name, own in parts.items()}


def _features(path: str | Path) -> Iterator[Mapping[str, Any]]:
    if not Path(path).is_file():
        why = "is a folder" if Path(path).exists() else "does not exist"
        raise FileNotFoundError(f"{path} {why}: pass the GeoJSON file that QuPath exported.")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no GeoJSON ({error}): export the objects from QuPath as GeoJSON.") from error
    found = content.get("features", [content]) if isinstance(content, Mapping) else content
    if not isinstance(found, list) or not all(isinstance(item, Mapping) and "geometry" in item for item in found):
        raise ValueError(f"{path} is no GeoJSON of features: export the objects from QuPath as GeoJSON.")
    yield from found


def _kind(item: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """What QuPath calls the object; what says nothing of it was drawn."""
    kind = properties.get("objectType") or properties.get("object_type") or _LEGACY.get(str(item.get("id")))
    return {"cell": "detection", "tile": "detection"}.get(str(kind), str(kind or "annotation"))


def _class_name(classification: Any) -> str:
    """Name of a class, in any of QuPath's spellings; "" without one."""
    if isinstance(classification, Mapping):
        classification = classification.get("name") or classification.get("names")
    if isinstance(classification, list):
        classification = ": ".join(map(str, classification))
    return str(classification or "").strip()


def _shape(geometry: Mapping[str, Any], path: str | Path) -> "BaseGeometry":
    """Geometry of one object; an ellipse, which QuPath writes as a polygon of few corners, as smooth as spots are."""
    import shapely
    from shapely.affinity import scale, translate
    from shapely.geometry import shape

    if not geometry:
        return shapely.Polygon()
    try:
        found = shape(geometry)
    except (ValueError, TypeError, AttributeError, shapely.errors.ShapelyError) as error:
        raise ValueError(f"{path} has an object whose geometry cannot be read ({error}): export it again.") from error
    if geometry.get("isEllipse") and found.area > 0:
        left, top, right, bottom = found.bounds
        circle = shapely.Point(0, 0).buffer(1, quad_segs=_CIRCLE)
        return translate(scale(circle, (right - left) / 2, (bottom - top) / 2), (left + right) / 2, (top + bottom) / 2)
    return found


def _classes_of(
    slide: ScoredSlide, shapes: Mapping[str, "BaseGeometry"], min_share: float, path: str | Path, notes: list[str]
) -> np.ndarray:
    """Class of each spot of a slide, (n,) object, None outside all."""
    import shapely

    if slide.diameter is None:
        notes.append(
            "the diameter of spots is not known, and half of their distance was taken: set 'spot_diameter_fullres' in "
            "uns['spatial'][slice]['scalefactors'] where it is another"
        )
    circles = shapely.buffer(shapely.points(slide.xy), slide.usual_diameter / 2, quad_segs=_CIRCLE)
    # The smallest first: argmax takes the first of equal shares.
    names = sorted(shapes, key=lambda name: shapes[name].area)
    shares = np.zeros((len(circles), len(names)))
    for column, name in enumerate(names):
        shapely.prepare(shapes[name])
        near = np.flatnonzero(shapely.intersects(shapes[name], circles))
        shares[near, column] = shapely.area(shapely.intersection(shapes[name], circles[near]))
    # Of areas that are computed in different ways, equal ones differ in their last digits.
    shares = np.round(shares / shapely.area(circles)[:, None], 9)
    best = shares.argmax(1)
    inside = shares[np.arange(len(best)), best] >= min_share
    if not inside.any():
        low, high = slide.xy.min(0), slide.xy.max(0)
        extent = np.array([shape.bounds for shape in shapes.values()])
        raise ValueError(
            f"No spot lies in any polygon of {path}: spots reach from {_place(low)} to {_place(high)}, polygons from "
            f"{_place(extent[:, :2].min(0))} to {_place(extent[:, 2:].max(0))}. Annotate the full-resolution image "
            "whose pixels the coordinates are in, or check library_id=."
        )
    found: np.ndarray = np.array(names, object)[best]
    found[~inside] = None
    return found


def _place(xy: np.ndarray) -> str:
    return f"({xy[0]:.0f}, {xy[1]:.0f})"
