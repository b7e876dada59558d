"""Steps of the scale benchmark, each run in a process of its own."""

import json
import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from omib_bench.scale import FEATURES, RATIO_SPOTS, REPEATS
from omib_spatial import tl
from omib_spatial._keys import LIBRARY, SPATIAL
from omib_spatial.core.network import Batch
from omib_spatial.datasets import simulate_tissue
from omib_spatial.detector import AnomalyModel
from omib_spatial.detector.evidence import SCORING_TILE, with_targets
from omib_spatial.detector.settings import RunOptions, TrainingSettings
from omib_spatial.detector.training import TRAINING_TILE, train_network
from omib_spatial.modalities import Spots, tile_loader
from omib_spatial.slides import Tissue
from omib_spatial.slides.graph import spatial_graph
from omib_spatial.slides.split import spatial_tiles

IMAGE = "X_image"
CONFIG = replace(tl.OBJECTIVES["reconstruction"].config, warmup_epochs=0, beta=0.01, max_epochs=1)
MAIN_PHASE: dict[str, Any] = {
    "config": CONFIG,
    "enable_progress_bar": False,
    "accelerator": "cpu",
    "library_key": LIBRARY,
    "all_healthy": True,
}


def main(step: str, arguments: str) -> None:
    """Run a step with its arguments in JSON, and print what it found as JSON."""
    known: dict[str, Callable[..., dict[str, float]]] = {"simulate": simulate, "measure": measure, "compare": compare}
    print(json.dumps(known[step](**json.loads(arguments))))


def tissue(n_spots: int, n_genes: int, seed: int) -> ad.AnnData:
    """One healthy slice with shallow counts and ready image features."""
    options: dict[str, Any] = {"n_healthy": 1, "image": False, "depth": 0.08 * n_genes, "seed": seed}
    adata = simulate_tissue(1, n_spots=n_spots, n_genes=n_genes, **options)
    noise = np.random.default_rng(seed)
    adata.obsm[IMAGE] = noise.standard_normal((n_spots, FEATURES), dtype=np.float32)
    return adata


def simulate(path: str, n_spots: int, n_genes: int, seed: int) -> dict[str, float]:
    """Write a slice to ``path``.

    Parameters
    ----------
    path
        File to write, h5ad.
    n_spots, n_genes
        Of the slice.
    seed
        Of everything random.

    Returns
    -------
    Empty: nothing is measured.
    """
    tissue(n_spots, n_genes, seed).write_h5ad(Path(path))
    return {}


def measure(path: str, seed: int) -> dict[str, float]:
    """Fit and score the slice in ``path``; few epochs where it is large."""
    adata = ad.read_h5ad(path)
    parts = (adata.X.data, adata.X.indices, adata.X.indptr, adata.obsm[IMAGE], adata.obsm[SPATIAL])
    epochs = int(np.clip(300_000 // adata.n_obs, 1, 5))
    started = perf_counter()
    model = tl.fit(adata, modalities=["gene", IMAGE], max_epochs=epochs, seed=seed, **MAIN_PHASE)
    fitted = perf_counter()
    tl.score(adata, model, key_added="again", accelerator="cpu")
    scored = perf_counter()
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds_per_epoch": statistics.median(model.history["seconds"]),
        "seconds_fit_outside_epochs": fitted - started - sum(model.history["seconds"]),
        "seconds_score": scored - fitted,
        "spots_per_second_score": adata.n_obs / (scored - fitted),
        "peak_rss_bytes": float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit),
        "anndata_bytes": float(sum(part.nbytes for part in parts)),
        "share_of_counts_stored": adata.X.nnz / adata.X.shape[0] / adata.X.shape[1],
    }


def compare(n_genes: int, seed: int) -> dict[str, float]:
    """All ratios, the two sides of each in turn within this process."""
    adata = tissue(RATIO_SPOTS, n_genes, seed)
    both = Fitted(adata, ["gene", IMAGE], seed)
    as_made = both.ready()
    dense = Ready(*([with_dense_features(batch) for batch in batches] for batches in as_made))
    found = {
        "ratio_epoch_to_bare_loop": ratio(both.epoch, lambda: both.bare_epoch(dense)),
        "ratio_score_to_bare_forward": ratio(timed(both.score), timed(lambda: both.bare_forward(dense))),
        "ratio_epoch_to_sparse_loop": ratio(both.epoch, lambda: both.bare_epoch(as_made)),
        "ratio_score_to_sparse_forward": ratio(timed(both.score), timed(lambda: both.bare_forward(as_made))),
        "ratio_graph_to_squidpy": ratio(timed(lambda: spatial_graph(adata)), timed(lambda: squidpy_graph(adata))),
    }
    if find_spec("scvi") is not None:
        found["ratio_epoch_to_scvi"] = ratio(Fitted(adata, ["gene"], seed).epoch, scvi_epoch(adata, seed))
    return found


def ratio(ours: Callable[[], float], floor: Callable[[], float]) -> float:
    """Median seconds of one over those of the other, taken in turn after a first try of each."""
    pairs = [(ours(), floor()) for _ in range(REPEATS + 1)][1:]
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)


def timed(work: Callable[[], Any]) -> Callable[[], float]:
    """``work`` as a function that returns the seconds it took."""

    def clock() -> float:
        started = perf_counter()
        work()
        return perf_counter() - started

    return clock


class Fitted:
    """A fitted model with everything that an epoch and a score are made of."""

    def __init__(self, adata: ad.AnnData, modalities: Sequence[str], seed: int) -> None:
        self.adata = adata
        self.model: AnomalyModel = tl.fit(adata, modalities=modalities, seed=seed, **MAIN_PHASE)
        self.tissue = Tissue(adata, self.model.layout)
        self.spots = self.model.prepare(self.tissue)
        self.settings = TrainingSettings(self.model.objective, CONFIG, seed)
        self.targets = with_targets(self.model.objective, self.model.summaries, self.spots)
        self.training = np.ones(adata.n_obs, bool)
        self.new = adata.copy()

    def ready(self) -> "Ready":
        """All batches, made before any clock runs."""
        training = self._batches(self.targets, TRAINING_TILE, CONFIG.batch_size)
        return Ready(training, self._batches(self.targets, SCORING_TILE, 1))

    def _batches(self, spots: Spots, tile: int, batch_size: int) -> list[Batch]:
        tiles = spatial_tiles(self.tissue.locations, np.arange(self.adata.n_obs), tile)
        return list(tile_loader(spots, tiles, batch_size=batch_size, shuffle=True))

    def epoch(self) -> float:
        """Seconds of one epoch as `omib_spatial.tl.fit` runs it."""
        self.trained = train_network(
            self.model.modalities,
            self.model.summaries,
            self.spots,
            self.tissue,
            self.training,
            encoders={},
            settings=self.settings,
            options=RunOptions({"enable_progress_bar": False, "accelerator": "cpu"}),
        )
        return self.trained.history["seconds"][-1]

    def bare_epoch(self, ready: "Ready") -> float:
        """Seconds of the same steps on ready tensors, in plain PyTorch."""
        network = self.model.network.train()
        optimizer = torch.optim.Adam(network.parameters(), CONFIG.learning_rate, fused=True)
        started = perf_counter()
        for batch in ready.training:
            loss = network.objective(network(batch), batch, float(CONFIG.beta or 0)).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return perf_counter() - started

    def score(self) -> None:
        """All of `omib_spatial.tl.score` on a slide that was not seen, from raw counts to calls."""
        tl.score(self.new, self.model, accelerator="cpu")

    @torch.no_grad()
    def bare_forward(self, ready: "Ready") -> None:
        """The network's forward pass over ready tensors."""
        network = self.model.network.eval()
        for batch in ready.scoring:
            network(batch)


class Ready(NamedTuple):
    """Batches of an epoch and of a score."""

    training: list[Batch]
    scoring: list[Batch]


def with_dense_features(batch: Batch) -> Batch:
    """The same batch as a loop in plain PyTorch has it: without anything sparse."""
    gene = batch.inputs["gene"]
    return batch._replace(inputs=batch.inputs | {"gene": gene._replace(features=gene.x)})


def squidpy_graph(adata: ad.AnnData) -> None:
    """What `spatial_graph` is built on, by itself."""
    import squidpy as sq

    light = ad.AnnData(obs=adata.obs[[LIBRARY]], obsm={SPATIAL: adata.obsm[SPATIAL]})
    sq.gr.spatial_neighbors(light, coord_type="generic", n_neighs=6, library_key=LIBRARY, copy=True)


class _EpochClock(Callback):
    """Seconds of every training epoch, as `OMIBTraining` takes them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._started = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        self._started = perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:
        self.seconds.append(perf_counter() - self._started)


def scvi_epoch(adata: ad.AnnData, seed: int) -> Callable[[], float]:
    """Seconds of one epoch of scVI with its defaults, on the same counts and with the same batch size."""
    import scvi

    scvi.settings.seed = seed
    scvi.settings.verbosity = 40
    counts = ad.AnnData(adata.X.copy(), obs=adata.obs[[]].copy(), var=adata.var[[]].copy())
    scvi.model.SCVI.setup_anndata(counts)
    quiet = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}

    def epoch() -> float:
        clock, model = _EpochClock(), scvi.model.SCVI(counts)
        model.train(max_epochs=1, train_size=1.0, batch_size=128, callbacks=[clock], **quiet)
        return clock.seconds[-1]

    return epoch
