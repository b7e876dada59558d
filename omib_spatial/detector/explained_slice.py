"""What the scores of one slice are made of."""

from typing import cast

import numpy as np
import torch

from omib_spatial.detector.attribution import Made, of_summaries
from omib_spatial.detector.crossing import part_noise, part_values
from omib_spatial.detector.divided import DividedPart
from omib_spatial.detector.explanation import Explanation, FeatureSums, FeatureTerms
from omib_spatial.detector.judged import JudgedSlice
from omib_spatial.detector.judged_tissue import TILE, JudgedTissue
from omib_spatial.detector.objective import FUSED, Given, Part, modality_of
from omib_spatial.detector.ordering import clonal_modality
from omib_spatial.modalities import Gene, Genome
from omib_spatial.modalities.genome_rows import GenomeRows
from omib_spatial.stats.attribution import PartPooling, leading_axes
from omib_spatial.stats.ordering import SlideOrder
from omib_spatial.stats.smooth import walk


class ExplainedSlice:
    """The work on one `JudgedSlice`: adds to ``sums`` what features make up, with weights (n, g) of its spots."""

    def __init__(self, explainer: JudgedTissue, judged: JudgedSlice, weights: np.ndarray, sums: FeatureSums) -> None:
        self.of, self.judged, self.sums = explainer, judged, sums
        n, names = len(judged.rows), judged.combination
        graph = explainer.tissue.graph[judged.rows][:, judged.rows]
        self.step = walk(graph, 1)
        scaled = weights * judged.per_unit[:, None]
        # (n, g) weights of each part's distances, before anything is averaged.
        self.back = {part: self._adjoint(column, scaled) for column, part in enumerate(judged.parts)}
        self.shift = self._less_origin(weights)
        self.back_odds = self._less_origin(weights * judged.per_odds[:, None])
        self.divided = explainer.divided(judged)
        self.ordering = None if judged.order is None else clonal_modality(explainer.model, judged.combination)
        if self.ordering is not None:
            self.middle = judged.healthy @ explainer.spots.prepared[self.ordering].features(judged.rows)
        self.origins: dict[str, np.ndarray] = {}
        self.fused, self.without = np.zeros((n, len(names))), np.full((n, len(names)), np.nan)
        # Of a modality given another one, what the other one's features make of the distance.
        self.expected = {part: np.zeros(n) for part in judged.parts if isinstance(part, Given)}
        for some in np.array_split(np.arange(n), n // TILE + 1):
            self._tile(some)

    def _less_origin(self, weights: np.ndarray) -> np.ndarray:
        return weights - np.outer(self.judged.healthy, weights.sum(0))

    def _adjoint(self, column: int, weights: np.ndarray) -> np.ndarray:
        judged, part, projection = self.judged, self.judged.parts[column], None
        if isinstance(part, str) and (n_axes := self.of.model.modalities[part].clonal_axes):
            projection = leading_axes(self.of.spots.prepared[part].features(judged.rows), n_axes)
        around, pooled = judged.around[:, column], judged.pooled[:, column]
        pooling = PartPooling(self.step, judged.hops[column], judged.healthy, projection, around, pooled)
        return pooling.adjoint(weights) * judged.unit[column]

    def _tile(self, some: np.ndarray) -> None:
        judged, explainer = self.judged, self.of
        model, rows = explainer.model, judged.rows[some]
        prepared = {name: explainer.spots.prepared[name] for name in judged.combination}
        # Scaled expression of the genome's genes is dense: it is made once for a tile.
        self.scaled = {name: data.scaled(rows) for name, data in prepared.items() if isinstance(data, GenomeRows)}
        changed = set[str]()
        for column, part in enumerate(judged.parts):
            if part in self.divided:
                self._divided_tile(self.divided[part], some)
                continue
            if (name := modality_of(part)) is None:
                continue
            distance, values = model.distances[judged.combination][part], part_values(explainer.evidence, part, rows)
            noise = part_noise(explainer.spots, part)
            read = [(model.summaries[each], prepared[each]) for each in (part if isinstance(part, Given) else [name])]
            made, *others = of_summaries(distance, read, rows, values, noise, float(noise[judged.rows].mean()))
            total = judged.found[some, column]
            if isinstance(part, Given):
                self.expected[part][some] = expected = others[0].terms.sum(1)
                self._add(part.given, others[0], self.back[part][some], expected)
                total = total - expected
            self._add(name, made, self.back[part][some], total)
            if name not in changed:
                self._changed(name, made, self.shift[some])
            changed.add(name)
        if FUSED in judged.parts:
            self._fused_tile(some, rows)
        if self.ordering is not None:
            self._ordered_tile(self.ordering, some)

    def _fused_tile(self, some: np.ndarray, rows: np.ndarray) -> None:
        explainer, back = self.of, self.back[FUSED][some]
        fused = explainer.fused_distance(self.judged)
        sources = fused.sources(explainer.spots, rows)
        noise = torch.from_numpy(explainer.spots.noise(None)[rows]).double().to(explainer.device)
        gradients = fused.integrated(sources, noise, explainer.n_steps)
        for column, (name, source) in enumerate(sources.items()):
            total = (gradients[name] * source.change).flatten(1).sum(1).double().cpu().numpy()
            self.fused[some, column] = total
            self.without[some, column] = fused.without(sources, noise, name)
            if source.columns:
                made = Made(gradients[name].cpu().numpy(), source.change.cpu().numpy())
                self._add(name, made, back, total)
            elif (terms := source.terms(gradients[name])) is not None:
                _put(self.sums.features, name, terms, back, total)
            elif name in self.sums.features:
                # The network does not say which features of the summary it looked at.
                _put(self.sums.features, name, np.zeros((len(rows), 1)), back, total)

    def _ordered_tile(self, name: str, some: np.ndarray) -> None:
        """What the profiles make of the order inside the slide: averages already, by a quadratic in closed form."""
        judged, order, data = self.judged, cast(SlideOrder, self.judged.order), self.of.spots.prepared[name]
        origin = judged.healthy @ order.coordinates
        slopes = order.classifier.slopes(order.coordinates[some], origin) @ order.axes.T
        total = order.odds[some] - order.classifier(origin[None])
        made = Made(slopes, data.features(judged.rows[some]) - self.middle)
        genes = self.healthy_genes(name) if isinstance(data, GenomeRows) else None
        self._add(name, made, self.back_odds[some], total, genes)

    def _divided_tile(self, divided: DividedPart, some: np.ndarray) -> None:
        back, sums, n_vars = self.back[divided.name][some], self.sums, self.of.tissue.adata.n_vars
        shares, place = divided.shares[some], divided.place[some]
        alone = np.array([name == divided.name for name in divided.credited])
        if alone.any():
            # As many columns on a slide without an image.
            names = self.of.model.modalities[divided.name].feature_names(self.of.tissue, len(alone))
            own = np.pad(shares * alone, ((0, 0), (0, len(names) - len(alone))))
            _put(sums.features, divided.name, own, back, own.sum(1))
        for number, division in enumerate(divided.divisions):
            kind, g = division.kind, back.shape[1]
            if alone[number] and kind not in (Gene, Genome):
                continue
            if kind not in sums.inside:
                width = n_vars if kind in (Gene, Genome) else len(division.columns)
                sums.inside[kind] = FeatureTerms(np.zeros((g, width)), np.zeros(g))
                sums.inside_change[kind] = np.zeros((g, width))
            terms = divided.terms(number, some)
            sums.inside[kind].values[:, division.columns] += back.T @ terms
            sums.inside[kind].rest[:] += back.T @ (shares[:, number] - terms.sum(1))
            sums.inside_change[kind][:, division.columns] += self.shift[some].T @ division.terms.change(place)

    def _add(
        self, name: str, made: Made, back: np.ndarray, total: np.ndarray, genes: np.ndarray | float | None = None
    ) -> None:
        """Add what features make of the ``total`` (n,) of some spots, with weights ``back`` (n, g).

        ``genes`` is the origin of the genome's genes, where it does not follow from that of the features.
        """
        _put(self.sums.features, name, made.terms, back, total)
        data = self.of.spots.prepared[name]
        if isinstance(data, GenomeRows):
            slope = (made.gradient - made.gradient.mean(1, keepdims=True)) @ data.averages.T
            if genes is None:
                genes = 0.0 if made.origin is None else self._genes_at(name, made.origin)
            _put(self.sums.genes, name, slope * (self.scaled[name] - genes), back, total)

    def _genes_at(self, name: str, origin: np.ndarray) -> np.ndarray:
        if name not in self.origins:
            self.origins[name] = cast(GenomeRows, self.of.spots.prepared[name]).genes_of(origin)
        return self.origins[name]

    def healthy_genes(self, name: str) -> np.ndarray:
        """Mean scaled expression of the genome's genes on the healthy side, (genes,)."""
        if (key := f"{name}, healthy side") not in self.origins:
            data, rows = cast(GenomeRows, self.of.spots.prepared[name]), self.judged.rows
            pieces = data.chunks(np.flatnonzero(self.judged.healthy))
            self.origins[key] = np.sum([self.judged.healthy[some] @ data.scaled(rows[some]) for some in pieces], 0)
        return self.origins[key]

    def _changed(self, name: str, made: Made, shift: np.ndarray) -> None:
        sums = self.sums
        sums.change[name] = sums.change.get(name, 0) + shift.T @ made.change
        if name in self.scaled:
            sums.gene_change[name] = sums.gene_change.get(name, 0) + shift.T @ self.scaled[name]

    def write(self, result: Explanation) -> None:
        """Write what was found of each of these spots."""
        judged = self.judged
        rows, names = judged.rows, list(self.of.model.modalities)
        columns = np.array([names.index(name) for name in judged.combination])
        result.score[rows], result.origin[rows] = judged.score, judged.origin
        result.contributions[np.ix_(rows, columns)], result.noise[rows] = self._terms()
        result.removed[np.ix_(rows, columns)] = self._removed()
        self._deviation(result)

    def _terms(self) -> tuple[np.ndarray, np.ndarray]:
        """Contributions (n, modalities) and what noise makes up (n,)."""
        judged = self.judged
        terms, noise = np.zeros((len(judged.rows), len(judged.combination))), np.zeros(len(judged.rows))
        for column, part in enumerate(judged.parts):
            worth = judged.per_unit * judged.unit[column]
            if part in self.divided:
                shares = self._around(self.divided[part].shares, column)
                shares = worth[:, None] * (shares - judged.healthy @ shares)
                for credited, share in zip(self.divided[part].credited, shares.T, strict=True):
                    terms[:, judged.combination.index(credited)] += share
                continue
            if part is not FUSED:
                for name, share in self._shares(part, column).items():
                    terms[:, judged.combination.index(name)] += worth * (share - judged.healthy @ share)
                continue
            both = np.column_stack([self.fused, judged.found[:, column] - self.fused.sum(1)])
            both = self._around(both, column)
            both = worth[:, None] * (both - judged.healthy @ both)
            terms += both[:, :-1]
            noise += both[:, -1]
        if self.ordering is not None:
            odds = judged.odds - judged.healthy @ judged.odds
            terms[:, judged.combination.index(self.ordering)] += judged.per_odds * odds
        return terms, noise

    def _removed(self) -> np.ndarray:
        """Fall of the score beyond the origin (n, modalities) without each modality."""
        judged = self.judged
        removed = np.zeros((len(judged.rows), len(judged.combination)))
        for i, name in enumerate(judged.combination):
            pooled = judged.pooled.copy()
            for column, part in enumerate(judged.parts):
                if part in self.divided:
                    pooled[:, column] = self._around(self.divided[part].without(name), column)
                elif part is FUSED:
                    pooled[:, column] = self._around(self.without[:, i], column)
                elif (share := self._shares(part, column).get(name)) is not None:
                    pooled[:, column] = np.maximum(pooled[:, column] - share + judged.healthy @ share, 0)
            odds = np.full_like(judged.odds, judged.healthy @ judged.odds) if name == self.ordering else judged.odds
            removed[:, i] = judged.gap(judged.total, judged.odds) - judged.gap(pooled @ judged.unit, odds)
        return removed

    def _shares(self, part: Part, column: int) -> dict[str, np.ndarray]:
        """What each modality makes of the distances of a part that are summed, (n,)."""
        pooled, name = self.judged.pooled[:, column], cast(str, modality_of(part))
        if not isinstance(part, Given):
            return {name: pooled}
        expected = self._around(self.expected[part], column)
        return {name: pooled - expected, part.given: expected}

    def _around(self, values: np.ndarray, column: int) -> np.ndarray:
        for _ in range(self.judged.hops[column]):
            values = self.step @ values
        return values

    def _deviation(self, result: Explanation) -> None:
        judged, model, start = self.judged, self.of.model, 0
        for name, summary in model.summaries.items():
            columns = slice(start, start + summary.width)
            start += summary.width
            own = [part for part in judged.parts if modality_of(part) == name]
            if not own:
                continue
            # By itself, if it is judged so.
            part = own[0] if name not in own else name
            distance, noise = model.distances[judged.combination][part], part_noise(self.of.spots, part)[judged.rows]
            white = distance.whitened(part_values(self.of.evidence, part, judged.rows), noise)
            white = self._around(white, judged.parts.index(part))
            result.deviation[judged.rows, columns] = white - judged.healthy @ white


def _put(kept: dict[str, FeatureTerms], name: str, terms: np.ndarray, back: np.ndarray, total: np.ndarray) -> None:
    """Add to ``kept`` the ``terms`` (n, p) of some spots, and what of their ``total`` (n,) they leave, by ``back``."""
    new = FeatureTerms(back.T @ terms, back.T @ (total - terms.sum(1)))
    kept[name] = kept[name] + new if name in kept else new
