"""The tissue around each spot as an image patch of one size, whatever the resolution of its slide."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from PIL import Image

from omib_spatial import _keys
from omib_spatial.data.slides import SlideImage, coordinates, library_codes, slide_image
from omib_spatial.data.validation import check_images


@dataclass(frozen=True)
class Patches:
    """Patches of all spots, in the order of rows.

    Attributes
    ----------
    pixels
        (n_obs, 3, patch_size, patch_size) uint8 RGB, zero where there is no image.
    present
        (n_obs,) bool, whether the spot's slice has an image.
    """

    pixels: np.ndarray
    present: np.ndarray


def extract_patches(
    adata: AnnData,
    *,
    library_key: str | None = None,
    image_key: str = "hires",
    spatial_key: str = _keys.SPATIAL,
    patch_diameter: float = 1.0,
    patch_size: int = 32,
) -> Patches:
    """Cut the square of tissue around each spot out of its slide. Writes nothing.

    The side is a number of spot diameters, so slides of different resolution show the same tissue. Coordinates are
    continuous with their origin at the outer corner of the top-left pixel: pixel (row i, column j) covers
    ``[j, j + 1) x [i, i + 1)`` and has its centre at ``(j + 0.5, i + 0.5)``. Full-resolution coordinates times the
    scale factor are image coordinates, and the spot is where the four middle pixels of an even-sized patch meet. Sides
    and centres are not rounded; the resampling filter (a triangle that widens with the reduction) prevents aliasing.
    Beyond the border the slide continues in its :func:`background`.

    Parameters
    ----------
    adata
        Spots by genes with coordinates in full-resolution pixels, and images and scale factors as Space Ranger has
        them: RGB or RGBA (shown on white), uint8 or float in [0, 1].
    library_key
        ``obs`` column that separates slices.
    image_key
        Which of the images of a slice.
    spatial_key
        ``obsm`` key of the coordinates.
    patch_diameter
        Side of the square in spot diameters.
    patch_size
        Side of the patch in pixels.

    Raises
    ------
    ValueError
        ``patch_diameter`` or ``patch_size`` is not positive.
    KeyError, TypeError, ValueError
        As :func:`~omib_spatial.data.validation.check_images`.
    """
    if not (np.isfinite(patch_diameter) and patch_diameter > 0 and patch_size >= 1):
        raise ValueError(f"patch_diameter ({patch_diameter}) and patch_size ({patch_size}) must be positive.")
    with_image = check_images(
        adata, library_key=library_key, image_key=image_key, spatial_key=spatial_key, required=False
    )
    codes, names = library_codes(adata, library_key)
    pixels = np.zeros((adata.n_obs, 3, patch_size, patch_size), dtype=np.uint8)
    present = np.isin(codes, [names.index(name) for name in with_image])
    for name in with_image:
        slide = slide_image(adata, name, image_key)
        if slide is None:
            continue
        rows = np.flatnonzero(codes == names.index(name))
        centres = coordinates(adata, spatial_key)[rows, :2] * slide.scale
        side = patch_diameter * slide.diameter * slide.scale
        fill = background(slide.pixels)
        for row, centre in zip(rows, centres, strict=True):
            pixels[row] = _patch(slide, centre, side, patch_size, fill).transpose(2, 0, 1)
    return Patches(pixels, present)


def background(image: Any) -> np.ndarray:
    """Colour of a slide without tissue: median of the brighter half of its outermost pixels, (3,) uint8.

    Tissue is darker than glass, and seldom fills three quarters of the border.
    """
    height, width = image.shape[:2]
    edges = (image[:1], image[height - 1 :], image[:, :1], image[:, width - 1 :])
    border = np.concatenate([_rgb(edge).reshape(-1, 3) for edge in edges])
    brightness = border.sum(axis=1, dtype=np.int64)
    return np.median(border[brightness >= np.median(brightness)], axis=0).round().astype(np.uint8)


def _rgb(part: Any) -> np.ndarray:
    """(h, w, 3) uint8 of a piece of an image; transparent parts show white."""
    values = np.asarray(part)
    if values.dtype != np.uint8:
        values = np.rint(values * 255).astype(np.uint8)
    if values.shape[2] == 3:
        return values
    alpha = values[..., 3:] / 255
    return np.rint(values[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def _patch(slide: SlideImage, centre: np.ndarray, side: float, size: int, fill: np.ndarray) -> np.ndarray:
    """(size, size, 3) uint8; converts the pixels that the filter reaches and no more, for images can be huge."""
    corner = centre - side / 2
    reach = max(side / size, 1.0) + 1
    low = np.floor(corner - reach).astype(int)
    high = np.ceil(corner + side + reach).astype(int)
    extent = np.array(slide.pixels.shape[1::-1])
    inner_low, inner_high = low.clip(0, extent), high.clip(0, extent)
    part = _rgb(slide.pixels[inner_low[1] : inner_high[1], inner_low[0] : inner_high[0]])
    if (inner_low != low).any() or (inner_high != high).any():
        canvas = np.broadcast_to(fill, (*(high - low)[::-1], 3)).copy()
        top, left = (inner_low - low)[::-1]
        canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
        part = canvas
    box = (*(corner - low), *(corner - low + side))
    return np.asarray(Image.fromarray(part).resize((size, size), Image.Resampling.BILINEAR, box=box))
