"""Which parts of a spot's patch speak for its score: Shapley values of the parts, by captum."""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from captum.attr import ShapleyValueSampling
from torch import Tensor

from omib_spatial.detector.crossing import part_noise
from omib_spatial.detector.explaining import Explainer
from omib_spatial.detector.judged import JudgedSlice
from omib_spatial.detector.objective import FUSED, Given
from omib_spatial.modalities import Image
from omib_spatial.modalities.patches import slides
from omib_spatial.modalities.sources import source_of
from omib_spatial.modalities.stain import Stain

logger = logging.getLogger("omib_spatial")

AT_ONCE = 32
"""Patches that are read at a time."""


class PatchTerms(NamedTuple):
    """What each part of some spots' patches makes up, in units of the score.

    Attributes
    ----------
    values
        (n, k, k), from the top left.
    error
        Standard error of each, from the healthy patches and orders that were drawn, (n, k, k).
    side
        Of the squares, in full-resolution pixels, (n,).
    """

    values: np.ndarray
    error: np.ndarray
    side: np.ndarray


class PatchDistance:
    """What one spot's patch makes of its score, all else staying, before neighbours are averaged.

    Parameters
    ----------
    explainer, judged
        That have judged the spot.
    row
        Of the spot.
    name
        Of the modality.
    stain
        Of the slide.
    """

    def __init__(self, explainer: Explainer, judged: JudgedSlice, row: int, name: str, stain: Stain) -> None:
        self.of, self.judged, self.row, self.name, self.stain = explainer, judged, row, name, stain
        model = explainer.model
        self.distances = model.distances[judged.combination]
        self.at = int(np.flatnonzero(judged.rows == row)[0])
        self.per_unit = float(judged.per_unit[self.at])
        self.divided = explainer.divided(judged)
        if FUSED in judged.parts:
            self.fused = explainer.fused_distance(judged)
            self.sources = self.fused.sources(explainer.spots, np.array([row]))
            self.noise = torch.from_numpy(explainer.spots.noise(None)[[row]]).double().to(explainer.device)

    @torch.no_grad()
    def __call__(self, patches: Tensor) -> Tensor:
        """(n, 3 per side, size, size) patches, as the slide might show them, to (n,) in units of the score."""
        model, rows = self.of.model, np.arange(len(patches))
        image, summary = cast(Image, model.modalities[self.name]), model.summaries[self.name]
        data = image.prepare_patches(patches.numpy().round().astype(np.uint8), self.stain)
        total = torch.zeros(len(rows), dtype=torch.float64)
        for part, unit in zip(self.judged.parts, self.judged.unit, strict=True):
            names = list(part) if isinstance(part, Given) else [part] if part else []
            if isinstance(part, str) and (number := self._view(part)) is not None:
                change = data.features(rows) - self.of.spots.prepared[self.name].features(np.array([self.row]))
                total += unit * torch.from_numpy(self.divided[part].shown(number, self.at, change))
            elif self.name in names:
                columns = [summary.of(data, rows).numpy() if n == self.name else self._summary(n, rows) for n in names]
                noise = np.full(len(rows), part_noise(self.of.spots, part)[self.row])
                total += unit * torch.from_numpy(self.distances[part](np.hstack(columns), noise))
            elif part is FUSED:
                encoder, origin = model.network.encoders[self.name], self.of.origins.get(self.name)
                new = source_of(encoder, data, summary, rows, self.of.device, origin)
                sources = {
                    name: new if name == self.name else source.repeated(len(rows))
                    for name, source in self.sources.items()
                }
                total += unit * self.fused.at(sources, self.noise.expand(len(rows))).cpu()
        return self.per_unit * total

    def _view(self, part: str) -> int | None:
        """Number of the view of a divided part that averages the patch's own statistics."""
        image = cast(Image, self.of.model.modalities[self.name])
        if part not in self.divided or self.name not in self.divided[part].credited:
            return None
        if not image.describes_as(Image()):
            return None
        return self.divided[part].credited.index(self.name)

    def _summary(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Of another modality, which stays as it is, as often as there are ``rows``."""
        return np.repeat(self.of.evidence.parts[name][[self.row]], len(rows), 0)


def patch_terms(
    explainer: Explainer, name: str, rows: np.ndarray, *, n_parts: int, n_samples: int, seed: int
) -> PatchTerms:
    """Divide what the patches of some spots make of their scores among the parts of the patches.

    A part that is left out shows what is there in the patch of a spot of the slice's healthy side. Such spots, and the
    orders in which parts are put back, are drawn; for each draw the parts sum to the spot's patch less the healthy one.

    Parameters
    ----------
    explainer
        Of the tissue.
    name
        Of the image modality.
    rows
        Spots that are judged by it, (n,).
    n_parts
        Parts along each side of the widest square.
    n_samples
        Healthy patches, each with an order of its own.
    seed
        Of what is drawn.
    """
    image = cast(Image, explainer.model.modalities[name])
    _warn_of_unread(explainer, name, rows)
    known = {row: slide for slide in slides(explainer.tissue) for row in slide.rows.tolist()}
    values, side = np.empty((len(rows), n_samples, n_parts, n_parts)), np.empty(len(rows))
    for judged in explainer.slices:
        own = np.flatnonzero(np.isin(rows, judged.rows))
        if len(own) == 0:
            continue
        slide = known[int(judged.rows[0])]
        sides, stain = [each.pixels(slide.image, slide.name) for each in image.sides], image.stain_of(slide)
        side[own] = max(sides) / slide.image.scale
        drawn = np.random.default_rng(seed).choice(judged.rows[judged.healthy > 0], n_samples)
        healthy, mask = image.cut(slide, drawn), parts_of(sides, image.size, n_parts)
        for at in own:
            score = PatchDistance(explainer, judged, int(rows[at]), name, stain)
            terms = shapley_values(score, image.cut(slide, rows[[at]]), healthy, mask, seed)
            values[at] = terms.reshape(n_samples, n_parts, n_parts)
    error = values.std(1, ddof=1) / np.sqrt(n_samples) if n_samples > 1 else np.full_like(values[:, 0], np.nan)
    return PatchTerms(values.mean(1), error, side)


def _warn_of_unread(explainer: Explainer, name: str, rows: np.ndarray) -> None:
    """Say what the image shows inside a slide, and this encoder does not read."""
    judged = [one for one in explainer.slices if np.isin(rows, one.rows).any()]
    credited = any(name in part.credited for one in judged for part in explainer.divided(one).values())
    if credited and not cast(Image, explainer.model.modalities[name]).describes_as(Image()):
        logger.warning(
            "What the picture says inside the slide is read off its texture in squares of 2 spot diameters, not off "
            "what %r reads: it is in the contributions of explain, and in no map of patches.",
            name,
        )


def shapley_values(
    score: Callable[[Tensor], Tensor], patch: np.ndarray, others: np.ndarray, mask: np.ndarray, seed: int
) -> np.ndarray:
    """What each part makes of the score of a patch, with the parts of others in place of those that are left out.

    Each of the others has one random order in which parts are put back, so that the parts sum to the score of the patch
    less that of the other. The mean over many is the Shapley value.

    Parameters
    ----------
    score
        Of (m, c, size, size) patches, (m,).
    patch, others
        (1, c, size, size) and (n, c, size, size).
    mask
        Number of the part, from 0, of each pixel, (c, size, size).
    seed
        Of the orders.

    Returns
    -------
    (n, parts).
    """
    whole, parts = (torch.from_numpy(np.asarray(values)) for values in (patch.astype(np.float32), mask[None]))
    first = np.unique(mask, return_index=True)[1]
    method, found = ShapleyValueSampling(score), np.empty((len(others), len(first)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number, other in enumerate(others):
            terms = method.attribute(
                whole, torch.from_numpy(other[None].astype(np.float32)), feature_mask=parts, n_samples=1,
                perturbations_per_eval=AT_ONCE,
            )  # fmt: skip
            found[number] = terms.numpy().ravel()[first]
    return found


def parts_of(sides: Sequence[float], size: int, n_parts: int) -> np.ndarray:
    """Number of the part that each pixel shows, of squares around one spot, (3 per side, size, size).

    Parts are squares of the widest one, ``n_parts`` along each side, numbered row by row: what a smaller square shows
    belongs to the part of the widest in which it lies.
    """
    place = (np.arange(size) + 0.5) / size - 0.5
    scales = []
    for side in sides:
        cell = np.floor((place * side / max(sides) + 0.5) * n_parts).astype(np.int64)
        scales.append(np.repeat((cell[:, None] * n_parts + cell)[None], 3, 0))
    return np.concatenate(scales)
