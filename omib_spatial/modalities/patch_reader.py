"""Patches of slides in the stains of the reference, and what an encoder that is not trained says of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from omib_spatial.encoders.frozen import Frozen
from omib_spatial.modalities.patches import Side, Slide
from omib_spatial.modalities.stain import STANDARD, Stain
from omib_spatial.modalities.texture import Statistics

STAIN_PIXELS = 200_000
"""About so many pixels of a slide are what its stains are measured on."""
CHUNK = 64
"""Spots whose patches are in memory at a time."""


@dataclass(frozen=True)
class PatchReader:
    """How patches are cut, recoloured and described.

    Attributes
    ----------
    sides
        Of the squares around a spot.
    size
        Side in pixels after resampling.
    normalise
        Whether each slide's own stains are measured and brought to those of the reference.
    reference
        Stains of the reference.
    network
        Gives the encoder that describes patches, or their statistics.
    """

    sides: Sequence[Side]
    size: int
    normalise: bool
    reference: Stain
    network: Callable[[], Frozen] | Statistics

    def cut(self, slide: Slide, rows: np.ndarray) -> np.ndarray:
        """Patches of some spots as the slide shows them, (n, 3 per side, size, size) uint8."""
        return np.concatenate([slide.cut(rows, side, self.size) for side in self.sides], 1)

    def stain_of(self, slide: Slide) -> Stain:
        """Of a slide, measured on all of its spots."""
        if not self.normalise:
            return STANDARD
        patches = slide.sample(self.sides[-1], self.size)
        # As many pixels from either border, or a turned patch would give others.
        border = np.minimum(np.arange(self.size), np.arange(self.size)[::-1])
        step = max(round(np.sqrt(len(patches) * self.size**2 / STAIN_PIXELS)), 1)
        kept = np.flatnonzero(border % step == (self.size - 1) // 2 % step)
        pixels = patches[:, :, kept][..., kept].transpose(0, 2, 3, 1).reshape(-1, 3)
        return Stain.fit(pixels, slide.glass, self.reference)

    def recoloured(self, patches: np.ndarray, stain: Stain) -> np.ndarray:
        """The same tissue in the stains of the reference."""
        if not self.normalise:
            return patches
        return np.concatenate([self.reference.render(stain.separate(part)) for part in self._by_side(patches)], 1)

    def patches(self, n_obs: int, found: Sequence[Slide]) -> tuple[np.ndarray, np.ndarray]:
        """Recoloured patches of all spots (n_obs, 3 per side, size, size) uint8, and which spots have one."""
        pixels = np.zeros((n_obs, 3 * len(self.sides), self.size, self.size), np.uint8)
        present = np.zeros(n_obs, bool)
        for slide in found:
            stain = self.stain_of(slide)
            for rows in slide.chunks(CHUNK):
                patches = self.cut(slide, rows)
                present[rows] = slide.tissue(patches[:, :3])
                pixels[rows] = self.recoloured(patches, stain)
        return pixels, present

    def described(self, patches: np.ndarray, stain: Stain) -> np.ndarray:
        """(n, p) statistics of patches of a slide of this stain, or features of the network."""
        if isinstance(self.network, Statistics):
            describe = self.network.describe
            return np.concatenate([describe(stain.separate(part)) for part in self._by_side(patches)], 1)
        network = self.network()
        return np.concatenate([network(part) for part in self._by_side(self.recoloured(patches, stain))], 1)

    def slide(self, slide: Slide, stain: Stain) -> np.ndarray:
        """(n, p) features of all spots of one slide, in the order of its rows, NaN without tissue."""
        chunks = slide.chunks(CHUNK)
        values = []
        for rows in chunks:
            patches = self.cut(slide, rows)
            values.append(self.described(patches, stain))
            values[-1][~slide.tissue(patches[:, :3])] = np.nan
        return np.concatenate(values)[np.argsort(np.concatenate(chunks))]

    def _by_side(self, patches: np.ndarray) -> list[np.ndarray]:
        return np.split(patches, len(self.sides), 1)
