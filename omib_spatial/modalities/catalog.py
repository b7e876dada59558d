"""The modalities that there are: their names, their order, and which of them a tissue offers."""

from collections.abc import Collection, Mapping, Sequence, Set
from difflib import get_close_matches

import numpy as np
from torch import nn

from omib_spatial.modalities.base import Modality
from omib_spatial.modalities.contrast import Contrast
from omib_spatial.modalities.gene import Gene
from omib_spatial.modalities.genome import Genome
from omib_spatial.modalities.image import Image
from omib_spatial.modalities.obsm_features import ObsmFeatures
from omib_spatial.slides import Tissue
from omib_spatial.slides import validation as check
from omib_spatial.slides.graph import refuse_too_many_neighbors
from omib_spatial.slides.off_tissue import refuse_off_tissue

NAMED: dict[str, type[Modality]] = {"gene": Gene, "image": Image, "genome": Genome, "contrast": Contrast}
"""Modalities that a user asks for by name; any other name is a key of ``obsm``. r compares each with the first."""
KINDS: dict[str, type[Modality]] = {kind.__name__: kind for kind in (Gene, Image, Genome, Contrast, ObsmFeatures)}
"""Modalities that a saved model can be built from, by class name."""


def choose_modalities(
    tissue: Tissue, wanted: Sequence[str] | Mapping[str, Modality] | None = None
) -> dict[str, Modality]:
    """Modalities by name: those ``wanted``, or all of `NAMED` that ``tissue`` offers.

    Raises
    ------
    TypeError
        ``wanted`` is neither a list of names nor a mapping to modalities.
    ValueError
        It is empty, or has a name twice or one that cannot be a modality's (`check_names`).
    KeyError
        A name is no modality's and no key of ``obsm``.

    Examples
    --------
    >>> from omib_spatial.slides import Layout, Tissue
    >>> tissue = Tissue(adata, Layout(library_key="library_id"))
    >>> from omib_spatial.modalities import choose_modalities
    >>> list(choose_modalities(tissue)), list(choose_modalities(tissue, ["gene"]))
    (['gene', 'image', 'genome'], ['gene'])
    """
    if isinstance(wanted, str):
        raise TypeError(f"modalities is a list of names: pass [{wanted!r}].")
    # What has no order would give another network each time that Python starts.
    ordered = isinstance(wanted, Collection) and not isinstance(wanted, Set) and getattr(wanted, "ndim", 1) == 1
    if wanted is not None and not ordered:
        raise TypeError(f"modalities is {wanted!r}: pass a list of names, or a mapping from name to Modality.")
    if isinstance(wanted, Mapping) and wanted:
        check_names(list(wanted))
        for name, modality in wanted.items():
            if not isinstance(modality, Modality):
                raise TypeError(f"modalities[{name!r}] is {modality!r}: pass an instance of Modality, such as Gene().")
            if name in _RECORDED and type(modality).drawn is not Modality.drawn:
                raise ValueError(f"modalities has {name!r}, under which a run keeps its record: give it another name.")
        return dict(wanted)
    if wanted is None:
        wanted = [name for name, kind in NAMED.items() if kind.offered(tissue)]
    if len(wanted) == 0:
        known = ", ".join(map(repr, NAMED))
        raise ValueError(f"modalities is empty: name at least one of {known}, or a key of obsm.")
    check_names(list(wanted))
    _refuse_misspelt(list(wanted), list(tissue.adata.obsm))
    return {name: NAMED[name]() if name in NAMED else ObsmFeatures(name) for name in wanted}


_RECORDED = frozenset({"version", "params", "history", "classes", "groups", "shifts", "modalities"})
"""Entries of ``uns[key_added]``, beside which modalities that are drawn have one of their own."""


def _refuse_misspelt(names: Sequence[str], obsm: Sequence[str]) -> None:
    """Raise KeyError for a name that is neither a modality's nor a key of ``obsm``, with what comes close."""
    for name in names:
        if name in NAMED or name in obsm:
            continue
        close = get_close_matches(name.lower(), [*NAMED, *obsm], n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise KeyError(
            f"modalities has {name!r}, which is no modality, and obsm[{name!r}] is missing: {hint}There are "
            f"{', '.join(map(repr, NAMED))}, and obsm holds {list(obsm)}."
        )


def check_names(names: Sequence[str]) -> None:
    """Raise TypeError or ValueError for names that networks, files or results cannot keep."""
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"modalities has {name!r}, which is no name.")
        if not name or "." in name or "/" in name or hasattr(nn.ModuleDict(), name):
            raise ValueError(
                f"A modality cannot have the name {name!r}, which is empty, has '.' or '/', or is a word of torch's: "
                f"give it another, as by modalities={{'features': ObsmFeatures({name!r})}}."
            )
    if len(set(names)) < len(names):
        raise ValueError(f"modalities has a name twice: {list(names)}.")


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
    refuse_off_tissue(tissue.adata)
    check.check_coordinates(tissue.adata, tissue.layout.spatial_key, tissue.layout.library_key)
    if tissue.layout.neighbors_key is None:
        refuse_too_many_neighbors(tissue.codes, tissue.libraries, tissue.layout.n_neighbors)
    # Asked here, so that a graph or donors that cannot be are refused before any work.
    _ = tissue.graph, tissue.donors
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
