"""What can be read off a patch without learning: how much detail of which size it has, how much of it is nucleus."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

LEVELS = (0.3, 0.5, 0.7)
"""Amounts of haematoxylin, of what the slide's darkest nuclei have, above which a pixel counts as nucleus."""
_CENTRE = 0.4
"""Amount that a local maximum of haematoxylin needs to count as the centre of a nucleus."""
_GLASS = 0.15
"""Amount of both stains together below which a pixel counts as glass."""
_GRID = 64
"""Pixels along a side at which haematoxylin is smoothed by one pixel."""
NAMES = (
    *(f"area of nuclei, haematoxylin above {level}" for level in LEVELS),
    "number of nuclei", "area of glass", "haematoxylin to eosin",
)  # fmt: skip
"""Of the statistics of nuclei, in order."""
OCTAVES = (1.0, 2.0, 4.0)
"""Standard deviations of the filters of `texture_statistics`, in 64ths of the patch's side: 1.7, 3.4 and 6.9 um in a
square of two Visium spots, which answer most to discs 5, 10 and 19 um wide."""
_FLAT = 1e-3
"""Added to energies, so that a patch without detail has a logarithm."""
TEXTURES = (
    *(f"{what} of {octave:g}/64 of the square" for octave in OCTAVES for what in ("dark spots", "light gaps")),
    "haematoxylin to eosin",
)  # fmt: skip
"""Of the texture's statistics, in order."""


def tissue_statistics(amounts: np.ndarray) -> np.ndarray:
    """Describe patches by the amounts of their stains. No learning.

    Lengths are fractions of the patch, so the same tissue gives the same numbers at any resolution that shows it.

    Parameters
    ----------
    amounts
        Haematoxylin and eosin (n, 2, H, W) in units of the slide's own strength, from
        `omib_spatial.modalities.stain.Stain`.

    Returns
    -------
    (n, 6) float32: share of the area that is nucleus, at three levels; centres of nuclei per hundredth of 64 x 64 grid
    points; share that is glass; and the logarithm of haematoxylin to eosin.
    """
    amounts = _reduced(amounts)
    side = amounts.shape[-1]
    sigma = side / _GRID
    nuclei = ndimage.gaussian_filter(amounts[:, 0], (0, sigma, sigma), truncate=3)
    window = 2 * round(2 * sigma) + 1
    peak = (nuclei == ndimage.maximum_filter(nuclei, (1, window, window))) & (nuclei > _CENTRE)
    within = (1, 2)
    columns = [(nuclei > level).mean(within) for level in LEVELS]
    columns.append(peak.sum(within) / (_GRID * _GRID / 100))
    columns.append((amounts.sum(1) < _GLASS).mean(within))
    columns.append(_stain_ratio(amounts))
    return np.stack(columns, 1).astype(np.float32)


def texture_statistics(amounts: np.ndarray) -> np.ndarray:
    """Describe patches by how much detail of each size their haematoxylin has. No learning.

    Laplacians of Gaussians an octave apart, each multiplied by its variance, so that a disc and a larger one of the
    same shade are answered alike, each at its own size (Lindeberg T (1998), Feature detection with automatic scale
    selection, Int J Comput Vis 30:79-116). Nuclei that are larger, darker, more crowded or more varied each move the
    energies of the answers otherwise, and no nucleus needs to be told from its neighbour.

    Parameters
    ----------
    amounts
        Haematoxylin and eosin (n, 2, H, W) in units of the slide's own strength, from
        `omib_spatial.modalities.stain.Stain`.

    Returns
    -------
    (n, 7) float32: the logarithm of the mean squared answer of each of the `OCTAVES`, of dark spots and of the light
    gaps between them, and the logarithm of haematoxylin to eosin.
    """
    amounts = _reduced(amounts)
    columns = []
    for octave in OCTAVES:
        answer = _laplacian(amounts[:, 0], octave * amounts.shape[-1] / _GRID)
        for part in (np.minimum(answer, 0), np.maximum(answer, 0)):
            columns.append(np.log(np.square(part).mean((1, 2)) + _FLAT))
    columns.append(_stain_ratio(amounts))
    return np.stack(columns, 1).astype(np.float32)


class Statistics(NamedTuple):
    """How patches are described without a network.

    Attributes
    ----------
    describe
        Statistics (n, p) of the amounts of the stains (n, 2, H, W).
    names
        Of the p statistics.
    sides
        Of the squares in spot diameters, unless others are asked for.
    """

    describe: Callable[[np.ndarray], np.ndarray]
    names: tuple[str, ...]
    sides: tuple[float, ...]


STATISTICS = {
    "texture": Statistics(texture_statistics, TEXTURES, (2.0,)),
    "stain": Statistics(tissue_statistics, NAMES, (2.0, 4.0)),
}
"""By the name of the encoder."""


def _laplacian(values: np.ndarray, sigma: float) -> np.ndarray:
    """Of each image of (n, H, W), smoothed by a Gaussian of ``sigma`` pixels and multiplied by its variance."""
    second = [ndimage.gaussian_filter(values, (0, sigma, sigma), order=order) for order in ((0, 2, 0), (0, 0, 2))]
    return np.asarray(sigma**2 * (second[0] + second[1]))


def _stain_ratio(amounts: np.ndarray) -> np.ndarray:
    """Logarithm of haematoxylin to eosin, (n,)."""
    mean = amounts.mean((2, 3))
    return np.asarray(np.log((mean[:, 0] + 0.02) / (mean[:, 1] + 0.02)))


def _reduced(amounts: np.ndarray) -> np.ndarray:
    """Means of blocks, so that no patch has many more pixels than `_GRID` along a side: the rest is only time."""
    height, width = amounts.shape[-2:]
    factor = max(k for k in range(1, max(width // _GRID, 1) + 1) if width % k == 0 and height % k == 0)
    if factor == 1:
        return amounts
    # Sums of every factor-th pixel are much quicker than a mean over two strided axes.
    total = np.zeros((*amounts.shape[:-2], height // factor, width // factor), np.float32)
    for row, column in np.ndindex(factor, factor):
        total += amounts[..., row::factor, column::factor]
    return total / factor**2
