"""The fitted model: preprocessing, network and calibration, from raw AnnData to scores."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from anndata import AnnData
from lightning.pytorch.utilities import move_data_to_device
from torch import Tensor, nn

from omib_spatial.core import Batch, Network
from omib_spatial.core.distributed import gathered, place
from omib_spatial.data import Layout, Modality, Spots, Summary, Target, spatial_tiles, spread, tile_loader
from omib_spatial.data.graph import average_around
from omib_spatial.data.slides import coordinates, library_codes
from omib_spatial.tl._calibration import call
from omib_spatial.tl._objective import OBJECTIVES, Objective
from omib_spatial.tl._smooth import POOLING, smooth_logs
from omib_spatial.tl._surprise import Distance, Surprise, pattern_name
from omib_spatial.tl._verdict import PROBABILITY, Verdict, opinions

SCORING_TILE = 1024
"""Spots per batch when scoring: with a smaller tile more of the work is on halos."""
CODE = "xi"


class Scores(NamedTuple):
    """Results for every spot; NaN, and not called, where a spot cannot be scored.

    ``embedding`` (n_obs, k), ``score``, ``pvalue``, ``slice_pvalue`` and ``anomaly`` (n_obs,); ``drawn`` by modality,
    what pictures of it need, as `Modality.drawn` gives it; ``probability`` (n_obs, classes), if the model was fitted
    with labels.
    """

    embedding: np.ndarray
    score: np.ndarray
    pvalue: np.ndarray
    slice_pvalue: np.ndarray
    anomaly: np.ndarray
    drawn: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]
    probability: np.ndarray | None = None


@dataclass(repr=False)
class AnomalyModel:
    """What `omib_spatial.tl.fit` returns: all that scoring another slide needs.

    Attributes
    ----------
    network
        The trained `omib_spatial.OMIB`.
    modalities
        Fitted modality by name, in the network's order.
    summaries
        Fitted summary of each modality.
    layout
        Where inputs are read and how the graph is built.
    params
        Settings of the run and what was estimated: objective, seed, beta, M_l, M_u, ...
    distances, surprises
        By combination of modalities (``"gene"``, ``"gene+image"``): the distance of each part of the evidence, and
        how they make a score.
    history
        Losses, r and KL, one value per epoch.
    verdict
        With labels of which some are healthy: how network and distances make the probability that a spot is.
    """

    network: Network
    modalities: dict[str, Modality]
    summaries: dict[str, Summary]
    layout: Layout
    params: dict[str, Any]
    distances: dict[str, dict[str, Distance]] = field(default_factory=dict)
    surprises: dict[str, Surprise] = field(default_factory=dict)
    history: dict[str, list[float]] = field(default_factory=dict)
    verdict: Verdict | None = None
    device: str = "cpu"

    def __repr__(self) -> str:
        p = self.params
        return (
            f"AnomalyModel({' + '.join(self.modalities)}; objective={p['objective']!r}, latent_dim={p['latent_dim']}, "
            f"beta={p['beta']:.3g}, {p['n_reference']} reference spots, {p['n_calibration']} of them for calibration)"
        )

    @property
    def objective(self) -> Objective:
        """What the network was trained for."""
        return OBJECTIVES[self.params["objective"]]

    @property
    def classes(self) -> list[str]:
        """Names of the classes of the labels that the model was fitted with; none without labels."""
        return list(self.params.get("classes", ()))

    def prepare(self, adata: AnnData, layout: Layout) -> Spots:
        """Apply the fitted preprocessing; ``adata`` stays as it is."""
        prepared = {name: modality.prepare(adata, layout) for name, modality in self.modalities.items()}
        return self.aimed(Spots(prepared))

    def aimed(self, spots: Spots, *, stored: bool = False) -> Spots:
        """Give ``spots`` the target of the objective: their summaries, where it has one.

        They are made when a batch asks for them, or once if they are to be ``stored``, as pays for many epochs.
        """
        if not self.objective.needs_target:
            return Spots(spots.prepared)
        made = {
            name: Target(s.width, partial(s.of, spots.prepared[name]), partial(s.beside, spots.prepared[name]))
            for name, s in self.summaries.items()
        }
        if stored:
            made = {name: target.stored(spots.prepared[name].present) for name, target in made.items()}
        return Spots(spots.prepared, made)

    def score_spots(self, adata: AnnData, spots: Spots, layout: Layout) -> Scores:
        """Score all spots of prepared data, every slice by itself whatever else is in the object."""
        codes, _ = library_codes(adata, layout.library_key)
        scorable = np.flatnonzero(spots.present.any(1))
        score, pvalue, own_pvalue = (np.full(len(codes), np.nan) for _ in range(3))
        if len(scorable) == 0:
            embedding = np.full((len(codes), self.network.latent_dim), np.nan, np.float32)
            nothing = np.full((len(codes), len(self.classes)), np.nan, np.float32) if self.classes else None
            return Scores(embedding, score, pvalue, own_pvalue, np.zeros(len(codes), bool), {}, nothing)
        tiles = spatial_tiles(coordinates(adata, layout.spatial_key), codes, scorable, SCORING_TILE)
        parts, graph = self.evidence(spots, tiles), layout.graph(adata)
        probability = parts.get(PROBABILITY)
        if probability is not None and self.verdict is not None:
            probability = self.verdict.probability(opinions(self, parts, spots, graph, codes), probability)
        for pattern in np.unique(spots.present[scorable], axis=0):
            name = pattern_name(list(self.modalities), pattern)
            if name in self.surprises:
                rows = np.flatnonzero((spots.present == pattern).all(1))
                score[rows] = self.surprises[name].score(self.measure(name, parts, spots, graph, rows, codes))
                pvalue[rows] = self.surprises[name].pvalue(score[rows])
                own_pvalue[rows] = self.surprises[name].slice_pvalue(score[rows], codes[rows])
        shown = {name: m.drawn(spots.prepared[name]) for name, m in self.modalities.items()}
        drawn = {name: value for name, value in shown.items() if value is not None}
        called = call(own_pvalue, codes, self.params["fdr"])
        return Scores(parts[CODE], score, pvalue, own_pvalue, called, drawn, probability)

    def evidence(self, spots: Spots, tiles: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Return xi (n_obs, k) as ``"xi"`` and the objective's parts of the evidence, NaN outside ``tiles``.

        With labels also the ``"probability"`` (n_obs, classes). Several processes share the tiles, and each gets all.
        """
        self.network.eval().to(self.device)
        rank, world = place()
        mine, parts = tiles[rank::world], {}  # type: list[np.ndarray], dict[str, np.ndarray]
        batches = tile_loader(spots, mine, batch_size=1, shuffle=False) if mine else ()
        threads = torch.get_num_threads() if self.device == "cpu" else 1
        with closing(spread(self._judged, batches, threads)) as judged:
            for rows, found in zip(mine, judged, strict=True):
                for name, values in found.items():
                    if name not in parts:
                        # Evidence may be the code itself, the widest part: it is kept once.
                        whole = np.full((len(spots.present), values.shape[1]), np.nan, np.float32)
                        parts[name] = parts[CODE] if name != CODE and values is found[CODE] else whole
                    parts[name][rows] = values.cpu().numpy()
        self.network.cpu()
        return parts if world == 1 else pooled(parts, mine, len(spots.present))

    # Here, for a thread has a setting of its own.
    @torch.no_grad()
    def _judged(self, batch: Batch) -> dict[str, Tensor]:
        """Code and other evidence of one batch."""
        if self.device != "cpu":
            batch = move_data_to_device(batch, torch.device(self.device))
        network, widths = self.network, {name: summary.width for name, summary in self.summaries.items()}
        output = network(batch)
        found = {CODE: output.xi, **self.objective.evidence(network.task, output, batch, widths)}
        return found | ({PROBABILITY: network.task.predict(output.prediction)} if self.classes else {})

    def learn(self, pattern: str, parts: Mapping[str, np.ndarray], spots: Spots, rows: np.ndarray) -> None:
        """Learn the distances of one combination of modalities from reference spots ``rows``.

        Those of a modality by itself are learned with that modality alone, and kept.
        """
        known = {n: v[rows] for n, v in parts.items() if n not in (CODE, PROBABILITY) and np.isfinite(v[rows]).all()}
        alone = {n: self.distances[n][n] for n in known if n in self.distances and n != pattern}
        new = {n: self.objective.distance(n, v, spots.noise(n)[rows]) for n, v in known.items() if n not in alone}
        self.distances[pattern] = {n: alone.get(n) or new[n] for n in known}

    def measure(
        self,
        pattern: str,
        parts: Mapping[str, np.ndarray],
        spots: Spots,
        graph: sp.csr_matrix,
        rows: np.ndarray,
        codes: np.ndarray,
    ) -> np.ndarray:
        """Distances (n, parts) of some spots with the same combination of modalities, averaged over neighbours.

        Of a modality whose anomalies are clonal, what follows the axes of each slice, as ``codes`` (n_obs,) tell them.
        """
        noise = {name: spots.noise(name) for name in self.distances[pattern]}
        distances = self.distances[pattern].items()
        # In pieces that a core keeps at hand: a distance is taken in float64, step by step.
        pieces = np.array_split(rows, len(rows) // 2**11 + 1)
        found = [np.stack([d(parts[n][some], noise[n][some]) for n, d in distances], 1) for some in pieces]
        around = average_around(np.concatenate(found), graph, rows, POOLING)
        for column, name in enumerate(self.distances[pattern]):
            if name in self.modalities and (n_axes := self.modalities[name].clonal_axes):
                logs = smooth_logs(around[:, column], spots.prepared[name], graph, rows, codes, n_axes)
                around[:, column] = np.exp(logs)
        return around

    def save(self, folder: str | Path) -> None:
        """Write the model to ``folder`` as safetensors and JSON.

        Parameters
        ----------
        folder
            Made if missing; a model in it is replaced.
        """
        # Storage knows the model, so it is asked for late.
        from omib_spatial.tl import _storage

        _storage.save(self, folder)


def build_network(
    modalities: Mapping[str, Modality],
    summaries: Mapping[str, Summary],
    encoders: Mapping[str, nn.Module],
    params: Mapping[str, Any],
) -> Network:
    """A fresh network for fitted ``modalities``; own ``encoders`` take the place of the default ones."""
    chosen = {name: encoders[name] if name in encoders else m.encoder() for name, m in modalities.items()}
    objective = OBJECTIVES[params["objective"]]
    task = objective.task(sum(s.width for s in summaries.values()), params)
    return objective.network(chosen, task, params["latent_dim"])


def pooled(parts: Mapping[str, np.ndarray], tiles: list[np.ndarray], n_obs: int) -> dict[str, np.ndarray]:
    """Evidence of all processes, each of which has that of its own ``tiles``."""
    rows = np.concatenate([*tiles, np.empty(0, np.int64)])
    whole: dict[str, np.ndarray] = {}
    for theirs, found in gathered((rows, {name: values[rows] for name, values in parts.items()})):
        for name, values in found.items():
            whole.setdefault(name, np.full((n_obs, values.shape[1]), np.nan, np.float32))[theirs] = values
    return whole
