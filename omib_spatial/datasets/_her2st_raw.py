"""Sections of her2st in the files of the authors' own repository."""

import logging
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from omib_spatial._keys import ANOMALY, IMAGES, SCALEFACTORS, SPATIAL, SPOT_DIAMETER
from omib_spatial.datasets._sections import pixels, size
from omib_spatial.datasets._st_tables import half_pitch, read_spots, read_table, spot_names

logger = logging.getLogger("omib_spatial")

COUNTS, PLACES, LABELS, PICTURES = "ST-cnts", "ST-spotfiles", "ST-pat/lbl", "ST-imgs"
UNLABELLED = "unlabelled"
ANOMALIES = {
    "invasive cancer": 1,
    "cancer in situ": 1,
    "adipose tissue": 0,
    "breast glands": 0,
    "connective tissue": 0,
    "immune infiltrate": 0,
    "undetermined": -1,
    UNLABELLED: -1,
}
"""Every label of the pathologist, and whether it is tumour."""


def raw_sections(folder: Path) -> dict[str, Path]:
    """Count tables by section; the folder is the repository's, or its ``data``."""
    tables = sorted(path for data in (folder / "data", folder) for path in (data / COUNTS).glob("*.tsv*"))
    return {path.name.split(".")[0]: path for path in tables}


def read_raw(counts: Path, section: str, *, images: bool) -> ad.AnnData:
    """Read one section; `omib_spatial.datasets.her2st` says what it holds."""
    data = counts.parents[1]
    adata = read_spots(counts, data / PLACES / f"{section}_selection.tsv", section)
    adata.obs["patient"] = section[0]
    _add_labels(adata, data / LABELS / f"{section}_labeled_coordinates.tsv", section)
    if picture := _picture(data / PICTURES / section[0] / section):
        adata.uns[SPATIAL] = {section: _slide(adata, picture, section, images)}
    return adata


def _add_labels(adata: ad.AnnData, path: Path, section: str) -> None:
    """Write ``label``, ``label_source`` and ``anomaly``; a section without a file was not labelled."""
    labels = _labels(path) if path.is_file() else pd.Series(dtype=str)
    names = adata.obs_names.str.removeprefix(f"{section}_")
    if len(labels) and not labels.index.isin(names).any():
        raise ValueError(f"{path} labels none of the spots of {section} (such as {names[:3].tolist()}): wrong section?")
    if stray := int((~labels.index.isin(names)).sum()):
        logger.info("%s: left out %d labels of spots that are not in the counts.", section, stray)
    label = labels.reindex(names).fillna(UNLABELLED).to_numpy()
    adata.obs["label"] = label
    adata.obs["label_source"] = "pathologist" if path.is_file() else "none"
    adata.obs[ANOMALY] = [ANOMALIES[name] for name in label]


def _labels(path: Path) -> pd.Series:
    """Label by spot; the file has measured places, some of them missing, in an order of its own."""
    table = read_table(path, needed=("x", "y", "label")).dropna(subset=["x", "y", "label"])
    if unknown := sorted(set(table["label"]) - set(ANOMALIES)):
        raise ValueError(f"{path} has the labels {unknown}, which are none of {list(ANOMALIES)}.")
    table = table.set_index(spot_names(table))
    labels = table.loc[~pd.MultiIndex.from_arrays([table.index, table["label"]]).duplicated(), "label"]
    if twice := labels.index[labels.index.duplicated()].tolist():
        raise ValueError(f"{path} gives the spots {twice[:3]} different labels: keep one row of each.")
    return labels


def _picture(folder: Path) -> Path | None:
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in {".jpg", ".jpeg"})
    if len(found) > 1:
        raise ValueError(f"{folder} holds {[path.name for path in found]}: keep the one picture that the spots lie on.")
    return found[0] if found else None


def _slide(adata: ad.AnnData, picture: Path, section: str, images: bool) -> dict[str, Any]:
    """The section's entry in ``uns["spatial"]``, and ``obs["on_image"]``."""
    places = adata.obsm[SPATIAL]
    inside = ((places >= 0) & (places < size(picture))).all(axis=1)
    if not inside.any():
        raise ValueError(f"No spot of {section} lies on {picture} of {size(picture)} pixels: is it another section's?")
    if off := int(np.sum(~inside)):
        logger.warning("%s: %d of %d spots lie off %s; see obs['on_image'].", section, off, len(inside), picture)
    adata.obs["on_image"] = inside
    slide: dict[str, Any] = {SCALEFACTORS: {SPOT_DIAMETER: half_pitch(places), "tissue_hires_scalef": 1.0}}
    return slide | {IMAGES: {"hires": pixels(picture)}} if images else slide
