"""The steps of a fit: which modalities, which spots are held out, which beta, training."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from torch import nn

from omib_spatial._keys import CLASSES
from omib_spatial.core.information import Mine
from omib_spatial.core.training import OMIBTraining, train
from omib_spatial.data import Layout, Modality, Spots, Summary, spatial_tiles, tile_loader
from omib_spatial.tl._model import AnomalyModel, build_network

Where = tuple[np.ndarray, np.ndarray]
"""Coordinates (n_obs, >= 2) and slice (n_obs,) of every spot."""

logger = logging.getLogger("omib_spatial")

TRAINING_TILE = 32
"""Spots per tile in training: a batch is several tiles, of several slices."""
BLOCKS = 10
"""Each slice's reference is cut into about this many compact blocks, some of which are held out whole."""
SUMMARY_ROWS = 20_000
"""Reference spots that summaries are learned from at most."""
MINIMUM = 50
"""Reference spots with every modality that the bound on beta is estimated from at least."""
ENOUGH_SLICES = 4
"""Reference slices from which on whole slices are held out."""


@dataclass(frozen=True)
class Loop:
    """How the training runs: nothing here changes what is learned, up to rounding. As the arguments of a fit."""

    progress_bar: bool = True
    accelerator: str = "auto"
    devices: int | str | Sequence[int] = 1
    num_nodes: int = 1
    strategy: Any = "auto"
    precision: Any = "32-true"
    compile: bool = False
    num_workers: int = 0
    resume: str | Path | None = None

    def trainer(self) -> dict[str, Any]:
        """Arguments of `lightning.Trainer`."""
        one = self.devices in (1, "1") or (isinstance(self.devices, Sequence) and len(self.devices) == 1)
        many = self.num_nodes > 1 or not one
        # In warm-up the fusion rests, and a process may be dealt spots that all lack a modality: plain DDP would wait
        # for their gradients forever.
        ddp = many and self.strategy in ("auto", "ddp")
        return {
            "accelerator": self.accelerator,
            "devices": self.devices,
            "num_nodes": self.num_nodes,
            "strategy": "ddp_find_unused_parameters_true" if ddp else self.strategy,
            "precision": self.precision,
            "sync_batchnorm": many and torch.cuda.is_available(),
        }


def hold_out(
    xy: np.ndarray,
    codes: np.ndarray,
    reference: np.ndarray,
    fraction: float,
    seed: int,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Divide the reference into training and calibration spots, each group of slices by itself.

    Within a group of at least four reference slices whole slices are held out: a new slide differs from the training
    slides in stain, depth and donor, and only a slide that was never seen tells by how much. With fewer, compact
    blocks of each slice are: single spots among trained neighbours, which share expression and image, would look too
    normal. ``groups`` (n_obs,) keep slices with different modalities apart, or chance could hold out all that have an
    image, or none; None takes all slices as one group.

    Returns
    -------
    Two (n_obs,) masks that together are ``reference``.
    """
    rng = np.random.default_rng(seed)
    groups = np.zeros(len(codes), int) if groups is None else groups
    held_out = np.zeros(len(codes), bool)
    for group in np.unique(groups[reference]):
        members = reference & (groups == group)
        slices, sizes = np.unique(codes[members], return_counts=True)
        if len(slices) >= ENOUGH_SLICES:
            order = rng.permutation(len(slices))
            n = int(np.searchsorted(sizes[order].cumsum(), fraction * sizes.sum())) + 1
            held_out[members & np.isin(codes, slices[order[:n]])] = True
            continue
        for code in slices:
            rows = np.flatnonzero(members & (codes == code))
            blocks = spatial_tiles(xy, codes, rows, max(len(rows) // BLOCKS, 1))
            for i in rng.permutation(len(blocks))[: max(round(fraction * len(blocks)), 1)]:
                held_out[blocks[i]] = True
    return reference & ~held_out, held_out


def fit_summaries(
    modalities: Mapping[str, Modality], prepared: Spots, training: np.ndarray, seed: int
) -> dict[str, Summary]:
    """Learn the summary of each modality from training spots that have it, at most `SUMMARY_ROWS`."""
    summaries = {}
    for name, data in prepared.prepared.items():
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(training & data.present))[:SUMMARY_ROWS]
        pieces = np.array_split(np.sort(rows), len(rows) // 2048 + 1)
        summaries[name] = Summary(modalities[name].components)
        summaries[name].fit(np.concatenate([data.features(some) for some in pieces]), seed)
    return summaries


def bounds_on_beta(
    spots: Spots, summaries: Mapping[str, Summary], training: np.ndarray, seed: int
) -> dict[str, float | int]:
    """Estimate M_l and M_u from the summaries of training spots that have every modality.

    Returns them with the entropies and mutual information (nats) that they follow from, and the critic's setting, of
    which all of these are properties.
    """
    rows = np.flatnonzero(training & spots.present.all(1))
    if len(rows) < MINIMUM:
        raise ValueError(
            f"Only {len(rows)} reference spots have all of {list(spots.prepared)}; the bound on beta needs {MINIMUM}. "
            "Give beta yourself, or leave out a modality."
        )
    rows = np.random.default_rng(seed).permutation(rows)[:5000]
    mine = Mine(seed=seed)
    bounds = mine.bounds({n: s.of(spots.prepared[n], rows) for n, s in summaries.items()})
    entropies = {f"H_{name}": value for name, value in bounds.entropies.items()}
    shared = {f"I_{pair}".replace(" & ", "_"): value for pair, value in bounds.mutual_information.items()}
    setting = {f"mine_{name}": value for name, value in asdict(mine).items()}
    return {"M_l": bounds.lower, "M_u": bounds.upper, **entropies, **shared, **setting}


def learn(
    adata: AnnData,
    modalities: dict[str, Modality],
    encoders: Mapping[str, nn.Module],
    layout: Layout,
    params: dict[str, Any],
    training: np.ndarray,
    place: Where,
    loop: Loop,
    labels: np.ndarray | None = None,
) -> tuple[AnomalyModel, Spots]:
    """Fit preprocessing, beta where ``params`` has none, and the network.

    All is learned from ``training`` spots (n_obs,) or, where there are ``labels`` (n_obs,), the preprocessing from the
    former with labelled neighbours, and beta and the network from all spots whose label is not negative.
    """
    taught = training if labels is None else labels >= 0
    sight = training | taught
    for modality in modalities.values():
        modality.fit(adata, training, layout, sight)
    prepared = Spots({name: modality.prepare(adata, layout) for name, modality in modalities.items()})
    summaries = fit_summaries(modalities, prepared.only(sight), training, params["seed"])
    seen = prepared.only(taught)
    if params["beta"] is None:
        params |= bounds_on_beta(seen, summaries, taught, params["seed"])
        params["beta"] = params["M_u"]
    params["beta"] = float(params["beta"])
    with torch.random.fork_rng():
        torch.manual_seed(params["seed"])
        model = AnomalyModel(
            build_network(modalities, summaries, encoders, params), modalities, summaries, layout, params
        )
        aim = model.aimed(seen, stored=True) if labels is None else Spots(seen.prepared, labels=labels)
        run_training(model, aim, place, taught, loop)
    model.device = device_for(loop.accelerator)
    return model, prepared


def run_training(model: AnomalyModel, spots: Spots, place: Where, training: np.ndarray, loop: Loop) -> None:
    """Train the network on the training spots; edges to all others are cut."""
    p = model.params
    healthy = spots.only(training)
    tiles = spatial_tiles(*place, np.flatnonzero(healthy.present.any(1)), TRAINING_TILE)
    loader = tile_loader(
        healthy,
        tiles,
        batch_size=p["batch_size"],
        shuffle=True,
        seed=p["seed"],
        num_workers=loop.num_workers,
        share=True,
    )
    module = OMIBTraining(
        model.network,
        beta=p["beta"],
        warmup_epochs=p["warmup_epochs"],
        learning_rate=p["learning_rate"],
        weight_decay=p["weight_decay"],
        seed=p["seed"],
        settings={k: v for k, v in p.items() if k != "max_epochs"} | {"n_obs": len(training)},
    )
    if loop.compile:
        model.network.compile(dynamic=True)
    train(
        module,
        loader,
        max_epochs=p["max_epochs"],
        progress_bar=loop.progress_bar,
        folder=loop.resume,
        **loop.trainer(),
    )
    model.history = module.history


def results(model: AnomalyModel) -> dict[str, Any]:
    """What is kept in ``uns``: only types that AnnData can write to a file."""
    from omib_spatial import __version__

    params = {key: _array(value) if isinstance(value, list) else value for key, value in model.params.items()}
    layout = {key: "" if value is None else value for key, value in vars(model.layout).items()}
    history = {key: np.asarray(values) for key, values in model.history.items()}
    classes = {CLASSES: np.asarray(model.classes, str)} if model.classes else {}
    return {"version": __version__, "params": params | layout, "history": history, **classes}


def _array(values: list[Any]) -> np.ndarray:
    """Numbers as they are, all else as text."""
    return np.asarray(values, float if values and isinstance(values[0], float) else str)


def device_for(accelerator: str) -> str:
    """Where scoring runs for Lightning's ``accelerator``."""
    if accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return {"gpu": "cuda"}.get(accelerator, accelerator)
