"""What each spot's score is made of: modalities, genes, windows of the genome, statistics of the image."""

from dataclasses import dataclass, field
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from omib_spatial.detector.attribution import FusedDistance, Made, of_summary
from omib_spatial.detector.judged import JudgedSlice, judged_slices
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.objective import FUSED
from omib_spatial.modalities import Gene, Spots
from omib_spatial.modalities.genome import GenomeRows
from omib_spatial.modalities.sources import code_of, follows_features
from omib_spatial.slides import Tissue
from omib_spatial.stats.attribution import PartPooling, leading_axes
from omib_spatial.stats.smooth import walk

TILE = 256
"""Spots whose genes are looked at a time."""


class FeatureTerms(NamedTuple):
    """Weighted sums of the contributions of one modality's features.

    Attributes
    ----------
    values
        (g, p).
    rest
        What none of the features makes up: what noisier spots are expected to show, (g,).
    """

    values: np.ndarray
    rest: np.ndarray


@dataclass
class Explanation:
    """What scores are made of.

    Attributes
    ----------
    score, origin
        Of every spot, and of the healthy side of its slice, (n_obs,).
    contributions
        Of each modality, (n_obs, modalities), NaN where a spot was not judged by it; with ``noise`` they sum to score
        less origin.
    noise
        What the same code counts more or less, as a spot is more or less noisy, (n_obs,).
    removed
        By how much the score beyond the origin falls if one modality alone is put at its origin, (n_obs, modalities).
    deviation
        Coordinates of each modality's summary, whitened, averaged as distances are, less those of the healthy side.
    features
        By modality, weighted sums of its features' contributions; ``genes`` of those of the genome's genes.
    change
        By modality, weighted sums of the features less the healthy side's, (g, p).
    gene_change
        The same of the genome's genes, in standard deviations of the reference.
    """

    score: np.ndarray
    origin: np.ndarray
    contributions: np.ndarray
    noise: np.ndarray
    removed: np.ndarray
    deviation: np.ndarray
    features: dict[str, FeatureTerms] = field(default_factory=dict)
    genes: dict[str, FeatureTerms] = field(default_factory=dict)
    change: dict[str, np.ndarray] = field(default_factory=dict)
    gene_change: dict[str, np.ndarray] = field(default_factory=dict)


class Explainer:
    """Takes the scores of a tissue apart.

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
    """

    def __init__(self, model: AnomalyModel, tissue: Tissue, spots: Spots, *, n_steps: int, device: str) -> None:
        self.model, self.tissue, self.spots = model, tissue, spots
        self.n_steps, self.device = n_steps, device
        scorable = np.flatnonzero(spots.present.any(1))
        self.evidence = model.trained.evidence(spots, tissue, scorable, device)
        self.slices = list(judged_slices(model, tissue, spots, self.evidence))
        model.network.eval().to(device)
        self._origins = self._code_origins() if FUSED in self.evidence.parts else {}

    def explain(self, weights: np.ndarray) -> Explanation:
        """Contributions of every spot, and sums of features' contributions with ``weights`` (n_obs, g)."""
        n_obs, names = self.tissue.n_obs, list(self.model.modalities)
        blank = np.full((n_obs, len(names)), np.nan)
        width = sum(summary.width for summary in self.model.summaries.values())
        result = Explanation(
            np.full(n_obs, np.nan), np.full(n_obs, np.nan), blank, np.full(n_obs, np.nan), blank.copy(),
            np.full((n_obs, width), np.nan, np.float32),
        )  # fmt: skip
        for judged in self.slices:
            _OneSlice(self, judged, weights[judged.rows]).into(result)
        return result

    def spot_genes(self, judged: JudgedSlice, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Contributions of genes to the scores of some ``rows`` (m,) of one slice, by modality, (m, genes)."""
        weights = (judged.rows[:, None] == rows).astype(np.float64)
        one = _OneSlice(self, judged, weights)
        one.run()
        expression = {n: t for n, t in one.features.items() if isinstance(self.model.modalities[n], Gene)}
        return {name: terms.values for name, terms in (expression | one.genes).items()}

    def close(self) -> None:
        """Bring the network back to the CPU."""
        self.model.network.cpu()

    def _code_origins(self) -> dict[str, Tensor]:
        """Mean code of the healthy sides, of each modality whose encoder reads neither a graph nor a table."""
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


class _OneSlice:
    """The work on one `JudgedSlice`, with weights (n, g) of its spots."""

    def __init__(self, explainer: Explainer, judged: JudgedSlice, weights: np.ndarray) -> None:
        self.of, self.judged, self.weights = explainer, judged, weights
        n, names = len(judged.rows), judged.combination
        graph = explainer.tissue.graph[judged.rows][:, judged.rows]
        self.step, self.hops = walk(graph, 1), explainer.model.calibration.pooling_hops
        self.scaled = weights * judged.per_unit[:, None]
        # (n, g) weights of each part's distances, before anything is averaged.
        self.back = {part: self._adjoint(column) for column, part in enumerate(judged.parts)}
        self.shift = weights - np.outer(judged.healthy, weights.sum(0))
        self.fused = np.zeros((n, len(names)))
        self.without = np.full((n, len(names)), np.nan)
        self.features: dict[str, FeatureTerms] = {}
        self.genes: dict[str, FeatureTerms] = {}
        self.change: dict[str, np.ndarray] = {}
        self.gene_change: dict[str, np.ndarray] = {}
        self._kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def _adjoint(self, column: int) -> np.ndarray:
        judged, model = self.judged, self.of.model
        part, projection = judged.parts[column], None
        if part is not None and (n_axes := model.modalities[part].clonal_axes):
            projection = leading_axes(self.of.spots.prepared[part].features(judged.rows), n_axes)
        hops = self.hops
        pooling = PartPooling(
            self.step, hops, judged.healthy, projection, judged.around[:, column], judged.pooled[:, column]
        )
        return pooling.adjoint(self.scaled) * judged.unit[column]

    def run(self) -> None:
        """Go through all spots once."""
        n = len(self.judged.rows)
        for some in np.array_split(np.arange(n), n // TILE + 1):
            self._tile(some)

    def _tile(self, some: np.ndarray) -> None:
        judged, explainer = self.judged, self.of
        model, rows = explainer.model, judged.rows[some]
        for name in judged.combination:
            if name in judged.parts:
                distance = model.distances[judged.combination][name]
                values = explainer.evidence.parts[name][rows]
                made = of_summary(distance, model.summaries[name], explainer.spots.prepared[name], rows, values)
                back = self.back[name][some]
                self._add(name, rows, made, back, judged.found[some, judged.parts.index(name)])
                self._changed(name, rows, made, self.shift[some])
        if FUSED in judged.parts:
            self._fused_tile(some, rows)

    def _fused_tile(self, some: np.ndarray, rows: np.ndarray) -> None:
        judged, explainer = self.judged, self.of
        fused = FusedDistance(
            explainer.model, judged.combination, explainer.model.distances[judged.combination][FUSED],
            explainer._origins, explainer.device,
        )  # fmt: skip
        sources = fused.sources(explainer.spots, rows)
        noise = torch.from_numpy(explainer.spots.noise(None)[rows]).double().to(explainer.device)
        gradients = fused.integrated(sources, noise, explainer.n_steps)
        back = self.back[FUSED][some]
        for column, (name, source) in enumerate(sources.items()):
            total = (gradients[name] * source.change).flatten(1).sum(1).double().cpu().numpy()
            self.fused[some, column] = total
            self.without[some, column] = fused.without(sources, noise, name)
            if source.columns:
                made = Made(gradients[name].cpu().numpy(), source.change.cpu().numpy())
                self._add(name, rows, made, back, total)
            elif (terms := source.terms(gradients[name])) is not None:
                self._put(self.features, name, back.T @ terms, back.T @ (total - terms.sum(1)))
            elif name in self.features:
                self._put(self.features, name, np.zeros(1), back.T @ total)

    def _add(self, name: str, rows: np.ndarray, made: Made, back: np.ndarray, total: np.ndarray) -> None:
        """Add what features make of the ``total`` (n,) of some spots, with weights ``back`` (n, g)."""
        terms = made.terms
        self._put(self.features, name, back.T @ terms, back.T @ (total - terms.sum(1)))
        data = self.of.spots.prepared[name]
        if isinstance(data, GenomeRows):
            slope = (made.gradient - made.gradient.mean(1, keepdims=True)) @ data.averages.T
            genes = slope * self._scaled(name, rows)
            self._put(self.genes, name, back.T @ genes, back.T @ (total - genes.sum(1)))

    def _scaled(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Scaled expression of the genome's genes, which is dense: made once for a tile."""
        known = self._kept.get(name)
        if known is None or known[0] is not rows:
            data = cast(GenomeRows, self.of.spots.prepared[name])
            known = self._kept[name] = (rows, data.scaled(rows))
        return known[1]

    def _changed(self, name: str, rows: np.ndarray, made: Made, shift: np.ndarray) -> None:
        self.change[name] = self.change.get(name, 0) + shift.T @ made.change
        if isinstance(self.of.spots.prepared[name], GenomeRows):
            self.gene_change[name] = self.gene_change.get(name, 0) + shift.T @ self._scaled(name, rows)

    @staticmethod
    def _put(kept: dict[str, FeatureTerms], name: str, values: np.ndarray, rest: np.ndarray) -> None:
        before = kept.get(name)
        kept[name] = (
            FeatureTerms(values, rest) if before is None else FeatureTerms(before.values + values, before.rest + rest)
        )

    def into(self, result: Explanation) -> None:
        """Write what was found of these spots, and add its share of the sums."""
        self.run()
        judged = self.judged
        rows, names = judged.rows, list(self.of.model.modalities)
        result.score[rows], result.origin[rows] = judged.score, judged.origin
        terms, noise = self._terms()
        columns = np.array([names.index(name) for name in judged.combination])
        result.contributions[np.ix_(rows, columns)] = terms
        result.noise[rows] = noise
        result.removed[np.ix_(rows, columns)] = self._removed()
        self._deviation(result)
        for kept, new in ((result.features, self.features), (result.genes, self.genes)):
            for name, found in new.items():
                self._put(kept, name, *found)
        for sums, mine in ((result.change, self.change), (result.gene_change, self.gene_change)):
            for name, change in mine.items():
                sums[name] = sums.get(name, 0) + change

    def _terms(self) -> tuple[np.ndarray, np.ndarray]:
        """Contributions (n, modalities) and what noise makes up (n,)."""
        judged = self.judged
        terms, noise = np.zeros((len(judged.rows), len(judged.combination))), np.zeros(len(judged.rows))
        for column, part in enumerate(judged.parts):
            worth = judged.per_unit * judged.unit[column]
            if part is not FUSED:
                pooled = judged.pooled[:, column]
                terms[:, judged.combination.index(part)] += worth * (pooled - judged.healthy @ pooled)
                continue
            both = np.column_stack([self.fused, judged.found[:, column] - self.fused.sum(1)])
            both = self._around(both)
            both = worth[:, None] * (both - judged.healthy @ both)
            terms += both[:, :-1]
            noise += both[:, -1]
        return terms, noise

    def _removed(self) -> np.ndarray:
        """Fall of the score beyond the origin (n, modalities) without each modality."""
        judged = self.judged
        removed = np.zeros((len(judged.rows), len(judged.combination)))
        for i, name in enumerate(judged.combination):
            pooled = judged.pooled.copy()
            for column, part in enumerate(judged.parts):
                if part == name:
                    pooled[:, column] = judged.healthy @ pooled[:, column]
                elif part is FUSED:
                    pooled[:, column] = self._around(self.without[:, i])
            removed[:, i] = judged.gap(judged.total) - judged.gap(pooled @ judged.unit)
        return removed

    def _around(self, values: np.ndarray) -> np.ndarray:
        for _ in range(self.hops):
            values = self.step @ values
        return values

    def _deviation(self, result: Explanation) -> None:
        judged, model, start = self.judged, self.of.model, 0
        for name, summary in model.summaries.items():
            columns = slice(start, start + summary.width)
            start += summary.width
            if name not in judged.combination or name not in self.of.evidence.parts:
                continue
            distance = model.distances[judged.combination][name]
            values, noise = self.of.evidence.parts[name][judged.rows], self.of.spots.noise(name)[judged.rows]
            white = self._around(distance.whitened(values, noise))
            result.deviation[judged.rows, columns] = white - judged.healthy @ white
