"""Planting anomalies of known strength in a healthy section: foreign molecules and pixels in a compact region."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from anndata import AnnData
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from omib_spatial._keys import ANOMALY, IMAGES, SCALEFACTORS, SPATIAL, scale_key

Counts = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
IMAGE_KEY = "hires"


class Region(NamedTuple):
    """Spots that receive, and the spot that each receives from; rows of one section, (n,) each."""

    host: Ints
    donor: Ints


def draw_region(xy: Floats, counts: Counts, n_spots: int, rng: np.random.Generator) -> Region:
    """Draw a compact region, and find the region apart from it whose expression is least like it.

    A region is a spot and its nearest spots. Unlike is far by the Hellinger distance of the pooled counts as
    proportions, in which depth has no part. Spots are paired so that each keeps its place within the region.

    Parameters
    ----------
    xy
        Spot centres, (n_obs, 2).
    counts
        (n_obs, n_genes).
    n_spots
        Spots of a region.
    rng
        Draws the middle of the host.

    Raises
    ------
    ValueError
        The section has no two regions of this size apart from each other.
    """
    if not 0 < 2 * n_spots <= len(xy):
        raise ValueError(f"Two regions of {n_spots} spots are no part of a section of {len(xy)}: change n_spots.")
    around = cKDTree(xy).query(xy, n_spots)[1].reshape(len(xy), n_spots)
    host = around[rng.integers(len(xy))]
    apart = around[~np.isin(around, host).any(1)]
    if not len(apart):
        raise ValueError(f"No region of {n_spots} spots lies apart from the one drawn: take a smaller n_spots.")
    own, *others = (_root_proportions(counts[rows]) for rows in (host, *apart))
    donor = apart[np.argmax(np.linalg.norm(np.array(others) - own, axis=1))]
    cost = cdist(xy[host] - xy[host].mean(0), xy[donor] - xy[donor].mean(0), "sqeuclidean")
    return Region(host, donor[linear_sum_assignment(cost)[1]])


def mix(counts: Counts, xy: Floats, region: Region, strength: float, rng: np.random.Generator) -> Counts:
    """Exchange a share of the molecules of each host spot for molecules of the donor; every depth stays.

    Both parts are thinned: each molecule of the host goes with probability ``strength``, and as many are drawn from
    the donor, without replacement, so that a mixed spot is no noisier than a real one. Where the donor spot has fewer
    molecules than the host, the donor spots nearest to it lend theirs.

    Parameters
    ----------
    counts
        (n_obs, n_genes), left as they are.
    xy
        Spot centres, (n_obs, 2).
    region
        Hosts and donors.
    strength
        Expected share of foreign molecules, in [0, 1].
    rng
        Draws the molecules.

    Raises
    ------
    ValueError
        The donor spots together have fewer molecules than a host.
    """
    mixed = counts.copy()
    for host, donor in zip(*region, strict=True):
        depth = int(counts[host].sum())
        nearest = region.donor[np.argsort(np.linalg.norm(xy[region.donor] - xy[donor], axis=1), kind="stable")]
        lent = np.cumsum(counts[nearest].sum(1))
        if lent[-1] < depth:
            raise ValueError(
                f"The donor's {lent[-1]} molecules are fewer than the {depth} of one spot: enlarge n_spots."
            )
        pool = counts[nearest[: int(np.searchsorted(lent, depth)) + 1]].sum(0)
        foreign = int(rng.binomial(depth, strength))
        mixed[host] = _draw(rng, counts[host], depth - foreign) + _draw(rng, pool, foreign)
    return mixed


def blend(pixels: npt.NDArray[np.uint8], centres: Floats, region: Region, strength: float) -> npt.NDArray[np.uint8]:
    """Lay the donor's pixels over the host's with weight ``strength``.

    A pixel belongs to the spot nearest to it, at most one distance between spots away, and receives the pixel that
    lies as far from the donor's centre.

    Parameters
    ----------
    pixels
        (height, width, 3), left as they are.
    centres
        Spot centres in pixels, (n_obs, 2).
    region
        Hosts and donors.
    strength
        In [0, 1]: 0 leaves the image as it is, 1 copies.
    """
    tree = cKDTree(centres)
    pitch = float(np.median(tree.query(centres, 2)[0][:, 1]))
    extent = np.array(pixels.shape[1::-1])
    low = np.floor(centres[region.host].min(0) - pitch).astype(int).clip(0, extent)
    high = np.ceil(centres[region.host].max(0) + pitch).astype(int).clip(0, extent)
    here = np.stack(np.meshgrid(*map(np.arange, low, high)), -1).reshape(-1, 2)
    nearest = tree.query(here + 0.5, distance_upper_bound=pitch)[1]
    partner = np.full(len(centres) + 1, -1)  # The tree says n_obs where no spot is near.
    partner[region.host] = region.donor
    own = partner[nearest] >= 0
    here, nearest = here[own], nearest[own]
    shift = np.rint(centres[partner[nearest]] - centres[nearest]).astype(int)
    there = (here + shift).clip(0, extent - 1)
    result = pixels.copy()
    own_part, foreign = (pixels[place[:, 1], place[:, 0]].astype(float) for place in (here, there))
    result[here[:, 1], here[:, 0]] = np.rint((1 - strength) * own_part + strength * foreign)
    return result


def plant(adata: AnnData, region: Region, modalities: frozenset[str], strength: float, seed: int) -> AnnData:
    """Copy a section with ``region.host`` changed in the ``modalities``, ``"gene"``, ``"image"`` or both.

    ``obs["anomaly"]`` of the copy marks the hosts, whatever the strength. ``adata`` is left as it is.

    Parameters
    ----------
    adata
        One section: counts in ``X``, coordinates and, if it is to change, its ``hires`` image.
    region
        Hosts and donors.
    modalities
        Which of the two change.
    strength
        Share of foreign molecules and weight of foreign pixels, in [0, 1].
    seed
        Of the molecules that are drawn.
    """
    planted, xy = adata.copy(), np.asarray(adata.obsm[SPATIAL], float)[:, :2]
    planted.obs[ANOMALY] = np.isin(np.arange(adata.n_obs), region.host)
    if "gene" in modalities:
        mixed = mix(dense_counts(adata), xy, region, strength, np.random.default_rng([seed, 1]))
        planted.X = sparse.csr_matrix(mixed.astype(np.float32))
    if "image" in modalities:
        ((name, slide),) = adata.uns[SPATIAL].items()
        centres = xy * slide[SCALEFACTORS][scale_key(IMAGE_KEY)]
        planted.uns[SPATIAL][name][IMAGES][IMAGE_KEY] = blend(slide[IMAGES][IMAGE_KEY], centres, region, strength)
    return planted


def plant_arms(
    counts: Counts, arm: npt.NDArray[np.str_], spots: Ints, ratios: Mapping[str, float], rng: np.random.Generator
) -> Counts:
    """Copy counts with chromosome arms gained and lost in some spots, by losing molecules alone.

    A molecule of an arm with ratio r is kept with probability r by the largest of all ratios, others by 1 by that, so
    that counting noise stays that of real counts. The spots become shallower.

    Parameters
    ----------
    counts
        (n_obs, n_genes), left as they are.
    arm
        Of each gene, (n_genes,).
    spots
        Rows that change.
    ratios
        Of arms, to the expression that was there: above 1 a gain, below a loss.
    rng
        Draws the molecules.
    """
    planted = counts.copy()
    kept = np.array([ratios.get(str(name), 1.0) for name in arm])
    planted[spots] = rng.binomial(counts[spots], kept / max(kept.max(), 1.0))
    return planted


def dense_counts(adata: AnnData) -> Counts:
    """Counts of a section as integers, (n_obs, n_genes)."""
    return np.asarray(adata.to_df(), dtype=np.int64)


def _root_proportions(counts: Counts) -> Floats:
    pooled = counts.sum(0)
    return np.sqrt(pooled / max(pooled.sum(), 1))


def _draw(rng: np.random.Generator, counts: Counts, n: int) -> Counts:
    """Draw ``n`` of the molecules that ``counts`` says there are."""
    return rng.multivariate_hypergeometric(counts, n, method="marginals")
