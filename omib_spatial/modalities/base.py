"""A modality: what it learns from the reference, how spots become batches, and which encoder reads them."""

import copy
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor, nn

from omib_spatial.modalities.slide_statistics import SlideDescription
from omib_spatial.slides import Tissue
from omib_spatial.stats.contrast_terms import ViewTerms
from omib_spatial.stats.shift import Statistic

State = tuple[dict[str, Any], dict[str, Tensor]]
"""What is stored of a fitted modality: JSON-serialisable settings, and arrays as tensors."""


class Prepared(ABC):
    """One modality of all spots of a tissue, ready to be cut into batches.

    Attributes
    ----------
    present
        (n_obs,) bool, the spots that have this modality.

    Examples
    --------
    >>> from omib_spatial.slides import Layout, Tissue
    >>> tissue = Tissue(adata, Layout(library_key="library_id"))
    >>> image = model.modalities["image"].prepare(tissue)
    >>> image.features(np.arange(5)).shape, int(image.present.sum())
    ((5, 7), 600)
    """

    present: np.ndarray

    @cached_property
    def noise(self) -> np.ndarray:
        """How much the features of each spot owe to counting few molecules, (n_obs,)."""
        return np.zeros(len(self.present))

    def masked(self, visible: np.ndarray) -> Self:
        """The same data as if only the spots ``visible`` (n_obs,) were there. To be overridden where spots mix."""
        some = copy.copy(self)
        some.present = self.present & visible
        return some

    def keep(self, adata: AnnData) -> None:  # noqa: B027
        """Write what a later run need not compute again, after everything else has succeeded. Nothing by default."""

    @abstractmethod
    def batch(self, rows: np.ndarray) -> Any:
        """Encoder input of ``rows``, all of which have the modality."""

    @abstractmethod
    def features(self, rows: np.ndarray) -> np.ndarray:
        """(n, p) float32 features that describe each of ``rows``; `Summary` condenses them."""

    def project(self, rows: np.ndarray, origin: np.ndarray, axes: np.ndarray) -> np.ndarray:
        """``(features(rows) - origin) @ axes`` for (p,) and (p, q): (n, q)."""
        pieces = np.array_split(rows, len(rows) // 2048 + 1)
        return np.concatenate([(self.features(some) - origin) @ axes for some in pieces])

    def batch_with_summary(self, rows: np.ndarray, origin: np.ndarray, axes: np.ndarray) -> tuple[Any, np.ndarray]:
        """`batch` and `project` of the same rows; to be overridden where they share work."""
        return self.batch(rows), self.project(rows, origin, axes)


class Modality(ABC):
    """Learns its preprocessing from the reference spots, carries it, and applies it to any tissue.

    Examples
    --------
    >>> from omib_spatial.modalities import Gene, Modality
    >>> isinstance(model.modalities["gene"], Modality), list(model.modalities)
    (True, ['gene', 'image', 'genome'])
    """

    components: ClassVar[int] = 20
    """Width of its `Summary` at most."""
    clonal_axes: ClassVar[int] = 0
    """Principal axes of a slice along which its anomalies lie, since their cells descend from one; 0 if not so.

    Its features then put the spots of a slice in order (`omib_spatial.stats.ordering`): those of the genome where they
    show a clone, others always.
    """
    apart: ClassVar[bool] = False
    """Expression may predict what it shows, as it is measured apart from the counts and on much of a spot at once."""
    statistics: ClassVar[tuple[Statistic, ...]] = ()
    """By which a slide as a whole is compared with healthy slides; their values are those of `describe_slides`."""

    @classmethod
    def offered(cls, tissue: Tissue) -> bool:
        """Whether ``tissue`` holds what this modality reads, so that a fit takes it without being asked."""
        return False

    @abstractmethod
    def check(self, tissue: Tissue, *, required: bool) -> None:
        """Raise, before any work is done, what would fail later or silently mislead.

        With ``required`` at least one spot must have the modality.
        """

    def slices(self, tissue: Tissue) -> np.ndarray:
        """Which slices have it, (n_slices,) bool, as `omib_spatial.slides.Tissue.libraries` has them. Default: all."""
        return np.ones(len(tissue.libraries), bool)

    @abstractmethod
    def fit(self, tissue: Tissue, reference: np.ndarray, visible: np.ndarray | None = None) -> None:
        """Learn from the spots where ``reference`` (n_obs,) is True.

        Others that are ``visible`` (n_obs,), since they are labelled, are neighbours too, and say what can be measured.
        """

    @abstractmethod
    def prepare(self, tissue: Tissue) -> Prepared:
        """Apply what was learned to all spots; nothing is written."""

    def digest(self, tissue: Tissue) -> str:
        """Another text where what it reads beside counts, genes, places and graph is another; else empty."""
        return ""

    def describe_slides(self, tissue: Tissue, visible: np.ndarray) -> dict[int, SlideDescription]:
        """The `statistics` of each slide that has it, by its number in `omib_spatial.slides.Tissue.libraries`.

        Of spots that are ``visible`` (n_obs,), before anything is done to make slides alike.
        """
        return {}

    @abstractmethod
    def encoder(self) -> nn.Module:
        """A fresh encoder for this modality's batches."""

    def divided(self, tissue: Tissue, code: int, healthy: np.ndarray) -> "list[Division]":
        """What other modalities show of its values on one slide, where these are sums; nothing by default.

        Parameters
        ----------
        tissue
            All slides.
        code
            Of a slide that has it.
        healthy
            Weights of the slide's spots whose mean all others are compared with, (n,), of sum 1.
        """
        return []

    def drawn(self, prepared: Prepared) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
        """What a picture needs: (n_obs, p) for ``obsm``, and arrays (p,) that say what its columns are, for ``uns``."""
        return None

    def feature_names(self, tissue: Tissue, width: int) -> list[str]:
        """Names of the ``width`` columns of `Prepared.features`; numbers, unless written."""
        return [f"feature {number + 1}" for number in range(width)]

    @abstractmethod
    def state(self) -> State:
        """What `from_state` needs."""

    @classmethod
    @abstractmethod
    def from_state(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """A fitted modality from its state."""


class Division(NamedTuple):
    """What another kind of modality has to do with the values of one, on one slide.

    Attributes
    ----------
    kind
        Of the other modality.
    columns
        Which of its features, or of the data's genes, the terms are of, (p,).
    terms
        What they make up.
    own
        How far each feature of the view moves with the spot's own feature of the other modality, (n, p), where it is an
        average over neighbours of these.
    """

    kind: type[Modality]
    columns: np.ndarray
    terms: ViewTerms
    own: np.ndarray | None = None


class DenseRows(Prepared):
    """Ready features of every spot, scaled per column by the reference; NaN rows are missing."""

    def __init__(self, values: np.ndarray, mean: Tensor, scale: Tensor) -> None:
        self.values, self.mean, self.scale = values, mean, scale
        self.present = np.isfinite(values).all(1)

    def batch(self, rows: np.ndarray) -> Tensor:
        """(n, p) scaled features."""
        return (torch.from_numpy(self.values[rows]) - self.mean) / self.scale

    def features(self, rows: np.ndarray) -> np.ndarray:
        """(n, p) features as they are."""
        return self.values[rows]
