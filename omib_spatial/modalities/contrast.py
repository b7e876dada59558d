"""Which of the two kinds of tissue on its own slide a spot belongs to, where a slide tells."""

import logging
import reprlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor, nn

from omib_spatial._checked import Flag, checked
from omib_spatial.encoders.tabular import MLP
from omib_spatial.modalities.base import DenseRows, Division, Modality, State
from omib_spatial.modalities.contrast_views import slide_views
from omib_spatial.modalities.gene import Gene
from omib_spatial.modalities.genome import Genome
from omib_spatial.modalities.image import Image
from omib_spatial.modalities.signatures import CARCINOMA, Signatures, checked_signatures
from omib_spatial.slides import Tissue
from omib_spatial.slides.digests import counts_digest, digest
from omib_spatial.slides.rows import CountRows
from omib_spatial.stats.contrast import SlideContrast, silent, slide_contrast, trained_replicas
from omib_spatial.stats.contrast_terms import contrast_terms
from omib_spatial.stats.replicas import SlideViews, TrainedView

logger = logging.getLogger("omib_spatial")

MAX_SPOTS = 20_000
"""Spots of a slide at most: all of their genes are held at once."""
_KEPT = 200
"""Slides whose answers are kept, a few numbers per spot."""
_ROOM = 2**28
"""Bytes of genes' views that are kept with what was learned of them, while scores are explained."""
_answers: OrderedDict[str, SlideContrast] = OrderedDict()


class EvidenceRows(DenseRows):
    """Log odds of every spot for the encoder, and odds as the feature that distances are taken of.

    Odds lie close together in all that is healthy, and a spot that is surely healthy is not far from the others.
    """

    def features(self, rows: np.ndarray) -> np.ndarray:
        """(n, 1) odds."""
        return np.exp(self.values[rows])


class Contrast(Modality):
    """Evidence from inside each slide that a spot is of the abnormal one of two kinds of tissue.

    Slides of which this cannot be told lack the modality: their spots are scored on the others.

    Parameters
    ----------
    signatures
        What is taken for abnormal. They give the two kinds their names, and are no part of the evidence. Of several
        sets the first one is taken on which halves of the evidence agree. None does without.
    mostly_healthy
        Declares that most of each slide is healthy, which says which kind is which where there are no signatures.
    image
        Whether the H&E has a part in the evidence, on slides that have one.

    Raises
    ------
    TypeError, ValueError
        Signatures that are no mapping from a name to a weight and genes.

    Examples
    --------
    >>> from omib_spatial.modalities import Contrast
    >>> from omib_spatial.slides import Layout, Tissue
    >>> found = Contrast(mostly_healthy=True).found(Tissue(adata, Layout(library_key="library_id")))
    >>> list(found)
    ['slide1', 'slide2', 'slide3']
    """

    @checked
    def __init__(
        self,
        signatures: Signatures | Sequence[Signatures] | None = CARCINOMA,
        *,
        mostly_healthy: Flag = False,
        image: Flag = True,
    ) -> None:
        if not isinstance(signatures, Mapping | list | tuple | None):
            kind = reprlib.repr(signatures)
            raise TypeError(f"signatures is {kind}: pass a mapping from name to (weight, genes), or a list of them.")
        given = [signatures] if isinstance(signatures, Mapping) else signatures or [{}]
        self.signatures: list[Signatures] = [checked_signatures(each) for each in given]
        self.mostly_healthy, self.image = mostly_healthy, image
        self.mean = self.scale = torch.empty(0)
        self._known: tuple[str, dict[str, SlideContrast]] = ("", {})
        self._replicas: OrderedDict[tuple[str, int], tuple[SlideViews, list[list[TrainedView]]]] = OrderedDict()

    def found(self, tissue: Tissue) -> dict[str, SlideContrast]:
        """What each slide of ``tissue`` tells, by name; the tissue that was asked last is remembered."""
        if self._known[0] != tissue.identity:
            self._known = (
                tissue.identity,
                slide_contrasts(tissue, self.signatures, mostly_healthy=self.mostly_healthy, image=self.image),
            )
        return self._known[1]

    def check(self, tissue: Tissue, *, required: bool) -> None:
        """Raise what is wrong with the counts; with ``required`` also where no slide tells."""
        tissue.check_counts()
        if required and not any(contrast.answered for contrast in self.found(tissue).values()):
            reasons = " ".join(f"Slide {name!r}: {c.reason}" for name, c in self.found(tissue).items())
            raise ValueError(f"No slide tells two kinds of tissue apart: leave out the modality 'contrast'. {reasons}")

    def slices(self, tissue: Tissue) -> np.ndarray:
        """Which slices tell two kinds of tissue apart, (n_slices,)."""
        return np.array([self.found(tissue)[name].answered for name in tissue.libraries])

    def healthy_side(self, tissue: Tissue) -> np.ndarray:
        """Spots on the healthy side of slides that tell, (n_obs,) bool."""
        side = np.zeros(tissue.n_obs, bool)
        for code, name in enumerate(tissue.libraries):
            side[tissue.codes == code] = self.found(tissue)[name].healthy_side
        return side

    def fit(self, tissue: Tissue, reference: np.ndarray, visible: np.ndarray | None = None) -> None:
        """Mean and spread in the reference."""
        values = self._values(tissue)[reference]
        values = values[np.isfinite(values).all(1)]
        if len(values) == 0:
            raise ValueError("No reference spot lies on a slide that tells two kinds apart: leave out 'contrast'.")
        self.mean = torch.from_numpy(values.mean(0)).float()
        self.scale = torch.from_numpy(values.std(0) + 1e-3).float()

    def prepare(self, tissue: Tissue) -> EvidenceRows:
        """The evidence of all spots, NaN where a slide does not tell."""
        return EvidenceRows(self._values(tissue), self.mean, self.scale)

    def encoder(self) -> nn.Module:
        """A two-layer perceptron."""
        return MLP(1)

    def divided(self, tissue: Tissue, code: int, healthy: np.ndarray) -> list[Division]:
        """The evidence on one slide that tells, divided among genome, expression and image, and their features."""
        views, trained = self._learned(tissue, code)
        genome, expression, *image = contrast_terms(views, trained, healthy)
        placed, expressed = views.columns
        parts = [Division(Genome, placed, genome), Division(Gene, expressed, expression)]
        return parts + [Division(Image, np.arange(terms.features.shape[1]), terms, views.image_own) for terms in image]

    def feature_names(self, tissue: Tissue, width: int) -> list[str]:
        """Of the views that the evidence is a sum of."""
        return ["chromosomes inside the slide", "expression inside the slide", "image inside the slide"]

    def state(self) -> State:
        """Signatures, mean and spread."""
        signatures = [{name: [weight, genes] for name, (weight, genes) in each.items()} for each in self.signatures]
        config = {"signatures": signatures, "mostly_healthy": self.mostly_healthy, "image": self.image}
        return config, {"mean": self.mean, "scale": self.scale}

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """A fitted modality from its state."""
        if "image" not in config:
            raise ValueError(
                "The model's 'contrast' is of a development version, whose evidence had another scale: fit again."
            )
        new = cls(**config)
        new.mean, new.scale = tensors["mean"], tensors["scale"]
        return new

    def _learned(self, tissue: Tissue, code: int) -> tuple[SlideViews, list[list[TrainedView]]]:
        """One slide's views, and what replicas learned of them; kept for the slides that were asked last."""
        key = tissue.identity, code
        if key not in self._replicas:
            rows = np.flatnonzero(tissue.codes == code)
            given = self.signatures[self.found(tissue)[tissue.libraries[code]].attempt]
            shown = Image().described(tissue)[rows] if self.image and tissue.images else None
            views = next(slide_views(tissue, rows, [given], shown))
            self._replicas[key] = views, trained_replicas(views)
        self._replicas.move_to_end(key)
        while len(self._replicas) > 1 and sum(views.genes.nbytes for views, _ in self._replicas.values()) > _ROOM:
            self._replicas.popitem(last=False)
        return self._replicas[key]

    def _values(self, tissue: Tissue) -> np.ndarray:
        values = np.full((tissue.n_obs, 1), np.nan, np.float32)
        for code, name in enumerate(tissue.libraries):
            if (contrast := self.found(tissue)[name]).answered:
                values[tissue.codes == code, 0] = contrast.score
        return values


def slide_contrasts(
    tissue: Tissue, signatures: Sequence[Signatures], *, mostly_healthy: bool = False, image: bool = True
) -> dict[str, SlideContrast]:
    """What each slide tells by itself, by name; one line of the log for each.

    Parameters
    ----------
    tissue
        All slides.
    signatures
        What is taken for abnormal: sets that are tried in this order.
    mostly_healthy
        Declares that most of each slide is healthy.
    image
        Whether the H&E has a part in the evidence.
    """
    found = {}
    shown = Image().described(tissue) if image and tissue.images else None
    for code, name in enumerate(tissue.libraries):
        rows = np.flatnonzero(tissue.codes == code)
        found[name] = _ask(tissue, rows, signatures, mostly_healthy, None if shown is None else shown[rows])
        logger.info("Slide %r: %s", name, found[name].reason)
    return found


def _ask(
    tissue: Tissue, rows: np.ndarray, signatures: Sequence[Signatures], mostly_healthy: bool, shown: np.ndarray | None
) -> SlideContrast:
    """One slide's answer by the first signatures that give one; else that of the last that could be tried.

    The answer is of the slide alone, and takes seconds. So it is kept for whoever asks the same slide again: a score
    after a fit, or fits on other choices of slides.
    """
    if len(rows) > MAX_SPOTS:
        return silent(len(rows), f"{len(rows):,} spots are more than the {MAX_SPOTS:,} that can be held at once")
    key = _slide_digest(tissue, rows, signatures, mostly_healthy, shown)
    if key not in _answers:
        tried = []
        for attempt, views in enumerate(slide_views(tissue, rows, signatures, shown)):
            tried.append(replace(slide_contrast(views, mostly_healthy=mostly_healthy), attempt=attempt))
            if tried[-1].answered:
                break
        told = tried[-1] if tried[-1].answered else None
        _answers[key] = told or next((c for c in reversed(tried) if np.isfinite(c.agreement)), tried[0])
    _answers.move_to_end(key)
    while len(_answers) > _KEPT:
        _answers.popitem(last=False)
    return _answers[key]


def _slide_digest(
    tissue: Tissue,
    rows: np.ndarray,
    signatures: Sequence[Signatures],
    mostly_healthy: bool,
    shown: np.ndarray | None,
) -> str:
    """Text that is equal for equal counts, genes, neighbours, images and questions."""
    graph = sparse.csr_matrix(tissue.graph[rows][:, rows])
    genes = pd.util.hash_pandas_object(tissue.adata.var.astype(str)).to_numpy().view(np.int64)
    asked = repr(([sorted(each.items()) for each in signatures], mostly_healthy, tissue.layout.counts))
    image = np.empty(0) if shown is None else shown
    parts = (genes, tissue.depth[rows], graph.indptr, graph.indices, graph.data, image, asked)
    return f"{counts_digest(CountRows(tissue.counts[rows]))} {digest(parts)}"
