"""All that a page tells of one slide."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial import get
from omib_spatial._keys import ABNORMAL, Written
from omib_spatial.reporting._explained import called_on, contribution_layers, explained
from omib_spatial.reporting._layers import is_continuous, layers_of, rounded
from omib_spatial.reporting._picture import patch, picture, view_of
from omib_spatial.reporting._words import HEADLINES, area, calibration, found_on
from omib_spatial.slides.scored import ScoredSlide
from omib_spatial.stats.two_groups import TwoGroups
from omib_spatial.tl._summarise import slide_warnings

LONGEST = 2400
"""Pixels of the longer side of a slide's picture: about one megabyte."""
MOST_NAMED = 20_000
"""Spots of a slide up to which a page knows their names; beyond it numbers them."""
_PATCHES = 8
_ARMS = 12


@dataclass(frozen=True)
class SlidePage:
    """What the template and the script get of one slide.

    Attributes
    ----------
    words
        For the template.
    data
        For the script: only what JSON can hold.
    """

    words: dict[str, Any]
    data: dict[str, Any]


def slide_page(
    adata: AnnData,
    keys: Written,
    slide: ScoredSlide,
    groups: pd.DataFrame,
    truth_key: str | None,
    title: str | None = None,
) -> SlidePage:
    """Gather a slide.

    Parameters
    ----------
    adata, keys
        What was scored, under which keys; with regions.
    slide
        Of it.
    groups
        Healthy and abnormal spots of all slides.
    truth_key
        ``obs`` column to compare with.
    title
        What a slide without a name is called.
    """
    found = _Found.read(adata, keys, slide, truth_key)
    rows = [_region(str(name), row, adata, keys) for name, row in found.shapes.iterrows()]
    chances = posterior(found.obs, keys, found.score, groups[groups["slice"] == slide.name])
    return SlidePage(_words(adata, keys, found, rows, truth_key, title), _data(keys, found, chances))


@dataclass(frozen=True)
class _Found:
    """What was found on a slide: spots (n,) with score and call, regions, layers by name."""

    slide: ScoredSlide
    obs: pd.DataFrame
    score: np.ndarray
    called: np.ndarray
    shapes: Any
    layers: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, adata: AnnData, keys: Written, slide: ScoredSlide, truth_key: str | None) -> Self:
        obs = adata.obs.iloc[slide.rows]
        shapes = get.regions(adata, keys.key_added)
        # Of a single slide without a name, regions name none.
        own = shapes[shapes["slice"].astype(str) == slide.name] if shapes["slice"].any() else shapes
        return cls(
            slide,
            obs,
            obs[keys.score].to_numpy(float),
            (obs[keys.call] == ABNORMAL).to_numpy(bool, na_value=False),
            own,
            layers_of(adata, keys, slide.rows, truth_key) | contribution_layers(adata, keys, slide.rows),
        )

    @property
    def um_per_pixel(self) -> float | None:
        """Micrometres per full-resolution pixel, of the slide or of what its regions were measured with."""
        known = self.shapes["um_per_pixel"].dropna()
        return self.slide.um_per_pixel or (float(known.max()) if len(known) else None)


def _data(keys: Written, found: _Found, chances: np.ndarray) -> dict[str, Any]:
    """What the script draws: places in pixels of the picture, values, and the chance of each spot to be abnormal."""
    view = view_of(found.slide)
    image, scale = picture(found.slide, view, LONGEST)
    origin, um = np.array(view[:2]), found.um_per_pixel
    places = (found.slide.xy - origin) * scale
    return {
        "name": found.slide.name,
        "picture": image,
        "x": rounded(places[:, 0], 1),
        "y": rounded(places[:, 1], 1),
        "radius": round(found.slide.usual_diameter / 2 * scale, 2),
        # Of a hundred thousand bins, names alone would be megabytes.
        "spots": found.obs.index.astype(str).tolist() if len(found.obs) <= MOST_NAMED else [],
        "called": found.called.astype(int).tolist(),
        "posterior": rounded(chances),
        "region": [None if pd.isna(value) else str(value) for value in found.obs[keys.region]],
        "layers": found.layers,
        "regions": [
            {
                "name": str(name),
                "short": str(name).rsplit(":", 1)[-1],
                "rings": _rings(row.geometry, origin, scale),
                "box": _box(row.geometry, origin, scale),
                "label": _inner(row.geometry, origin, scale),
            }
            for name, row in found.shapes.iterrows()
        ],
        "um": None if um is None else um / scale,
    }


def _words(
    adata: AnnData, keys: Written, found: _Found, rows: list[dict[str, Any]], truth_key: str | None, title: str | None
) -> dict[str, Any]:
    """What the template says of a slide with these ``rows`` of regions."""
    slide, layers = found.slide, found.layers
    verdict = next(row for row in adata.uns[keys.verdicts].itertuples() if str(row.slice) == slide.name)
    whole = explained(adata, keys, called_on(adata, keys, slide.name))
    n_scored, n_called = int(np.isfinite(found.score).sum()), int(found.called.sum())
    n_inside = int((found.called & found.obs[keys.region].notna().to_numpy()).sum())
    told = {key: any(row[key] for row in [whole | {"clones": []}, *rows]) for key in ("clones", "shares", "genes")}
    return {
        "name": slide.name or title or "The slide",
        "has_image": slide.image is not None,
        "verdict": str(verdict.verdict),
        "headline": HEADLINES.get(str(verdict.verdict), str(verdict.verdict)),
        "reason": str(verdict.reason),
        "n_spots": len(found.obs),
        "n_scored": n_scored,
        "n_called": n_called,
        "found": found_on(n_called, n_scored, n_inside, found.shapes),
        "modalities": str(verdict.modalities),
        "warnings": slide_warnings(adata, keys, slide.name, len(found.obs) - n_scored),
        "calibration": calibration(verdict),
        "regions": rows,
        "whole": whole,
        "told": told,
        "patches": _patches(slide, found.score, found.called, found.obs.index) if slide.image is not None else [],
        "truth": None
        if truth_key is None or is_continuous(found.obs[truth_key])
        else _crossed(found.obs[truth_key], found.called, found.score),
        "layers": [{"key": key, "label": layer["label"], "about": layer["about"]} for key, layer in layers.items()],
    }


def posterior(obs: pd.DataFrame, keys: Written, score: np.ndarray, groups: pd.DataFrame) -> np.ndarray:
    """Probability that each spot of a slide is abnormal, (n,), NaN without a score.

    Parameters
    ----------
    obs, keys, score
        Of the slide.
    groups
        Its healthy and abnormal spots, a row per combination of modalities.
    """
    found = np.full(len(score), np.nan)
    judged_by = obs[keys.modalities].astype(object).to_numpy()
    for group in groups.itertuples():
        spots = (judged_by == group.modalities) & np.isfinite(score)
        two = TwoGroups(group.healthy_mean, 1.0, group.abnormal_mean, group.abnormal_sd, group.abnormal_share)
        found[spots] = two.posterior(score[spots])
    return found


def _rings(shape: Any, origin: np.ndarray, scale: float) -> list[list[list[float]]]:
    """Rings of a region in pixels of the picture."""
    import shapely

    parts = shapely.get_parts(shape)
    rings = [ring for part in parts for ring in (part.exterior, *part.interiors)]
    return [np.round((np.asarray(ring.coords) - origin) * scale, 1).tolist() for ring in rings]


def _box(shape: Any, origin: np.ndarray, scale: float) -> list[float]:
    """Left, top, width and height of a region in pixels of the picture."""
    low, high = (np.array(shape.bounds).reshape(2, 2) - origin) * scale
    return [round(float(value), 1) for value in (*low, *(high - low))]


def _inner(shape: Any, origin: np.ndarray, scale: float) -> list[float]:
    """A point in the largest part of a region, in pixels of the picture."""
    import shapely

    point = max(shapely.get_parts(shape), key=lambda part: part.area).representative_point()
    return [round(float(value), 1) for value in (np.array([point.x, point.y]) - origin) * scale]


def _region(name: str, row: pd.Series, adata: AnnData, keys: Written) -> dict[str, Any]:
    inside = (adata.obs[keys.region] == name).to_numpy(bool, na_value=False)
    return {
        "name": name,
        "n_spots": int(row["n_spots"]),
        "area": area(row),
        "mean_score": f"{row['mean_score']:.2f}",
        "max_score": f"{row['max_score']:.2f}",
        "pvalue": "" if not np.isfinite(row["pvalue"]) else f"{row['pvalue']:.2g}",
        "clones": _clones(adata, keys, inside),
        **explained(adata, keys, name),
    }


def _clones(adata: AnnData, keys: Written, inside: np.ndarray) -> list[dict[str, Any]]:
    """Clones with spots in a region: how many, and the arms that they gained and lost, the strongest first."""
    if keys.clone not in adata.obs or keys.clones not in adata.uns:
        return []
    counts = adata.obs[keys.clone][inside].value_counts()
    arms = adata.uns[keys.clones]
    found = []
    for clone, n in counts[counts > 0].items():
        own = arms[(arms["clone"] == clone) & (arms["call"] != "none")]
        own = own.reindex(own["log2_ratio"].abs().sort_values(ascending=False).index).head(_ARMS)
        sides = {side: own.loc[own["call"] == side, "arm"].tolist() for side in ("gain", "loss")}
        found.append({"name": str(clone), "n_spots": int(n), **sides})
    return found


def _patches(slide: ScoredSlide, score: np.ndarray, called: np.ndarray, names: pd.Index) -> list[dict[str, Any]]:
    """Tissue around the spots of the highest and the lowest scores, of those that lie on the image."""
    height, width = np.array(slide.image.shape[:2]) / slide.scale
    on = ((slide.xy >= 0) & (slide.xy < [width, height])).all(1) & np.isfinite(score)
    order = np.flatnonzero(on)[np.argsort(score[on], kind="stable")]
    n = min(_PATCHES, len(order) // 2)
    rows = {"Highest scores": order[::-1][:n], "Lowest scores": order[:n]}
    return [
        {
            "title": title,
            "patches": [
                {
                    "picture": patch(slide, slide.xy[i]),
                    "spot": int(i),
                    "name": str(names[i]),
                    "score": f"{score[i]:.2f}",
                    "called": bool(called[i]),
                }
                for i in rows
            ],
        }
        for title, rows in rows.items()
        if len(rows)
    ]


def _crossed(truth: pd.Series, called: np.ndarray, score: np.ndarray) -> list[dict[str, Any]]:
    """Of each class of the truth: spots, and how many of them are called."""
    known = truth.notna().to_numpy() & np.isfinite(score)
    table = pd.DataFrame({"truth": truth.astype(str).to_numpy()[known], "called": called[known]})
    grouped = table.groupby("truth")["called"].agg(["size", "sum"])
    return [
        {"name": str(name), "n_spots": int(row["size"]), "n_called": int(row["sum"]),
         "share": f"{100 * row['sum'] / row['size']:.0f} %"}
        for name, row in grouped.iterrows()
    ]  # fmt: skip
