"""The her2st breast cancer sections: one ``.h5ad`` each, or the files of the authors' repository."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import anndata as ad

from omib_spatial._checked import File, Flag, Names, checked
from omib_spatial._keys import ANOMALY, IMAGES, SPATIAL
from omib_spatial._reading import read_anndata
from omib_spatial.datasets._her2st_raw import COUNTS, UNLABELLED, raw_sections, read_raw
from omib_spatial.datasets._sections import SECTION, check_folder, chosen, pixels

logger = logging.getLogger("omib_spatial")

PATIENT = "patient"


@checked
def her2st(folder: File, *, sections: Names | None = None, images: Flag = True) -> ad.AnnData:
    """Read HER2-positive breast cancer sections (Andersson et al. 2021) with the pathologist's labels.

    Parameters
    ----------
    folder
        What `omib_spatial.datasets.fetch` returns for ``"her2st"``, or a copy of github.com/almaan/her2st: counts in
        ``data/ST-cnts``, places of the spots in ``data/ST-spotfiles``, labels of the sections that have some in
        ``data/ST-pat/lbl``, H&E of those that have it in ``data/ST-imgs/{patient}/{section}``. Or it holds
        ``{section}.h5ad`` with raw counts, and ``{section}.jpg`` for the sections that have an H&E image.
    sections
        Names such as ``"A1"``, in this order; None reads all that are there, sorted.
    images
        Read the images too.

    Returns
    -------
    AnnData of all spots by the genes that the sections share:

    - ``X``: raw counts.
    - ``obs``: ``section`` (the ``library_key``) and ``patient`` as categories, ``anomaly`` (int: 1 tumour, invasive or
      in situ, 0 other tissue, -1 undetermined or unlabelled), and what else all sections have: of the repository
      ``label``, ``label_source`` (``"pathologist"`` or ``"none"``), ``array_row`` and ``array_col``, and ``on_image``
      where all have an image.
    - ``var``: ``chromosome``, ``start`` and ``end`` (base pairs) where the files have them. The repository's do not:
      `omib_spatial.datasets.gene_positions` adds them.
    - ``obsm["spatial"]``: x and y of the spot centres in full-resolution pixels.
    - ``uns["spatial"][section]``: ``scalefactors`` and, where there is one, ``images["hires"]`` (height, width, 3)
      uint8. A section whose file has no such entry, or that has no picture in the repository, has none here.

    Raises
    ------
    FileNotFoundError
        ``folder`` does not exist, holds neither, or lacks the places of a section's spots.
    ValueError
        A section of ``sections`` is not there, or ``sections`` is empty. A file of the repository is damaged, has a
        label that is not the pathologist's, or is of another section.
    KeyError
        A file lacks ``obs["patient"]`` or ``obs["anomaly"]``, or a table a column.

    Notes
    -----
    Spots of the repository that lack counts or a place are left out, and how many is logged. Its spots are 100 um wide
    and 200 um apart, so half the distance to the nearest one is their diameter in pixels.

    Examples
    --------
    >>> adata = omib.datasets.her2st("her2st", sections=["B1", "B4"])  # omib.datasets.fetch("her2st") is such a folder
    >>> adata.obs["section"].value_counts(sort=False).to_dict()
    {'B1': 16, 'B4': 16}
    """
    folder = Path(folder)
    parts = _parts(folder, sections, images)
    adata = ad.concat(parts.values(), join="inner", merge="same")
    for key in (SECTION, PATIENT):
        adata.obs[key] = adata.obs[key].astype("category")
    slides = {section: part.uns.get(SPATIAL, {}).get(section) for section, part in parts.items()}
    adata.uns[SPATIAL] = {section: slide for section, slide in slides.items() if slide is not None}
    return adata


def _parts(folder: Path, sections: Sequence[str] | None, images: bool) -> dict[str, ad.AnnData]:
    """Each section, of whichever layout the folder has."""
    check_folder(folder)
    if files := {path.stem: path for path in folder.glob("*.h5ad")}:
        return {name: _read(files[name], name, images) for name in chosen(files, sections, folder)}
    if tables := raw_sections(folder):
        parts = {name: read_raw(tables[name], name, images=images) for name in chosen(tables, sections, folder)}
        _say_what_is_missing(parts)
        return parts
    raise FileNotFoundError(
        f"The folder {folder} holds no .h5ad file, one per section such as A1.h5ad, and no data/{COUNTS}/A1.tsv.gz "
        "as the repository has it: give the folder that omib_spatial.datasets.fetch('her2st') returns."
    )


def _read(path: Path, section: str, images: bool) -> ad.AnnData:
    adata = read_anndata(path)
    if missing := [key for key in (PATIENT, ANOMALY) if key not in adata.obs]:
        raise KeyError(f"{path} has no obs columns {missing}; it has {list(adata.obs)}.")
    adata.obs[SECTION] = section
    adata.obs[ANOMALY] = adata.obs[ANOMALY].astype(int)
    if section in (entries := adata.uns.get(SPATIAL, {})):
        entries[section] = {key: value for key, value in entries[section].items() if key != IMAGES}
        if images and (picture := path.with_suffix(".jpg")).is_file():
            entries[section][IMAGES] = {"hires": pixels(picture)}
    return adata


def _say_what_is_missing(parts: Mapping[str, ad.AnnData]) -> None:
    if bare := [section for section, part in parts.items() if (part.obs["label"] == UNLABELLED).all()]:
        logger.info("her2st: nobody labelled %s: all their spots have anomaly -1.", ", ".join(bare))
    logger.info(
        "her2st: the repository does not say where genes lie, which the modality 'genome' needs: "
        "omib_spatial.datasets.gene_positions(adata) adds it."
    )
