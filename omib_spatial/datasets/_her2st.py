"""The her2st breast cancer sections, from a folder with one ``.h5ad`` per section and an image of some."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from omib_spatial._keys import ANOMALY, IMAGES, SPATIAL

SECTION = "section"
PATIENT = "patient"


def her2st(folder: str | Path, *, sections: Sequence[str] | None = None, images: bool = True) -> ad.AnnData:
    """Read HER2-positive breast cancer sections (Andersson et al. 2021) with the pathologist's labels.

    Parameters
    ----------
    folder
        Holds ``{section}.h5ad`` with raw counts, and ``{section}.jpg`` for the sections that have an H&E image.
    sections
        Names such as ``"A1"``, in this order; None reads all that are there, sorted.
    images
        Read the images too.

    Returns
    -------
    AnnData of all spots by the genes that the sections share:

    - ``X``: raw counts.
    - ``obs``: ``section`` (the ``library_key``) and ``patient`` as categories, ``anomaly`` (int: 1 tumour, 0 other
      tissue, -1 undetermined or unlabelled), and what else all sections have.
    - ``var``: ``chromosome``, ``start`` and ``end`` (base pairs).
    - ``obsm["spatial"]``: x and y of the spot centres in full-resolution pixels.
    - ``uns["spatial"][section]``: ``scalefactors`` and, where there is one, ``images["hires"]`` (height, width, 3)
      uint8. A section whose file has no such entry has none here.

    Raises
    ------
    FileNotFoundError
        ``folder`` does not exist, or holds no ``.h5ad``.
    ValueError
        A section of ``sections`` is not there, or ``sections`` is empty.
    KeyError
        A file lacks ``obs["patient"]`` or ``obs["anomaly"]``.

    Examples
    --------
    >>> adata = omib.datasets.her2st("her2st", sections=["B1", "B4"])  # doctest: +SKIP
    """
    folder = Path(folder)
    parts: list[ad.AnnData] = []
    slides: dict[str, Any] = {}
    for section in _chosen(folder, sections):
        parts.append(_read(folder / f"{section}.h5ad", section))
        if section in (entries := parts[-1].uns.get(SPATIAL, {})):
            slides[section] = {key: value for key, value in entries[section].items() if key != IMAGES}
            if images and (picture := folder / f"{section}.jpg").is_file():
                slides[section][IMAGES] = {"hires": _pixels(picture)}
    adata = ad.concat(parts, join="inner", merge="same")
    adata.uns[SPATIAL] = slides
    return adata


def _chosen(folder: Path, sections: Sequence[str] | None) -> list[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} does not exist: give the one with the sections' .h5ad files.")
    there = sorted(path.stem for path in folder.glob("*.h5ad"))
    if not there:
        raise FileNotFoundError(
            f"The folder {folder} holds no .h5ad file: one per section, such as A1.h5ad, is needed."
        )
    chosen = there if sections is None else list(sections)
    if unknown := [name for name in chosen if name not in there]:
        raise ValueError(f"sections {unknown} are not in {folder}: pass some of {there}.")
    if not chosen:
        raise ValueError(f"sections is empty: pass some of {there}, or None for all.")
    return chosen


def _read(path: Path, section: str) -> ad.AnnData:
    adata = ad.read_h5ad(path)
    if missing := [key for key in (PATIENT, ANOMALY) if key not in adata.obs]:
        raise KeyError(f"{path} has no obs columns {missing}; it has {list(adata.obs)}.")
    adata.obs[SECTION] = pd.Categorical([section] * adata.n_obs)
    adata.obs[PATIENT] = adata.obs[PATIENT].astype("category")
    adata.obs[ANOMALY] = adata.obs[ANOMALY].astype(int)
    return adata


def _pixels(path: Path) -> npt.NDArray[np.uint8]:
    with _any_size(), Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@contextmanager
def _any_size() -> Iterator[None]:
    """Lift Pillow's limit, which takes a scanned slide for an attack, for as long as one is read."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
