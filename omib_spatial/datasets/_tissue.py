"""Simulated tissue with planted anomalies: the package's own data for a first run."""

from typing import Annotated, Any

import anndata as ad
import numpy as np
import pandas as pd

from omib_spatial._checked import Few, Flag, Integers, NotNegative, Numbers, Seed, Whole, checked
from omib_spatial._keys import (
    ANOMALY,
    HEALTHY,
    IMAGES,
    KIND,
    LIBRARY,
    REGION,
    SCALEFACTORS,
    SPATIAL,
    SPOT_DIAMETER,
    scale_key,
)
from omib_spatial.datasets._anatomy import KINDS, PITCH, REGIONS, SPOT, Anatomy, Floats, Ints, SmoothField, plant
from omib_spatial.datasets._expression import (
    N_SMOOTH,
    Programmes,
    draw_counts,
    draw_depth,
    draw_genes,
    draw_programmes,
)
from omib_spatial.datasets._histology import UM_PER_PIXEL, render

# Strength of the changed expression and of the changed nuclei for each of ``KINDS``.
_SIDES = np.array([[0.0, 1.0, 0.0, 0.65], [0.0, 0.0, 1.0, 0.5]])
_EVENNESS = 8.0  # shape of the gamma law by which spots of one kind differ in strength
_GOLDEN = (np.sqrt(5) - 1) / 2  # multiples of it spread evenly, so no two slices share a pixel size


@checked
def simulate_tissue(
    n_slides: Few = 4,
    *,
    n_spots: Annotated[int, Integers(60, 10**7)] = 900,
    n_genes: Annotated[int, Integers(50, 10**6)] = 600,
    n_healthy: Whole = 2,
    image: Flag = True,
    effect: NotNegative = 1.0,
    depth: Annotated[float, Numbers("a number of counts above 0 and up to 10 million", gt=0, le=1e7)] = 3000.0,
    seed: Seed = 0,
) -> ad.AnnData:
    """Simulate slices of a layered gut wall with counts, an H&E-like image and three kinds of planted anomaly.

    Every slice has its own outline, layers, stain, sequencing depth and pixel size. After the first ``n_healthy``
    slices, each one holds compact blobs of spots, across layers, that are abnormal in expression only (a tumour
    programme with gained and lost chromosomes), in morphology only (nuclei crowded, enlarged, dark and pleomorphic),
    or weakly in both. Given its kind, how strongly a spot is affected is drawn independently for either side. Totals
    are matched, so sequencing depth does not give the anomalies away.

    Slice ``i`` depends on ``seed``, not on ``n_slides``; counts do not depend on ``image``.

    Parameters
    ----------
    n_slides
        Number of slices, called ``slide1``, ``slide2`` and so on.
    n_spots
        Spots under tissue per slice, at least 60, on a hexagonal grid of 100 um pitch.
    n_genes
        Number of genes, at least 50.
    n_healthy
        Number of leading slices without any anomaly.
    image
        Draw the images (about 2 um per pixel). Without them, ``uns["spatial"]`` holds the scale factors alone.
    effect
        Strength of the anomalies: 0 plants spots that differ in name only.
    depth
        Total counts of a typical spot.
    seed
        Seed of everything random.

    Returns
    -------
    AnnData of shape (n_slides * n_spots, n_genes):

    - ``X``: raw counts, CSR float32.
    - ``obs``: ``library_id``, ``region`` and ``anomaly_kind`` (``healthy``, ``expression``, ``morphology``,
      ``both``) as categories; ``anomaly``, and ``healthy``, which marks every spot of the first ``n_healthy`` slices.
    - ``var``: ``chromosome``, ``start`` and ``end`` (base pairs); genes are not in genome order.
    - ``obsm["spatial"]``: x and y of the spot centres in full-resolution pixels, float64.
    - ``uns["spatial"][library_id]``: ``images["hires"]`` (height, width, 3) uint8, and ``scalefactors`` with
      ``tissue_hires_scalef`` and ``spot_diameter_fullres``.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> import omib_spatial as omib
    >>> adata = omib.datasets.simulate_tissue(n_slides=2, n_spots=100, n_healthy=1, image=False)
    >>> adata.shape
    (200, 600)
    """
    if n_healthy > n_slides:
        raise ValueError(f"n_healthy is {n_healthy} but n_slides is {n_slides}; give at most as many as there are.")
    rng = np.random.default_rng([seed, 0])
    var = draw_genes(rng, n_genes)
    programmes = draw_programmes(rng, var["chromosome"].cat.codes.to_numpy())
    slides = {
        f"slide{index + 1}": _slide(
            [seed, 1 + index],
            programmes,
            var,
            n_spots=n_spots,
            effect=effect if index >= n_healthy else None,
            depth=depth,
            image=image,
        )
        for index in range(n_slides)
    }
    for library, slide in slides.items():
        slide.uns = {SPATIAL: {library: slide.uns}}
    return ad.concat(slides, label=LIBRARY, index_unique="-", merge="same", uns_merge="unique")


def _slide(
    entropy: list[int],
    programmes: Programmes,
    var: pd.DataFrame,
    *,
    n_spots: int,
    effect: float | None,
    depth: float,
    image: bool,
) -> ad.AnnData:
    """Simulate one slice, without anomalies if ``effect`` is None; ``uns`` is that of its library alone."""
    # One stream per concern: drawing the image or not leaves the counts as they are.
    place, counts, picture = (np.random.default_rng([*entropy, stream]) for stream in range(3))
    anatomy = Anatomy(place, n_spots)
    region = anatomy.region(anatomy.xy)
    kind = np.zeros(n_spots, dtype=np.int64) if effect is None else plant(place, anatomy.xy, region)
    tumour, atypia = draw_strengths(place, kind, effect or 0.0)
    smooth = np.stack([SmoothField(counts, 6 * PITCH)(anatomy.xy) for _ in range(N_SMOOTH + 1)], axis=1)
    totals = draw_depth(counts, region, kind, smooth[:, 0], depth)

    um_per_pixel = 0.3 + 0.35 * np.modf(_GOLDEN * entropy[1] + 0.1 * entropy[0])[0]
    library: dict[str, Any] = {
        SCALEFACTORS: {
            scale_key("hires"): float(um_per_pixel / UM_PER_PIXEL),
            SPOT_DIAMETER: float(SPOT / um_per_pixel),
        }
    }
    if image:
        library[IMAGES] = {"hires": render(picture, anatomy, atypia)}
    return ad.AnnData(
        X=draw_counts(counts, programmes, region, smooth[:, 1:], tumour, totals),
        obs=_truth(region, kind, healthy=effect is None),
        var=var,
        obsm={SPATIAL: anatomy.xy / um_per_pixel},
        uns=library,
    )


def draw_strengths(rng: np.random.Generator, kind: Ints, effect: float) -> Floats:
    """Draw how abnormal spots are in expression and in morphology, (2, n_spots); independent given ``kind``."""
    return effect * _SIDES[:, kind] * rng.gamma(_EVENNESS, 1 / _EVENNESS, size=(2, len(kind)))


def _truth(region: Ints, kind: Ints, *, healthy: bool) -> pd.DataFrame:
    return pd.DataFrame(
        {
            REGION: pd.Categorical.from_codes(region, [row.name for row in REGIONS]),
            KIND: pd.Categorical.from_codes(kind, list(KINDS)),
            ANOMALY: kind > 0,
            HEALTHY: healthy,
        },
        index=[f"spot{number:04d}" for number in range(len(kind))],
    )
