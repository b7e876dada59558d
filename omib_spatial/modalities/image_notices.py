"""What images cannot show, said in words before any work is done: no tissue under spots, too few pixels."""

from collections.abc import Iterable

import numpy as np

from omib_spatial._keys import scale_key
from omib_spatial._warn import warn
from omib_spatial.modalities.patches import Side, Slide
from omib_spatial.modalities.stain import BLACK
from omib_spatial.slides.slides import named

_MANY = 0.2
"""Share of spots without tissue under them that is worth a warning."""
_CLEARLY = 0.3
"""Another scale is named if it gives this share of the spots more an image."""
_COARSE = 16.0
"""Pixels across the square around a spot, 2 diameters by default, below which an image is coarse."""
_UNLIKE = 1.5
"""Ratio of such widths from which on the distances of healthy spots differ (docs/histology.md)."""
_SIZE = 32
"""Pixels along a side of the patches that are looked at."""
_LINES = 16
"""About so many lines of an image are looked at."""


def warn_of_blank_images(slides: Iterable[Slide], side: Side) -> None:
    """Warn, in one warning, of slides on which many spots have no tissue under them, and say why.

    Parameters
    ----------
    slides
        That have an image.
    side
        Of the square around a spot that must show tissue.
    """
    found = []
    for slide in slides:
        lost = 1 - slide.tissue(slide.sample(side, _SIZE)).mean()
        if lost > _MANY:
            found.append(f"{lost:.0%} of the spots of slice {slide.name!r}: {_reason(slide, side, 1 - lost)}")
    if found:
        warn(f"The image shows no tissue under {'; under '.join(found)}. Such spots are judged without the image.")


def warn_of_resolution(slides: Iterable[Slide], side: Side, reference: float | None) -> None:
    """Warn, in one warning, of slides with few pixels per spot, and of those that differ from the reference in this.

    Nothing is left out: what statistics tell of a coarse image ranks its spots as well, but is not to be compared with
    what they tell of a fine one (docs/histology.md, "Resolution").

    Parameters
    ----------
    slides
        That have an image.
    side
        Of the square around a spot.
    reference
        Width in pixels of this square on the finest of the reference's slides; None: of ``slides``.
    """
    width = {slide.name: side.pixels(slide.image, slide.name) for slide in slides}
    finest = max(width.values(), default=0.0) if reference is None else reference
    coarse = {name: value for name, value in width.items() if value < _COARSE}
    others = {
        name: value
        for name, value in width.items()
        if min(value, finest) < _COARSE and max(value, finest) > _UNLIKE * min(value, finest)
    }
    said = []
    if coarse:
        said.append(
            f"The square around a spot is {min(coarse.values()):.2g} pixels wide on {named(coarse)}: the image tells "
            "how dense and how stained tissue is, single nuclei cannot be seen."
        )
    if others:
        said.append(
            f"Resolutions differ, {min(others.values()):.2g} pixels across the square around a spot on {named(others)} "
            f"and {finest:.2g} on the finest image: rank spots within a slice only, or give images of one resolution."
        )
    if said:
        warn(" ".join(said))


def _reason(slide: Slide, side: Side, share: float) -> str:
    """What is the likeliest, seen that a ``share`` of spots has tissue."""
    # A few lines, for images can be huge.
    seen = np.asarray(slide.image.pixels[:: max(slide.image.pixels.shape[0] // _LINES, 1), :])
    colours = seen[..., :3].reshape(-1, 3)
    spread = np.ptp(colours, axis=0).max() * (255 if seen.dtype.kind == "f" else 1)
    if seen.shape[2] == 4 and spread > BLACK and np.median(seen[..., 3]) < seen[..., :3].max() / 2:
        return "its fourth channel makes most of it transparent; if it is CMYK, convert it to RGB"
    if spread <= BLACK / 2:
        largest = colours.max() * (255 if seen.dtype.kind == "f" else 1)
        name = "white" if slide.glass.min() > 255 - BLACK else f"of one colour ({colours[0].tolist()})"
        return f"it is {'black' if largest <= BLACK else name} all over, take another picture"
    if better := _better_scale(slide, side, share):
        return better
    if slide.masked or slide.glass.max() < 128:
        return "its background is dark, and an H&E is bright where there is no tissue (is it fluorescence)"
    return (
        f"nothing there is darker than its background {slide.glass.tolist()}; leave spots off the tissue out, or check "
        "image and coordinates"
    )


def _better_scale(slide: Slide, side: Side, share: float) -> str | None:
    """The scale by which clearly more spots have tissue under them, in words; None if there is none."""
    key, scale = scale_key(slide.image.key), slide.image.scale
    tried = {
        1 / scale: f"if coordinates are pixels of this image already, {{}} have: set {key} to 1",
        2.0: f"with {key} = {2 * scale:.4g} in place of {scale:.4g} {{}} have, as if it were halved",
        0.5: f"with {key} = {scale / 2:.4g} in place of {scale:.4g} {{}} have, as if it were doubled",
    }
    found = {}
    for factor in tried:
        other = slide.moved(factor)
        found[factor] = other.tissue(other.sample(side, _SIZE)).mean()
    best = max(found, key=lambda factor: found[factor])
    return tried[best].format(f"{found[best]:.0%}") if found[best] > share + _CLEARLY else None
