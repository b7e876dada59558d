"""Whether what a modality holds, once it was read from a file, can have been learned: sizes, types, signs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from omib_spatial._checked import Positive, checked_value
from omib_spatial.modalities.base import Modality
from omib_spatial.modalities.gene import Gene
from omib_spatial.modalities.genome import Genome
from omib_spatial.modalities.image import Image
from omib_spatial.modalities.obsm_features import ObsmFeatures
from omib_spatial.modalities.texture import STATISTICS


def check_learned(modality: Modality) -> None:
    """Raise TypeError or ValueError for a number or name that no fit can have left.

    Parameters
    ----------
    modality
        One of the package's; of others ``mean`` and ``scale`` alone are looked at, if they have them.
    """
    if isinstance(scale := getattr(modality, "scale", None), Tensor):
        _require(scale.ndim == 1 and len(scale) > 0, f"its scale has the shape {tuple(scale.shape)}")
        _like(modality, ("mean", "scale"), len(scale), torch.float32)
        _require(bool((scale > 0).all()), "its scale is not positive")
    if isinstance(modality, Gene | Genome):
        _check_genes(modality)
    if isinstance(modality, Genome):
        _like(modality, ("start", "end"), len(modality.genes), torch.float64)
        _names("chromosomes", modality.chromosomes, len(modality.genes))
        _require(bool((modality.start <= modality.end).all()), "a gene ends before it starts")
    if isinstance(modality, ObsmFeatures) and modality.columns:
        _names("columns", modality.columns, len(modality.mean))
    if isinstance(modality, Image):
        _check_image(modality)


def _check_genes(modality: Gene | Genome) -> None:
    checked_value("target_sum", modality.target_sum, Positive)
    _names("genes", modality.genes, len(modality.mean))
    _require(len(set(modality.genes)) == len(modality.genes), "it has a gene twice")


def _check_image(modality: Image) -> None:
    checked_value("width", modality.width, Positive | None)
    _require(isinstance(modality.weights, str), f"its weights are {modality.weights!r}")
    for name, shape in (("glass", (3,)), ("vectors", (2, 3)), ("strength", (2,))):
        found = getattr(modality.reference, name)
        _require(found.shape == shape and found.dtype == float, f"its {name} is of another shape or type")
    channels = 3 if modality.trained else None
    if modality.name in STATISTICS:
        channels = len(STATISTICS[modality.name].names)
    n, sides = len(modality.mean), len(modality.sides)
    _require(channels is None or n == channels * sides, f"it has {n} numbers of {sides} squares")
    glass, strength = modality.reference.glass, modality.reference.strength
    _require(bool(((glass > 0) & (glass <= 255)).all()), "its glass is no colour")
    _require(bool((strength > 0).all()), "its stains have no strength")


def _like(modality: Modality, names: Sequence[str], n: int, dtype: torch.dtype) -> None:
    for name in names:
        found: Tensor = getattr(modality, name)
        _require(found.shape == (n,), f"its {name} has the shape {tuple(found.shape)} in place of {(n,)}")
        _require(found.dtype == dtype, f"its {name} is of type {str(found.dtype).removeprefix('torch.')}")


def _names(what: str, found: Any, n: int) -> None:
    _require(isinstance(found, list) and all(isinstance(name, str) for name in found), f"its {what} are no names")
    _require(len(found) == n, f"it has {len(found)} {what} in place of {n}")


def _require(truth: bool, words: str) -> None:
    if not truth:
        raise ValueError(words)
