"""A modality: what it learns from the reference, how spots become batches, and which encoder reads them."""

import copy
import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, Self
from weakref import WeakValueDictionary

import numpy as np
import scipy.sparse as sp
import torch
from anndata import AnnData
from torch import Tensor, nn

from omib_spatial.data.graph import spatial_graph
from omib_spatial.data.slides import coordinates, library_codes

_GRAPHS: WeakValueDictionary[Any, sp.csr_matrix] = WeakValueDictionary()

State = tuple[dict[str, Any], dict[str, Tensor]]
"""What is stored of a fitted modality: JSON-serialisable settings, and arrays as tensors."""


@dataclass(frozen=True)
class Layout:
    """Where an AnnData keeps what the model reads, and how its graph is built. Stored with the model.

    Attributes
    ----------
    layer
        Layer with raw counts; None reads ``X``.
    spatial_key
        ``obsm`` key of the coordinates.
    library_key
        ``obs`` column that separates slices; None for a single slice.
    image_key
        Which image of ``uns["spatial"][library]["images"]`` is read.
    neighbors_key
        ``obsp`` key of a ready graph; None builds one.
    n_neighbors
        Neighbours per spot when the graph is built, before it is made symmetric; with all that tie with the last one.
    """

    layer: str | None = None
    spatial_key: str = "spatial"
    library_key: str | None = None
    image_key: str = "hires"
    neighbors_key: str | None = None
    n_neighbors: int = 6

    def graph(self, adata: AnnData) -> sp.csr_matrix:
        """Spatial graph of ``adata``, (n_obs, n_obs); the same object while somebody holds it, so do not change it."""
        build = partial(
            spatial_graph,
            adata,
            spatial_key=self.spatial_key,
            library_key=self.library_key,
            n_neighbors=self.n_neighbors,
            neighbors_key=self.neighbors_key,
        )
        if self.neighbors_key is not None:
            return build()
        # Several modalities and steps ask for it. What it follows from is compared, so a moved spot is not missed.
        places = coordinates(adata, self.spatial_key), library_codes(adata, self.library_key)[0]
        known = self.n_neighbors, *(hashlib.blake2b(np.ascontiguousarray(part).data).digest() for part in places)
        graph = _GRAPHS.get(known)
        if graph is None:
            graph = _GRAPHS[known] = build()
        return graph


class Prepared(ABC):
    """One modality of all spots of an AnnData, ready to be cut into batches.

    Attributes
    ----------
    present
        (n_obs,) bool, the spots that have this modality.
    """

    present: np.ndarray

    @cached_property
    def noise(self) -> np.ndarray:
        """How much the features of each spot owe to counting few molecules, (n_obs,)."""
        return np.zeros(len(self.present))

    def only(self, mask: np.ndarray) -> Self:
        """The same data as if the spots outside ``mask`` (n_obs,) were not there."""
        some = copy.copy(self)
        some.present = self.present & mask
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

    def both(self, rows: np.ndarray, origin: np.ndarray, axes: np.ndarray) -> tuple[Any, np.ndarray]:
        """`batch` and `project` of the same rows; to be overridden where they share work."""
        return self.batch(rows), self.project(rows, origin, axes)


class Modality(ABC):
    """Learns its preprocessing from the reference spots, carries it, and applies it to any AnnData."""

    components: ClassVar[int] = 20
    """Width of its `Summary` at most."""
    clonal_axes: ClassVar[int] = 0
    """Principal axes of a slice along which its anomalies lie, since their cells descend from one; 0 if not so."""

    @classmethod
    def offered(cls, adata: AnnData, layout: Layout) -> bool:
        """Whether ``adata`` holds what this modality reads, so that a fit takes it without being asked."""
        return False

    @abstractmethod
    def check(self, adata: AnnData, layout: Layout, *, required: bool) -> None:
        """Raise, before any work is done, what would fail later or silently mislead.

        With ``required`` at least one spot must have the modality.
        """

    def slices(self, adata: AnnData, layout: Layout) -> np.ndarray:
        """Which slices have the modality: (n_slices,) bool, in the order of `library_codes`. All, unless overridden."""
        return np.ones(len(library_codes(adata, layout.library_key)[1]), bool)

    @abstractmethod
    def fit(self, adata: AnnData, reference: np.ndarray, layout: Layout, seen: np.ndarray | None = None) -> None:
        """Learn from the spots where ``reference`` (n_obs,) is True.

        Others that may be ``seen`` (n_obs,), since they are labelled, are neighbours too, and say what can be measured.
        """

    @abstractmethod
    def prepare(self, adata: AnnData, layout: Layout) -> Prepared:
        """Apply what was learned to all spots; ``adata`` stays as it is."""

    @abstractmethod
    def encoder(self) -> nn.Module:
        """A fresh encoder for this modality's batches."""

    def drawn(self, prepared: "Prepared") -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
        """What a picture needs: (n_obs, p) for ``obsm``, and arrays (p,) that say what its columns are, for ``uns``."""
        return None

    @abstractmethod
    def state(self) -> State:
        """What `from_state` needs."""

    @classmethod
    @abstractmethod
    def from_state(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """A fitted modality from its state."""


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
