"""The fitted model: preprocessing, network and calibration, from raw AnnData to scores."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor, nn

from omib_spatial import __version__
from omib_spatial.core import OMIB, checkpoint
from omib_spatial.data import KINDS, Layout, Modality, Prepared, Spots, Summary, spatial_tiles, tile_loader
from omib_spatial.data.slides import coordinates, library_codes
from omib_spatial.tl._calibration import call
from omib_spatial.tl._objective import OBJECTIVES, Objective
from omib_spatial.tl._surprise import Surprise, pattern_name

SCORING_TILE = 256
"""Spots per batch when scoring."""


class Scores(NamedTuple):
    """Results for every spot; NaN, and not called, where a spot cannot be scored.

    ``embedding`` (n_obs, k), ``score``, ``pvalue`` and ``anomaly`` (n_obs,).
    """

    embedding: np.ndarray
    score: np.ndarray
    pvalue: np.ndarray
    anomaly: np.ndarray


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
    surprises
        By combination of modalities (``"gene"``, ``"gene+image"``), the comparison with the reference.
    history
        Losses, r and KL, one value per epoch.
    """

    network: OMIB
    modalities: dict[str, Modality]
    summaries: dict[str, Summary]
    layout: Layout
    params: dict[str, Any]
    surprises: dict[str, Surprise] = field(default_factory=dict)
    history: dict[str, list[float]] = field(default_factory=dict)

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

    def prepare(self, adata: AnnData, layout: Layout) -> Spots:
        """Apply the fitted preprocessing; ``adata`` stays as it is."""
        prepared = {name: modality.prepare(adata, layout) for name, modality in self.modalities.items()}
        return Spots(prepared, summarise(prepared, self.summaries) if self.objective.needs_target else None)

    def score_spots(self, adata: AnnData, spots: Spots, layout: Layout, device: str = "cpu") -> Scores:
        """Score all spots of prepared data, every slice by itself whatever else is in the object."""
        codes, _ = library_codes(adata, layout.library_key)
        tiles = spatial_tiles(
            coordinates(adata, layout.spatial_key), codes, np.flatnonzero(spots.present.any(1)), SCORING_TILE
        )
        embedding, representation = self.represent(spots, tiles, device)
        score, pvalue = (np.full(len(codes), np.nan, np.float32) for _ in range(2))
        for pattern in np.unique(spots.present[spots.present.any(1)], axis=0):
            surprise = self.surprises.get(pattern_name(list(self.modalities), pattern))
            if surprise is not None:
                rows = np.flatnonzero((spots.present == pattern).all(1))
                score[rows] = surprise.score(representation[rows])
                pvalue[rows] = surprise.pvalue(score[rows])
        return Scores(embedding, score, pvalue, call(pvalue, codes, self.params["fdr"]))

    @torch.no_grad()
    def represent(self, spots: Spots, tiles: list[np.ndarray], device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
        """xi (n_obs, k) and what the score is computed from (n_obs, p), NaN outside ``tiles``."""
        network = self.network.eval().to(device)
        n, done = len(spots.present), []
        for batch in tile_loader(spots, tiles, batch_size=1, shuffle=False):
            batch = to_device(batch, device)
            output = network(batch)
            done.append((output.xi.cpu(), self.objective.represent(network.task, output, batch).cpu()))
        network.cpu()
        rows = np.concatenate(tiles)
        both = []
        for part in zip(*done, strict=True):
            values = torch.cat(part).numpy()
            both.append(np.full((n, values.shape[1]), np.nan, np.float32))
            both[-1][rows] = values
        return both[0], both[1]

    def save(self, folder: str | Path) -> None:
        """Write the model to ``folder`` as safetensors and JSON.

        Parameters
        ----------
        folder
            Made if missing; a model in it is replaced.
        """
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        entries = []
        for name, modality in self.modalities.items():
            settings, arrays = modality.state()
            entries.append({"name": name, "kind": type(modality).__name__, "settings": settings})
            tensors |= {f"modality.{name}.{key}": value for key, value in arrays.items()}
            tensors |= {f"summary.{name}.{key}": value for key, value in self.summaries[name].state().items()}
        for pattern, surprise in self.surprises.items():
            tensors |= {f"surprise.{pattern}.{key}": torch.as_tensor(value) for key, value in vars(surprise).items()}
        config = {
            "version": __version__,
            "layout": asdict(self.layout),
            "params": self.params,
            "history": self.history,
            "modalities": entries,
            "surprises": list(self.surprises),
        }
        checkpoint.write(folder, tensors, config)


def load(folder: str | Path, *, encoders: Mapping[str, nn.Module] | None = None) -> AnomalyModel:
    """Load a model that ``model.save(folder)`` wrote. Nothing that is read is executed.

    Parameters
    ----------
    folder
        The folder given to ``save``.
    encoders
        By modality, modules of the same architecture as the own encoders that were given to `omib_spatial.tl.fit`, if
        any were. Their weights are overwritten.

    Returns
    -------
    The fitted model; it gives the scores that it gave when it was saved.

    Raises
    ------
    FileNotFoundError
        If ``folder`` holds no saved model.
    KeyError
        If the model has an own encoder that is not given.
    """
    tensors, config = checkpoint.read(folder)
    params, encoders = config["params"], encoders or {}
    missing = sorted(set(params["own_encoders"]) - set(encoders))
    if missing:
        raise KeyError(f"The model in {folder} has own encoders for {missing}: pass them as load(..., encoders={{...}}).")
    modalities: dict[str, Modality] = {}
    summaries: dict[str, Summary] = {}
    for entry in config["modalities"]:
        name = entry["name"]
        modalities[name] = KINDS[entry["kind"]].from_state(entry["settings"], under(tensors, f"modality.{name}."))
        summaries[name] = Summary()
        summaries[name].load_state(under(tensors, f"summary.{name}."))
    network = build_network(modalities, summaries, encoders, params)
    network.load_state_dict(under(tensors, "network."))
    surprises = {}
    for pattern in config["surprises"]:
        arrays = {key: value.numpy() for key, value in under(tensors, f"surprise.{pattern}.").items()}
        surprises[pattern] = Surprise(**arrays)
    layout = Layout(**config["layout"])
    return AnomalyModel(network.eval(), modalities, summaries, layout, params, surprises, config["history"])


def build_network(
    modalities: Mapping[str, Modality],
    summaries: Mapping[str, Summary],
    encoders: Mapping[str, nn.Module],
    params: Mapping[str, Any],
) -> OMIB:
    """A fresh network for fitted ``modalities``; own ``encoders`` take the place of the default ones."""
    chosen = {name: encoders[name] if name in encoders else m.encoder() for name, m in modalities.items()}
    task = OBJECTIVES[params["objective"]].task(sum(s.width for s in summaries.values()))
    return OMIB(chosen, task, latent_dim=params["latent_dim"])


def summarise(prepared: Mapping[str, Prepared], summaries: Mapping[str, Summary]) -> dict[str, Tensor]:
    """Summary of each modality for all spots, (n_obs, q_i), zero where it is missing."""
    values = {}
    for name, summary in summaries.items():
        rows = np.flatnonzero(prepared[name].present)
        values[name] = torch.zeros(len(prepared[name].present), summary.width)
        for some in np.array_split(rows, len(rows) // 2048 + 1):
            values[name][torch.from_numpy(some)] = summary(prepared[name].features(some))
    return values


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Entries whose name starts with ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def to_device(batch: Any, device: str) -> Any:
    """The batch with every tensor on ``device``."""
    from lightning.pytorch.utilities import move_data_to_device

    return move_data_to_device(batch, torch.device(device))
