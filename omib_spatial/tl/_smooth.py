"""Evidence on a spot smoothed: over its neighbours and, where anomalies are clonal, along its slice's own axes."""

import numpy as np
import scipy.sparse as sp

from omib_spatial.data import Prepared
from omib_spatial.data.graph import average_around

POOLING = 2
"""Rings of neighbours that evidence is averaged over: what is abnormal in a tissue is seldom one spot."""


def smooth_logs(
    distance: np.ndarray, prepared: Prepared, graph: sp.csr_matrix, rows: np.ndarray, codes: np.ndarray, n_axes: int
) -> np.ndarray:
    """Logarithm of a modality's distances (n,) averaged once more; with axes, what follows those of each slice.

    Parameters
    ----------
    distance
        Of the spots ``rows`` (n,), averaged over their neighbours.
    prepared
        Of the modality, for its features.
    graph, codes
        Spatial graph and slice of all spots, (n_obs, n_obs) and (n_obs,).
    n_axes
        The modality's ``clonal_axes``.
    """
    logs = average_around(np.log(distance + 1e-12), graph, rows, POOLING)
    for code in np.unique(codes[rows]) if n_axes else ():
        own = codes[rows] == code
        logs[own] = along_axes(logs[own], prepared.features(rows[own]), n_axes)
    return logs


def along_axes(values: np.ndarray, features: np.ndarray, n_axes: int) -> np.ndarray:
    """What of ``values`` (n,) follows the ``n_axes`` leading principal axes of ``features`` (n, p): least squares.

    Cells of one tumour share its gains and losses, so what the genome says of a slice's spots varies along few axes,
    and a spot's own deviation from them is mostly noise.
    """
    if len(values) <= n_axes:
        return values
    centred = features - features.mean(0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, -n_axes:]
    along, mean = (centred @ axes).astype(np.float64), values.mean()
    return mean + along @ np.linalg.lstsq(along, values - mean)[0]
