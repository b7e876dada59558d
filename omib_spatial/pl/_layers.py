"""What colours the spots of a map: results, and what somebody else says of the spots."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba_array

from omib_spatial._colours import ANOMALOUS, HEALTHY, PALETTE, UNKNOWN, ZONES, group_colours, stored_colours
from omib_spatial._keys import ABNORMAL, NOT_CALLED, Written
from omib_spatial._keys import HEALTHY as HEALTHY_KEY
from omib_spatial.pl._inputs import ColourMap, column_of, did_you_mean
from omib_spatial.pl._panels import ClassLayer, ScoreLayer
from omib_spatial.pl._slices import Slice
from omib_spatial.pl._words import SCORE_UNIT, called_spots, score_marks


def result_layer(
    adata: AnnData,
    column: str,
    key_added: str,
    shown: list[Slice],
    *,
    cmap: ColourMap,
    vmin: float | None = None,
    vmax: float | None = None,
) -> ScoreLayer | ClassLayer:
    """Colours of one result.

    Parameters
    ----------
    adata
        Spots by genes.
    column
        ``obs`` column that the result is in.
    key_added
        Its prefix.
    shown
        Slices that are drawn.
    cmap, vmin, vmax
        Colour map and limits of the score.
    """
    keys = Written(key_added)
    if column in (keys.pvalue, keys.slice_pvalue):
        return _pvalues(adata, column, cmap)
    if column in (keys.score, keys.call, keys.anomaly):
        score = adata.obs[column_of(adata, keys.score, key_added, "color")].to_numpy(dtype=np.float64)
        if column == keys.score:
            called = called_spots(adata, key_added)
            return _scores(score, score_marks(score, called, shown), cmap, vmin, vmax)
        return _calls(adata, keys, score)
    values = adata.obs[column].astype("category")
    labels = [str(name) for name in values.cat.categories]
    colours = stored_colours(adata.uns, column, len(labels)) or (
        [ZONES.get(label, UNKNOWN) for label in labels] if column == keys.zone else group_colours(labels)
    )
    if column == keys.region:
        # Regions of slides that are not drawn would fill the legend.
        drawn = np.isin(np.arange(adata.n_obs), np.concatenate([one.rows for one in shown]))
        there = np.isin(values.cat.categories, values[drawn].dropna())
        values = values.where(drawn, next(iter(values.cat.categories[there]), None))
        values = values.cat.set_categories(values.cat.categories[there])
        labels, colours = ([x for x, kept in zip(each, there, strict=True) if kept] for each in (labels, colours))
    codes = values.cat.codes.to_numpy().astype(int) % (len(labels) + 1)
    title = {
        keys.region: "Region", keys.zone: "Zone", keys.clone: "Clone", keys.subtype: "Kind of anomaly",
        keys.label: "Label",
    }[column]  # fmt: skip
    return ClassLayer(codes, [*labels, "none"], to_rgba_array([*colours, UNKNOWN]), title)


def _scores(
    score: np.ndarray, marks: dict[float, str], cmap: ColourMap, vmin: float | None, vmax: float | None
) -> ScoreLayer:
    values = np.ma.masked_invalid(score)
    known = values.compressed()
    low, high = np.percentile(known, [1, 99]) if len(known) else (0.0, 1.0)
    low, high = low if vmin is None else vmin, high if vmax is None else vmax
    if low > high or (low == high and None not in (vmin, vmax)):
        raise ValueError(
            f"vmin= and vmax= make the colour scale reach from {low:g} to {high:g}: vmin is the lower one."
        )
    norm = Normalize(low, high)
    colours = ScalarMappable(norm, plt.get_cmap(cmap).with_extremes(bad=UNKNOWN))
    return ScoreLayer(values, colours, unit=SCORE_UNIT, marks=marks)


def _pvalues(adata: AnnData, column: str, cmap: ColourMap) -> ScoreLayer:
    with np.errstate(divide="ignore"):
        values = np.ma.masked_invalid(-np.log10(adata.obs[column].to_numpy(dtype=np.float64)))
    colours = ScalarMappable(
        Normalize(0, max(float(values.max()) if values.count() else 1.0, 1.0)),
        plt.get_cmap(cmap).with_extremes(bad=UNKNOWN),
    )
    return ScoreLayer(values, colours, "p-value", "p-value of the spot, -log10")


def _calls(adata: AnnData, keys: Written, score: np.ndarray) -> ClassLayer:
    codes = np.where(np.isfinite(score), called_spots(adata, keys.key_added).astype(int), 2)
    stored = (stored_colours(adata.uns, key, 2) for key in (keys.anomaly, keys.call))
    colours = next((found for found in stored if found), [HEALTHY, ANOMALOUS])
    return ClassLayer(codes, [NOT_CALLED, ABNORMAL, "not scored"], to_rgba_array([*colours, UNKNOWN]), "Call")


def truth_layer(adata: AnnData, key: str) -> ClassLayer:
    """Colours of an ``obs`` column to compare with, boolean or categorical; healthy looks as in the call."""
    if key not in adata.obs:
        raise KeyError(
            f"obs[{key!r}] does not exist: {did_you_mean(key, list(adata.obs))}pass truth= one of {list(adata.obs)}."
        )
    column = adata.obs[key]
    if pd.api.types.is_bool_dtype(column.dtype):
        codes = column.astype("boolean").astype("Int64").fillna(2).to_numpy(dtype=int)
        labels, colours = [f"not {key}", key], [HEALTHY, ANOMALOUS]
    elif pd.api.types.is_float_dtype(column.dtype):
        raise TypeError(f"obs[{key!r}] holds {column.dtype}: truth= must be boolean or categorical.")
    else:
        column = column.astype("category").cat.remove_unused_categories() if column.dtype != "category" else column
        labels = [str(name) for name in column.cat.categories]
        codes = column.cat.codes.to_numpy().astype(int) % (len(labels) + 1)
        colours = _distinct(labels)
    colours = stored_colours(adata.uns, key, len(labels)) or colours
    return ClassLayer(codes, [*labels, "not labelled"], to_rgba_array([*colours, UNKNOWN]), f"Truth: {key}")


def _distinct(labels: list[str]) -> list[Any]:
    """One colour per label; healthy looks the same here as in the call."""
    others = [label for label in labels if label != HEALTHY_KEY]
    palette: Any = list(PALETTE)
    if len(others) > len(PALETTE):
        palette = plt.get_cmap("tab20" if len(others) <= 20 else "turbo").resampled(len(others))(range(len(others)))
    elif len(others) < len(labels):
        palette = sorted(PALETTE, key=lambda colour: colour != ANOMALOUS)
    by_label = dict(zip(others, palette, strict=False)) | {HEALTHY_KEY: HEALTHY}
    return [by_label[label] for label in labels]
