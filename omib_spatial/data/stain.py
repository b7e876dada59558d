"""What can be read off a patch without learning: how much of each stain, how unevenly, how rough."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

QUANTILES = (10, 50, 90)


def stain_statistics(pixels: np.ndarray) -> np.ndarray:
    """Haematoxylin and eosin of each patch: mean, spread, quantiles, and roughness.

    Stains are separated with the vectors of Ruifrok & Johnston (2001), through scikit-image.

    Parameters
    ----------
    pixels
        (n, 3, H, W) uint8.

    Returns
    -------
    (n, 14) float32, in units of scikit-image's ``rgb2hed``: mean, standard deviation, 10, 50 and 90 % quantile, mean
    absolute difference of adjacent pixels (vertical plus horizontal), and standard deviation of the means of 4 x 4
    blocks; each for haematoxylin, then for eosin.
    """
    from skimage.color import rgb2hed

    stains = rgb2hed(pixels, channel_axis=1)[:, :2].astype(np.float32)
    within = (2, 3)
    edges = np.abs(np.diff(stains, axis=2)).mean(within) + np.abs(np.diff(stains, axis=3)).mean(within)
    blocks = sliding_window_view(stains, (4, 4), axis=within)[:, :, ::4, ::4].mean((-2, -1))
    quantiles = np.concatenate(list(np.percentile(stains, QUANTILES, axis=within)), 1)
    parts = [stains.mean(within), stains.std(within), quantiles, edges, blocks.std(within)]
    return np.concatenate(parts, 1).astype(np.float32)
