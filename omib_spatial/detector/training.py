"""One training: preprocessing, beta, the network."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from omib_spatial._settings import settings as settings_of_user
from omib_spatial._threads import all_threads
from omib_spatial.core import Network
from omib_spatial.detector.beta import bounds_on_beta
from omib_spatial.detector.evidence import TrainedNetwork, with_targets
from omib_spatial.detector.own_encoders import try_encoders
from omib_spatial.detector.reference import Reference
from omib_spatial.detector.settings import RunOptions, TrainingSettings
from omib_spatial.modalities import Modality, Prepared, Spots, Summary, tile_loader
from omib_spatial.slides import Tissue
from omib_spatial.slides.digests import digest
from omib_spatial.slides.split import spatial_tiles

TRAINING_TILE = 32
"""Spots per tile in training: a batch is several tiles, of several slices."""
SUMMARY_ROWS = 20_000
"""Reference spots that summaries are learned from at most."""


def train_on(
    tissue: Tissue,
    modalities: dict[str, Modality],
    reference: Reference,
    *,
    encoders: Mapping[str, nn.Module],
    settings: TrainingSettings,
    options: RunOptions,
) -> tuple[TrainedNetwork, Spots, dict[str, float | int]]:
    """Fit preprocessing, beta where the config has none, and the network.

    All is learned from the reference's spots or, where there are labels, the preprocessing from the former with
    labelled neighbours, and beta and the network from all labelled spots.

    Parameters
    ----------
    tissue
        All spots.
    modalities
        By name; they are fitted.
    reference
        What is learned from.
    encoders
        The user's own by modality; they are trained.
    settings, options
        Of the training.

    Returns
    -------
    trained
        Preprocessing and network.
    spots
        All spots, prepared.
    estimates
        ``beta``, and what it follows from where it was estimated.
    """
    taught, visible = reference.taught, reference.spots | reference.taught
    for modality in modalities.values():
        modality.fit(tissue, reference.spots, visible)
    spots = Spots({name: modality.prepare(tissue) for name, modality in modalities.items()})
    everything = np.ones_like(visible)
    shown, axes = (everything, everything) if reference.found else (visible, reference.spots)
    summaries = fit_summaries(modalities, spots.masked(shown), axes, settings.seed)
    seen = spots.masked(taught)
    try_encoders(encoders, seen)
    beta, estimates = settings.config.beta, {}
    if beta is None:
        estimates = bounds_on_beta(seen, summaries, taught, settings.seed)
        beta = float(estimates["M_u"])
    settings = replace(settings, config=replace(settings.config, beta=float(beta)))
    if reference.labels is not None:
        seen = Spots(seen.prepared, labels=reference.labels)
    trained = train_network(
        modalities, summaries, seen, tissue, taught, encoders=encoders, settings=settings, options=options
    )
    return trained, spots, {**estimates, "beta": float(beta)}


def train_network(
    modalities: dict[str, Modality],
    summaries: dict[str, Summary],
    spots: Spots,
    tissue: Tissue,
    training: np.ndarray,
    *,
    encoders: Mapping[str, nn.Module],
    settings: TrainingSettings,
    options: RunOptions,
) -> TrainedNetwork:
    """Train a fresh network on the training spots; edges to all others are cut.

    Parameters
    ----------
    modalities, summaries
        Fitted.
    spots, tissue
        All spots, prepared by them; with labels where these are learned.
    training
        Spots to learn from, (n_obs,) bool.
    encoders
        The user's own by modality; they are trained.
    settings, options
        Of the training.
    """
    # Lightning takes seconds to load: only where something is trained.
    from omib_spatial.core.loop import train

    config = settings.config
    record = {key: value for key, value in settings.record().items() if key != "max_epochs"} | {
        "modalities": list(modalities),
        "own_encoders": sorted(encoders),
        "n_obs": tissue.n_obs,
        "n_training": int(training.sum()),
    }
    if options.resume is not None:
        record |= data_digests(tissue, modalities, training, spots.labels)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        network = build_network(modalities, summaries, encoders, settings)
        if spots.labels is None:
            spots = with_targets(settings.objective, summaries, spots, stored=True)
        visible = spots.masked(training)
        tiles = spatial_tiles(tissue.locations, np.flatnonzero(visible.present.any(1)), TRAINING_TILE)
        given = {"batch_size": config.batch_size, "seed": settings.seed, "num_workers": options.num_workers}
        loader = tile_loader(visible, tiles, shuffle=True, share=True, **given)
        module = config.training(network, beta=0.0, seed=settings.seed, settings=record)
        if options.compile:
            network.compile(dynamic=True)
        trainer = options.for_lightning()
        progress_bar = trainer.pop("enable_progress_bar", settings_of_user.verbosity > 0)
        large = any(isinstance(part, nn.Conv2d) for part in network.modules())
        with all_threads() if large else nullcontext():
            loop = {"max_epochs": config.max_epochs, "progress_bar": progress_bar, "step": options.step}
            train(module, loader, folder=options.resume, **loop, **trainer)
    return TrainedNetwork(network, modalities, summaries, settings.objective, settings.classes, module.history)


def data_digests(
    tissue: Tissue, modalities: Mapping[str, Modality], training: np.ndarray, labels: np.ndarray | None
) -> dict[str, str]:
    """What a training that is resumed must have been stopped on: a short text by kind of data.

    Parameters
    ----------
    tissue, modalities
        All spots, and what is read of them.
    training
        Spots to learn from, (n_obs,) bool.
    labels
        Class of each spot, (n_obs,), if these are learned.
    """
    taught = digest([training] if labels is None else [training, labels])
    own = {f"digest of {name}": found for name, modality in modalities.items() if (found := modality.digest(tissue))}
    return {f"digest of {name}": value for name, value in (tissue.digests | {"reference": taught}).items()} | own


def build_network(
    modalities: Mapping[str, Modality],
    summaries: Mapping[str, Summary],
    encoders: Mapping[str, nn.Module],
    settings: TrainingSettings,
) -> Network:
    """A fresh network for fitted ``modalities``; own ``encoders`` take the place of the default ones.

    Parameters
    ----------
    modalities, summaries
        Fitted, by name, in the network's order.
    encoders
        The user's own by modality.
    settings
        Of the training.
    """
    chosen = {name: encoders[name] if name in encoders else m.encoder() for name, m in modalities.items()}
    task = settings.objective.task(sum(s.width for s in summaries.values()), settings.class_weights)
    return settings.objective.network(chosen, task, settings.config)


def fit_summaries(
    modalities: Mapping[str, Modality], spots: Spots, training: np.ndarray, seed: int
) -> dict[str, Summary]:
    """Learn the summary of each modality from training spots (n_obs,) that have it, at most `SUMMARY_ROWS`.

    Parameters
    ----------
    modalities
        By name; each says how many components are kept at most.
    spots
        All spots, prepared by them.
    training
        Spots to learn from, (n_obs,) bool.
    seed
        Of the spots that are drawn, and of the components.
    """
    summaries = {}
    for name, data in spots.prepared.items():
        summary = fit_summary(modalities[name], data, training, seed)
        if summary is None:
            raise ValueError(
                f"{name!r} is the same in all of the {int((training & data.present).sum())} reference spots that have "
                "it, so nothing can be learned of it: leave it out of modalities."
            )
        summaries[name] = summary
    return summaries


def fit_summary(modality: Modality, data: Prepared, training: np.ndarray, seed: int) -> Summary | None:
    """Learn the summary of one modality; None where nothing varies.

    Parameters
    ----------
    modality, data
        Says how many components are kept at most, and all spots, prepared by it.
    training, seed
        As in `fit_summaries`.
    """
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(training & data.present))[:SUMMARY_ROWS]
    pieces = np.array_split(np.sort(rows), len(rows) // 2048 + 1)
    features = np.concatenate([data.features(some) for some in pieces])
    if len(rows) == 0 or not (np.ptp(features, 0) > 0).any():
        return None
    summary = Summary(modality.components)
    summary.fit(features, seed)
    return summary
