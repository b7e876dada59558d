"""What is usual in the reference, and how much healthy spots that were left out differ from it."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from omib_spatial.data import Spots, spatial_tiles
from omib_spatial.tl._model import SCORING_TILE, AnomalyModel
from omib_spatial.tl._surprise import ENOUGH, Strangers, Surprise, Usual, pattern_name
from omib_spatial.tl._train import Where

logger = logging.getLogger("omib_spatial")

DISTANCE_ROWS = 50_000
"""Reference spots that distances are learned from at most: it is done in float64, with copies."""
FOLDS = 10
"""Groups of donors at most that distances are learned without, one at a time."""


class Seen(NamedTuple):
    """Reference spots by one model: what is ``usual`` where it learned, and distances (m, parts) of the ``others``.

    ``strangers`` are spots that it learned from, by distances that did not.
    """

    usual: dict[str, Usual]
    others: np.ndarray
    strangers: Strangers


def compare(
    model: AnomalyModel,
    spots: Spots,
    place: Where,
    learned: np.ndarray,
    others: np.ndarray,
    graph: sp.csr_matrix,
    donors: np.ndarray | None = None,
) -> dict[str, Seen]:
    """For every combination of modalities, learn from ``learned`` (n_obs,) what is usual when only these are seen.

    Distances of the ``others`` (n_obs,) are measured and, where there are several ``donors`` (n_obs,), those of each
    donor's learned spots by distances learned from the rest.
    What a modality shows by itself does not depend on the others: it is judged against all spots that have it, however
    few have the whole combination.
    """
    names, fold = list(model.modalities), np.full(len(learned), -1)
    if donors is not None:
        fold[learned] = np.unique(donors[learned], return_inverse=True)[1] % FOLDS
    without = {i: replace(model, distances={}) for i in range(fold.max() + 1)}
    found: dict[str, Seen] = {}
    for size in range(1, len(names) + 1):
        for some in combinations(names, size):
            kept = np.isin(names, some)
            there = np.asarray(spots.present[:, kept].all(1))
            if (there & learned).sum() < ENOUGH:
                continue
            pattern, seen = pattern_name(names, kept), model.aimed(spots.only(there, some))
            parts = model.evidence(seen, spatial_tiles(*place, np.flatnonzero(there), SCORING_TILE))
            groups = np.flatnonzero(there & learned), np.flatnonzero(there & others)
            model.learn(pattern, parts, seen, few(groups[0]))
            own, beyond = (model.measure(pattern, parts, seen, graph, rows, place[1]) for rows in groups)
            usual = {part: Usual.of(column) for part, column in zip(model.distances[pattern], own.T, strict=True)}
            alone = {part: found[part].usual[part] for part in usual if part in found}
            strangers, left_out = np.full(own.shape, np.nan), fold[groups[0]]
            for i, other in without.items():
                away = left_out == i
                if min(away.sum(), (~away).sum()) >= ENOUGH:
                    other.learn(pattern, parts, seen, few(groups[0][~away]))
                    strangers[away] = other.measure(pattern, parts, seen, graph, groups[0][away], place[1])
            known = np.isfinite(strangers).all(1)
            found[pattern] = Seen(usual | alone, beyond, Strangers(strangers[known], place[1][groups[0][known]]))
    return found


def few(rows: np.ndarray) -> np.ndarray:
    """At most `DISTANCE_ROWS` of them."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:DISTANCE_ROWS])


def calibrate(model: AnomalyModel, own: Mapping[str, Seen], twin: Mapping[str, Seen]) -> None:
    """Let ``model`` judge by what it says of its reference, and a ``twin`` of spots held out from it."""
    names = list(model.modalities)
    for some in (some for size in range(1, len(names) + 1) for some in combinations(names, size)):
        pattern = "+".join(some)
        if pattern in own and pattern in twin and len(twin[pattern].others) >= ENOUGH:
            usual, strangers = own[pattern].usual, own[pattern].strangers
            model.surprises[pattern] = Surprise.fit(usual, twin[pattern].usual, twin[pattern].others, strangers)
        else:
            logger.warning("Too few reference spots have %s: spots with only these get NaN.", " and ".join(some))
