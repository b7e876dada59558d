"""Pictures of a slide as text that a page can hold."""

from base64 import b64encode
from io import BytesIO

import numpy as np
from PIL import Image

from omib_spatial.slides.scored import ScoredSlide

_QUALITY = 85
PATCH_PIXELS = 160
"""Sides of the patches of single spots, at most."""
_BLANK = 256
"""Longer side of the white picture that stands where a slide has no image."""


def view_of(slide: ScoredSlide) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what is shown of a slide, in full-resolution pixels: all spots and a margin."""
    margin = 1.5 * slide.usual_diameter
    (left, top), (right, bottom) = slide.xy.min(0) - margin, slide.xy.max(0) + margin
    if slide.image is None:
        return float(left), float(top), float(right), float(bottom)
    height, width = np.array(slide.image.shape[:2]) / slide.scale
    # Spots may lie off the image, which is then still shown whole where they are.
    return (
        max(float(left), 0.0),
        max(float(top), 0.0),
        min(float(right), float(width)),
        min(float(bottom), float(height)),
    )


def picture(slide: ScoredSlide, view: tuple[float, float, float, float], longest: int) -> tuple[str, float]:
    """JPEG of a part of a slide as a data URI, and its pixels per full-resolution pixel.

    Parameters
    ----------
    slide
        Without an image the picture is white.
    view
        Left, top, right, bottom in full-resolution pixels.
    longest
        Pixels of its longer side, at most.
    """
    left, top, right, bottom = view
    if slide.image is None:
        scale = _BLANK / max(right - left, bottom - top)
        size = (max(round((right - left) * scale), 1), max(round((bottom - top) * scale), 1))
        return _uri(Image.new("RGB", size, "white")), scale
    x0, y0, x1, y1 = (round(edge * slide.scale) for edge in view)
    # Every so many pixels are read, and what is then still too large is averaged.
    step = max(1, max(x1 - x0, y1 - y0) // (2 * longest))
    part = _rgb(np.asarray(slide.image[y0:y1:step, x0:x1:step]))
    if 0 in part.shape:
        raise ValueError(
            f"The spots of slice {slide.name!r} lie off its image: check its scale factor in uns['spatial']."
        )
    image = Image.fromarray(part)
    image.thumbnail((longest, longest), Image.Resampling.BOX)
    return _uri(image), image.width / (right - left)


def patch(slide: ScoredSlide, xy: np.ndarray, diameters: float = 4.0) -> str:
    """JPEG of the tissue around a spot as a data URI: a square, white where the image ends.

    Parameters
    ----------
    slide
        With an image.
    xy
        The spot, in full-resolution pixels.
    diameters
        Sides of the square in diameters of a spot.
    """
    half = diameters * slide.usual_diameter / 2
    x0, y0 = np.floor((xy - half) * slide.scale).astype(int)
    side = max(round(2 * half * slide.scale), 1)
    height, width = slide.image.shape[:2]
    whole = np.full((side, side, 3), 255, np.uint8)
    top, left = max(y0, 0), max(x0, 0)
    part = _rgb(
        np.asarray(slide.image[top : max(min(y0 + side, height), top), left : max(min(x0 + side, width), left)])
    )
    if 0 not in part.shape:
        whole[top - y0 : top - y0 + part.shape[0], left - x0 : left - x0 + part.shape[1]] = part
    image = Image.fromarray(whole)
    image.thumbnail((PATCH_PIXELS, PATCH_PIXELS), Image.Resampling.BOX)
    return _uri(image)


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8; what is transparent was not scanned and is white."""
    if pixels.dtype.kind == "f":
        pixels = np.rint(pixels * 255).astype(np.uint8)
    if pixels.shape[2] == 4:
        opaque = pixels[..., 3:] / 255
        pixels = np.rint(pixels[..., :3] * opaque + 255 * (1 - opaque)).astype(np.uint8)
    return np.ascontiguousarray(pixels)


def _uri(image: Image.Image) -> str:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + b64encode(buffer.getvalue()).decode("ascii")
