"""A tissue whose spots were judged, with all that went into their scores."""

import numpy as np
import torch
from torch import Tensor

from omib_spatial.detector.attribution import FusedDistance
from omib_spatial.detector.divided import DividedPart
from omib_spatial.detector.judged import JudgedSlice, judged_slices
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.objective import FUSED
from omib_spatial.modalities import Spots
from omib_spatial.modalities.sources import code_of, follows_features
from omib_spatial.slides import Tissue

TILE = 256
"""Spots whose inputs are looked at a time."""


class JudgedTissue:
    """All that scores came from, at hand to take them apart.

    Parameters
    ----------
    model
        Fitted.
    tissue, spots
        All spots, and what ``model.prepare`` made of them.
    n_steps
        Of the integral through the network.
    device
        Where the network runs.

    Attributes
    ----------
    slices
        That were judged.
    origins
        Mean code (1, d) of the healthy sides, of each modality whose encoder reads neither a graph nor a table.
    """

    def __init__(self, model: AnomalyModel, tissue: Tissue, spots: Spots, *, n_steps: int, device: str) -> None:
        self.model, self.tissue, self.spots = model, tissue, spots
        self.n_steps, self.device = n_steps, device
        self._divided: tuple[JudgedSlice | None, dict[str, DividedPart]] = (None, {})
        scorable = np.flatnonzero(spots.present.any(1))
        self.evidence = model.trained.evidence(spots, tissue, scorable, device)
        self.slices = list(judged_slices(model, tissue, spots, self.evidence))
        model.network.eval().to(device)
        self.origins = self._code_origins() if FUSED in self.evidence.parts else {}

    def divided(self, judged: JudgedSlice) -> dict[str, DividedPart]:
        """Parts of one slice that other modalities make up, by name; those of the last slice are kept."""
        if self._divided[0] is not judged:
            names = [part for part in judged.parts if isinstance(part, str)]
            found = {n: DividedPart.of(self.model, judged, n, self.tissue, self.spots) for n in names}
            self._divided = judged, {name: part for name, part in found.items() if part is not None}
        return self._divided[1]

    def fused_distance(self, judged: JudgedSlice) -> FusedDistance:
        """The distance of the fused code, of spots of one slice."""
        distance = self.model.distances[judged.combination][FUSED]
        return FusedDistance(self.model, judged.combination, distance, self.origins, self.device)

    def close(self) -> None:
        """Bring the network back to the CPU."""
        self.model.network.cpu()

    def _code_origins(self) -> dict[str, Tensor]:
        found = {}
        for name in self.model.modalities:
            rows = [s.rows[s.healthy > 0] for s in self.slices if name in s.combination]
            if not rows:
                continue
            healthy = np.sort(np.concatenate(rows))
            encoder, data = self.model.network.encoders[name], self.spots.prepared[name]
            if follows_features(encoder, data.batch(healthy[:1])):
                continue
            pieces = np.array_split(healthy, len(healthy) // TILE + 1)
            codes = [code_of(encoder, data.batch(some), self.device) for some in pieces]
            found[name] = torch.cat(codes).mean(0, keepdim=True)
        return found
