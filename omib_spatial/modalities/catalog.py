"""The modalities that there are: their names, their order, and which of them a tissue offers."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from omib_spatial.modalities.base import Modality
from omib_spatial.modalities.contrast import Contrast
from omib_spatial.modalities.gene import Gene
from omib_spatial.modalities.genome import Genome
from omib_spatial.modalities.image import Image
from omib_spatial.modalities.obsm_features import ObsmFeatures
from omib_spatial.slides import Tissue
from omib_spatial.slides import validation as check

NAMED: dict[str, type[Modality]] = {"gene": Gene, "image": Image, "genome": Genome, "contrast": Contrast}
"""Modalities that a user asks for by name; any other name is a key of ``obsm``. r compares each with the first."""
KINDS: dict[str, type[Modality]] = {kind.__name__: kind for kind in (Gene, Image, Genome, Contrast, ObsmFeatures)}
"""Modalities that a saved model can be built from, by class name."""


def choose_modalities(
    tissue: Tissue, wanted: Sequence[str] | Mapping[str, Modality] | None = None
) -> dict[str, Modality]:
    """Modalities by name: those ``wanted``, or all of ``NAMED`` that ``tissue`` offers.

    Examples
    --------
    >>> from omib_spatial.slides import Layout, Tissue
    >>> tissue = Tissue(adata, Layout(library_key="library_id"))
    >>> from omib_spatial.modalities import choose_modalities
    >>> list(choose_modalities(tissue)), list(choose_modalities(tissue, ["gene"]))
    (['gene', 'image', 'genome'], ['gene'])
    """
    if isinstance(wanted, Mapping):
        return dict(wanted)
    if isinstance(wanted, str):
        raise TypeError(f"modalities is a list of names: pass [{wanted!r}].")
    if wanted is None:
        wanted = [name for name, kind in NAMED.items() if kind.offered(tissue)]
    if not wanted:
        known = ", ".join(map(repr, NAMED))
        raise ValueError(f"modalities is empty: name at least one of {known}, or a key of obsm.")
    return {name: NAMED[name]() if name in NAMED else ObsmFeatures(name) for name in wanted}


def check_input(tissue: Tissue, modalities: Collection[Modality], *, required: bool) -> None:
    """Refuse what would fail later, or silently mislead, before any work is done.

    Examples
    --------
    >>> from omib_spatial.slides import Layout, Tissue
    >>> tissue = Tissue(adata, Layout(library_key="library_id"))
    >>> from omib_spatial.modalities import check_input, choose_modalities
    >>> check_input(tissue, choose_modalities(tissue).values(), required=True)
    >>> adata.X.data[0] = 0.5
    >>> check_input(Tissue(adata, Layout(library_key="library_id")), choose_modalities(tissue).values(), required=True)
    Traceback (most recent call last):
        ...
    ValueError: ...
    """
    check.refuse_view(tissue.adata)
    check.check_coordinates(tissue.adata, tissue.layout.spatial_key, tissue.layout.library_key)
    for modality in modalities:
        modality.check(tissue, required=required)


def slice_groups(tissue: Tissue, modalities: Collection[Modality]) -> np.ndarray:
    """Group of each spot's slice, (n_obs,): slices that have the same modalities are one group.

    Examples
    --------
    >>> from omib_spatial.slides import Layout, Tissue
    >>> tissue = Tissue(adata, Layout(library_key="library_id"))
    >>> from omib_spatial.modalities import choose_modalities, slice_groups
    >>> np.unique(slice_groups(tissue, choose_modalities(tissue).values()))  # all slides have the same modalities
    array([0])
    """
    there = np.stack([modality.slices(tissue) for modality in modalities], 1)
    return np.unique(there, axis=0, return_inverse=True)[1].ravel()[tissue.codes]
