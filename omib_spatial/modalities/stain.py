"""What of a slide's colour is its staining and what is its tissue: glass, stain vectors, amounts of each stain."""

from dataclasses import dataclass
from typing import Self

import numpy as np

BLACK = 30
"""A pixel all of whose channels are at most this is no tissue: somebody masked it, or nothing was scanned."""
_FAINT = 0.15
"""Mean optical density up to which a pixel counts as glass. Macenko et al. 2009 ask it of every channel, which loses
eosin that absorbs little red."""
_ANGLE = 1.0
"""Percentile of the angles that are taken for pure stains (Macenko et al. 2009)."""
_STRONG = 99.0
"""Percentile of a stain's amounts that is taken for full strength (Macenko et al. 2009)."""
_ENOUGH = 2000
"""Stained pixels that a slide's own stains are measured from at least."""
_APART = 0.1
"""Radians between two stains below which they cannot be told apart."""


@dataclass(frozen=True)
class Stain:
    """Colours of one slide.

    Attributes
    ----------
    glass
        Colour without tissue, (3,), 0 to 255.
    vectors
        Optical density of haematoxylin and of eosin in red, green and blue, (2, 3), rows of length one.
    strength
        Amount of either that counts as one, (2,).
    """

    glass: np.ndarray
    vectors: np.ndarray
    strength: np.ndarray

    @classmethod
    def fit(cls, pixels: np.ndarray, glass: np.ndarray, default: Self) -> Self:
        """Stains after Macenko et al. 2009, "A method for normalizing histology slides for quantitative analysis".

        The optical densities of stained pixels span a plane; the outermost directions in it are the stains, and the
        99th percentile of the amounts of each is its strength. Strength is that of the darkest nuclei, not an
        average: a slide with more tumour does not come out paler.

        Parameters
        ----------
        pixels
            (n, 3) uint8 of the slide.
        glass
            Its colour without tissue.
        default
            Gives stains and strengths where there is too little stained tissue to measure them.
        """
        density = optical_density(pixels, glass)
        density = density[density.mean(1) > _FAINT].astype(np.float64)
        own = _stain_vectors(density) if len(density) >= _ENOUGH else None
        if own is None:
            return cls(glass, default.vectors, default.strength)
        strength = np.percentile(_amounts(density, own), _STRONG, axis=0)
        return cls(glass, own, np.maximum(strength, 1e-3))

    @classmethod
    def median(cls, stains: list[Self]) -> Self:
        """The middle of several slides."""
        glass, vectors, strength = (
            np.median([getattr(s, key) for s in stains], axis=0) for key in ("glass", "vectors", "strength")
        )
        return cls(glass, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strength)

    def separate(self, patches: np.ndarray) -> np.ndarray:
        """Amounts of haematoxylin and eosin in units of their strength: (n, 3, H, W) uint8 to (n, 2, H, W) float32."""
        unmix = (np.linalg.pinv(self.vectors) / self.strength).astype(np.float32)
        table = _density_table(self.glass)
        amounts = np.zeros((len(patches), 2, *patches.shape[2:]), np.float32)
        for channel in range(3):
            for s in range(2):
                amounts[:, s] += (table[channel] * unmix[channel, s]).take(patches[:, channel])
        return np.maximum(amounts, 0, out=amounts)

    def render(self, amounts: np.ndarray) -> np.ndarray:
        """Colours of tissue with these amounts, the inverse of `separate`: (n, 2, H, W) to (n, 3, H, W) uint8."""
        density = np.einsum("nshw,sc->nchw", amounts, (self.vectors * self.strength[:, None]).astype(np.float32))
        light = self.glass.astype(np.float32)[:, None, None] * np.exp(-density)
        return np.rint(np.clip(light, 0, 255)).astype(np.uint8)


STANDARD = Stain(
    np.full(3, 255.0),
    np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]]),
    np.array([1.9705, 1.0308]),
)
"""White glass, and the reference stains of Macenko et al. 2009's published implementation."""


def optical_density(pixels: np.ndarray, glass: np.ndarray) -> np.ndarray:
    """Beer and Lambert: ``-log(pixel / glass)``, not below 0; (n, 3) uint8 to (n, 3) float32."""
    table = _density_table(glass)
    return np.stack([table[c][pixels[:, c]] for c in range(3)], 1)


def _density_table(glass: np.ndarray) -> np.ndarray:
    """Optical density of each of the 256 values in each channel, (3, 256)."""
    values = np.maximum(np.arange(256), 1)
    return np.maximum(-np.log(values / np.asarray(glass, float)[:, None]), 0).astype(np.float32)


def _stain_vectors(density: np.ndarray) -> np.ndarray | None:
    """Haematoxylin and eosin, (2, 3), from optical densities (n, 3); None if they are one colour."""
    plane = np.linalg.eigh(np.cov(density.T))[1][:, [2, 1]]
    plane = plane * np.where(plane.sum(0) < 0, -1, 1)
    angle = np.arctan2(*(density @ plane).T[::-1])
    ends = np.percentile(angle, [_ANGLE, 100 - _ANGLE])
    if ends[1] - ends[0] < _APART:
        return None
    vectors = np.stack([np.cos(ends), np.sin(ends)], 1) @ plane.T
    # Of the two, haematoxylin absorbs more red.
    vectors = vectors[np.argsort(-vectors[:, 0])]
    return vectors if (vectors.sum(1) > 0).all() else None


def _amounts(density: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return np.maximum(density @ np.linalg.pinv(vectors), 0)
