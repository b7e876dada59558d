"""Slides of an AnnData as a run left them: where each one's spots lie, how large they are, and its image."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData

from omib_spatial._keys import SPATIAL
from omib_spatial.slides.outlines import reach
from omib_spatial.slides.slides import coordinates, library_codes, named, pixels_and_scale, spot_diameter, um_per_pixel


@dataclass(frozen=True)
class ScoredSlide:
    """Spots of one slide.

    Attributes
    ----------
    name
        Slide, "" if it has no name.
    rows
        Rows of the AnnData, (n,).
    xy
        Coordinates in full-resolution pixels, (n, 2).
    diameter
        Of a spot in full-resolution pixels, None where it is not written down.
    um_per_pixel
        Micrometres per full-resolution pixel, None where they are not known.
    image, scale
        Image (H, W, 3 or 4), None if there is none, and its pixels per full-resolution pixel.
    """

    name: str
    rows: np.ndarray
    xy: np.ndarray
    diameter: float | None = None
    um_per_pixel: float | None = None
    image: Any = None
    scale: float = 1.0

    @property
    def usual_diameter(self) -> float:
        """Diameter of a spot, or where it is not written down half of the distance between neighbours, as on arrays."""
        return self.diameter or (reach(self.xy) / 2 if len(np.unique(self.xy, axis=0)) > 1 else 1.0)


def scored_slides(
    adata: AnnData,
    key_added: str = "omib",
    *,
    library_key: str | None = None,
    library_id: str | None = None,
    spatial_key: str | None = None,
    image_key: str | None = None,
) -> list[ScoredSlide]:
    """Slides in the order of the categories of ``library_key``, else sorted.

    Parameters
    ----------
    adata
        Spots by genes.
    key_added
        Of the run whose keys are taken where none are given.
    library_key, spatial_key, image_key
        ``obs`` column that separates slides, ``obsm`` key of coordinates, image of a slide; default: the run's, and the
        best image that is there.
    library_id
        The one slide that is asked for; None takes all.

    Raises
    ------
    KeyError, ValueError
        Coordinates or the slides' column are not there, or ``library_id`` has no spots.
    """
    params = adata.uns.get(key_added, {}).get("params", {})
    library_key = library_key or params.get("library_key") or None
    xy = coordinates(adata, spatial_key or params.get("spatial_key") or SPATIAL)[:, :2]
    codes, names = library_codes(adata, library_key)
    if library_id is not None and library_id not in names:
        raise ValueError(f"library_id {library_id!r} has no spots: pass one of {named(names)}.")
    slides = []
    for code, name in enumerate(names):
        if library_id is not None and name != library_id:
            continue
        rows = np.flatnonzero(codes == code)
        found = pixels_and_scale(adata, name, image_key or params.get("image_key") or None)
        image, scale = (None, 1.0) if found is None else found
        slides.append(
            ScoredSlide(name, rows, xy[rows], spot_diameter(adata, name), um_per_pixel(adata, name), image, scale)
        )
    return slides


def file_name(name: str, nameless: str = "slide") -> str:
    """Name of a slide as a part of a file's name: letters, digits, dot, dash and underscore."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or nameless
