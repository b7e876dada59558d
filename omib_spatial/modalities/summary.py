"""A few numbers that say what one modality shows at each spot."""

from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from omib_spatial.modalities.base import Prepared


class Summary:
    """Whitened principal components of a modality's features in the reference.

    It is what the default objective asks the fused code to explain, and what information between modalities is
    estimated on: raw pixels and thousands of genes would drown the estimate in noise.

    Parameters
    ----------
    n_components
        Components kept at most.

    Examples
    --------
    >>> from omib_spatial.modalities import Summary
    >>> features = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    >>> summary = Summary(n_components=3)
    >>> summary.fit(features)
    >>> tuple(summary(features).shape), summary.width
    ((100, 3), 3)
    """

    def __init__(self, n_components: int = 20) -> None:
        self.n_components = n_components
        self.mean = self.scale = self.axes = torch.empty(0)

    def fit(self, features: np.ndarray, seed: int = 0) -> None:
        """Learn from reference ``features`` (n, p): each is standardised, then components of variance are taken."""
        mean = features.mean(0, dtype=np.float64).astype(np.float32)
        standard = features - mean
        scale = standard.std(0) + 1e-3
        standard /= scale
        n = min(self.n_components, *features.shape)
        pca = PCA(n, random_state=seed, copy=False).fit(standard)
        spread = np.sqrt(pca.explained_variance_)
        kept = spread > 0.05 * spread[0]
        self.mean, self.scale = torch.from_numpy(mean).float(), torch.from_numpy(scale).float()
        self.axes = torch.from_numpy((pca.components_[kept] / spread[kept, None]).T.astype(np.float32).copy())

    def __call__(self, features: np.ndarray) -> Tensor:
        """(n, p) features to (n, q) components, each of unit variance in the reference."""
        return (torch.from_numpy(features).float() - self.mean) / self.scale @ self.axes

    def of(self, data: Prepared, rows: np.ndarray) -> Tensor:
        """(n, q) components of some spots of a modality."""
        return _tensor(data.project(rows, *self._line()))

    def batch_with_summary(self, data: Prepared, rows: np.ndarray) -> tuple[Any, Tensor]:
        """The encoder's input of some spots, and `of` them, for less than both cost by themselves."""
        batch, values = data.batch_with_summary(rows, *self._line())
        return batch, _tensor(values)

    def _line(self) -> tuple[np.ndarray, np.ndarray]:
        """Origin (p,) and axes (p, q) that features are projected by."""
        return self.mean.numpy(), (self.axes / self.scale.unsqueeze(1)).numpy()

    @property
    def width(self) -> int:
        """q, the number of components."""
        return self.axes.shape[1]

    def state(self) -> dict[str, Tensor]:
        """Tensors that `load_state` needs."""
        return {"mean": self.mean, "scale": self.scale, "axes": self.axes}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `fit` learned."""
        self.mean, self.scale, self.axes = tensors["mean"], tensors["scale"], tensors["axes"]


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))
