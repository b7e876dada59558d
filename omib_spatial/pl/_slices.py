"""What there is to draw of each slice, in full-resolution pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from scipy.spatial import KDTree

from omib_spatial.slides.slides import library_codes, pixels_and_scale, spot_diameter

_PIXELS = 1500  # more image pixels than that along one side only cost time


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
    """

    name: str
    rows: np.ndarray
    xy: np.ndarray
    pitch: float
    diameter: float | None = None
    image: Any = None
    scale: float = 1.0

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
    library_key: str | None,
    library_id: str | Sequence[str] | None,
    spatial_key: str,
    image_key: str | None,
) -> list[Slice]:
    """Slices to draw: those in ``library_id`` in its order, else all, in the order of categories or sorted.

    Parameters
    ----------
    adata
        Spots by genes.
    library_key
        ``obs`` column that separates slices; None for a single slice.
    library_id
        Slice or slices to draw; None for all.
    spatial_key
        ``obsm`` key of the coordinates in full-resolution pixels.
    image_key
        Which of the images of a slice; None takes the best that is there.

    Raises
    ------
    KeyError
        ``obs[library_key]`` or ``obsm[spatial_key]`` is missing, or an image lacks its scale factor.
    ValueError
        A slice of ``library_id`` is not there, no spot has finite coordinates, or ``library_key`` is needed to tell
        slices apart.
    """
    if spatial_key not in adata.obsm:
        raise KeyError(f"obsm[{spatial_key!r}] does not exist: pass spatial_key= one of {list(adata.obsm)}.")
    xy = np.asarray(adata.obsm[spatial_key], dtype=np.float64)[:, :2]
    placed = np.isfinite(xy).all(axis=1)
    if not placed.any():
        raise ValueError(f"obsm[{spatial_key!r}] places no spot: correct it, or pass spatial_key=.")
    codes, names = library_codes(adata, library_key, missing_ok=True)
    members = {name: np.flatnonzero((codes == code) & placed) for code, name in enumerate(names)}
    known = {name: rows for name, rows in members.items() if len(rows)}
    chosen = list(known) if library_id is None else [library_id] if isinstance(library_id, str) else list(library_id)
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"library_id {unknown} has no spots: pass some of {list(known)}.")
    return [_slice(adata, name, known[name], xy[known[name]], image_key) for name in chosen]


def _slice(adata: AnnData, name: str, rows: np.ndarray, xy: np.ndarray, image_key: str | None) -> Slice:
    if (found := pixels_and_scale(adata, name, image_key)) is None:
        return Slice(name, rows, xy, _pitch(xy))
    image, scale = found
    return Slice(name, rows, xy, _pitch(xy), spot_diameter(adata, name), image, scale)


def _pitch(xy: np.ndarray) -> float:
    """Median distance to the nearest other spot; 1 where there is none."""
    distance = KDTree(xy).query(xy, k=2)[0][:, 1]
    pitch = float(np.median(distance))
    return pitch if np.isfinite(pitch) and pitch > 0 else 1.0
