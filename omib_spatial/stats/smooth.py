"""Evidence smoothed: over the spots around, and along the principal axes of a slide."""

import numpy as np
from scipy import sparse

RANK = 1e-5
"""Share of the largest variance below which an axis of float32 features is rounding."""


def walk(graph: sparse.csr_matrix, hops: int) -> sparse.csr_matrix:
    """``(D^-1 (A + I))^hops``, (n_obs, n_obs) float32: averages a spot and its neighbours, ``hops`` times."""
    loops = sparse.csr_matrix(graph + sparse.eye_array(graph.shape[0], dtype=np.float32))
    step = sparse.csr_matrix(sparse.diags_array(1 / np.asarray(loops.sum(1)).ravel()) @ loops, dtype=np.float32)
    if hops == 0:
        return sparse.csr_matrix(sparse.eye_array(graph.shape[0], dtype=np.float32))
    result = step
    for _ in range(hops - 1):
        result = result @ step
    return result


def average_around(values: np.ndarray, graph: sparse.csr_matrix, rows: np.ndarray, hops: int) -> np.ndarray:
    """``values`` (n,) or (n, p) of the spots ``rows``, averaged ``hops`` times over neighbours that are among them.

    Parameters
    ----------
    values
        Of each of ``rows``.
    graph
        Of all spots, (n_obs, n_obs).
    rows
        Ascending, (n,).
    hops
        Rings of neighbours to average over.
    """
    step = walk(graph if len(rows) == graph.shape[0] else graph[rows][:, rows], 1)
    for _ in range(hops):
        values = step @ values
    return values


def independent_share(graph: sparse.csr_matrix, rows: np.ndarray, hops: int) -> np.ndarray:
    """How many independent spots each average of `average_around` is worth, (n,): the sum of its squared weights.

    It is the variance of the average of independent values of variance 1; its inverse is Kish's effective sample size.
    Summed over a slide it is the number of independent spots that the slide is worth.
    """
    weights = walk(graph if len(rows) == graph.shape[0] else graph[rows][:, rows], hops)
    return np.asarray(weights.multiply(weights).sum(1), np.float64).ravel()


def counting_noise(weights: sparse.csr_matrix, share: np.ndarray) -> np.ndarray:
    """Variance of a weighted average of Poisson counts, in units of that of one spot of typical depth.

    Parameters
    ----------
    weights
        Of the average, (n_obs, n_obs).
    share
        Typical depth by that of each spot, (n_obs,).

    Returns
    -------
    (n_obs,).
    """
    return np.asarray(weights.multiply(weights) @ share)


def project_on_axes(values: np.ndarray, features: np.ndarray, n_axes: int) -> np.ndarray:
    """Least-squares fit of ``values`` by the leading principal axes of ``features``.

    Cells of one tumour share its gains and losses, so what the genome says of a slide's spots varies along few axes,
    and a spot's own deviation from them is mostly noise.

    Parameters
    ----------
    values
        (n,).
    features
        (n, p) of the same spots.
    n_axes
        Axes; with no more spots than that, ``values`` are returned as they are.
    """
    if len(values) <= n_axes:
        return values
    along, mean = along_axes(features, n_axes), values.mean()
    if along.shape[1] == 0:
        return np.full_like(values, mean)
    return mean + along @ np.linalg.lstsq(along, values - mean)[0]


def along_axes(features: np.ndarray, n_axes: int) -> np.ndarray:
    """Coordinates (n, k) of ``features`` (n, p) along their leading principal axes: ``n_axes``, or the rank if less."""
    centred = features - features.mean(0)
    return (centred @ leading_directions(centred, n_axes)).astype(np.float64)


def leading_directions(centred: np.ndarray, n_axes: int) -> np.ndarray:
    """Principal axes (p, k) of centred features (n, p), the leading one last: ``n_axes``, or the rank if less."""
    variances, axes = np.linalg.eigh(centred.T @ centred)
    # Beyond the rank of the features axes are rounding, which the order of rows decides.
    return np.asarray(axes[:, variances > RANK * variances[-1]][:, -n_axes:])
