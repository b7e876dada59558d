"""The olfactory bulb sections, healthy tissue with H&E."""

from collections.abc import Sequence
from pathlib import Path

import anndata as ad

from omib_spatial._keys import IMAGES, SPATIAL
from omib_spatial.datasets._her2st import SECTION, _chosen, _pixels

ANIMALS = (("MOB1", "MOB2"), ("MOB3", "MOB4"))
"""Sections by animal."""


def mob(folder: str | Path, *, sections: Sequence[str] | None = None) -> ad.AnnData:
    """Read healthy mouse olfactory bulb sections (STUtility's copy of Ståhl et al. 2016).

    Parameters
    ----------
    folder
        Holds ``{section}.h5ad`` with raw counts and ``{section}.jpg`` for each of ``MOB1`` to ``MOB4``; the first two
        are of one animal, the others of another.
    sections
        Names, in this order; None reads all that are there, sorted.

    Returns
    -------
    AnnData of all spots by the genes that the sections share:

    - ``X``: raw counts.
    - ``obs``: ``section`` (the ``library_key``, a category), and what else all sections have.
    - ``obsm["spatial"]``: x and y of the spot centres in pixels of the image.
    - ``uns["spatial"][section]``: ``scalefactors`` and ``images["hires"]`` (height, width, 3) uint8.

    Raises
    ------
    FileNotFoundError
        ``folder`` does not exist, holds no ``.h5ad``, or lacks the image of a section.
    ValueError
        A section of ``sections`` is not there, or ``sections`` is empty.

    Examples
    --------
    >>> adata = omib.datasets.mob("mob", sections=["MOB1", "MOB2"])  # doctest: +SKIP
    """
    folder, parts = Path(folder), []
    for section in _chosen(folder, sections):
        part = ad.read_h5ad(folder / f"{section}.h5ad")
        part.obs_names = [f"{section}-{name}" for name in part.obs_names]
        part.uns[SPATIAL][section][IMAGES] = {"hires": _pixels(folder / f"{section}.jpg")}
        parts.append(part)
    adata = ad.concat(parts, uns_merge="unique", join="inner")
    adata.obs[SECTION] = adata.obs[SECTION].astype("category")
    return adata
