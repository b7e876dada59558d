"""Sections as CELLxGENE Discover serves them: raw counts in ``raw``, Ensembl ids as names, images in ``uns``."""

import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from omib_spatial._checked import File, Key, Names, checked
from omib_spatial._keys import SPATIAL
from omib_spatial._reading import read_anndata
from omib_spatial.datasets._sections import SECTION, check_folder

logger = logging.getLogger("omib_spatial")

SYMBOL = "feature_name"
COLUMNS = (SECTION, "library_id", "sample_id", "sample", "section_id")
"""``obs`` columns that are taken for the section's name, the first that is there."""
_SINGLE = "is_single"  # an entry of uns["spatial"] beside the libraries
_IN_TISSUE = "in_tissue"


@checked
def cellxgene(source: File, *, section_key: Key | None = None, sections: Names | None = None) -> ad.AnnData:
    """Read Visium sections as CELLxGENE Discover serves them, such as the healthy breast of ``hbca_visium``.

    Parameters
    ----------
    source
        A folder of ``.h5ad`` files, such as `omib_spatial.datasets.fetch` returns for ``"hbca_visium"``, or one file.
    section_key
        ``obs`` column that names the section. None takes the one library of ``uns["spatial"]``, else the first of
        ``section``, ``library_id``, ``sample_id``, ``sample``, ``section_id`` that is there, else the file's name.
    sections
        Names to read; None is all.

    Returns
    -------
    AnnData of all spots under tissue by the genes that all files have:

    - ``X``: raw counts, of ``raw.X`` where the file has it, CSR float32.
    - ``var_names``: symbols (``feature_name``), an Ensembl id where a symbol is missing or stands twice;
      ``var["gene_ids"]``: Ensembl ids.
    - ``obs["section"]``, and the files' other columns that all have. ``obs_names`` are the section and the file's.
    - ``obsm["spatial"]``: x and y in full-resolution pixels, as the file has them.
    - ``uns["spatial"][section]``: ``images`` and ``scalefactors``, where the file has them.

    Raises
    ------
    FileNotFoundError
        There is no such folder or file, or none in it.
    KeyError
        ``obsm["spatial"]``, ``section_key`` or one of ``sections`` is not there.
    ValueError
        Counts are not whole numbers, several sections lie on each other without a column that names them, or two files
        have a section of the same name.

    Examples
    --------
    >>> healthy = omib.datasets.cellxgene("hbca")  # omib.datasets.fetch("hbca_visium") is such a folder
    >>> healthy.obs["section"].unique().tolist(), bool((healthy.X.data % 1 == 0).all())
    (['V03'], True)
    """
    source = Path(source)
    if not source.is_file():
        check_folder(source)
    files = [source] if source.is_file() else sorted(source.glob("*.h5ad"))
    if not files:
        raise FileNotFoundError(f"{source} holds no .h5ad file: download the collection's data sets into it.")
    parts = [_read(path, section_key) for path in files]
    names = [name for part in parts for name in part.obs[SECTION].unique()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{source}: sections {twice} are in more than one file: keep one of them in the folder.")
    sections = [sections] if isinstance(sections, str) else sections
    if lacking := [name for name in sections or () if name not in names]:
        raise KeyError(f"sections {lacking} are not in {source}: pass some of {names}.")
    adata = ad.concat(parts, join="inner", merge="same", uns_merge="unique") if len(parts) > 1 else parts[0]
    adata.uns = {SPATIAL: {name: entry for part in parts for name, entry in part.uns[SPATIAL].items()}}
    if sections is not None:
        adata = adata[adata.obs[SECTION].isin(list(sections))].copy()
        adata.uns[SPATIAL] = {name: entry for name, entry in adata.uns[SPATIAL].items() if name in set(sections)}
    adata.obs[SECTION] = adata.obs[SECTION].astype("category")
    return adata


def is_cellxgene(path: Path) -> bool:
    """Whether a file names its genes as CELLxGENE does."""
    adata = ad.read_h5ad(path, backed="r")
    try:
        return SYMBOL in adata.var or (adata.raw is not None and SYMBOL in adata.raw.var)
    finally:
        adata.file.close()


def _read(path: Path, section_key: str | None) -> ad.AnnData:
    given = read_anndata(path)
    if SPATIAL not in given.obsm:
        raise KeyError(f"{path} has no obsm['{SPATIAL}'], the places of its spots; it has {list(given.obsm)}.")
    counts, var = (given.X, given.var) if given.raw is None else (given.raw.X, given.raw.var)
    libraries = {name: entry for name, entry in given.uns.get(SPATIAL, {}).items() if name != _SINGLE}
    adata = ad.AnnData(
        csr_matrix(counts, dtype=np.float32),
        obs=given.obs.drop(columns=SECTION, errors="ignore").assign(**{SECTION: _sections(given, path, section_key)}),
        var=pd.DataFrame({"gene_ids": var.index.astype(str)}, index=_symbols(var)),
        obsm={SPATIAL: np.asarray(given.obsm[SPATIAL], np.float64)[:, :2]},
    )
    if not np.array_equal(adata.X.data, np.round(adata.X.data)) or (adata.X.data < 0).any():
        where = "X" if given.raw is None else "raw.X"
        raise ValueError(f"{path}: {where} holds no counts (not whole, or negative): raw counts are needed.")
    if _IN_TISSUE in adata.obs and not (under := adata.obs[_IN_TISSUE].astype(int) == 1).all():
        logger.info("%s: left out %d spots that lie beside the tissue.", path.name, int((~under).sum()))
        adata = adata[under.to_numpy()].copy()
    _check_places(adata, path)
    adata.obs_names = [f"{section}_{name}" for section, name in zip(adata.obs[SECTION], adata.obs_names, strict=True)]
    there = adata.obs[SECTION].unique()
    if len(libraries) == len(there) == 1:
        libraries = {there[0]: next(iter(libraries.values()))}
    adata.uns[SPATIAL] = {name: dict(libraries[name]) for name in there if name in libraries}
    return adata


def _sections(given: ad.AnnData, path: Path, key: str | None) -> list[str]:
    """The section of every spot."""
    if key is not None and key not in given.obs:
        raise KeyError(f"{path} has no obs column {key!r}; it has {list(given.obs)}.")
    libraries = [name for name in given.uns.get(SPATIAL, {}) if name != _SINGLE]
    column = key or next((name for name in COLUMNS if name in given.obs), None)
    if key is None and len(libraries) == 1:
        return [str(libraries[0])] * given.n_obs
    return [path.stem] * given.n_obs if column is None else given.obs[column].astype(str).tolist()


def _symbols(var: pd.DataFrame) -> pd.Index:
    """Symbols; Ensembl ids where one is missing or stands twice."""
    ids = pd.Series(var.index.astype(str))
    if SYMBOL not in var:
        return pd.Index(ids)
    symbols = pd.Series(var[SYMBOL].astype(object).to_numpy())
    unclear = symbols.isna() | (symbols == "") | symbols.duplicated(keep=False)
    return pd.Index(symbols.mask(unclear, ids).astype(str))


def _check_places(adata: ad.AnnData, path: Path) -> None:
    """Raise where two spots of a section have one place: then it is more than one section."""
    places = pd.DataFrame(adata.obsm[SPATIAL]).assign(section=adata.obs[SECTION].to_numpy())
    if (twice := places.duplicated()).any():
        raise ValueError(
            f"{path}: {int(twice.sum())} spots lie where another of the same section does, so there are several "
            f"sections in it: pass section_key, the obs column that names them, out of {list(adata.obs)}."
        )
