"""From a fitted model and a tissue to scores, p-values and calls."""

from dataclasses import dataclass

import numpy as np

from omib_spatial.detector.distances import measure_distances
from omib_spatial.detector.evidence import Evidence
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.supervised import predictors
from omib_spatial.modalities import Spots
from omib_spatial.slides import Tissue
from omib_spatial.stats.calls import call
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.stats.smooth import independent_share


@dataclass(frozen=True)
class Scores:
    """Results for every spot; NaN, and not called, where a spot cannot be scored.

    Attributes
    ----------
    embedding
        xi, (n_obs, k).
    score, pvalue, slice_pvalue
        (n_obs,).
    anomaly
        The call, (n_obs,) bool.
    drawn
        By modality, what pictures of it need, as `Modality.drawn` gives it.
    probability
        (n_obs, classes), if the model was fitted with labels.
    """

    embedding: np.ndarray
    score: np.ndarray
    pvalue: np.ndarray
    slice_pvalue: np.ndarray
    anomaly: np.ndarray
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
    if len(scorable) == 0:
        embedding = np.full((n_obs, model.network.latent_dim), np.nan, np.float32)
        nothing = np.full((n_obs, len(model.classes)), np.nan, np.float32) if model.classes else None
        return Scores(embedding, score, pvalue, slice_pvalue, np.zeros(n_obs, bool), {}, nothing)
    evidence = model.trained.evidence(spots, tissue, scorable, device)
    names = np.array(list(model.modalities))
    for present in np.unique(spots.present[scorable], axis=0):
        combination = tuple(names[present].tolist())
        if (calibration := model.scores.get(combination)) is None:
            continue
        rows = np.flatnonzero((spots.present == present).all(1))
        distances = measure_distances(
            model.distances[combination],
            evidence,
            spots,
            tissue,
            rows,
            modalities=model.modalities,
            hops=model.calibration.pooling_hops,
        )
        score[rows] = calibration.score(distances)
        pvalue[rows] = calibration.pvalue(score[rows])
        share = spots_worth(model.calibration, tissue, rows)
        slice_pvalue[rows] = calibration.slice_pvalue(score[rows], tissue.codes[rows], share, model.calibration)
    shown = {name: modality.drawn(spots.prepared[name]) for name, modality in model.modalities.items()}
    drawn = {name: value for name, value in shown.items() if value is not None}
    called = call(slice_pvalue, tissue.codes, model.params["fdr"])
    probability = class_probability(model, evidence, spots, tissue)
    return Scores(evidence.code, score, pvalue, slice_pvalue, called, drawn, probability)


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


def spots_worth(settings: CalibrationSettings, tissue: Tissue, rows: np.ndarray) -> np.ndarray:
    """Independent spots that each of ``rows`` (n,) is worth, whose distances are averages over neighbours, (n,)."""
    if settings.pooled_spots is not None:
        return np.full(len(rows), 1 / settings.pooled_spots)
    return independent_share(tissue.graph, rows, settings.pooling_hops)


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
