"""An H&E-like image of a simulated slice, built from optical densities (Beer-Lambert)."""

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree

from omib_spatial.datasets._anatomy import PITCH, REGIONS, Anatomy, Floats, Ints, hexagonal

UM_PER_PIXEL = 2.0
_COARSE = 8  # pixels per node of the grid on which smooth things are evaluated
# Optical densities in red, green and blue of haematoxylin and eosin, in the model of Ruifrok AC, Johnston DA (2001),
# Quantification of histochemical staining by color deconvolution, Anal Quant Cytol Histol 23:291-299; the values are
# the "H&E" vectors of the ImageJ plugin Colour Deconvolution, whose eosin is pink rather than magenta.
_STAINS = np.array([[0.644, 0.717, 0.267], [0.093, 0.954, 0.283]])
_GLASS = np.array([244, 243, 245], dtype=np.float32)
_SPACING = 8.0  # of the places a nucleus can take, um
_LINING = 26.0  # reach of the cells that line a gland, um
# What one unit of atypia does to nuclei.
_CROWDING, _GROWTH, _DARKENING, _PLEOMORPHISM = 1.1, 0.3, 0.28, 0.12
_CHUNK = 20_000


def render(rng: np.random.Generator, anatomy: Anatomy, atypia: Floats) -> npt.NDArray[np.uint8]:
    """Draw one slice.

    Parameters
    ----------
    rng
        Source of randomness.
    anatomy
        The slice.
    atypia
        How abnormal the nuclei around every spot are, (n_spots,); 0 is healthy.

    Returns
    -------
    RGB image, (height, width, 3), ``UM_PER_PIXEL`` um per pixel.
    """
    ground = _Ground(anatomy)
    glands = ground.scatter(rng, 88.0, "gland")
    holes = np.zeros(ground.shape, dtype=np.float32)
    for xy, radius in ((glands, 9.0), (ground.scatter(rng, 58.0, "fat"), 21.0)):
        size, elongation = np.exp(rng.normal(scale=0.18, size=(2, len(xy))))
        _stamp(holes, xy, radius * size, elongation, rng.uniform(0, np.pi, len(xy)), np.ones(len(xy)))

    eosin = _stroma(rng, ground) * (1 - 0.92 * holes)
    haematoxylin = _nuclei(rng, ground, atypia, glands, holes) + 0.15 * eosin
    vectors = _STAINS + rng.normal(scale=0.01, size=_STAINS.shape)
    vectors *= np.exp(rng.normal(scale=0.04, size=(2, 1)))
    light = _GLASS * np.exp(-np.stack([haematoxylin, eosin], axis=-1) @ vectors.astype(np.float32))
    light += 2 * rng.standard_normal(ground.shape, dtype=np.float32)[..., None]
    return np.clip(light + 0.5, 0, 255).astype(np.uint8)


class _Ground:
    """The slice on the pixel grid; what varies smoothly is evaluated on a coarser one and enlarged, for speed."""

    def __init__(self, anatomy: Anatomy):
        self.anatomy = anatomy
        width, height = np.ceil(anatomy.size / UM_PER_PIXEL).astype(int)
        self.shape = (int(height), int(width))
        rows, columns = (np.arange(0, length, _COARSE) + _COARSE / 2 for length in self.shape)
        nodes = np.stack(np.meshgrid(columns, rows), axis=-1) * UM_PER_PIXEL
        depth = anatomy.depth(nodes)
        self.region = anatomy.layer(depth)
        self.depth = self.enlarge(depth)
        self.along = self.enlarge(anatomy.along(nodes))
        self.inside = self.enlarge(anatomy.inside(nodes))

    def enlarge(self, coarse: Floats) -> Floats:
        """Interpolate from the nodes of the coarse grid to the pixels."""
        rows, columns = (length * _COARSE for length in coarse.shape)
        image = Image.fromarray(coarse.astype(np.float32)).resize((columns, rows), Image.Resampling.BICUBIC)
        return np.asarray(image)[: self.shape[0], : self.shape[1]]

    def at(self, values: Floats, xy: Floats) -> Floats:
        """Look up a pixel map at points given in um."""
        column, row = (xy / UM_PER_PIXEL).astype(int).T
        return values[row, column]

    def scatter(self, rng: np.random.Generator, pitch: float, holes: str) -> Floats:
        """Jittered centres, ``pitch`` apart, in the layers that have this kind of holes."""
        xy = hexagonal(self.anatomy.size, pitch)
        xy = xy + rng.uniform(-0.18, 0.18, xy.shape) * pitch
        wanted = np.array([row.holes == holes for row in REGIONS])[self.anatomy.region(xy)]
        return xy[wanted & (self.at(self.inside, xy) > pitch / 2)]


def _stroma(rng: np.random.Generator, ground: _Ground) -> Floats:
    """Optical density of eosin: the layers' own level, cloudy, with fibres that run along the layers."""
    eosin, fibre = (
        ground.enlarge(ndimage.gaussian_filter(_trait(name, ground.region), 1.0)) for name in ("eosin", "fibre")
    )
    threads = _noise(rng, (512, 512), (0.8, 2.5))
    weave = ndimage.map_coordinates(threads, [ground.depth / 5, ground.along / 12], order=1, mode="grid-wrap")
    clouds = ground.enlarge(_noise(rng, ground.region.shape, (2.5, 2.5)))
    grain = _noise(rng, ground.shape, (1.0, 1.0))
    texture = np.clip(1 + 0.10 * clouds + 0.08 * grain + 0.6 * fibre * weave, 0.1, None)
    return eosin * texture * np.clip(ground.inside / 10, 0, 1)


def _nuclei(rng: np.random.Generator, ground: _Ground, atypia: Floats, glands: Floats, holes: Floats) -> Floats:
    """Optical density of haematoxylin: ellipses, each with its own centre, size, shape, direction and intensity.

    Atypical nuclei are more numerous, larger, darker and more varied.
    """
    xy = hexagonal(ground.anatomy.size, _SPACING)
    xy = xy + rng.uniform(-0.35, 0.35, xy.shape) * _SPACING
    xy = xy[(ground.at(ground.inside, xy) > 4) & (ground.at(holes, xy) < 0.5)]
    region = ground.anatomy.layer(ground.at(ground.depth, xy))
    gap, nearest = cKDTree(ground.anatomy.xy).query(xy)
    atypical = np.where(gap < PITCH, atypia[nearest], 0.0)
    to_gland, gland = cKDTree(glands).query(xy)
    density = _trait("density", region) * np.where(to_gland < _LINING, 2.2, 1.0) * (1 + _CROWDING * atypical)
    kept = rng.random(len(xy)) < density * 1e-6 * _SPACING**2 * np.sqrt(3) / 2

    xy, region, atypical = xy[kept], region[kept], atypical[kept]
    noise = rng.normal(size=(4, len(xy)))
    radius = _trait("radius", region) * np.exp(_GROWTH * atypical + (0.12 + _PLEOMORPHISM * atypical) * noise[0])
    elongation = _trait("elongation", region) * np.exp((0.15 + _PLEOMORPHISM * atypical) * noise[1])
    angle = ground.anatomy.tangent(xy) + 0.3 * noise[2]
    lining = to_gland[kept] < _LINING
    east, north = (xy[lining] - glands[gland[kept][lining]]).T
    angle[lining] = np.arctan2(north, east)
    ink = _trait("haematoxylin", region) * np.exp(_DARKENING * atypical + (0.12 + 0.05 * atypical) * noise[3])
    canvas = np.zeros(ground.shape, dtype=np.float32)
    _stamp(canvas, xy, radius, elongation, angle, ink)
    return canvas * np.clip(1 + 0.12 * _noise(rng, ground.shape, (0.7, 0.7)), 0, None)


def _trait(name: str, region: Ints) -> Floats:
    """Value of one column of ``REGIONS`` for every element of ``region``."""
    return np.array([getattr(row, name) for row in REGIONS])[region]


def _stamp(canvas: Floats, xy: Floats, radius: Floats, elongation: Floats, angle: Floats, value: Floats) -> None:
    """Write soft-edged ellipses of equal-area ``radius`` (um) into ``canvas``; where they overlap, the larger value."""
    stretch = np.sqrt(elongation)
    half = np.stack([radius * stretch, radius / stretch]) / UM_PER_PIXEL
    reach = np.ceil(half.max(0)).astype(int) + 1
    # Ellipses of like size share a window, so that the few large ones do not slow down the many small ones.
    for size in np.unique(reach):
        members = np.flatnonzero(reach == size)
        for part in np.array_split(members, -(-len(members) // _CHUNK)):
            _stamp_alike(canvas, xy[part] / UM_PER_PIXEL, half[:, part], angle[part], value[part], int(size))


def _stamp_alike(canvas: Floats, centre: Floats, half: Floats, angle: Floats, value: Floats, reach: int) -> None:
    steps = np.arange(-reach, reach + 1)
    row, column = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing="ij"))
    corner = np.floor(centre).astype(int)
    offset = (corner + 0.5 - centre)[:, :, None] + np.stack([column, row])
    east, north = np.moveaxis(offset.astype(np.float32), 1, 0)
    cos, sin, along, across, ink = (
        part[:, None].astype(np.float32) for part in (np.cos(angle), np.sin(angle), *half, value)
    )
    radial = np.hypot((cos * east + sin * north) / along, (cos * north - sin * east) / across)
    # About one pixel from full to nothing across the rim.
    cover = np.clip((1 - radial) * np.sqrt(along * across) + 0.5, 0, 1)
    which, place = np.nonzero(cover)
    x, y = corner[which, 0] + column[place], corner[which, 1] + row[place]
    seen = (x >= 0) & (y >= 0) & (x < canvas.shape[1]) & (y < canvas.shape[0])
    np.maximum.at(canvas, (y[seen], x[seen]), (cover * ink)[which, place][seen])


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: tuple[float, float]) -> Floats:
    """Gaussian noise of unit variance, smooth over ``sigma`` pixels, that wraps around."""
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap", truncate=3)
    return smooth / smooth.std()
