"""Regions: connected called spots with their outline, zones and p-value."""

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from omib_spatial._checked import Count, Flag, Integers, Key, KeyAdded, Many, Positive, Seed, Whole
from omib_spatial._keys import ABNORMAL, NOT_CALLED, Written
from omib_spatial._warn import warn
from omib_spatial.slides import Tissue
from omib_spatial.slides import validation as check
from omib_spatial.slides.outlines import empty_places, outline, reach, side_by_side, tiles
from omib_spatial.slides.results import check_results, recorded_layout, recorded_params, require_scored
from omib_spatial.slides.slides import named, um_per_pixel
from omib_spatial.stats.regions import MIN_SPOTS, N_FIELDS, ZONES, connected_regions, region_pvalues, zones
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.stats.smooth import average_around
from omib_spatial.tl._spatialdata import accepts_spatialdata

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

logger = logging.getLogger("omib_spatial")

_COLUMNS = {
    "slice": object, "n_spots": np.int64, "n_called": np.int64, "area": float, "perimeter": float, "unit": object,
    "um_per_pixel": float, "mean_score": float, "max_score": float, "pvalue": float, "centroid_x": float,
    "centroid_y": float, "outline": object,
}  # fmt: skip


@accepts_spatialdata
def regions(
    adata: AnnData,
    *,
    key_added: KeyAdded = "omib",
    library_key: Key | None = None,
    spatial_key: Key | None = None,
    image_key: Key | None = None,
    min_spots: Count = MIN_SPOTS,
    min_hole_spots: Whole | None = None,
    spot_diameter_um: Positive | None = None,
    pooling_hops: Annotated[int, Integers(0, 100)] | None = None,
    n_fields: Many = N_FIELDS,
    seed: Seed = 0,
    table_key: Key = "table",
    copy: Flag = False,
) -> AnnData | None:
    """Join called spots into regions, each slice by itself.

    A region is called spots that hang together, at least ``min_spots`` of them; smaller ones are specks, whose spots
    stay called but are in no region. A hole of fewer than ``min_hole_spots`` spots that one region encloses on all
    sides becomes part of it. Spots without a call, gaps in the tissue, and tissue that a region cuts off at the border
    of the slide are no holes.

    Parameters
    ----------
    adata
        With ``obs["{key_added}_call"]`` and ``obs["{key_added}_score"]``, as `fit` and `score` write them.
    key_added
        Prefix of what is read and written.
    library_key, spatial_key
        ``obs`` column that separates slices, ``obsm`` key of the coordinates in full-resolution pixels; default: as in
        the run that gave the score. The neighbour graph is that run's, too.
    image_key
        Of a SpatialData: the image in whose pixels outlines are given; default: as in that run.
    min_spots
        Called spots of the smallest region. In smoothed noise of which a twentieth is called, two in three pieces have
        fewer than the default, five.
    min_hole_spots
        Spots of the smallest hole that stays open; default: ``min_spots``.
    spot_diameter_um
        Diameter of the spots in micrometres: 55 on Visium, 100 on ST arrays. It gives the scale of slices without
        ``uns["spatial"][slice]["scalefactors"]["microns_per_pixel"]``. It is not guessed: without either, lengths and
        areas are in pixels.
    pooling_hops
        How often the scores were averaged over neighbours; default: as in the run that gave them, of the modality that
        was averaged most.
    n_fields
        Random fields that p-values rest on; none is below ``1 / (n_fields + 1)``.
    seed
        Of these fields.
    table_key
        Table of a SpatialData that is read and written.
    copy
        Return a copy with the regions and leave ``adata`` as it is.

    Returns
    -------
    None, or the copy. Writes

    - ``obs["{key_added}_region"]``: region, categorical; missing outside. ``"A1:1"`` is the largest of slice A1,
      ``"1"`` where there is no ``library_key``.
    - ``obs["{key_added}_region_zone"]``: ``"core"`` (the region is on all sides), ``"edge"`` (beside a spot that is not
      in the region, or at the border of the tissue), ``"ring"`` (not called, beside a region); missing elsewhere.
    - ``uns["{key_added}_regions"]``: DataFrame with a row per region, its name as index: ``slice``, ``n_spots``,
      ``n_called`` (the others were holes), ``area`` and ``perimeter`` (of holes, too) in ``unit`` (``"um"`` or
      ``"px"``, squared for the area), ``um_per_pixel``, ``mean_score``, ``max_score``, ``pvalue``
      (`omib_spatial.stats.regions.region_pvalues` says what it tells), ``centroid_x``, ``centroid_y`` and ``outline``
      (well-known text) in full-resolution pixels. `omib_spatial.get.regions` makes shapes of it.

    Raises
    ------
    KeyError
        There is no call, score, coordinates or slices' column.
    ValueError
        The call has other categories, a called spot has no score, or a number is out of range. ``adata`` stays as it
        was.

    Warns
    -----
    UserWarning
        Where lengths are in pixels, or no p-value can be given.

    Examples
    --------
    >>> omib.tl.call(adata, question="part")
    >>> omib.tl.regions(adata, spot_diameter_um=55)
    >>> adata.uns["omib_regions"][["slice", "n_spots", "unit"]].iloc[-1].tolist()
    ['slide3', ..., 'um']
    """
    check.require_anndata(adata)
    adata = adata.copy() if copy else adata
    check.refuse_view(adata)
    check_results(adata, key_added)
    keys, params = Written(key_added), recorded_params(adata.uns, key_added)
    layout = recorded_layout(adata, key_added, spatial_key=spatial_key, library_key=library_key)
    calls, tissue = _Calls.read(adata, keys), Tissue(adata, layout)
    recorded = int(params.get("pooling_hops", CalibrationSettings.pooling_hops))
    null = partial(_pvalues, hops=recorded if pooling_hops is None else pooling_hops, n_fields=n_fields, seed=seed)
    labels, zone, table = _find(tissue, calls, null, min_spots, min_hole_spots, spot_diameter_um)
    _write(adata, keys, labels, zone, table)
    lost = int((calls.called & (labels < 0)).sum())
    logger.info(
        "%d regions on %d slices. %d of %d called spots are in pieces of fewer than %d and in no region; %d spots in "
        "holes were filled in. Added obs['%s'], obs['%s'] and uns['%s'].",
        len(table), table["slice"].nunique(), lost, calls.called.sum(), min_spots,
        (table["n_spots"] - table["n_called"]).sum(), keys.region, keys.zone, keys.regions,
    )  # fmt: skip
    _warn(table, len(tissue.libraries), diameter_given=spot_diameter_um is not None)
    return adata if copy else None


class _Calls(NamedTuple):
    """Of every spot: its score, whether it is called, and whether it is known not to be, (n_obs,)."""

    score: np.ndarray
    called: np.ndarray
    not_called: np.ndarray

    @classmethod
    def read(cls, adata: AnnData, keys: Written) -> Self:
        require_scored(adata, keys, keys.call, keys.score)
        column = adata.obs[keys.call]
        known = column.notna().to_numpy(bool)
        if strange := sorted({str(value) for value in column[known].unique()} - {ABNORMAL, NOT_CALLED}):
            raise ValueError(
                f"obs[{keys.call!r}] holds {strange}: it must be {ABNORMAL!r} or {NOT_CALLED!r}, or missing where a "
                "spot cannot be scored."
            )
        score = adata.obs[keys.score].to_numpy(np.float64)
        called = (column == ABNORMAL).to_numpy(bool, na_value=False)
        if (unscored := called & ~np.isfinite(score)).any():
            spots = named(adata.obs_names, unscored)
            raise ValueError(
                f"obs[{keys.score!r}] is missing for called spots {spots}: score again, or correct the call."
            )
        return cls(score, called, known & ~called)


def _find(
    tissue: Tissue,
    calls: _Calls,
    null: Callable[..., np.ndarray],
    min_spots: int,
    min_hole_spots: int | None,
    spot_diameter_um: float | None,
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Region of every spot as row of the table, -1 outside; zone as position in `ZONES`; the table."""
    xy, adjacent = tissue.coordinates[:, :2], side_by_side(tissue.graph, tissue.coordinates[:, :2], tissue.codes)
    labels, zone = np.full((2, tissue.n_obs), -1)
    records: dict[str, dict[str, Any]] = {}
    for code, name in enumerate(tissue.libraries):
        rows = np.flatnonzero(tissue.codes == code)
        called = calls.called[rows]
        if called.sum() < min_spots:
            continue
        graph, border = adjacent[rows][:, rows], empty_places(xy[rows])[1]
        closed = (called | calls.not_called[rows]) & ~border
        own = connected_regions(graph, called, closed, min_spots, min_hole_spots)
        zone[rows] = zones(graph, own, calls.not_called[rows], border)
        pvalues = null(calls.score[rows], own, called, graph, tissue.graph[rows][:, rows])
        labels[rows] = np.where(own < 0, -1, own + len(records))
        scale = um_per_pixel(tissue.adata, name, spot_diameter_um)
        prefix = f"{name}:" if tissue.layout.library_key else ""
        # Tiles of all regions are drawn at once: they take as long as those of one.
        some, step = np.flatnonzero(own >= 0), reach(xy[rows])
        cells = tiles(xy[rows], some)
        for i, pvalue in enumerate(pvalues):
            records[f"{prefix}{i + 1}"] = {
                "slice": name,
                "pvalue": pvalue,
                **_sizes(outline(cells[own[some] == i], step), scale),
                "n_spots": (own == i).sum(),
                "n_called": (called & (own == i)).sum(),
                **_scores(calls.score[rows[own == i]]),
            }
    index = pd.Index(list(records), dtype=object, name="region")
    return labels, zone, pd.DataFrame(list(records.values()), index, list(_COLUMNS)).astype(_COLUMNS)


def _pvalues(
    score: np.ndarray,
    labels: np.ndarray,
    called: np.ndarray,
    adjacent: sparse.csr_matrix,
    graph: sparse.csr_matrix,
    *,
    hops: int,
    n_fields: int,
    seed: int,
) -> np.ndarray:
    """p-value of each region of one slice: noise is averaged over ``graph`` as scores are, among spots with a score."""
    rows = np.flatnonzero(np.isfinite(score))
    smooth = partial(average_around, graph=graph[rows][:, rows], rows=np.arange(len(rows)), hops=hops)
    own = adjacent[rows][:, rows]
    return region_pvalues(score[rows], labels[rows], called[rows], own, smooth, n_fields, seed)


def _sizes(shape: "BaseGeometry", scale: float | None) -> dict[str, Any]:
    """How large a region of this outline, in pixels, is."""
    unit = 1.0 if scale is None else scale
    return {
        "area": shape.area * unit**2,
        "perimeter": shape.length * unit,
        "unit": "px" if scale is None else "um",
        "um_per_pixel": np.nan if scale is None else scale,
        "centroid_x": shape.centroid.x,
        "centroid_y": shape.centroid.y,
        "outline": shape.wkt,
    }


def _scores(score: np.ndarray) -> dict[str, float]:
    return {"mean_score": float(np.nanmean(score)), "max_score": float(np.nanmax(score))}


def _write(adata: AnnData, keys: Written, labels: np.ndarray, zone: np.ndarray, table: pd.DataFrame) -> None:
    """Put regions into ``adata``: the last step, so that nothing is written when anything fails."""
    adata.obs[keys.region] = pd.Categorical.from_codes(labels, list(table.index))
    adata.obs[keys.zone] = pd.Categorical.from_codes(zone, list(ZONES))
    adata.uns[keys.regions] = table


def _warn(table: pd.DataFrame, n_slices: int, *, diameter_given: bool) -> None:
    """Say, in one warning, what the table could not give."""
    said = []
    if (unknown := table["um_per_pixel"].isna()).any():
        where = f"slices {named(table['slice'][unknown].unique())}" if n_slices > 1 else "this slice"
        there = "uns['spatial'][slice]['scalefactors']"
        way = (
            f"spot_diameter_um= alone does not give them; set 'spot_diameter_fullres' in {there}, the diameter in "
            "pixels of the full picture, or 'microns_per_pixel'."
            if diameter_given
            else f"pass spot_diameter_um= (55 for Visium, 100 for ST arrays), which needs {there}"
            "['spot_diameter_fullres'], or set 'microns_per_pixel' there."
        )
        said.append(
            f"Lengths and areas of regions on {where} are in pixels, since micrometres per pixel are not known: {way}"
        )
    if (nothing := table["pvalue"].isna()).any():
        said.append(
            f"Regions {named(table.index, nothing.to_numpy())} have no p-value, since their slice is called as a "
            "whole, or has two scores only."
        )
    if said:
        warn(" ".join(said))
