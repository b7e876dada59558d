"""Where things are in a simulated slice: outline, spots, layers and the blobs of abnormal spots. Lengths in um."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

PITCH = 100.0
SPOT = 55.0
KINDS = ("healthy", "expression", "morphology", "both")


@dataclass(frozen=True)
class Region:
    """One layer of the wall: its share of the slice, its sequencing depth and how it looks under H&E."""

    name: str
    share: float
    log_depth: float
    density: float  # nuclei per square millimetre
    radius: float  # of a nucleus
    elongation: float  # long over short axis of a nucleus
    haematoxylin: float  # optical density of a nucleus
    eosin: float  # optical density between the nuclei
    fibre: float  # relative contrast of the fibres
    holes: Literal["gland", "fat"] | None = None


REGIONS = (
    Region("mucosa", 0.24, 0.25, 3600, 3.7, 1.3, 1.05, 0.36, 0.10, "gland"),
    Region("submucosa", 0.20, -0.15, 1100, 3.2, 2.0, 0.95, 0.34, 0.45),
    Region("circular muscle", 0.24, 0.10, 1900, 3.2, 2.8, 0.90, 0.62, 0.35),
    Region("longitudinal muscle", 0.20, 0.00, 2300, 3.1, 1.2, 0.90, 0.54, 0.15),
    Region("serosa", 0.12, -0.25, 900, 3.2, 1.6, 0.95, 0.28, 0.45, "fat"),
)


class SmoothField:
    """Random function of the plane with mean 0, variance 1 and correlation length ``length`` (random Fourier waves)."""

    def __init__(self, rng: np.random.Generator, length: float, waves: int = 24):
        self.wave = rng.normal(scale=1 / length, size=(2, waves))
        self.phase = rng.uniform(0, 2 * np.pi, waves)

    def __call__(self, xy: Floats) -> Floats:
        return np.sqrt(2 / self.phase.size) * np.cos(xy @ self.wave + self.phase).sum(-1)


class Anatomy:
    """Outline, spots and layers of one slice, as functions of the plane that spots and pixels share.

    Parameters
    ----------
    rng
        Source of randomness.
    n_spots
        Spots under tissue.

    Attributes
    ----------
    size
        Width and height of the imaged area.
    xy
        Spot centres, (n_spots, 2).
    """

    def __init__(self, rng: np.random.Generator, n_spots: int):
        side = PITCH * np.sqrt(n_spots * np.sqrt(3) / 2)
        self.radii = side * np.exp(rng.uniform(-0.06, 0.06) * np.array([1, -1])) / 1.94
        self.size = 2 * (self.radii + PITCH + 0.06 * side)
        self._ragged = SmoothField(rng, side / 6)
        self._fray = SmoothField(rng, 60.0)
        turn = rng.uniform(0, 2 * np.pi)
        self._pole = self.size / 2 + side * rng.uniform(0.8, 1.4) * np.array([np.cos(turn), np.sin(turn)])
        self._wander = SmoothField(rng, side / 5)

        grid = hexagonal(self.size, PITCH)
        inside = self.insideness(grid)
        order = np.argsort(-inside, kind="stable")
        self.xy = grid[np.sort(order[:n_spots])]
        # Tissue reaches half a pitch beyond the outermost spots, as it does on an array.
        self.level = inside[order[n_spots - 1]] - 0.5 * PITCH / self.radii.mean()
        cut = np.cumsum([region.share * np.exp(rng.normal(scale=0.1)) for region in REGIONS])
        self._bounds = np.quantile(self.depth(self.xy), cut[:-1] / cut[-1])

    def insideness(self, xy: Floats) -> Floats:
        """Signed distance-like measure of how far inside the outline points lie, in units of the slice's radius."""
        scaled = np.abs(xy - self.size / 2) / self.radii
        rounded = (scaled**3.5).sum(-1) ** (1 / 3.5)
        return 1 - rounded + 0.03 * self._ragged(xy) + 0.01 * self._fray(xy)

    def inside(self, xy: Floats) -> Floats:
        """Distance from the outline in um, roughly; positive on tissue."""
        return (self.insideness(xy) - self.level) * self.radii.mean()

    def depth(self, xy: Floats) -> Floats:
        """Position across the layers: distance from a pole outside the slice, with a smooth wander."""
        return np.linalg.norm(xy - self._pole, axis=-1) + PITCH * self._wander(xy)

    def along(self, xy: Floats) -> Floats:
        """Position along the layers."""
        east, north = np.moveaxis(xy - self._pole, -1, 0)
        return np.arctan2(north, east) * np.linalg.norm(self.size / 2 - self._pole)

    def tangent(self, xy: Floats) -> Floats:
        """Direction of the layers, in radians."""
        east, north = np.moveaxis(xy - self._pole, -1, 0)
        return np.arctan2(north, east) + np.pi / 2

    def region(self, xy: Floats) -> Ints:
        """Index into ``REGIONS``."""
        return self.layer(self.depth(xy))

    def layer(self, depth: Floats) -> Ints:
        """Index into ``REGIONS`` of points at ``depth``."""
        return np.digitize(depth, self._bounds)


def hexagonal(size: Floats, pitch: float) -> Floats:
    """Hexagonal grid that fills a rectangle of ``size`` (width, height), rows first."""
    columns = np.arange(pitch / 2, size[0] - pitch, pitch)
    rows = np.arange(pitch / 2, size[1] - pitch / 2, pitch * np.sqrt(3) / 2)
    x, y = np.meshgrid(columns, rows)
    x = x + (np.arange(len(rows)) % 2)[:, None] * pitch / 2
    return np.column_stack([x.ravel(), y.ravel()])


def plant(rng: np.random.Generator, xy: Floats, region: Ints) -> Ints:
    """Choose compact, disjoint blobs for each kind of anomaly, spread over the layers as the slice is.

    Parameters
    ----------
    rng
        Source of randomness.
    xy
        Spot centres, (n_spots, 2).
    region
        Layer of every spot, (n_spots,).

    Returns
    -------
    Index into ``KINDS``, (n_spots,); 0 is healthy.
    """
    kind = np.zeros(len(xy), dtype=np.int64)
    tree = cKDTree(xy)
    share = min(1.0, len(xy) / 900)
    for code in 1 + rng.permutation(len(KINDS) - 1):
        total = max(3, round(rng.integers(32, 45) * share))
        blobs = 2 if total >= 12 else 1
        for size in np.diff(np.linspace(0, total, blobs + 1).astype(int)):
            kind[_blob(rng, xy, tree, region, kind, code, int(size))] = code
    return kind


def _blob(rng: np.random.Generator, xy: Floats, tree: cKDTree, region: Ints, kind: Ints, code: int, size: int) -> Ints:
    """Spots of one blob: the place costs more the less its layers mirror the slice, the edge, and other blobs."""
    radius = PITCH * np.sqrt(size * np.sqrt(3) / 2 / np.pi)
    distance, near = tree.query(xy, k=size)
    layers = np.eye(len(REGIONS))[region]
    joint = layers[kind == code].sum(0) + layers[near].sum(1)
    imbalance = np.abs(joint / joint.sum(1, keepdims=True) - layers.mean(0)).sum(1) / 2
    off_edge = distance[:, -1] > 1.15 * radius
    crowded = np.zeros(len(xy))
    if (taken := kind > 0).any():
        gap, _ = cKDTree(xy[taken]).query(xy)
        crowded = np.clip(2 * radius + PITCH - gap, 0, None) / PITCH
    cost = imbalance + 2 * off_edge + crowded + rng.uniform(0, 0.1, len(xy))
    centre = xy[np.argmin(cost)]
    ragged = np.linalg.norm(xy - centre, axis=1) + 0.25 * radius * SmoothField(rng, radius)(xy)
    return np.argsort(np.where(taken, np.inf, ragged), kind="stable")[:size]
