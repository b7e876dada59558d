"""Statistics of a slide as a whole, in units that a biologist knows: counts, genes, colours."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from omib_spatial.slides import Tissue
from omib_spatial.slides.gene_table import translate
from omib_spatial.stats.shift import Statistic, correlation, coverage, distance

SPOTS = 5000
"""Spots of a slide whose counts are read at most."""
PER = 1e4
"""Counts that a slide's profile is brought to."""
COLOURLESS = 0.01
"""Added to the saturation, so that a grey image has a logarithm."""
_GENES = "Was the table of genes cut, or is it another panel?"
_SAME_TISSUE = "Is it the same organ, species and protocol as the reference?"
_COLOURS = "Is it a brightfield H&E in colour, neither inverted nor converted?"

# Spreads are about what the donors of her2st and the animals of mob show (docs/unlike_the_reference.md).
EXPRESSION = (
    Statistic("counts per spot", 0.5, "Was it sequenced as deeply, and are these raw counts?", logarithmic=True),
    Statistic("share of the reference's expression in genes seen", 0.1, _GENES, strange="low", compare=coverage),
    Statistic("correlation with the reference's expression", 0.06, _SAME_TISSUE, strange="low", compare=correlation),
)
"""Median counts, and the pseudobulk over the model's genes: which are seen, and how like the reference's it is."""
APPEARANCE = (
    Statistic("image brightness", 15.0, _COLOURS),
    Statistic("image saturation", 0.25, _COLOURS, logarithmic=True),
    Statistic("image pinkness", 0.08, _COLOURS),
    Statistic("image contrast", 0.3, "Is it in focus, and of the reference's resolution?", logarithmic=True),
)
"""Of the tissue under a spot, medians over spots: grey value of 0 to 255; the largest less the least of the mean
colours, as a share of the largest; how far red and blue exceed green, as a share of the brightness, which is so in H&E,
not in grey, and reversed in a negative; and standard deviation of the grey values."""
FEATURES = (
    Statistic(
        "distance of the mean features from the reference's", 0.3, _SAME_TISSUE, strange="high", compare=distance
    ),
)
"""In standard deviations of the reference's spots."""


class SlideDescription(NamedTuple):
    """A slide as a whole.

    Attributes
    ----------
    values
        Of the modality's statistics (m,), NaN of those that compare profiles.
    profile
        (p,), NaN where not measured; empty where no statistic compares profiles.
    """

    values: np.ndarray
    profile: np.ndarray


def describe_expression(tissue: Tissue, visible: np.ndarray, genes: Sequence[str]) -> dict[int, SlideDescription]:
    """`EXPRESSION` of each slide that has counts, by its number.

    Parameters
    ----------
    tissue
        Has the counts.
    visible
        Spots that are looked at, (n_obs,) bool.
    genes
        The model's.
    """
    position = translate(genes, tissue.adata.var)
    known = position >= 0
    found = {}
    for code in range(len(tissue.libraries)):
        rows = np.flatnonzero(visible & (tissue.codes == code) & (tissue.depth > 0))
        if len(rows) == 0:
            continue
        some = np.sort(np.random.default_rng(0).permutation(rows)[:SPOTS])
        totals = np.asarray(tissue.counts[some].sum(0, dtype=np.float64)).ravel()[position]
        profile = np.where(known, np.log1p(PER * totals / max(totals[known].sum(), 1)), np.nan)
        found[code] = SlideDescription(np.array([np.median(tissue.depth[rows]), np.nan, np.nan]), profile)
    return found


def describe_appearance(patches: np.ndarray) -> SlideDescription:
    """`APPEARANCE` of patches of one slide, (n, 3, size, size) uint8, in the colours that the image has."""
    colour = patches.mean((2, 3))
    brightness = np.maximum(colour.mean(1), 1)
    saturation = (colour.max(1) - colour.min(1)) / np.maximum(colour.max(1), 1)
    pinkness = ((colour[:, 0] + colour[:, 2]) / 2 - colour[:, 1]) / brightness
    contrast = patches.mean(1).std((1, 2))
    values = [np.median(each) for each in (brightness, saturation, pinkness, contrast)]
    return SlideDescription(np.array(values) + [0, COLOURLESS, 0, 1], np.empty(0))
