"""How far a spot lies from the healthy reference, in units that mean the same for every spot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from sklearn.covariance import LedoitWolf

from omib_spatial.tl._calibration import Belief, conformal_pvalues, slice_pvalues

ENOUGH = 10
"""Spots that a combination of modalities needs at least: held out to be scored, on a slide to say something of it."""
CLOSEST = 1e-3
"""Least distance, in units of what is usual, of which the logarithm is taken."""


@dataclass(frozen=True)
class Distance:
    """Mahalanobis distance from the reference whose mean and variance depend on how noisy a spot is.

    Few counts make noisy features: without regard to it, the distance ranks spots by depth. Mean and, along each
    principal axis, variance are lines over the noise; variances are shrunk to their mean after Ledoit & Wolf (2004).

    Attributes
    ----------
    mean
        Value at no noise, and its slope, (2, p).
    axes
        Principal axes of what is left, (p, p), in its columns.
    variance
        Along each axis at no noise, and its slope, (2, p), not negative.
    span
        Least and largest noise in the reference, (2,): beyond, the lines are not followed.
    """

    mean: np.ndarray
    axes: np.ndarray
    variance: np.ndarray
    span: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, noise: np.ndarray, *, rotate: bool = True) -> Self:
        """Learn from ``values`` (n, p) of reference spots and their ``noise`` (n,).

        Without ``rotate`` the columns are the principal axes, as those of a `omib_spatial.data.Summary` are.
        """
        line = np.stack([np.ones_like(noise), noise], 1)
        mean = np.linalg.lstsq(line, values.astype(np.float64))[0]
        left = values - line @ mean
        span = np.array([noise.min(), noise.max()])
        if not rotate:
            return cls(mean, np.eye(left.shape[1]), variance_lines(np.square(left), noise), span)
        # Shrinkage is towards a multiple of the identity, which needs columns of one scale.
        scale = left.std(0) + 1e-6
        shrunk = LedoitWolf().fit(left / scale)
        axes = np.linalg.eigh(shrunk.covariance_)[1]
        variance = variance_lines(np.square(left / scale @ axes), noise)
        variance = (1 - shrunk.shrinkage_) * variance + shrunk.shrinkage_ * variance.mean(1, keepdims=True)
        return cls(mean, axes / scale[:, None], variance, span)

    @classmethod
    def euclidean(cls, width: int) -> Self:
        """Length of (n, width) values, whatever the noise."""
        zero, one = np.zeros(width), np.ones(width)
        return cls(np.stack([zero, zero]), np.eye(width), np.stack([one, zero]), np.zeros(2))

    def __call__(self, values: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """(n, p) values and (n,) noise to (n,)."""
        noise = np.clip(noise, *self.span)[:, None]
        along = (values - self.mean[0] - noise * self.mean[1]) @ self.axes
        return np.sqrt((np.square(along) / (self.variance[0] + noise * self.variance[1])).sum(1))


def variance_lines(squares: np.ndarray, noise: np.ndarray, rounds: int = 4) -> np.ndarray:
    """Intercept and slope, (2, p) and not negative, of the expectation of ``squares`` (n, p) over ``noise`` (n,).

    Least squares, with weights that a variance's own spread asks for: it grows with the variance itself.
    """
    fitted = np.broadcast_to(squares.mean(0) + 1e-12, squares.shape)
    e = noise[:, None]
    for _ in range(rounds):
        w = fitted**-2.0
        w0, w1, w2, t0, t1 = (
            w.sum(0),
            (w * e).sum(0),
            (w * e * e).sum(0),
            (w * squares).sum(0),
            (w * e * squares).sum(0),
        )
        spread = w0 * w2 - w1**2
        flat = spread <= 1e-9 * w0 * w2
        slope = np.where(flat, 0, (w0 * t1 - w1 * t0) / np.where(flat, 1, spread))
        slope = np.clip(slope, 0, t1 / np.maximum(w2, 1e-300))
        start = np.maximum((t0 - slope * w1) / w0, 0)
        fitted = np.maximum(start + e * slope, 1e-6 * squares.mean(0) + 1e-12)
    return np.stack([start, slope])


class Usual(NamedTuple):
    """Mean and standard deviation of one part's distances in spots that they were learned from."""

    location: float
    spread: float

    @classmethod
    def of(cls, distances: np.ndarray) -> Self:
        """From the distances (n,)."""
        return cls(float(distances.mean()), float(distances.std()) + 1e-12)


@dataclass(frozen=True)
class Surprise:
    """Turns the evidence on a spot into a score, by comparison with held-out reference spots.

    Evidence is one distance per part (the code, each modality's summary; or the one-class distance alone). Each is
    standardised by the reference, so that a part counts the same whatever its number of dimensions. Their sum is
    standardised by held-out spots: 0 is typical of healthy tissue, 1 is one standard deviation above.

    Calls compare spots with others of their own slice, since whole slides differ by more than their spots do, and by
    factors: there the logarithm of the summed distances is used.

    Attributes
    ----------
    location, spread
        Mean and standard deviation of each part's distances in the reference, and last of the sum in held-out
        spots, (parts + 1,).
    calibration
        Scores of the held-out reference spots (m,), sorted.
    slides
        Location and spread of log distances of healthy slides by distances that were learned without them,
        (n_slides, 2).
    """

    location: np.ndarray
    spread: np.ndarray
    calibration: np.ndarray
    slides: np.ndarray

    @classmethod
    def fit(
        cls, usual: Mapping[str, Usual], twin: Mapping[str, Usual], held_out: np.ndarray, strangers: "Strangers"
    ) -> Self:
        """Learn from what is ``usual`` of each part in the reference, and from ``held_out`` spots.

        ``usual`` is by the model that learned from all of the reference; by a ``twin`` that learned from some of it
        are what is usual in these spots and the distances (m, parts) of the others. ``strangers`` say how much slides
        differ as wholes; if there are none, the held-out spots stand for one slide.
        """
        own, others = (np.array(list(some.values())).T for some in (usual, twin))
        total = _standard(held_out, *others).sum(1)
        location, spread = np.array([*usual.values(), (total.mean(), total.std() + 1e-12)]).T
        slides = strangers.slides(_log_ratio(_standard(strangers.distances, *own).sum(1), *own))
        if len(slides) == 0:
            logs = _log_ratio(total, *others)
            slides = np.array([[logs.mean(), logs.std()]])
        return cls(location, spread, np.sort(_standard(total, location[-1], spread[-1])), slides)

    def score(self, distances: np.ndarray) -> np.ndarray:
        """(n, parts) to (n,), higher is more anomalous."""
        total = _standard(distances, self.location[:-1], self.spread[:-1]).sum(1)
        return _standard(total, self.location[-1], self.spread[-1])

    def log_distance(self, score: np.ndarray) -> np.ndarray:
        """Logarithm of the summed distances that make ``score`` (n,), 0 where they are the reference's mean."""
        return _log_ratio(score * self.spread[-1] + self.location[-1], self.location[:-1], self.spread[:-1])

    def pvalue(self, score: np.ndarray) -> np.ndarray:
        """Conformal p-value of each score."""
        return conformal_pvalues(score, self.calibration)

    def slice_pvalue(self, score: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """p-value of each score (n,) under the null of its slice ``codes`` (n,)."""
        return slice_pvalues(self.log_distance(score), codes, Belief.of(self.slides))


class Strangers(NamedTuple):
    """Distances (m, parts) of healthy spots, learned without their donors, and the slices (m,) that they are on."""

    distances: np.ndarray
    codes: np.ndarray

    def slides(self, logs: np.ndarray) -> np.ndarray:
        """Location and spread of ``logs`` (m,) on each slice with enough spots, (n_slides, 2)."""
        slices, sizes = np.unique(self.codes, return_counts=True)
        each = [logs[self.codes == code] for code in slices[sizes >= ENOUGH]]
        return np.array([(own.mean(), own.std()) for own in each]).reshape(-1, 2)


def _standard(values: np.ndarray, location: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return (values - location) / spread


def _log_ratio(total: np.ndarray, location: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """From the sum (n,) of standardised distances to the logarithm of that of distances in units of their spread."""
    usual = (location / spread).sum()
    return np.log(np.maximum(1 + total / usual, CLOSEST))


def pattern_name(modalities: Sequence[str], present: np.ndarray) -> str:
    """Name of one combination of modalities, such as ``gene+image``."""
    return "+".join(name for name, here in zip(modalities, present, strict=True) if here)
