"""The colour of a slide where there is no tissue."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from omib_spatial.modalities.stain import BLACK

TINT = 0.15
TISSUE = 0.01
"""A patch shows tissue if this share of its pixels is darker than glass by an optical density of `TINT`, which is
where Macenko et al. 2009 draw the line between glass and tissue."""
_BRIGHT = 95
"""Of a masked slide, pixels above this percentile of brightness around a spot, and again of all of these, are glass."""
_DEEPEST = 4
"""Rims and frames are looked through up to this part of the shorter side."""
_PADDED = 0.1
"""Share of a ring that padding has at least, and that glass beside it has."""
_LOOK = 32
"""Pixels along a side that are looked at around a spot, to see whether the border is glass."""


def find_glass(image: Any, centres: np.ndarray, length: float) -> np.ndarray:
    """Colour of the outermost ring of pixels that is glass, (3,) uint8; that around the spots if none is.

    Tissue only takes light away: a ring that much around the spots outshines is a rim or a frame. A single colour
    that nothing around the spots has is padding, of the whole ring or of some sides.

    Parameters
    ----------
    image
        (height, width, 3 or 4).
    centres
        Of some spots, in pixels, (n, 2).
    length
        Side in pixels of the squares around them that are looked at.
    """
    step = max(int(length // _LOOK), 1)
    around = np.concatenate([part.sum(2, dtype=float).ravel() for part in _around(image, centres, length, step)])
    shorter = min(image.shape[:2])
    depth = 0
    while depth <= shorter // _DEEPEST:
        ring = border_pixels(image, depth)
        glass = background(ring)
        same = (ring == glass).all(1)
        if (around >= glass.sum(dtype=float) * np.exp(-TINT / 2)).mean() < TISSUE and same.mean() > _PADDED:
            glass = background(ring[~same]) if 1 - same.mean() > _PADDED else np.zeros(3, np.uint8)
        outshone = (around > glass.sum(dtype=float) * np.exp(TINT)).mean() > TISSUE
        if glass.max() > BLACK and not outshone:
            return glass
        depth = max(2 * depth, 1)
    return _glass_within(image, centres, length)


def _glass_within(image: Any, centres: np.ndarray, length: float) -> np.ndarray:
    """Colour of the brightest pixels that the mask left around the spots, (3,) uint8; white if it left none."""
    found = []
    for part in _around(image, centres, length):
        pixels = part.reshape(-1, 3)
        pixels = pixels[pixels.max(1) > BLACK]
        if len(pixels):
            found.append(_brightest(pixels))
    if not found:
        return np.full(3, 255, np.uint8)
    return np.median(_brightest(np.concatenate(found)), axis=0).round().astype(np.uint8)


def _brightest(pixels: np.ndarray) -> np.ndarray:
    brightness = pixels.sum(1, dtype=np.int64)
    return pixels[brightness >= np.percentile(brightness, _BRIGHT)]


def _around(image: Any, centres: np.ndarray, length: float, step: int = 1) -> Iterator[np.ndarray]:
    """Every ``step``-th pixel of the square around each spot, as far as it lies on the image, (h, w, 3) uint8."""
    for centre in centres:
        low = np.floor(centre - length / 2).clip(0).astype(int)
        high = np.ceil(centre + length / 2).clip(0).astype(int)
        yield rgb(image[low[1] : high[1] : step, low[0] : high[0] : step])


def border_pixels(image: Any, depth: int = 0) -> np.ndarray:
    """The ring of pixels that lies ``depth`` pixels inside the border of an image, (n, 3) uint8."""
    height, width = image.shape[0] - depth, image.shape[1] - depth
    across, down = slice(depth, width), slice(depth, height)
    places = (
        (slice(depth, depth + 1), across),
        (slice(height - 1, height), across),
        (down, slice(depth, depth + 1)),
        (down, slice(width - 1, width)),
    )
    return np.concatenate([rgb(image[place]).reshape(-1, 3) for place in places])


def background(border: np.ndarray) -> np.ndarray:
    """Colour of a slide without tissue: median of the brighter half of its outermost pixels, (3,) uint8.

    Tissue is darker than glass, and seldom fills three quarters of the border.
    """
    brightness = border.sum(axis=1, dtype=np.int64)
    return np.median(border[brightness >= np.median(brightness)], axis=0).round().astype(np.uint8)


def rgb(part: Any) -> np.ndarray:
    """(h, w, 3) uint8 of a piece of an image; transparent parts show white."""
    values = np.asarray(part)
    if values.dtype != np.uint8:
        values = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    if values.shape[2] == 3:
        return values
    alpha = values[..., 3:] / 255
    return np.rint(values[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
