"""What can be read off a patch without learning: how much is nucleus, how crowded nuclei are, how much is glass."""

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
"""Of the statistics, in order."""
N_FEATURES = len(NAMES)


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
    mean = amounts.mean((2, 3))
    columns = [(nuclei > level).mean(within) for level in LEVELS]
    columns.append(peak.sum(within) / (_GRID * _GRID / 100))
    columns.append((amounts.sum(1) < _GLASS).mean(within))
    columns.append(np.log((mean[:, 0] + 0.02) / (mean[:, 1] + 0.02)))
    return np.stack(columns, 1).astype(np.float32)


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
