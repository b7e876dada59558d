"""How far a spot lies from the healthy reference, given how noisy the spot is."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.covariance import LedoitWolf


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
        Principal axes of what is left, (p, k), in its columns; k is p, or fewer where other columns predict some.
    variance
        Along each axis at no noise, and its slope, (2, k), not negative.
    span
        Least and largest noise in the reference, (2,): beyond, the lines are not followed.
    """

    mean: np.ndarray
    axes: np.ndarray
    variance: np.ndarray
    span: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, noise: np.ndarray, *, rotate: bool = True) -> Self:
        """Learn the distance.

        Parameters
        ----------
        values
            Of reference spots, (n, p).
        noise
            How noisy each of them is, (n,).
        rotate
            False if the columns are principal axes already, as those of a `omib_spatial.modalities.Summary` are.
        """
        line = np.stack([np.ones_like(noise), noise], 1)
        mean = np.linalg.lstsq(line, values.astype(np.float64))[0]
        left = values - line @ mean
        span = np.array([noise.min(), noise.max()])
        if not rotate:
            return cls(mean, np.eye(left.shape[1]), variance_lines(np.square(left), noise), span)
        return cls(mean, *principal_variance(left, noise), span)

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

    def gradient(self, values: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """How the distance of each spot changes with its values, (n, p); 0 at the mean itself."""
        noise = np.clip(noise, *self.span)[:, None]
        along = (values - self.mean[0] - noise * self.mean[1]) @ self.axes
        scaled = along / (self.variance[0] + noise * self.variance[1])
        length = np.sqrt((along * scaled).sum(1, keepdims=True))
        return (scaled @ self.axes.T) / np.maximum(length, 1e-12)

    def whitened(self, values: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Signed coordinates (n, k) whose length is the distance."""
        noise = np.clip(noise, *self.span)[:, None]
        along = (values - self.mean[0] - noise * self.mean[1]) @ self.axes
        return along / np.sqrt(self.variance[0] + noise * self.variance[1])


def principal_variance(left: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal axes (p, p) of ``left`` (n, p), and the line of the variance over ``noise`` (n,) along each, (2, p)."""
    # Shrinkage is towards a multiple of the identity, which needs columns of one scale.
    scale = left.std(0) + 1e-6
    shrunk = LedoitWolf().fit(left / scale)
    axes = np.linalg.eigh(shrunk.covariance_)[1]
    variance = variance_lines(np.square(left / scale @ axes), noise)
    variance = (1 - shrunk.shrinkage_) * variance + shrunk.shrinkage_ * variance.mean(1, keepdims=True)
    return axes / scale[:, None], variance


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
    # A column that never varies has a variance all the same, or 0 would be divided by 0.
    return np.stack([np.maximum(start, 1e-12), slope])
