"""Space Ranger's folders as the AnnData that everything else takes."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from omib_spatial._checked import Count, File, Key, checked
from omib_spatial._keys import IMAGES, SCALEFACTORS, SPATIAL, SPOT_DIAMETER, UM_PER_PIXEL, scale_key
from omib_spatial._warn import warn
from omib_spatial.slides.slides import named
from omib_spatial.slides.spaceranger import (
    CELLS,
    COLUMNS,
    FACTORS,
    MATRICES,
    POSITIONS,
    Pieces,
    read_cells,
    read_counts,
    read_factors,
    read_picture,
    read_positions,
)

if TYPE_CHECKING:
    from anndata import AnnData

SPOT_UM = 65.0
"""Micrometres that ``spot_diameter_fullres`` spans in Visium: Space Ranger takes a spot of 65, not the printed 55."""
_USUAL_BIN = 8


@checked
def read_visium(
    folder: File,
    *,
    bin_size: Count | None = None,
    counts_file: Key | None = None,
    library_id: Key | None = None,
    source_image_path: File | None = None,
) -> "AnnData":
    """Read the output of Space Ranger 1 to 4: Visium spots, one bin size of Visium HD, or its segmented cells.

    What is there is read. Files may lie in ``spatial`` or beside the counts, have one prefix, as in GEO, and be
    gzipped; counts may be an ``.h5`` file or an ``mtx`` folder.

    Parameters
    ----------
    folder
        Space Ranger's ``outs`` or the folder above it, the folder of one bin size, such as ``square_008um``,
        ``segmented_outputs``, or a folder that holds the files of one sample.
    bin_size
        Side of the bins in micrometres, where ``folder`` holds ``binned_outputs``. None takes 8, or else the size next
        to it; segmented cells where there are no bins.
    counts_file
        Name of the count matrix; None takes the filtered one, or else the raw one's spots under tissue.
    library_id
        Name of the slice; None takes the one in the count matrix, or the folder's (of ``outs`` the one above it).
    source_image_path
        Full-resolution image, which ``image_key="fullres"`` then reads region by region.

    Returns
    -------
    AnnData of spots, bins or cells by genes:

    - ``X``: raw counts. ``var_names`` are symbols, made unique.
    - ``var``: ``gene_ids`` and ``gene_symbols`` as they are written.
    - ``obs``: ``in_tissue``, ``array_row``, ``array_col``; of cells ``area`` in full-resolution pixels squared.
    - ``obsm["spatial"]``: x and y in full-resolution pixels, float64; of cells, of their centroid.
    - ``uns["spatial"][library_id]``: ``images`` (``hires``, ``lowres``, those that are there), ``scalefactors``,
      ``metadata``. To the scale factors ``microns_per_pixel`` is added where Space Ranger has not written it:
      65 / ``spot_diameter_fullres``. The diameter of cells is that of a circle of their median area.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        The folder, a bin size, the counts or the places of spots are not there.
    ValueError
        A file cannot be read, the folder holds several samples, or counts and places are of different ones.

    Warns
    -----
    UserWarning
        Once, of all that is missing and what that costs.

    Examples
    --------
    >>> adata = omib.read_visium("outs")
    >>> adata.shape, list(adata.uns["spatial"])
    ((12, 5), ['LIB'])
    """
    if source_image_path is not None and not Path(source_image_path).is_file():
        raise FileNotFoundError(f"source_image_path {source_image_path} does not exist.")
    notes: list[str] = []
    folder = _sample_folder(Path(folder), bin_size, notes)
    matrix, pieces = _find_counts(folder, counts_file)
    adata, described = read_counts(matrix, pieces)
    adata = _genes_alone(adata, notes)
    factors = _factors(pieces, notes)
    cells = pieces.find(CELLS)
    # What the raw matrix has beside the tissue is left out.
    whole = matrix.name.removeprefix(pieces.prefix).startswith("raw")
    adata = _placed_cells(adata, cells, factors, notes) if cells else _placed_spots(adata, pieces, whole, notes)
    if whole:
        notes.append("the filtered count matrix is missing: spots under tissue were taken from the raw one")
    name = library_id or described.pop("library_id", None) or pieces.prefix.strip("_-.") or _own_name(folder)
    described.pop("library_id", None)
    entry: dict[str, Any] = {IMAGES: _images(pieces, factors, notes), SCALEFACTORS: factors, "metadata": described}
    if factors and UM_PER_PIXEL not in factors and SPOT_DIAMETER in factors:
        factors[UM_PER_PIXEL] = SPOT_UM / factors[SPOT_DIAMETER]
    if source_image_path is not None:
        entry["metadata"]["source_image_path"] = str(Path(source_image_path).absolute())
    adata.uns[SPATIAL] = {name: entry}
    if pieces.guessed:
        notes.append(f"{named(sorted(pieces.guessed))} were taken for the same sample as {matrix.name}")
    if notes:
        warn(f"{folder}: {'; '.join(notes)}.")
    return adata


def _sample_folder(folder: Path, bin_size: int | None, notes: list[str]) -> Path:
    """Folder in which the counts are: of one bin size, of cells, or the given one."""
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file: give its folder, and the file's name by counts_file=.")
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} does not exist: give Space Ranger's 'outs' folder.")
    if (folder / "outs").is_dir():
        folder = folder / "outs"
    bins, cells = folder / "binned_outputs", folder / "segmented_outputs"
    if not bins.is_dir():
        return cells if cells.is_dir() and bin_size is None else folder
    sizes = {int(found[1]): path for path in bins.iterdir() if (found := re.fullmatch(r"square_(\d+)um", path.name))}
    if not sizes and bin_size is None and cells.is_dir():
        return cells
    if not sizes or (bin_size is not None and bin_size not in sizes):
        raise FileNotFoundError(
            f"{bins} has no bins of {bin_size or _USUAL_BIN} um: pass bin_size= of one of {sorted(sizes)}."
        )
    chosen = bin_size or min(sizes, key=lambda size: (abs(size - _USUAL_BIN), -size))
    if bin_size is None and chosen != _USUAL_BIN:
        notes.append(f"bins of {_USUAL_BIN} um are missing: those of {chosen} um were read (bin_size={chosen})")
    return sizes[chosen]


def _own_name(folder: Path) -> str:
    """Name of a folder, or of the first one above it that Space Ranger has not named."""
    usual = re.compile(r"outs|binned_outputs|segmented_outputs|square_\d+um")
    names = [path.name for path in (folder.resolve(), *folder.resolve().parents) if path.name]
    return next((name for name in names if not usual.fullmatch(name)), folder.resolve().name)


def _find_counts(folder: Path, counts_file: str | None) -> tuple[Path, Pieces]:
    if counts_file is None:
        pieces = Pieces(folder)
        found = next((path for name in MATRICES if (path := pieces.find(name))), None)
        if found is None:
            raise FileNotFoundError(
                f"{folder} has no count matrix, such as {MATRICES[0]} or the folder {MATRICES[2]}: "
                f"{_elsewhere(folder, MATRICES)}, or the name of the matrix by counts_file=."
            )
        return found, pieces
    if not (folder / counts_file).exists():
        raise FileNotFoundError(f"{folder / counts_file} does not exist: pass counts_file= of a file that is there.")
    name = counts_file.removesuffix(".gz")
    known = [each for each in MATRICES if name.endswith(each)]
    return folder / counts_file, Pieces(folder, name.removesuffix(max(known, key=len)) if known else "")


def _elsewhere(folder: Path, names: Sequence[str]) -> str:
    """What to do about files that are not in the folder: unpack them, or give the folder that has them."""
    if packed := sorted(path.name for path in folder.iterdir() if re.search(r"\.(tar|tar\.gz|tgz|zip)$", path.name)):
        return f"unpack {named(packed)} first, and give the folder that comes out"
    below = {path.parent for name in names for depth in ("*", "*/*") for path in folder.glob(f"{depth}/*{name}*")}
    if below:
        return f"give one of {named(sorted(below))}"
    return "give Space Ranger's 'outs' folder"


def _genes_alone(adata: "AnnData", notes: list[str]) -> "AnnData":
    """The genes, by unique symbols; ids and symbols as they are written stay in ``var``."""
    adata.var["gene_symbols"] = adata.var_names.to_numpy()
    adata.var_names_make_unique()
    kinds = adata.var["feature_types"] if "feature_types" in adata.var else pd.Series("", index=adata.var_names)
    others = ~kinds.isin(["Gene Expression", ""]).to_numpy()
    if others.any():
        notes.append(f"{others.sum()} features that are no genes ({named(kinds[others].unique())}) are left out")
        adata = adata[:, ~others].copy()
    return adata


def _factors(pieces: Pieces, notes: list[str]) -> dict[str, Any]:
    if path := pieces.find(FACTORS):
        return read_factors(path)
    notes.append(
        f"{FACTORS} is missing: no image can be laid under the spots and there are no micrometres, genes alone are read"
    )
    return {}


def _placed_spots(adata: "AnnData", pieces: Pieces, tissue_alone: bool, notes: list[str]) -> "AnnData":
    path = next((found for name in POSITIONS if (found := pieces.find(name))), None)
    if path is None:
        raise FileNotFoundError(
            f"{pieces.folder} and its folder 'spatial' have none of {list(POSITIONS)}: the places of spots are needed, "
            f"take the table from the 'spatial' folder of the same run, or {_elsewhere(pieces.folder, POSITIONS)}."
        )
    table = read_positions(path)
    if tissue_alone and "in_tissue" in table:
        under = adata.obs_names.isin(table.index[table["in_tissue"] == 1])
        adata = adata[under].copy() if under.any() else adata
    adata = _known(adata, table.index, path, notes)
    table = table.loc[adata.obs_names]
    for column in COLUMNS[:3]:
        if column in table:
            adata.obs[column] = table[column].to_numpy()
    adata.obsm[SPATIAL] = table[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(float)
    return adata


def _placed_cells(adata: "AnnData", path: Path, factors: dict[str, Any], notes: list[str]) -> "AnnData":
    table = read_cells(path)
    numbers = [re.search(r"(\d+)(?:-\d+)?$", name) for name in adata.obs_names]
    of_cell = {number: i for i, number in enumerate(table.index)}
    rows = np.array([of_cell.get(int(found[1]), -1) if found else -1 for found in numbers])
    adata = _known(adata, adata.obs_names[rows >= 0], path, notes)
    table = table.iloc[rows[rows >= 0]]
    adata.obs["area"] = table["area"].to_numpy()
    adata.obsm[SPATIAL] = table[["x", "y"]].to_numpy(float)
    if factors:
        factors[SPOT_DIAMETER] = float(2 * np.sqrt(table["area"].median() / np.pi))
    return adata


def _known(adata: "AnnData", names: pd.Index, path: Path, notes: list[str]) -> "AnnData":
    """Spots that have a place."""
    known = adata.obs_names.isin(names)
    if not known.any():
        raise ValueError(
            f"{path} has none of the counts' barcodes (such as {named(adata.obs_names[:2])}, there "
            f"{named(names[:2])}): counts and places are of different samples."
        )
    if not known.all():
        notes.append(f"{(~known).sum()} spots without a place in {path.name} are left out")
        adata = adata[known].copy()
    return adata


def _images(pieces: Pieces, factors: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Images that are there and can be placed; those that cannot are noted."""
    if not factors:
        return {}
    images, missing = {}, []
    for key in ("hires", "lowres"):
        path = pieces.find(f"tissue_{key}_image.png") or pieces.find(f"tissue_{key}_image.jpg")
        if path is None:
            missing.append(f"tissue_{key}_image.png")
        elif scale_key(key) not in factors:
            notes.append(f"{FACTORS} lacks {scale_key(key)}: image {key!r} cannot be placed and is left out")
        else:
            images[key] = read_picture(path)
    if missing and not images:
        notes.append(f"{' and '.join(missing)} are missing: there is no image, genes alone are read")
    elif missing == ["tissue_hires_image.png"]:
        notes.append(
            "tissue_hires_image.png is missing: image 'lowres' is there, which shows no single nuclei; fit takes "
            "it by image_key='lowres'"
        )
    return images
