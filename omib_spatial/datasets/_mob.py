"""The olfactory bulb sections, healthy tissue with H&E."""

from pathlib import Path

import anndata as ad
import numpy as np

from omib_spatial._checked import File, Names, checked
from omib_spatial._keys import IMAGES, SCALEFACTORS, SPATIAL, SPOT_DIAMETER
from omib_spatial._reading import read_anndata
from omib_spatial.datasets._sections import SECTION, check_folder, chosen, pixels
from omib_spatial.datasets._st_tables import read_spots

ANIMALS = (("MOB1", "MOB2"), ("MOB3", "MOB4"))
"""Sections by animal."""


@checked
def mob(folder: File, *, sections: Names | None = None) -> ad.AnnData:
    """Read healthy mouse olfactory bulb sections (STUtility's copy of Ståhl et al. 2016).

    Parameters
    ----------
    folder
        Holds, for each of ``MOB1`` to ``MOB4``, ``{section}.jpg`` and either ``{section}.h5ad`` with raw counts, or
        ``{section}.tsv`` and ``alignment_table_{section}.tsv`` as `omib_spatial.datasets.fetch` downloads them. The
        first two sections are of one animal, the others of another.
    sections
        Names, in this order; None reads all that are there, sorted.

    Returns
    -------
    AnnData of all spots by the genes that the sections share:

    - ``X``: raw counts. Genes are Ensembl ids without version.
    - ``obs``: ``section`` (the ``library_key``, a category), ``array_row`` and ``array_col``.
    - ``obsm["spatial"]``: x and y of the spot centres in pixels of the image.
    - ``uns["spatial"][section]``: ``scalefactors`` and ``images["hires"]`` (height, width, 3) uint8.

    Raises
    ------
    FileNotFoundError
        ``folder`` does not exist, holds neither, or lacks the image of a section or the places of its spots.
    KeyError
        A table lacks a column.
    ValueError
        A section of ``sections`` is not there, or ``sections`` is empty; a table is damaged or of another section.

    Examples
    --------
    >>> adata = omib.datasets.mob("mob", sections=["MOB1"])  # omib.datasets.fetch("mob") is such a folder
    >>> adata.obs["section"].unique().tolist(), list(adata.uns["spatial"])
    (['MOB1'], ['MOB1'])
    """
    folder = Path(folder)
    check_folder(folder)
    files = {path.stem: path for path in folder.glob("MOB*.h5ad")} or {p.stem: p for p in folder.glob("MOB*.tsv")}
    if not files:
        raise FileNotFoundError(
            f"The folder {folder} holds neither MOB1.h5ad nor MOB1.tsv: give the one that "
            "omib_spatial.datasets.fetch('mob') returns."
        )
    parts = []
    for section in chosen(files, sections, folder):
        part = read_anndata(files[section]) if files[section].suffix == ".h5ad" else _read_raw(files[section], section)
        part.obs_names = [f"{section}-{name}" for name in part.obs_names]
        part.uns[SPATIAL][section][IMAGES] = {"hires": pixels(folder / f"{section}.jpg")}
        parts.append(part)
    adata = ad.concat(parts, uns_merge="unique", join="inner")
    adata.obs[SECTION] = adata.obs[SECTION].astype("category")
    return adata


def _read_raw(counts: Path, section: str) -> ad.AnnData:
    adata = read_spots(counts, counts.with_name(f"alignment_table_{section}.tsv"), section)
    adata.var_names = adata.var_names.str.replace(r"\.\d+$", "", regex=True)
    # Rows lie in two staggered sets, 200 um apart in each: from one row to the next it is the width of a spot, 100 um.
    pixels_per_row = np.polyfit(adata.obs["array_row"], adata.obsm[SPATIAL][:, 1], 1)[0]
    scalefactors = {SPOT_DIAMETER: float(abs(pixels_per_row)), "tissue_hires_scalef": 1.0}
    adata.uns[SPATIAL] = {section: {IMAGES: {}, SCALEFACTORS: scalefactors}}
    return adata
