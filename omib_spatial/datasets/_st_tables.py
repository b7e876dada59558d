"""Tables of the spatial transcriptomics arrays before Visium, as their pipeline and spot detector write them."""

import logging
from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from scipy.sparse import csr_matrix
from scipy.spatial import KDTree

from omib_spatial._keys import SPATIAL
from omib_spatial.datasets._sections import SECTION

logger = logging.getLogger("omib_spatial")


def read_spots(counts: Path, places: Path, section: str) -> ad.AnnData:
    """Join counts with the places of the spots under tissue.

    Parameters
    ----------
    counts
        Tab-separated, spots (``10x13``: column, row of the array) by genes; gzipped where the name ends in ``.gz``.
    places
        Tab-separated with ``x``, ``y`` (column and row of the array), ``pixel_x``, ``pixel_y`` and maybe ``selected``,
        which is 0 for spots outside the tissue.
    section
        Its name, which goes before those of the spots.

    Returns
    -------
    AnnData of the spots that both files have, in the order of the counts: ``X`` (sparse float32), ``obs["section"]``,
    ``obs["array_row"]``, ``obs["array_col"]``, ``obsm["spatial"]`` in pixels, and names such as ``A1_10x13``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    KeyError
        ``places`` lacks a column.
    ValueError
        A file is not a table, has a spot twice, has counts that are no numbers, or no spot is in both.
    """
    table = read_table(counts, index_col=0)
    if words := [str(gene) for gene in table if not is_numeric_dtype(table[gene])]:
        raise ValueError(f"{counts}: columns {words[:3]} hold no numbers: spots go in rows and genes in columns.")
    spots = read_table(places, needed=("x", "y", "pixel_x", "pixel_y"))
    if "selected" in spots:
        spots = spots[spots["selected"] != 0]
    spots = spots.set_index(spot_names(spots))
    for path, index in ((counts, table.index), (places, spots.index)):
        if twice := index[index.duplicated()].tolist():
            raise ValueError(f"{path} has the spots {twice[:3]} more than once: one row per spot is needed.")
    both = table.index[table.index.isin(spots.index)]
    if both.empty:
        raise ValueError(
            f"{counts} (spots {table.index[:3].tolist()}, ...) and {places} (spots {spots.index[:3].tolist()}, ...) "
            "have no spot in common: they must be of one section."
        )
    _say_left_out(section, counts, places, len(table) - len(both), len(spots) - len(both))
    spots = spots.loc[both]
    row, column = (spots[axis].round().astype(int) for axis in "yx")
    obs = pd.DataFrame({SECTION: section, "array_row": row, "array_col": column})
    counts_of_both = csr_matrix(table.loc[both].to_numpy(np.float32))
    adata = ad.AnnData(counts_of_both, obs=obs, var=pd.DataFrame(index=table.columns))
    adata.obs_names = [f"{section}_{name}" for name in both]
    adata.obsm[SPATIAL] = spots[["pixel_x", "pixel_y"]].to_numpy(float)
    return adata


def read_table(path: Path, *, needed: Sequence[str] = (), index_col: int | None = None) -> pd.DataFrame:
    """Read a tab-separated file.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    KeyError
        It lacks a needed column.
    ValueError
        It is not a table: a broken download, an encrypted file, a page with an error.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: download it again with omib_spatial.datasets.fetch.")
    try:
        table = pd.read_csv(path, sep="\t", index_col=index_col, float_precision="round_trip")
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path} is no tab-separated table ({error}): delete it and download it again.") from error
    if missing := [name for name in needed if name not in table]:
        raise KeyError(f"{path} lacks the columns {missing}; it has {list(table)[:8]}.")
    return table


def spot_names(table: pd.DataFrame) -> pd.Index:
    """``10x13`` of every row's ``x`` and ``y``, which may be measured rather than whole: 9.852 and 12.991."""
    x, y = (table[axis].round().astype(int).astype(str) for axis in "xy")
    return pd.Index(x + "x" + y)


def half_pitch(places: np.ndarray) -> float:
    """Half the median distance to the nearest spot: the diameter of spots of 100 um, 200 um apart."""
    distances, _ = KDTree(places).query(places, k=2)
    return float(np.median(distances[:, 1]) / 2)


def _say_left_out(section: str, counts: Path, places: Path, placeless: int, countless: int) -> None:
    if placeless or countless:
        logger.info(
            "%s: left out %d spots that %s does not place and %d that have no counts in %s.",
            section,
            placeless,
            places.name,
            countless,
            counts.name,
        )
