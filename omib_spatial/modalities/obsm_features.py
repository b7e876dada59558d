"""Ready features from ``obsm``."""

from collections.abc import Collection
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from omib_spatial._checked import Key, checked
from omib_spatial._warn import warn
from omib_spatial.encoders.tabular import MLP
from omib_spatial.modalities.base import DenseRows, Modality, State
from omib_spatial.modalities.slide_statistics import FEATURES, SlideDescription
from omib_spatial.slides import Tissue
from omib_spatial.slides.digests import digest
from omib_spatial.slides.slides import named, real_numbers
from omib_spatial.stats.noise import is_noise

LARGEST = 1e15
"""The square of what is larger may not be held in single precision."""


def warn_of_noise(tissue: Tissue, modalities: Collection[Modality], reference: np.ndarray) -> None:
    """Warn, in one warning, of ``obsm`` entries whose columns are as white noise in the reference.

    Parameters
    ----------
    tissue
        All spots.
    modalities
        That are to be fitted; those of other kinds are passed over.
    reference
        Healthy spots, (n_obs,) bool.
    """
    chosen = [each for each in modalities if isinstance(each, ObsmFeatures)]
    if found := [f"obsm[{each.key!r}]" for each in chosen if not each.shows(tissue, reference)]:
        warn(
            f"{' and '.join(found)} may be noise: in the reference, neighbouring spots are no more alike in its "
            "columns than any others, and the columns vary no more together than after each was shuffled. A fit would "
            "take what is odd there by chance for evidence: look at how it was made, or leave it out of modalities."
        )


class ObsmFeatures(Modality):
    """Any numeric ``obsm`` entry, scaled per column by the reference; rows with NaN count as missing.

    Parameters
    ----------
    key
        The ``obsm`` key, (n_obs, p).

    Examples
    --------
    >>> from omib_spatial.modalities import ObsmFeatures
    >>> adata.obsm["protein"] = np.random.default_rng(0).normal(size=(adata.n_obs, 5))
    >>> ObsmFeatures("protein").values(adata).shape
    (600, 5)
    """

    statistics = FEATURES

    @checked
    def __init__(self, key: Key) -> None:
        self.key = key
        self.columns: list[str] = []
        self.mean = self.scale = torch.empty(0)

    def check(self, tissue: Tissue, *, required: bool) -> None:
        """Raise what is wrong with the ``obsm`` entry, which scoring needs as well."""
        self.values(tissue.adata)

    def slices(self, tissue: Tissue) -> np.ndarray:
        """Which slices have a row without NaN, (n_slices,)."""
        there = np.isfinite(self.values(tissue.adata)).all(1)
        return np.bincount(tissue.codes, there, len(tissue.libraries)) > 0

    def digest(self, tissue: Tissue) -> str:
        """Of the values."""
        return digest([self.values(tissue.adata)])

    def fit(self, tissue: Tissue, reference: np.ndarray, visible: np.ndarray | None = None) -> None:
        """Mean and spread of each column over the reference; a constant column is centred only."""
        self.columns = []
        values = self.values(tissue.adata)[reference]
        values = values[np.isfinite(values).all(1)]
        if len(values) == 0:
            raise ValueError(f"obsm['{self.key}'] has no reference row without NaN.")
        if (values == values[0]).all():
            raise ValueError(
                f"obsm['{self.key}'] is the same in all reference rows, so nothing can be learned of it: leave it out "
                "of modalities."
            )
        found = tissue.adata.obsm[self.key]
        self.columns = [str(name) for name in found.columns] if isinstance(found, pd.DataFrame) else []
        scaler = StandardScaler().fit(values)
        self.mean, self.scale = torch.from_numpy(scaler.mean_).float(), torch.from_numpy(scaler.scale_).float()

    def shows(self, tissue: Tissue, reference: np.ndarray) -> bool:
        """Whether reference spots, (n_obs,) bool, show more than white noise; True too where too few could tell."""
        values = self.values(tissue.adata)
        rows = np.flatnonzero(reference & np.isfinite(values).all(1))
        return not is_noise(values[rows], tissue.graph[rows][:, rows])

    def prepare(self, tissue: Tissue) -> DenseRows:
        """Scaled features of all spots."""
        values = self.values(tissue.adata)
        if self.mean.numel() and values.shape[1] != len(self.mean):
            raise ValueError(
                f"obsm['{self.key}'] has {values.shape[1]} columns; the model was fitted on {len(self.mean)}."
            )
        return DenseRows(values, self.mean, self.scale)

    def describe_slides(self, tissue: Tissue, visible: np.ndarray) -> dict[int, SlideDescription]:
        """Mean scaled features of each slide."""
        prepared, found = self.prepare(tissue), {}
        for code in range(len(tissue.libraries)):
            rows = np.flatnonzero(visible & prepared.present & (tissue.codes == code))
            if len(rows):
                found[code] = SlideDescription(np.array([np.nan]), prepared.batch(rows).double().mean(0).numpy())
        return found

    def feature_names(self, tissue: Tissue, width: int) -> list[str]:
        """Columns of the ``obsm`` entry where it is a table, else their numbers."""
        columns = getattr(tissue.adata.obsm[self.key], "columns", None)
        return super().feature_names(tissue, width) if columns is None else [str(name) for name in columns]

    def encoder(self) -> nn.Module:
        """A two-layer perceptron."""
        return MLP(len(self.mean))

    def state(self) -> State:
        """Key and column statistics."""
        return {"key": self.key, "columns": self.columns}, {"mean": self.mean, "scale": self.scale}

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """A fitted modality from its state."""
        new = cls(config["key"])
        new.columns = list(config.get("columns", ()))
        new.mean, new.scale = tensors["mean"], tensors["scale"]
        return new

    def values(self, adata: AnnData) -> np.ndarray:
        """The (n_obs, p) float32 array, named columns in the order of the fit; errors name what is wrong with it."""
        if self.key not in adata.obsm:
            raise KeyError(f"obsm['{self.key}'] is missing; obsm holds {sorted(map(str, adata.obsm))}.")
        found = adata.obsm[self.key]
        if isinstance(found, pd.DataFrame) and not found.columns.is_unique:
            twice = named(found.columns[found.columns.duplicated()].unique())
            raise ValueError(f"obsm['{self.key}'] has columns of one name ({twice}): rename or drop them.")
        if isinstance(found, pd.DataFrame) and self.columns:
            found = found.set_axis(found.columns.astype(str), axis=1)
            if sorted(found.columns) != sorted(self.columns):
                missing = [name for name in self.columns if name not in found.columns]
                raise ValueError(
                    f"obsm['{self.key}'] has other columns than the model was fitted on: {named(missing) or 'none'} "
                    f"missing, {named([name for name in found.columns if name not in self.columns]) or 'none'} new."
                )
            found = found[self.columns]
        numbers = real_numbers(found, f"obsm['{self.key}']")
        if (beyond := np.isfinite(numbers) & (np.abs(numbers) > LARGEST)).any():
            spots = named(adata.obs_names, beyond.reshape(len(numbers), -1).any(1))
            raise ValueError(
                f"obsm['{self.key}'] has values beyond {LARGEST:g}, among others in spots {spots}: scale them, or set "
                "them to NaN where they are none."
            )
        values = numbers.astype(np.float32)
        if values.ndim != 2:
            raise ValueError(f"obsm['{self.key}'] must be two-dimensional, not of shape {values.shape}.")
        return values
