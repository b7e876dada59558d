"""Slides of an AnnData as a run left them: where each one's spots lie, how large they are, and its image."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData

from omib_spatial._keys import SCALEFACTORS, SPATIAL, UM_PER_PIXEL, Written
from omib_spatial.slides.outlines import reach
from omib_spatial.slides.results import recorded_params
from omib_spatial.slides.slides import (
    coordinates,
    library_codes,
    pixels_and_scale,
    slide_entries,
    spot_diameter,
    um_per_pixel,
)


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
    library_id: str | Sequence[str] | None = None,
    spatial_key: str | None = None,
    image_key: str | None = None,
    spot_diameter_um: float | None = None,
    missing_ok: bool = False,
) -> list[ScoredSlide]:
    """Slides in the order of ``library_id``, else of the categories of ``library_key``, else sorted.

    Parameters
    ----------
    adata
        Spots by genes.
    key_added
        Of the run whose keys are taken where none are given.
    library_key, spatial_key
        ``obs`` column that separates slides, ``obsm`` key of coordinates; default: the run's.
    library_id
        The slide or slides that are asked for; None takes all.
    image_key
        Image of a slide; default: the run's, or the best where a slide does not have that.
    spot_diameter_um
        Diameter of the spots in micrometres, which gives the scale of slides that do not have it written down. Where it
        is not given, what `omib_spatial.tl.regions` was told holds.
    missing_ok
        Whether spots may be on no slide or have no place; they are left out.

    Raises
    ------
    KeyError, TypeError, ValueError
        Coordinates or the slides' column are not there, ``library_key`` puts slides of the run on top of each other, no
        spot has a place, or ``library_id`` is no text or has no spots.
    """
    params = recorded_params(adata.uns, key_added)
    xy = coordinates(adata, spatial_key or params.get("spatial_key") or SPATIAL, missing_ok=missing_ok)[:, :2]
    placed = np.isfinite(xy).all(axis=1)
    codes, names = library_codes(adata, library_key or params.get("library_key") or None, missing_ok=missing_ok)
    _refuse_joined(adata, library_key, params.get("library_key"))
    members = {name: np.flatnonzero((codes == code) & placed) for code, name in enumerate(names)}
    of_regions = _um_of_regions(adata, key_added)
    spot_um = spot_diameter_um or _spot_of_regions(adata, of_regions)
    slides = []
    for name in _chosen(library_id, [name for name, rows in members.items() if len(rows)]):
        # Where the run's image is missing, as after a fit without images, the best that is there shows the tissue.
        found = pixels_and_scale(adata, name, image_key or params.get("image_key") or None)
        if found is None and image_key is None:
            found = pixels_and_scale(adata, name, None)
        image, scale = found or (None, 1.0)
        um = um_per_pixel(adata, name, spot_um) or of_regions.get(name)
        rows = members[name]
        slides.append(ScoredSlide(name, rows, xy[rows], spot_diameter(adata, name), um, image, scale))
    return slides


def _refuse_joined(adata: AnnData, library_key: str | None, recorded: str | None) -> None:
    """Raise ValueError where one value of ``library_key`` has spots of several slides of the run."""
    if not recorded or library_key in (None, recorded) or recorded not in adata.obs:
        return
    slides = adata.obs.groupby(library_key, observed=True)[recorded].nunique()
    if (several := slides > 1).any():
        raise ValueError(
            f"obs[{library_key!r}] has spots of several slides as {slides.index[several][0]!r}, which would lie on top "
            f"of each other: pass library_key={recorded!r}, which the run had, or none."
        )


def _chosen(library_id: Any, known: list[str]) -> list[str]:
    if library_id is None:
        return known
    chosen = [library_id] if isinstance(library_id, str) or not isinstance(library_id, Iterable) else list(library_id)
    if strange := [name for name in chosen if not isinstance(name, str)]:
        raise TypeError(f"library_id holds {strange[0]!r}: it is the name of a slide, or several, as text: {known}.")
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"library_id {unknown} has no spots: pass some of {known}.")
    return chosen


def _um_of_regions(adata: AnnData, key_added: str) -> dict[str, float]:
    """Micrometres per pixel of the slides on which `omib_spatial.tl.regions` found regions and knew them."""
    table = adata.uns.get(Written(key_added).regions)
    if table is None or not {"slice", "um_per_pixel"} <= set(table):
        return {}
    known = table.dropna(subset=["um_per_pixel"])
    return dict(zip(known["slice"].astype(str), known["um_per_pixel"].astype(float), strict=True))


def _spot_of_regions(adata: AnnData, of_regions: dict[str, float]) -> float | None:
    """``spot_diameter_um`` that `omib_spatial.tl.regions` was given: it holds for slides without regions too."""
    found = set()
    for name, um in of_regions.items():
        if UM_PER_PIXEL in slide_entries(adata).get(name, {}).get(SCALEFACTORS, {}):
            continue
        if (diameter := spot_diameter(adata, name)) is not None:
            found.add(float(f"{um * diameter:.6g}"))
    return found.pop() if len(found) == 1 else None


def file_name(name: str, nameless: str = "slide") -> str:
    """Name of a slide as a part of a file's name: letters, digits, dot, dash and underscore."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or nameless
