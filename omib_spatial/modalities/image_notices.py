"""What images cannot show, said in words before any work is done: no tissue under spots, too few pixels."""

from collections.abc import Iterable

import numpy as np
from scipy.spatial import cKDTree

from omib_spatial._keys import scale_key
from omib_spatial._warn import warn
from omib_spatial.modalities.patches import Side, Slide
from omib_spatial.modalities.stain import BLACK
from omib_spatial.slides.slides import named

_MANY = 0.2
"""Share of spots without tissue under them that is worth a warning."""
_CLEARLY = 0.3
"""Another scale is named if it lays this share more of the spots on tissue, and of the tissue under spots."""
_COARSE = 16.0
"""Pixels across the square around a spot, 2 diameters by default, below which an image is coarse."""
_UNLIKE = 1.5
"""Ratio of such widths from which on the distances of healthy spots differ (docs/histology.md)."""
_SIZE = 32
"""Pixels along a side of the patches that are looked at."""
_COVERED = 0.7
"""Share of an image's tissue under spots below which these may lie at the wrong places."""
_SPOTS = 4000
"""Spots at most by which it is asked whether they cover the tissue: bins are many."""
_GRID = 20
"""Squares along the longer side of an image in which tissue is looked for."""
_FACTORS = np.delete(np.geomspace(1 / 8, 8, 37), 18)
"""Scales that are tried, by the one that is given; from one to the next 12 %."""
_LINES = 16
"""About so many lines of an image are looked at."""


def warn_of_places(slides: Iterable[Slide], side: Side) -> None:
    """Warn of slides on which many spots have no tissue under them, and of those whose spots cover little of it.

    Of each kind in one warning, which says why. Spots that cover little of the tissue are only told of where another
    scale lays them over much more of it: an image may well show tissue that was not measured.

    Parameters
    ----------
    slides
        That have an image.
    side
        Of the square around a spot that must show tissue.
    """
    blank, misplaced = [], []
    for slide in slides:
        lost = 1 - slide.tissue(slide.sample(side, _SIZE)).mean()
        if lost > _MANY:
            blank.append(f"{lost:.0%} of the spots of slice {slide.name!r}: {_reason(slide, side)}")
        elif better := _better_scale(slide, side):
            misplaced.append(f"those of slice {slide.name!r} {better}")
    if blank:
        warn(f"The image shows no tissue under {'; under '.join(blank)}. Such spots are judged without the image.")
    if misplaced:
        warn(
            f"Spots may lie at the wrong places of the image: {'; '.join(misplaced)}. Check the scale factor and the "
            "coordinates; if spots were left out on purpose, or tissue reaches beyond what was measured, all is well."
        )


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


def _reason(slide: Slide, side: Side) -> str:
    """What is the likeliest."""
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
    if better := _better_scale(slide, side):
        return f"spots {better}"
    if slide.masked or slide.glass.max() < 128:
        return "its background is dark, and an H&E is bright where there is no tissue (is it fluorescence)"
    return (
        f"nothing there is darker than its background {slide.glass.tolist()}; leave spots off the tissue out, or check "
        "image and coordinates"
    )


def _better_scale(slide: Slide, side: Side) -> str | None:
    """How much of the tissue the spots cover, and at which other scale clearly more, in words; None if at none.

    A right scale lays most spots on tissue, and where none were left out, spots on most of the tissue.
    """
    height, width = slide.image.pixels.shape[:2]
    step = max(height, width) / _GRID
    x, y = np.meshgrid(np.arange(step / 2, width, step), np.arange(step / 2, height, step))
    grid = slide.at(np.stack([x.ravel(), y.ravel()], 1))
    # No wider than those of the grid, or large spots would be slow.
    square = Side(min(side.pixels(slide.image, slide.name), step) / (slide.image.diameter * slide.image.scale))
    shows = grid.tissue(grid.cut(grid.rows, square, _SIZE))
    if not shows.any() or len(slide.rows) < 2:
        return None
    squares, tissue = cKDTree(grid.places), grid.places[shows]
    places = np.random.default_rng(0).permutation(slide.places)[:_SPOTS]

    def overlap(factor: float) -> tuple[float, float]:
        """Share of the spots on tissue, and of the tissue under spots."""
        spots = places * factor
        away, nearest = squares.query(spots)
        tree = cKDTree(spots)
        pitch = np.median(tree.query(spots, 2)[0][:, 1])
        under = tree.query(tissue)[0] < max(1.5 * pitch, step)
        return float(((away < step) & shows[nearest]).mean()), float(under.mean())

    on, under = overlap(1.0)
    if min(on, under) >= _COVERED:
        return None
    factor = max(_FACTORS, key=lambda factor: min(overlap(factor)))
    other_on, other_under = overlap(factor)
    if other_on < on or min(other_on, other_under) < min(on, under) + _CLEARLY:
        return None
    key, scale = scale_key(slide.image.key), slide.image.scale
    better = f"{other_under:.0%} with {key} of about {scale * factor:.3g} in place of {scale:.3g}"
    of_image = abs(np.log(scale * factor)) < np.log(_FACTORS[1] / _FACTORS[0])
    return f"cover {under:.0%} of the tissue that it shows, and {better}" + (
        " (1 if coordinates are pixels of this image already)" if of_image else ""
    )
