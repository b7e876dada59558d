"""Sets of STANDS (Xu et al. 2024) as GEO has them: many samples' files in one folder."""

import gzip
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from omib_spatial import read_visium
from omib_spatial._keys import SPATIAL
from omib_spatial.datasets._sections import SECTION, check_folder, chosen

logger = logging.getLogger("omib_spatial")

_MATRIX = re.compile(r"(?:GSM\d+_)?(?P<section>.+?)_filtered_feature_bc_matrix\.h5")
_TABLE = re.compile(r"(?:GSM\d+_)?(?P<section>(?P<patient>[^_]*?)-ST\d+).*\.(?:txt|tsv)(?:\.gz)?", re.IGNORECASE)
_PLACE = re.compile(r"\d+(?:\.\d+)?x\d+(?:\.\d+)?")
PATIENT = "patient"
_PITCH, _SPOT = 200.0, 100.0  # micrometres on the arrays before Visium


def stands_rcc(folder: str | Path, *, sections: Sequence[str] | None = None) -> ad.AnnData:
    """Read the Visium sections of renal cell cancer (Meylan et al. 2022, GSE175540) as GEO's archive holds them.

    Parameters
    ----------
    folder
        What `omib_spatial.datasets.fetch` returns for ``"stands_rcc"``: files such as
        ``GSM5924030_ffpe_c_2_filtered_feature_bc_matrix.h5`` with those of all samples beside each other.
    sections
        Names such as ``"ffpe_c_2"``; None is all, sorted.

    Returns
    -------
    AnnData of all spots by the genes that the sections share, each as `omib_spatial.read_visium` reads it, with
    ``obs["section"]``. Nobody's labels are in GEO.

    Raises
    ------
    FileNotFoundError
        ``folder`` does not exist, or holds no count matrix of Space Ranger.
    ValueError
        One of ``sections`` is not there, or a sample's files cannot be read.

    Examples
    --------
    >>> omib.datasets.stands_rcc("rcc").obs["section"].unique().tolist()
    ['ffpe_c_2']
    """
    check_folder(folder := Path(folder))
    files = {match["section"]: path for path in folder.iterdir() if (match := _MATRIX.fullmatch(path.name))}
    if not files:
        raise FileNotFoundError(f"{folder} holds no ..._filtered_feature_bc_matrix.h5: give the unpacked archive.")
    parts = {}
    for name in chosen(files, sections, folder):
        part = read_visium(folder, counts_file=files[name].name, library_id=name)
        part.obs_names = [f"{name}_{spot}" for spot in part.obs_names]
        parts[name] = part
    return _joined(parts)


def stands_pdac(folder: str | Path, *, sections: Sequence[str] | None = None) -> ad.AnnData:
    """Read the arrays of pancreatic ductal adenocarcinoma (Moncada et al. 2020, GSE111672) as GEO's archive holds them.

    Parameters
    ----------
    folder
        What `omib_spatial.datasets.fetch` returns for ``"stands_pdac"``: tables such as
        ``GSM3036911_PDAC-A-ST1-filtered.txt.gz``, genes by spots or spots by genes. Single cells beside them are not
        read.
    sections
        Names such as ``"PDAC-A-ST1"``; None is all, sorted.

    Returns
    -------
    AnnData of all spots by the genes that the sections share: ``X`` raw counts, ``obs["section"]``, ``obs["patient"]``,
    ``obs["array_row"]``, ``obs["array_col"]``; ``obsm["spatial"]`` in micrometres, from the places on the array;
    ``uns["spatial"][section]["scalefactors"]``. The images are not read: nothing in GEO places the spots on them.

    Raises
    ------
    FileNotFoundError
        ``folder`` does not exist, or holds no table of an array.
    ValueError
        One of ``sections`` is not there, or a table names no places such as ``10x13``.

    Examples
    --------
    >>> omib.datasets.stands_pdac("pdac").obs["section"].unique().tolist()
    ['PDAC-A-ST1']
    """
    check_folder(folder := Path(folder))
    found = {
        match["section"]: (path, match["patient"])
        for path in sorted(folder.iterdir())
        if (match := _TABLE.fullmatch(path.name))
    }
    if not found:
        raise FileNotFoundError(f"{folder} holds no table such as GSM3036911_PDAC-A-ST1-filtered.txt.gz.")
    names = chosen(found, sections, folder)
    logger.info("stands_pdac: images of %s are left out: nothing places their spots on them.", ", ".join(names))
    return _joined({name: _array(*found[name], name) for name in names})


def _array(path: Path, patient: str, section: str) -> ad.AnnData:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        table = pd.read_csv(file, sep="\t", index_col=0)
    if all(_PLACE.fullmatch(str(name)) for name in table.columns):
        table = table.T
    if wrong := [str(name) for name in table.index if not _PLACE.fullmatch(str(name))]:
        raise ValueError(f"{path} names no places such as 10x13 in its rows or columns, but {wrong[:3]}.")
    column, row = np.array([name.split("x") for name in table.index.astype(str)], float).T
    names = table.columns.astype(str)
    kept = ~names.duplicated(keep=False)
    if not kept.all():
        logger.info("%s: left out %d genes whose names stand twice.", path.name, int((~kept).sum()))
    adata = ad.AnnData(
        csr_matrix(table.to_numpy(np.float32)[:, kept]),
        obs=pd.DataFrame(
            {PATIENT: patient, "array_row": row.round().astype(int), "array_col": column.round().astype(int)},
            index=[f"{section}_{name}" for name in table.index],
        ),
        var=pd.DataFrame(index=names[kept]),
        obsm={SPATIAL: _PITCH * np.column_stack([column, row])},
    )
    adata.uns[SPATIAL] = {section: {"scalefactors": {"spot_diameter_fullres": _SPOT}}}
    return adata


def _joined(parts: dict[str, ad.AnnData]) -> ad.AnnData:
    """One AnnData of all sections."""
    for name, part in parts.items():
        part.obs[SECTION] = name
    adata = ad.concat(parts.values(), join="inner", merge="same")
    adata.uns[SPATIAL] = {name: entry for part in parts.values() for name, entry in part.uns[SPATIAL].items()}
    for key in (SECTION, PATIENT):
        if key in adata.obs:
            adata.obs[key] = adata.obs[key].astype("category")
    return adata
