"""What there is to draw of each slice, in full-resolution pixels."""

from functools import cached_property
from typing import Any

import numpy as np
from anndata import AnnData
from scipy.spatial import KDTree

from omib_spatial._warn import warn
from omib_spatial.slides.scored import ScoredSlide, scored_slides
from omib_spatial.slides.validation import check_one_slide

_PIXELS = 1500  # more image pixels than that along one side only cost time
_SHARED = 0.05
"""Share of spots at one place with another from which on two slides lie on top of each other."""


class Slice(ScoredSlide):
    """Spots of one slice and its image, with what is shown of both."""

    @cached_property
    def pitch(self) -> float:
        """Median distance from a spot to the nearest other one; 1 where there is none."""
        distance = KDTree(self.xy).query(self.xy, k=2)[0][:, 1]
        pitch = float(np.median(distance))
        return pitch if np.isfinite(pitch) and pitch > 0 else 1.0

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


def slices(adata: AnnData, key_added: str = "omib", **options: Any) -> list[Slice]:
    """Slices to draw; spots on none, or without a place, are left out.

    Parameters
    ----------
    adata
        Spots by genes.
    key_added
        Of the run whose keys are taken where none are given.
    options
        Of `omib_spatial.slides.scored.scored_slides`.

    Raises
    ------
    KeyError, TypeError, ValueError
        As there, and where ``library_key`` is needed to tell slices apart.

    Warns
    -----
    UserWarning
        One slice holds two slides.
    """
    found = scored_slides(adata, key_added, missing_ok=True, **options)
    for slide in found:
        _check_one_slide(adata, slide.rows, slide.xy, slide.name)
    return [Slice(**vars(slide)) for slide in found]


def _check_one_slide(adata: AnnData, rows: np.ndarray, xy: np.ndarray, name: str) -> None:
    """Refuse or warn of two slides that would be drawn on top of each other, as `omib_spatial.tl.fit` does."""
    check_one_slide(adata, rows, xy, name)
    if (shared := len(rows) - len(np.unique(xy, axis=0))) > _SHARED * len(rows):
        warn(
            f"{shared} spots of {f'slice {name!r}' if name else 'the slice'} lie where another of its spots lies, as "
            "of two slides drawn on top of each other: pass library_key= the obs column that tells them apart."
        )
