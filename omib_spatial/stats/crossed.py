"""What one kind of measurement shows beyond what another one predicts of it: regression, and a distance of the rest."""

import numpy as np

from omib_spatial.stats.distance import Distance, principal_variance

RIDGE = 10.0
"""Spots that the belief in no relation is worth, in a regression on columns of about unit variance."""
RIDGES = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
"""Among these is the best one, where it is asked whether there is a relation at all."""


def transfer(own: np.ndarray, given: np.ndarray, groups: np.ndarray) -> float:
    """How much of the variance of ``own`` within groups ``given`` predicts in groups that were left out.

    By the ridge regression that does so best; 0 where none is better than none at all, as on donors who have nothing
    in common.

    Parameters
    ----------
    own, given
        Of healthy spots, (n, q) and (n, p).
    groups
        Donor of each spot, two at least, (n,).
    """

    def error(rest: np.ndarray) -> float:
        # What donors differ by as wholes is nothing that spots are judged by.
        inside = [rest[groups == group] - rest[groups == group].mean(0) for group in np.unique(groups)]
        return float(sum(np.square(part).sum() for part in inside))

    nothing = error(own.astype(np.float64))
    best = min(error(left_out_rest(own, given, groups, ridge)) for ridge in RIDGES)
    return max(1 - best / max(nothing, 1e-300), 0.0)


def crossed_distance(own: np.ndarray, given: np.ndarray, noise: np.ndarray, groups: np.ndarray) -> Distance:
    """Learn the distance of ``own`` from what ``given`` predicts of it, over the columns ``[own, given]``.

    The prediction is a ridge regression on all spots. How far it is usually missed, spots of groups say that had no
    part in it, so that a prediction which does not hold from donor to donor counts for little.

    Parameters
    ----------
    own, given
        Of reference spots, (n, q) and (n, p).
    noise
        How noisy each of them is, (n,).
    groups
        Spots that are left out together, (n,).

    Returns
    -------
    Distance of (n, q + p) values, whose axes are (q + p, q).
    """
    width, line = own.shape[1], np.stack([np.ones_like(noise), noise], 1)
    values = np.hstack([own, given]).astype(np.float64)
    mean = np.linalg.lstsq(line, values)[0]
    left = values - line @ mean
    own, given = left[:, :width], left[:, width:]
    axes, variance = principal_variance(left_out_rest(own, given, groups, RIDGE), noise)
    axes = np.vstack([np.eye(width), -slopes(own, given, RIDGE)]) @ axes
    return Distance(mean, axes, variance, np.array([noise.min(), noise.max()]))


def left_out_rest(own: np.ndarray, given: np.ndarray, groups: np.ndarray, ridge: float) -> np.ndarray:
    """What is left of ``own`` (n, q) after each group was predicted by a regression on the others, (n, q)."""
    rest = np.empty(own.shape)
    for group in np.unique(groups):
        away = groups == group
        x, y = given[~away].mean(0), own[~away].mean(0)
        rest[away] = own[away] - y - (given[away] - x) @ slopes(own[~away] - y, given[~away] - x, ridge)
    return rest


def slopes(own: np.ndarray, given: np.ndarray, ridge: float) -> np.ndarray:
    """Ridge regression of centred (n, q) on centred (n, p), (p, q)."""
    given = given.astype(np.float64)
    return np.linalg.solve(given.T @ given + ridge * np.eye(given.shape[1]), given.T @ own)
