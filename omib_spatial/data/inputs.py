"""Which modalities an AnnData offers, and whether everything they need is there."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from anndata import AnnData

from omib_spatial.data import validation as check
from omib_spatial.data.gene import Gene
from omib_spatial.data.image import Image
from omib_spatial.data.matrix import Matrix
from omib_spatial.data.modality import Layout, Modality
from omib_spatial.data.slides import library_codes


def choose_modalities(
    adata: AnnData, wanted: Sequence[str] | Mapping[str, Modality] | None, layout: Layout
) -> dict[str, Modality]:
    """Modalities by name: those ``wanted``, or genes and, where a slice has an image, the image."""
    if isinstance(wanted, Mapping):
        return dict(wanted)
    if isinstance(wanted, str):
        raise TypeError(f"modalities is a list of names: pass [{wanted!r}].")
    if wanted is None:
        pictured = pictured_slices(adata, layout, required=False)
        wanted = ["gene", "image"] if pictured else ["gene"]
    if not wanted:
        raise ValueError("modalities is empty: name at least one of 'gene', 'image', or a key of obsm.")
    known: dict[str, type[Modality]] = {"gene": Gene, "image": Image}
    return {name: known[name]() if name in known else Matrix(name) for name in wanted}


def check_input(adata: AnnData, modalities: Collection[Modality], layout: Layout, *, required: bool) -> None:
    """Refuse what would fail later, or silently mislead, before any work is done."""
    check.refuse_view(adata)
    check.check_coordinates(adata, layout.spatial_key, layout.library_key)
    for modality in modalities:
        if isinstance(modality, Gene):
            check.check_counts(adata, layout.layer)
        elif isinstance(modality, Image):
            pictured_slices(adata, layout, required=required)
        elif isinstance(modality, Matrix):
            modality.values(adata)


def slice_groups(adata: AnnData, modalities: Collection[Modality], layout: Layout) -> np.ndarray:
    """Group of each spot's slice, (n_obs,): slices that have the same modalities are one group."""
    codes, names = library_codes(adata, layout.library_key)
    there = np.ones((len(names), len(modalities)), bool)
    for column, modality in enumerate(modalities):
        if isinstance(modality, Image):
            pictured = pictured_slices(adata, layout, required=False)
            there[:, column] = np.isin(names, pictured)
        elif isinstance(modality, Matrix):
            there[:, column] = np.bincount(codes, np.isfinite(modality.values(adata)).all(1), len(names)) > 0
    return np.unique(there, axis=0, return_inverse=True)[1].ravel()[codes]


def pictured_slices(adata: AnnData, layout: Layout, *, required: bool) -> list[str]:
    """Check the images and name the slices that have one; with none of them, an error if ``required``."""
    return check.check_images(
        adata,
        library_key=layout.library_key,
        image_key=layout.image_key,
        spatial_key=layout.spatial_key,
        required=required,
    )
