"""The tissue around each spot as an image patch of one size, whatever the resolution of its slide."""

from copy import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from anndata import AnnData
from PIL import Image

from omib_spatial._keys import SPATIAL, UM_PER_PIXEL
from omib_spatial.modalities.glass import TINT, TISSUE, border_pixels, find_glass, rgb
from omib_spatial.modalities.stain import BLACK
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides.slides import SlideImage

_SAMPLE = 256
"""About so many spots of a slide are what its glass and stains are measured on."""
_RING = 1e-9
"""Spots are equally far from a slide's middle if their distances differ by less than this share of the greatest one."""
_AROUND = 4.0
"""Spot diameters around a spot in which glass is looked for."""
_BAND = 512
"""Pixels of the image in a band of spots that are read one after the other."""
_STEPS = 256
"""Places that a pixel has along each axis. Pillow takes boxes in single precision, in which these are exact, and so are
sums over pixels where patches are not reduced: a turned slide has the same patches."""
_WIDEST = 10
"""A square around a spot may be so many times as wide as the image."""


@dataclass(frozen=True)
class Side:
    """Side of the square around a spot, in ``"diameters"`` of a spot or in micrometres (``"um"``)."""

    value: float
    unit: str = "diameters"

    def pixels(self, slide: SlideImage, name: str) -> float:
        """In pixels of the slide's image."""
        if self.unit == "diameters":
            return self.value * slide.diameter * slide.scale
        if slide.um_per_pixel is None:
            raise KeyError(
                f"A side in micrometres needs uns['spatial'][{name!r}]['scalefactors'][{UM_PER_PIXEL!r}], "
                "micrometres per full-resolution pixel: set it (for Visium 65 / spot_diameter_fullres), or give the "
                "side in spot diameters."
            )
        return self.value / slide.um_per_pixel * slide.scale


class Slide:
    """One slide's image, its spots, and the colour of its glass.

    Attributes
    ----------
    name, image
        Of the slide.
    rows
        Its spots, rows of the AnnData (n,).
    glass
        Colour without tissue, (3,) uint8.
    """

    def __init__(self, name: str, image: SlideImage, rows: np.ndarray, xy: np.ndarray) -> None:
        self.name, self.image, self.rows = name, image, rows
        self._centres = dict(zip(rows.tolist(), xy[rows, :2] * image.scale, strict=True))
        self.masked = bool((border_pixels(image.pixels).max(1) <= BLACK).mean() > 0.5)
        sampled = np.array([self._centres[row] for row in self._spread().tolist()])
        self.glass = find_glass(image.pixels, sampled, Side(_AROUND).pixels(image, name))

    def of(self, visible: np.ndarray) -> Self:
        """The same slide with those of its spots that are ``visible`` (n_obs,)."""
        some = copy(self)
        some.rows = self.rows[visible[self.rows]]
        return some

    def at(self, places: np.ndarray) -> Self:
        """The same slide with other ``places`` (n, 2), in pixels of its image, in place of its spots."""
        other = copy(self)
        other.rows, other._centres = np.arange(len(places)), dict(enumerate(places))
        return other

    @property
    def places(self) -> np.ndarray:
        """Of its spots, in pixels of its image, (n, 2)."""
        return np.array([self._centres[row] for row in self.rows.tolist()])

    def cut(self, rows: np.ndarray, side: Side, size: int) -> np.ndarray:
        """Patches around some of the slide's spots, (n, 3, size, size) uint8."""
        length = side.pixels(self.image, self.name)
        if length > _WIDEST * max(self.image.pixels.shape[:2]):
            raise ValueError(
                f"The square around a spot of slice {self.name!r} is {length:.3g} pixels wide, its image "
                f"{max(self.image.pixels.shape[:2])}: check 'spot_diameter_fullres' in uns['spatial'][{self.name!r}]"
                "['scalefactors'], in full-resolution pixels."
            )
        patches = np.empty((len(rows), 3, size, size), np.uint8)
        for i, row in enumerate(rows.tolist()):
            patches[i] = self._patch(self._centres[row], length, size)
        return patches

    def sample(self, side: Side, size: int) -> np.ndarray:
        """Patches of spots spread over the slide, always the same, (about `_SAMPLE` at most, 3, size, size)."""
        return self.cut(self._spread(), side, size)

    def _spread(self) -> np.ndarray:
        """Some of the spots: the same ones however the slide is turned or mirrored, and whatever the order of rows."""
        places = self.places
        radius = np.linalg.norm(places - places.mean(0), axis=1)
        order = np.lexsort((*places.T, radius))
        # On a grid many are equally far from the middle: all of them or none.
        ring = np.cumsum(np.diff(radius[order], prepend=0.0) > _RING * radius.max())
        return self.rows[order[(ring - ring[0]) % -(-len(self.rows) // _SAMPLE) == 0]]

    def chunks(self, size: int) -> list[np.ndarray]:
        """All rows in pieces of at most ``size`` that lie together, so that a file's tiles are decoded once."""
        x, y = self.places.T
        band = np.floor(y / _BAND)
        ordered = self.rows[np.lexsort((y, np.where(band % 2 == 0, x, -x), band))]
        return np.array_split(ordered, -(-len(ordered) // size))

    def identity(self) -> list[Any]:
        """What tells this slide's patches from others: content or file of the image, scales, places of the spots."""
        pixels = self.image.pixels
        # What is neither in memory nor in a file is known by a sample.
        content = getattr(pixels, "identity", pixels if isinstance(pixels, np.ndarray) else self.sample(Side(4.0), 32))
        numbers = [self.image.scale, self.image.diameter, self.image.um_per_pixel]
        return [content, numbers, self.places]

    def tissue(self, patches: np.ndarray) -> np.ndarray:
        """Which patches (n, 3, size, size) show any tissue, (n,) bool."""
        dark = patches.sum(1, dtype=np.uint16) < self.glass.sum(dtype=float) * np.exp(-TINT)
        return np.asarray(dark.mean((1, 2)) >= TISSUE)

    def _patch(self, centre: np.ndarray, side: float, size: int) -> np.ndarray:
        """(3, size, size) uint8; converts the pixels that the filter reaches and no more, for images can be huge."""
        side = round(side * _STEPS / 2) * 2 / _STEPS
        corner = np.rint(centre * _STEPS) / _STEPS - side / 2
        reach = max(side / size, 1.0) + 1
        low = np.floor(corner - reach).astype(int)
        high = np.ceil(corner + side + reach).astype(int)
        extent = np.array(self.image.pixels.shape[1::-1])
        inner_low, inner_high = low.clip(0, extent), high.clip(0, extent)
        part = rgb(self.image.pixels[inner_low[1] : inner_high[1], inner_low[0] : inner_high[0]])
        if self.masked:
            part = np.where(part.max(2, keepdims=True) <= BLACK, self.glass, part)
        if (inner_low != low).any() or (inner_high != high).any():
            canvas = np.broadcast_to(self.glass, (*(high - low)[::-1], 3)).copy()
            top, left = (inner_low - low)[::-1]
            canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
            part = canvas
        box = (*(corner - low), *(corner - low + side))
        # Of whole numbers Pillow rounds between its two passes, and a turned slide would have other patches.
        bilinear, channels = Image.Resampling.BILINEAR, np.ascontiguousarray(part.transpose(2, 0, 1), np.float32)
        resized = [np.asarray(Image.fromarray(c).resize((size, size), bilinear, box=box)) for c in channels]
        return np.rint(resized).astype(np.uint8)


def slides(tissue: Tissue) -> list[Slide]:
    """Slides that have an image, in the order of `Tissue.libraries`.

    Raises
    ------
    KeyError, TypeError, ValueError
        As :func:`~omib_spatial.slides.validation.check_images`.
    """
    number = {name: code for code, name in enumerate(tissue.libraries)}
    return [
        Slide(name, image, np.flatnonzero(tissue.codes == number[name]), tissue.coordinates)
        for name, image in tissue.images.items()
    ]


@dataclass(frozen=True)
class Patches:
    """Patches of all spots, in the order of rows.

    Attributes
    ----------
    pixels
        (n_obs, 3, patch_size, patch_size) uint8 RGB, zero where there is no image.
    present
        (n_obs,) bool, whether the spot's slice has an image and the patch shows tissue.
    """

    pixels: np.ndarray
    present: np.ndarray


def extract_patches(
    adata: AnnData,
    *,
    library_key: str | None = None,
    image_key: str | None = "hires",
    spatial_key: str = SPATIAL,
    patch_diameter: float = 1.0,
    patch_um: float | None = None,
    patch_size: int = 32,
) -> Patches:
    """Cut the square of tissue around each spot out of its slide. Writes nothing.

    The side is a number of spot diameters or of micrometres, so slides of different resolution show the same tissue.
    Coordinates are continuous with their origin at the outer corner of the top-left pixel: pixel (row i, column j)
    covers ``[j, j + 1) x [i, i + 1)`` and has its centre at ``(j + 0.5, i + 0.5)``. Full-resolution coordinates times
    the scale factor are image coordinates, and the spot is where the four middle pixels of an even-sized patch meet.
    Sides and centres are rounded to 1/256 of the image's pixels; the resampling filter (a triangle that widens with the
    reduction) prevents aliasing.
    Beyond the border, and where a slide was masked black, it continues in the colour of its glass.

    Parameters
    ----------
    adata
        Spots by genes with coordinates in full-resolution pixels, and images and scale factors as Space Ranger has
        them: RGB or RGBA (shown on white), uint8 or float in [0, 1], arrays or paths of files.
    library_key
        ``obs`` column that separates slices.
    image_key
        Which of the images of a slice; None takes the best that is there.
    spatial_key
        ``obsm`` key of the coordinates.
    patch_diameter
        Side of the square in spot diameters.
    patch_um
        Side in micrometres instead; needs ``scalefactors["microns_per_pixel"]``.
    patch_size
        Side of the patch in pixels.

    Raises
    ------
    ValueError
        A side or ``patch_size`` is not positive.
    KeyError, TypeError, ValueError
        As :func:`~omib_spatial.slides.validation.check_images`; KeyError also where micrometres per pixel are missing.
    """
    side = Side(patch_diameter) if patch_um is None else Side(patch_um, "um")
    check_sides([side], patch_size)
    pixels = np.zeros((adata.n_obs, 3, patch_size, patch_size), dtype=np.uint8)
    present = np.zeros(adata.n_obs, bool)
    layout = Layout(spatial_key=spatial_key, library_key=library_key, image_key=image_key)
    for slide in slides(Tissue(adata, layout)):
        pixels[slide.rows] = slide.cut(slide.rows, side, patch_size)
        present[slide.rows] = slide.tissue(pixels[slide.rows])
    return Patches(pixels, present)


def check_sides(sides: list[Side], size: int) -> None:
    """Raise ValueError unless all are positive."""
    if not sides or not all(np.isfinite(side.value) and side.value > 0 for side in sides) or size < 1:
        raise ValueError(f"Patch sides ({[side.value for side in sides]}) and patch_size ({size}) must be positive.")
