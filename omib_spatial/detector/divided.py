"""A part of the evidence whose values are a sum over what other modalities show: whose its distances are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from omib_spatial.detector.judged import JudgedSlice
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.modalities import Image, Modality, Spots
from omib_spatial.modalities.base import Division
from omib_spatial.modalities.contrast import EvidenceRows
from omib_spatial.slides import Tissue
from omib_spatial.stats.distance import Distance

EVEN = 1e-6
"""Difference of evidence up to which a spot is as the mean spot of the healthy side."""


def credited_to(kind: type[Modality], modalities: Mapping[str, Modality]) -> str | None:
    """Name of the modality that shows what a view of this kind does; of images the one of the same statistics."""
    found = [name for name, modality in modalities.items() if isinstance(modality, kind)]
    alike = [name for name in found if isinstance(image := modalities[name], Image) and image.describes_as(Image())]
    return next(iter([*alike, *found]), None)


@dataclass(frozen=True)
class DividedPart:
    """Distances of one part on one slice, divided among views of the slide.

    The part's distance is a function of the evidence, which is a sum over views. So what lies between a spot's distance
    and that at the origin is each view's in proportion to what it adds to the evidence (integrated gradients).

    Attributes
    ----------
    model, judged
        By which, and of which slice.
    name
        Of the part's modality.
    divisions
        The views.
    place
        Of the judged spots among all of the slide, (n,).
    evidence
        Of the judged spots, (n,).
    values
        What each view adds to the evidence beyond the origin, (n, views).
    ratio
        Distance per unit of evidence on the way from the origin, (n,).
    """

    model: AnomalyModel
    judged: JudgedSlice
    name: str
    divisions: list[Division]
    place: np.ndarray
    evidence: np.ndarray
    values: np.ndarray
    ratio: np.ndarray

    @classmethod
    def of(cls, model: AnomalyModel, judged: JudgedSlice, name: str, tissue: Tissue, spots: Spots) -> Self | None:
        """None where the part is not a sum over views."""
        code = int(tissue.codes[judged.rows[0]])
        slide = np.flatnonzero(tissue.codes == code)
        place, healthy = np.searchsorted(slide, judged.rows), np.zeros(len(slide))
        healthy[place] = judged.healthy
        divisions = model.modalities[name].divided(tissue, code, healthy)
        data = spots.prepared[name]
        if not divisions or not isinstance(data, EvidenceRows):
            return None
        evidence = data.values[judged.rows, 0].astype(np.float64)
        values = np.stack([part.terms.value[place] for part in divisions], 1)
        gap = values.sum(1)
        new = cls(model, judged, name, divisions, place, evidence, values, np.zeros(len(gap)))
        found = judged.found[:, judged.parts.index(name)]
        beyond = found - new.distance(np.array([(evidence - gap).mean()]))
        ratio = np.divide(beyond, gap, out=np.zeros_like(gap), where=np.abs(gap) > EVEN)
        return cls(model, judged, name, divisions, place, evidence, values, ratio)

    @property
    def credited(self) -> list[str]:
        """Modality that each view is credited to: one of its kind that judged the spots, else the part's own."""
        known = {name: self.model.modalities[name] for name in self.judged.combination}
        return [credited_to(part.kind, known) or self.name for part in self.divisions]

    @property
    def shares(self) -> np.ndarray:
        """What each view makes of the distances beyond that at the origin, (n, views)."""
        return self.ratio[:, None] * self.values

    def distance(self, evidence: np.ndarray) -> np.ndarray:
        """Of spots with some evidence, (n,)."""
        summary, distance = self.model.summaries[self.name], self._distance
        components = summary(np.exp(evidence[:, None]).astype(np.float32)).numpy()
        return distance(components, np.zeros(len(evidence)))

    def without(self, name: str) -> np.ndarray:
        """Distances (n,) if what is credited to one modality were as it is at the origin."""
        own = np.array([one == name for one in self.credited])
        return self.distance(self.evidence - self.values[:, own].sum(1))

    def shown(self, number: int, at: int, change: np.ndarray) -> np.ndarray:
        """Distances (m,) if one judged spot's own features changed so much (m, p), and not those of its neighbours."""
        division, place = self.divisions[number], self.place[at]
        if division.own is None:
            raise ValueError("This view is no average of features of a modality.")
        features = division.terms.features[place] + division.own[place] * change
        return self.distance(self.evidence[at] - self.values[at, number] + division.terms.at(features))

    def terms(self, number: int, some: np.ndarray) -> np.ndarray:
        """What each feature of a view makes of the distances of ``some`` of the judged spots, (m, p)."""
        return self.ratio[some, None] * self.divisions[number].terms.terms(self.place[some])

    @property
    def _distance(self) -> Distance:
        return self.model.distances[self.judged.combination][self.name]
