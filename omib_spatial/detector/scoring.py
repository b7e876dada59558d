"""From a fitted model and a tissue to scores, p-values, and what they say of each slice."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, t

from omib_spatial.detector.distances import Combination, clonal_column
from omib_spatial.detector.evidence import Evidence
from omib_spatial.detector.judged import JudgedSlice, judged_slices
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.supervised import predictors
from omib_spatial.modalities import Spots
from omib_spatial.slides import Tissue
from omib_spatial.stats.null import SlicePrior
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.stats.slide_test import cauchy_combination


class SliceGroups(NamedTuple):
    """The spots of a slice that were judged by the same modalities: healthy ones and, if there are any, abnormal ones.

    Attributes
    ----------
    slice, modalities
        Its name, and those of the modalities, joined by ``+``.
    n_spots
        That were scored.
    healthy_mean, abnormal_mean, abnormal_sd, abnormal_share
        Of the two groups' scores (`omib_spatial.stats.two_groups.TwoGroups`); the healthy ones have standard
        deviation 1. They hold if there is something abnormal: of a healthy slide the second group is its tail.
    separation
        AUROC between the two groups.
    pvalue
        That a healthy slide looks as mixed as this one (`omib_spatial.stats.slide_test`), of all distances
        and of the clonal modality's, combined.
    n_slides
        Healthy slides that say so.
    location_pvalue
        That the healthy spots of a healthy slide lie as far from the reference as those of this one.
    smallest_pvalue
        The smallest ``pvalue`` that a spot can have by this reference.
    clone_pvalue
        That the two sides of the slide differ by chance as a clone does (`omib_spatial.stats.ordering`); NaN where this
        was not asked.
    pooling_hops
        Rings of neighbours that distances were averaged over, of the part that was averaged most.
    """

    slice: str
    modalities: str
    n_spots: int
    healthy_mean: float
    abnormal_mean: float
    abnormal_sd: float
    abnormal_share: float
    separation: float
    pvalue: float
    n_slides: int
    location_pvalue: float
    smallest_pvalue: float
    clone_pvalue: float = np.nan
    pooling_hops: int = CalibrationSettings.pooling_hops


@dataclass(frozen=True)
class Scores:
    """Results for every spot; NaN where a spot cannot be scored.

    Attributes
    ----------
    embedding
        xi, (n_obs, k).
    score, pvalue, slice_pvalue
        (n_obs,).
    modalities
        By which each spot was judged, joined by ``+``, (n_obs,); empty if it could not be scored.
    groups
        Of every slice and combination of modalities.
    drawn
        By modality, what pictures of it need, as `Modality.drawn` gives it.
    probability
        (n_obs, classes), if the model was fitted with labels.
    """

    embedding: np.ndarray
    score: np.ndarray
    pvalue: np.ndarray
    slice_pvalue: np.ndarray
    modalities: np.ndarray
    groups: list[SliceGroups]
    drawn: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]
    probability: np.ndarray | None = None


def score_tissue(model: AnomalyModel, tissue: Tissue, spots: Spots, device: str) -> Scores:
    """Score all spots, every slice by itself whatever else is in the tissue.

    Parameters
    ----------
    model
        Fitted.
    tissue, spots
        All spots, and what ``model.prepare`` made of them.
    device
        Where the network runs.
    """
    n_obs = tissue.n_obs
    scorable = np.flatnonzero(spots.present.any(1))
    score, pvalue, slice_pvalue = (np.full(n_obs, np.nan) for _ in range(3))
    judged_by, groups = np.full(n_obs, "", object), list[SliceGroups]()
    if len(scorable) == 0:
        embedding = np.full((n_obs, model.network.latent_dim), np.nan, np.float32)
        nothing = np.full((n_obs, len(model.classes)), np.nan, np.float32) if model.classes else None
        return Scores(embedding, score, pvalue, slice_pvalue, judged_by, groups, {}, nothing)
    evidence = model.trained.evidence(spots, tissue, scorable, device)
    for judged in judged_slices(model, tissue, spots, evidence):
        rows, record = judged.rows, slice_groups(model, tissue, judged)
        score[rows], slice_pvalue[rows] = judged.score, norm.sf(judged.score - record.healthy_mean)
        pvalue[rows] = model.scores[judged.combination].pvalue(judged.score)
        judged_by[rows] = record.modalities
        groups.append(record)
    shown = {name: modality.drawn(spots.prepared[name]) for name, modality in model.modalities.items()}
    drawn = {name: value for name, value in shown.items() if value is not None}
    probability = class_probability(model, evidence, spots, tissue)
    return Scores(evidence.code, score, pvalue, slice_pvalue, judged_by, groups, drawn, probability)


def in_words(combination: Combination) -> str:
    """Names joined by ``+``; one that has a ``+`` itself in brackets, or it would read as several."""
    return "+".join(f"[{name}]" if "+" in name else name for name in combination)


def slice_groups(model: AnomalyModel, tissue: Tissue, judged: JudgedSlice) -> SliceGroups:
    """What the scores of a slice say of it.

    Parameters
    ----------
    model, tissue
        Fitted, and what it was asked of.
    judged
        A slice, or what of it has the same modalities.
    """
    settings, calibration, worth = model.calibration, model.scores[judged.combination], judged.n_independent
    pvalues, n_slides = [calibration.spread_pvalue(judged.logs, worth, settings)], len(calibration.slides)
    clonal = clonal_column(model.distances[judged.combination], model.modalities)
    # More healthy slides have this modality than have all of them.
    if clonal is not None and (alone := model.scores.get((str(judged.parts[clonal]),))) is not None:
        pvalues.append(alone.clonal_pvalue(judged.pooled[:, clonal], worth, settings))
        n_slides = max(n_slides, len(alone.slides))
    known = [value for value in pvalues if np.isfinite(value)]
    prior, scaled = SlicePrior.fit(calibration.slides[:, :2], settings), judged.groups.in_scores()
    beyond = (judged.groups.healthy_location - prior.location) / prior.location_sd
    return SliceGroups(
        tissue.libraries[tissue.codes[judged.rows[0]]],
        in_words(judged.combination),
        len(judged.rows),
        scaled.healthy_location,
        scaled.abnormal_location,
        scaled.abnormal_spread,
        scaled.share,
        judged.groups.separation,
        cauchy_combination(known) if known else float("nan"),
        n_slides,
        float(t.sf(beyond, prior.degrees_of_freedom)),
        1 / (1 + len(calibration.calibration)),
        judged.clone_pvalue,
        max(judged.hops),
    )


def modalities_per_slice(tissue: Tissue, spots: Spots, scored: np.ndarray) -> dict[str, np.ndarray]:
    """By which modalities each slice was judged, in arrays that h5ad and zarr keep.

    Parameters
    ----------
    tissue, spots
        That were scored.
    scored
        Which spots have a score, (n_obs,) bool.

    Returns
    -------
    ``slice`` (n,) and ``modality`` (m,), their names, and ``share`` (n, m) of the slice's spots that were judged by it.
    """
    n_slices = len(tissue.libraries)
    judged = [np.bincount(tissue.codes, there & scored, n_slices) for there in spots.present.T]
    return {
        "slice": np.array(tissue.libraries, str),
        "modality": np.array(list(spots.prepared), str),
        "share": np.stack(judged, 1) / np.bincount(tissue.codes, minlength=n_slices)[:, None],
    }


def class_probability(model: AnomalyModel, evidence: Evidence, spots: Spots, tissue: Tissue) -> np.ndarray | None:
    """(n_obs, classes): the network's, weighed together with distances where some class is healthy.

    Parameters
    ----------
    model
        Fitted.
    evidence, spots, tissue
        Of all spots.

    Returns
    -------
    float32, NaN of spots that the network was not asked about; None if the model was fitted without labels.
    """
    if evidence.probability is None or model.stacking is None:
        return evidence.probability
    alone = {name: model.distances[name,][name] for name in model.modalities if (name,) in model.distances}
    found = predictors(
        evidence, spots, tissue, alone, model.stacking.healthy, model.modalities, model.calibration.pooling_hops
    )
    return model.stacking.probability(found, evidence.probability)
