"""What there is to draw of each slice, in full-resolution pixels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from scipy.spatial import KDTree

from omib_spatial._keys import SCALEFACTORS, SPATIAL, UM_PER_PIXEL, Written
from omib_spatial._warn import warn
from omib_spatial.slides.slides import library_codes, pixels_and_scale, slide_entries, spot_diameter, um_per_pixel
from omib_spatial.slides.validation import check_one_slide

_PIXELS = 1500  # more image pixels than that along one side only cost time
_SHARED = 0.05
"""Share of spots at one place with another from which on two slides lie on top of each other."""


@dataclass(frozen=True)
class Slice:
    """Spots of one slice and its image.

    Attributes
    ----------
    name
        Slice, "" if it has no name.
    rows
        Rows of the AnnData, (n,).
    xy
        Their coordinates, (n, 2).
    pitch
        Median distance from a spot to the nearest other one.
    diameter
        Diameter of a spot, None if it is not known.
    image, scale
        Image (H, W, 3 or 4), None if there is none, and its pixels per full-resolution pixel.
    um_per_pixel
        Micrometres per full-resolution pixel, None if they are not known.
    """

    name: str
    rows: np.ndarray
    xy: np.ndarray
    pitch: float
    diameter: float | None = None
    image: Any = None
    scale: float = 1.0
    um_per_pixel: float | None = None

    @property
    def view(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of what is shown: all spots and a margin; y runs down."""
        margin = 1.2 * self.pitch
        (left, top), (right, bottom) = self.xy.min(axis=0) - margin, self.xy.max(axis=0) + margin
        return float(left), float(right), float(bottom), float(top)

    @property
    def aspect(self) -> float:
        """Height by width of the view."""
        left, right, bottom, top = self.view
        return (bottom - top) / (right - left)

    def picture(
        self, view: tuple[float, float, float, float] | None = None
    ) -> tuple[np.ndarray, tuple[float, float, float, float]]:
        """Part of the image that is in ``view``, thinned out if large, and its extent (left, right, bottom, top)."""
        left, right, bottom, top = (edge * self.scale for edge in view or self.view)
        height, width = self.image.shape[:2]
        first, last = np.clip(np.floor([left, top]), 0, None), np.ceil([right, bottom])
        (x0, y0), (x1, y1) = first.astype(int), np.minimum(last, [width, height]).astype(int)
        step = max(1, -(-max(x1 - x0, y1 - y0) // _PIXELS))
        part = np.asarray(self.image[y0:y1:step, x0:x1:step])
        x1, y1 = x0 + step * part.shape[1], y0 + step * part.shape[0]
        return part, (x0 / self.scale, x1 / self.scale, y1 / self.scale, y0 / self.scale)


def slices(
    adata: AnnData,
    key_added: str = "omib",
    *,
    library_key: str | None = None,
    library_id: str | Sequence[str] | None = None,
    spatial_key: str | None = None,
    image_key: str | None = None,
    spot_diameter_um: float | None = None,
) -> list[Slice]:
    """Slices to draw: those in ``library_id`` in its order, else all, in the order of categories or sorted.

    Parameters
    ----------
    adata
        Spots by genes.
    key_added
        Of the run whose keys are taken where none are given.
    library_key
        ``obs`` column that separates slices.
    library_id
        Slice or slices to draw; None for all.
    spatial_key
        ``obsm`` key of the coordinates in full-resolution pixels.
    image_key
        Which of the images of a slice; None takes the run's, or the best that is there.
    spot_diameter_um
        Diameter of the spots in micrometres, which gives the scale of slices that do not have it written down.

    Raises
    ------
    KeyError
        ``obs[library_key]`` or ``obsm[spatial_key]`` is missing, or an image lacks its scale factor.
    TypeError
        ``library_id`` is no text.
    ValueError
        A slice of ``library_id`` is not there, no spot has finite coordinates, or ``library_key`` is needed to tell
        slices apart.

    Warns
    -----
    UserWarning
        One slice holds two slides.
    """
    params = adata.uns.get(key_added, {}).get("params", {})
    library_key = library_key or params.get("library_key") or None
    spatial_key = spatial_key or params.get("spatial_key") or SPATIAL
    if spatial_key not in adata.obsm:
        raise KeyError(f"obsm[{spatial_key!r}] does not exist: pass spatial_key= one of {list(adata.obsm)}.")
    xy = np.asarray(adata.obsm[spatial_key], dtype=np.float64)[:, :2]
    placed = np.isfinite(xy).all(axis=1)
    if not placed.any():
        raise ValueError(f"obsm[{spatial_key!r}] places no spot: correct it, or pass spatial_key=.")
    codes, names = library_codes(adata, library_key, missing_ok=True)
    members = {name: np.flatnonzero((codes == code) & placed) for code, name in enumerate(names)}
    known = {name: rows for name, rows in members.items() if len(rows)}
    spot_um = spot_diameter_um or _spot_of_regions(adata, key_added)
    return [
        _slice(adata, name, known[name], xy, image_key, spot_um, key_added) for name in _chosen(library_id, list(known))
    ]


def _chosen(library_id: Any, known: list[str]) -> list[str]:
    if library_id is None:
        return known
    chosen = [library_id] if isinstance(library_id, str) or not isinstance(library_id, Iterable) else list(library_id)
    if strange := [name for name in chosen if not isinstance(name, str)]:
        raise TypeError(f"library_id holds {strange[0]!r}: it is the name of a slice, or several, as text: {known}.")
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"library_id {unknown} has no spots: pass some of {known}.")
    return chosen


def _slice(
    adata: AnnData, name: str, rows: np.ndarray, xy: np.ndarray, image_key: str | None, spot_um: float | None, key: str
) -> Slice:
    _check_one_slide(adata, rows, xy, name)
    # The run's image may be missing where it was fitted without images: the best that is there then shows the tissue.
    asked = image_key or adata.uns.get(key, {}).get("params", {}).get("image_key") or None
    found = pixels_and_scale(adata, name, asked)
    if found is None and image_key is None:
        found = pixels_and_scale(adata, name, None)
    image, scale = found or (None, 1.0)
    um = um_per_pixel(adata, name, spot_um) or _um_of_regions(adata, key).get(name)
    return Slice(name, rows, xy[rows], _pitch(xy[rows]), spot_diameter(adata, name), image, scale, um)


def _check_one_slide(adata: AnnData, rows: np.ndarray, xy: np.ndarray, name: str) -> None:
    """Refuse or warn of two slides that would be drawn on top of each other, as `omib_spatial.tl.fit` does."""
    check_one_slide(adata, rows, xy, name)
    if (shared := len(rows) - len(np.unique(xy[rows], axis=0))) > _SHARED * len(rows):
        warn(
            f"{shared} spots of {f'slice {name!r}' if name else 'the slice'} lie where another of its spots lies, as "
            "of two slides drawn on top of each other: pass library_key= the obs column that tells them apart."
        )


def _um_of_regions(adata: AnnData, key_added: str) -> dict[str, float]:
    """Micrometres per pixel of the slices on which `omib_spatial.tl.regions` found regions and knew them."""
    table = adata.uns.get(Written(key_added).regions)
    if table is None or not {"slice", "um_per_pixel"} <= set(table):
        return {}
    known = table.dropna(subset=["um_per_pixel"])
    return dict(zip(known["slice"].astype(str), known["um_per_pixel"].astype(float), strict=True))


def _spot_of_regions(adata: AnnData, key_added: str) -> float | None:
    """``spot_diameter_um`` that `omib_spatial.tl.regions` was given: it holds for slices without regions too."""
    found = set()
    for name, um in _um_of_regions(adata, key_added).items():
        if UM_PER_PIXEL in slide_entries(adata).get(name, {}).get(SCALEFACTORS, {}):
            continue
        if (diameter := spot_diameter(adata, name)) is not None:
            found.add(float(f"{um * diameter:.6g}"))
    return found.pop() if len(found) == 1 else None


def _pitch(xy: np.ndarray) -> float:
    """Median distance to the nearest other spot; 1 where there is none."""
    distance = KDTree(xy).query(xy, k=2)[0][:, 1]
    pitch = float(np.median(distance))
    return pitch if np.isfinite(pitch) and pitch > 0 else 1.0
