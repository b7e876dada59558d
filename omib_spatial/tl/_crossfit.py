"""What models that did not see a slice's labels say of it: only that tells how far to trust them on a new one."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from omib_spatial.data import Spots, spatial_tiles
from omib_spatial.tl._model import SCORING_TILE, AnomalyModel, build_network
from omib_spatial.tl._surprise import ENOUGH, Distance
from omib_spatial.tl._train import Loop, Where, run_training
from omib_spatial.tl._verdict import PROBABILITY, Verdict, distance_opinions, network_opinion, opinions

FOLDS = 3
"""Trainings without some of the slices."""
BLOCKS = 12
"""Pieces that the labelled spots are cut into where there is a single slice or donor."""


def judge(
    model: AnomalyModel,
    spots: Spots,
    encoders: Mapping[str, nn.Module],
    place: Where,
    reference: np.ndarray,
    labels: np.ndarray,
    donors: np.ndarray,
    graph: sp.csr_matrix,
    loop: Loop,
) -> Verdict | None:
    """Learn from ``labels`` (n_obs,) how to weigh the network and the distances; None if no class is healthy.

    ``donors`` (n_obs,) says which slices belong together, and are kept from training together.
    """
    healthy = np.isin(model.classes, model.params["healthy_label"])
    if not healthy.any():
        return None
    seen, known = model.aimed(spots), labels >= 0
    parts = model.evidence(seen, spatial_tiles(*place, np.flatnonzero(spots.present.any(1)), SCORING_TILE))
    found = opinions(model, parts, seen, graph, place[1])
    fold, sight = folds(place, labels, donors), spots.only(reference | known)
    for i in range(fold.max() + 1):
        beside = replace(loop, resume=None if loop.resume is None else Path(loop.resume) / f"fold{i}")
        held_out = fold == i
        other = untaught(model, spots, deepcopy(dict(encoders)), place, labels, held_out, beside)
        found[held_out, 0] = network_opinion(predicted(other, spots, place, held_out), healthy, graph)[held_out]
    for donor in np.unique(donors[known]):
        own = donors == donor
        distances = unlearned(model, sight, reference & ~own)
        said = distance_opinions(model, distances, parts, seen, graph, place[1])[own]
        found[own, 1:] = np.where(np.isnan(said), found[own, 1:], said)
    there = np.isfinite(found[:, 0]) & known
    return Verdict.fit(found[there], labels[there], place[1][there], donors[there], healthy)


def folds(place: Where, labels: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Fold of each labelled spot, (n_obs,), -1 of others: whole donors or, where there is one, compact blocks of it."""
    known = np.flatnonzero(labels >= 0)
    names = np.unique(donors[known])
    if len(names) > 1:
        groups = [known[np.isin(donors[known], some)] for some in np.array_split(names, min(FOLDS, len(names)))]
    else:
        blocks = spatial_tiles(*place, known, -(-len(known) // BLOCKS))
        groups = [np.concatenate(blocks[i::FOLDS]) for i in range(min(FOLDS, len(blocks)))]
    parts = np.full(len(labels), -1)
    for i, rows in enumerate(groups):
        parts[rows] = i
    return parts


def untaught(
    model: AnomalyModel,
    spots: Spots,
    encoders: dict[str, nn.Module],
    place: Where,
    labels: np.ndarray,
    held_out: np.ndarray,
    loop: Loop,
) -> AnomalyModel:
    """A model with the preprocessing of ``model``, whose network learns from all labels but those ``held_out``."""
    params = model.params
    with torch.random.fork_rng():
        torch.manual_seed(params["seed"])
        network = build_network(model.modalities, model.summaries, encoders, params)
        other = AnomalyModel(network, model.modalities, model.summaries, model.layout, params, device=model.device)
        run_training(other, Spots(spots.prepared, labels=labels), place, (labels >= 0) & ~held_out, loop)
    return other


def predicted(model: AnomalyModel, spots: Spots, place: Where, rows: np.ndarray) -> np.ndarray:
    """Class probabilities (n_obs, classes) of all spots on the slices of ``rows`` (n_obs,), else NaN."""
    slices = spots.only(np.isin(place[1], place[1][rows]))
    tiles = spatial_tiles(*place, np.flatnonzero(slices.present.any(1)), SCORING_TILE)
    return model.evidence(model.aimed(slices), tiles)[PROBABILITY]


def unlearned(model: AnomalyModel, spots: Spots, healthy: np.ndarray) -> dict[str, Distance]:
    """Distances by modality, learned from the ``healthy`` spots (n_obs,) of other donors, where there are enough."""
    found = {}
    for name, prepared in spots.prepared.items():
        rows = np.flatnonzero(prepared.present & healthy)
        if len(rows) >= ENOUGH:
            values = model.summaries[name].of(prepared, rows).numpy()
            found[name] = model.objective.distance(name, values, prepared.noise[rows])
    return found
