"""Which modalities an AnnData offers, and whether everything they need is there."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from anndata import AnnData

from omib_spatial.data import validation as check
from omib_spatial.data.gene import Gene
from omib_spatial.data.genome import Genome
from omib_spatial.data.image import Image
from omib_spatial.data.matrix import Matrix
from omib_spatial.data.modality import Layout, Modality
from omib_spatial.data.slides import library_codes

NAMED: dict[str, type[Modality]] = {"gene": Gene, "image": Image, "genome": Genome}
"""Modalities that a user asks for by name; any other name is a key of ``obsm``."""


def choose_modalities(
    adata: AnnData, wanted: Sequence[str] | Mapping[str, Modality] | None, layout: Layout
) -> dict[str, Modality]:
    """Modalities by name: those ``wanted``, or all of `NAMED` that ``adata`` offers."""
    if isinstance(wanted, Mapping):
        return dict(wanted)
    if isinstance(wanted, str):
        raise TypeError(f"modalities is a list of names: pass [{wanted!r}].")
    if wanted is None:
        wanted = [name for name, kind in NAMED.items() if kind.offered(adata, layout)]
    if not wanted:
        known = ", ".join(map(repr, NAMED))
        raise ValueError(f"modalities is empty: name at least one of {known}, or a key of obsm.")
    return {name: NAMED[name]() if name in NAMED else Matrix(name) for name in wanted}


def check_input(adata: AnnData, modalities: Collection[Modality], layout: Layout, *, required: bool) -> None:
    """Refuse what would fail later, or silently mislead, before any work is done."""
    check.refuse_view(adata)
    check.check_coordinates(adata, layout.spatial_key, layout.library_key)
    for modality in modalities:
        modality.check(adata, layout, required=required)


def slice_groups(adata: AnnData, modalities: Collection[Modality], layout: Layout) -> np.ndarray:
    """Group of each spot's slice, (n_obs,): slices that have the same modalities are one group."""
    codes, _ = library_codes(adata, layout.library_key)
    there = np.stack([modality.slices(adata, layout) for modality in modalities], 1)
    return np.unique(there, axis=0, return_inverse=True)[1].ravel()[codes]
