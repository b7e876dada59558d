"""A trained network, and what it says of every spot."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import torch

from omib_spatial._threads import cores
from omib_spatial.core import Batch, Network
from omib_spatial.core.distributed import gathered, process_rank
from omib_spatial.detector.objective import Objective, Part
from omib_spatial.modalities import Modality, Spots, Summary, Target, spread, tile_loader
from omib_spatial.slides import Tissue
from omib_spatial.slides.split import spatial_tiles

SCORING_TILE = 1024
"""Spots per batch when scoring: with a smaller tile more of the work is on halos."""


@dataclass(frozen=True)
class Evidence:
    """What a network says of spots, NaN of those that it was not asked about.

    Attributes
    ----------
    code
        Bottleneck embedding xi, (n, k) float32.
    parts
        Of each part from which a spot is judged, (n, p_i) float32.
    probability
        Of each class, (n, n_classes) float32; None without labels.
    """

    code: np.ndarray
    parts: dict[Part, np.ndarray]
    probability: np.ndarray | None = None

    def _each(self, change: "partial[np.ndarray]") -> "Evidence":
        code = change(self.code)
        # What is judged may be the code itself, the widest part: it is kept once.
        parts = {part: code if values is self.code else change(values) for part, values in self.parts.items()}
        return Evidence(code, parts, None if self.probability is None else change(self.probability))

    def take(self, rows: np.ndarray) -> "Evidence":
        """Of some spots."""
        return self._each(partial(np.take, indices=rows, axis=0))

    def unknown(self, n_obs: int) -> "Evidence":
        """NaN for ``n_obs`` spots, in the same widths."""
        return self._each(partial(_unknown, n_obs))

    def put(self, rows: np.ndarray, found: Self) -> None:
        """Write what was ``found`` of some spots."""
        self.code[rows] = found.code
        for part, values in found.parts.items():
            if self.parts[part] is not self.code:
                self.parts[part][rows] = values
        if self.probability is not None:
            self.probability[rows] = found.probability


def _unknown(n_obs: int, like: np.ndarray) -> np.ndarray:
    return np.full((n_obs, like.shape[1]), np.nan, np.float32)


@dataclass(frozen=True)
class TrainedNetwork:
    """What one training gives: the way from raw data to evidence.

    Attributes
    ----------
    network
        The trained `omib_spatial.core.OMIB`.
    modalities
        Fitted modality by name, in the network's order.
    summaries
        Fitted summary of each modality.
    objective
        What the network was trained for.
    classes
        Names of the labels' classes; empty without labels.
    history
        Losses, r and KL, one value per epoch.
    """

    network: Network
    modalities: dict[str, Modality]
    summaries: dict[str, Summary]
    objective: Objective
    classes: Sequence[str]
    history: dict[str, list[float]]

    def prepare(self, tissue: Tissue) -> Spots:
        """Apply the fitted preprocessing; nothing is written."""
        return Spots({name: modality.prepare(tissue) for name, modality in self.modalities.items()})

    def evidence(self, spots: Spots, tissue: Tissue, rows: np.ndarray, device: str) -> Evidence:
        """What the network says of ``rows``, NaN elsewhere. Several processes share the work, and each gets all.

        Parameters
        ----------
        spots
            Prepared by this network's modalities.
        tissue
            That they are of.
        rows
            Spots with any modality, (m,).
        device
            Where the network runs.
        """
        spots = with_targets(self.objective, self.summaries, spots)
        tiles = spatial_tiles(tissue.locations, rows, SCORING_TILE)
        self.network.eval().to(device)
        rank, world = process_rank()
        mine = tiles[rank::world]
        batches = tile_loader(spots, mine, batch_size=1, shuffle=False) if mine else ()
        threads = cores() if device == "cpu" else 1
        whole: Evidence | None = None
        with closing(spread(partial(self._judge, device=device), batches, threads)) as judged:
            for tile, found in zip(mine, judged, strict=True):
                whole = whole or found.unknown(tissue.n_obs)
                whole.put(tile, found)
        self.network.cpu()
        if world > 1:
            done = np.concatenate([*mine, np.empty(0, np.int64)])
            for theirs, other in gathered((done, whole and whole.take(done))):
                if other is not None:
                    whole = whole or other.unknown(tissue.n_obs)
                    whole.put(theirs, other)
        if whole is None:
            raise ValueError("No spot has any modality: there is nothing to judge.")
        return whole

    # Here, for a thread has a setting of its own.
    @torch.no_grad()
    def _judge(self, batch: Batch, device: str) -> Evidence:
        if device != "cpu":
            from lightning.pytorch.utilities import move_data_to_device

            batch = move_data_to_device(batch, torch.device(device))
        widths = {name: summary.width for name, summary in self.summaries.items()}
        output = self.network(batch)
        code, task = output.xi.cpu().numpy(), self.network.task
        parts = {
            part: code if values is output.xi else values.cpu().numpy()
            for part, values in self.objective.evidence(task, output, batch, widths).items()
        }
        return Evidence(code, parts, task.predict(output.prediction).cpu().numpy() if self.classes else None)


def with_targets(
    objective: Objective, summaries: Mapping[str, Summary], spots: Spots, *, stored: bool = False
) -> Spots:
    """Give ``spots`` the target of the objective: their summaries, where it has one.

    They are made when a batch asks for them, or once if they are to be ``stored``, as pays for many epochs.

    Parameters
    ----------
    objective
        What the network is trained for.
    summaries
        Fitted summary of each modality.
    spots
        All spots, prepared; their labels are left out.
    stored
        Whether targets are made once and kept.
    """
    if not objective.needs_target:
        return Spots(spots.prepared)
    targets = {
        name: Target(s.width, partial(s.of, spots.prepared[name]), partial(s.batch_with_summary, spots.prepared[name]))
        for name, s in summaries.items()
    }
    if stored:
        targets = {name: target.stored(spots.prepared[name].present) for name, target in targets.items()}
    return Spots(spots.prepared, targets)
