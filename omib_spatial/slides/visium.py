"""Space Ranger's folders as the AnnData that everything else takes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omib_spatial._keys import IMAGES, SCALEFACTORS, SPATIAL, SPOT_DIAMETER, UM_PER_PIXEL

if TYPE_CHECKING:
    from anndata import AnnData

SPOT_UM = 65.0
"""Micrometres that ``spot_diameter_fullres`` spans in Visium: Space Ranger takes a spot of 65, not the printed 55."""
_POSITIONS = ("tissue_positions.csv", "tissue_positions_list.csv", "tissue_positions.parquet")


def read_visium(
    folder: str | Path,
    *,
    bin_size: int = 8,
    counts_file: str = "filtered_feature_bc_matrix.h5",
    library_id: str | None = None,
    source_image_path: str | Path | None = None,
) -> "AnnData":
    """Read the output of Space Ranger 1, 2 and later, or one bin size of Visium HD.

    Visium is read with `squidpy.read.visium`. For Visium HD its counts are, and images and places are taken from the
    bin's own ``spatial`` folder.

    Parameters
    ----------
    folder
        Space Ranger's ``outs``, or for Visium HD also the folder of one bin size, such as ``square_008um``.
    bin_size
        Side of the bins in micrometres, where ``folder`` holds ``binned_outputs``.
    counts_file
        Name of the count matrix.
    library_id
        Name of the slice; None takes the one in the count matrix.
    source_image_path
        Full-resolution image, which ``image_key="fullres"`` then reads region by region.

    Returns
    -------
    AnnData of spots or bins by genes:

    - ``X``: raw counts. ``var_names`` are made unique.
    - ``obs``: ``in_tissue``, ``array_row``, ``array_col``.
    - ``obsm["spatial"]``: x and y in full-resolution pixels, float64.
    - ``uns["spatial"][library_id]``: ``images`` (``hires``, ``lowres``), ``scalefactors``, ``metadata``. To the scale
      factors ``microns_per_pixel`` is added where Space Ranger has not written it: 65 / ``spot_diameter_fullres``.

    Raises
    ------
    FileNotFoundError
        The folder, a bin size, or one of the files in it does not exist.

    Examples
    --------
    >>> adata = omib_spatial.read_visium("outs")  # doctest: +SKIP
    """
    folder = _bin_folder(Path(folder), bin_size)
    for name in (counts_file, "spatial/scalefactors_json.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} does not exist: give Space Ranger's 'outs' folder.")
    if not any((folder / "spatial" / name).is_file() for name in _POSITIONS):
        raise FileNotFoundError(f"{folder / 'spatial'} has none of {list(_POSITIONS)}: the places of spots are needed.")
    if source_image_path is not None and not Path(source_image_path).is_file():
        raise FileNotFoundError(f"source_image_path {source_image_path} does not exist.")
    adata = _read(folder, counts_file, library_id)
    adata.var_names_make_unique()
    entry = next(iter(adata.uns[SPATIAL].values()))
    if source_image_path is not None:
        entry.setdefault("metadata", {})["source_image_path"] = str(Path(source_image_path).absolute())
    factors = entry[SCALEFACTORS]
    factors.setdefault(UM_PER_PIXEL, SPOT_UM / factors[SPOT_DIAMETER])
    return adata


def _bin_folder(folder: Path, bin_size: int) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} does not exist.")
    bins = folder / "binned_outputs"
    if not bins.is_dir():
        return folder
    if not (chosen := bins / f"square_{bin_size:03d}um").is_dir():
        there = sorted(path.name for path in bins.iterdir() if path.is_dir())
        raise FileNotFoundError(f"{bins} has no bins of {bin_size} um: pass bin_size= of one of {there}.")
    return chosen


def _read(folder: Path, counts_file: str, library_id: str | None) -> "AnnData":
    import squidpy as sq

    binned = (folder / "spatial" / _POSITIONS[-1]).is_file()
    adata = sq.read.visium(folder, counts_file=counts_file, library_id=library_id, load_images=not binned)
    if not binned:
        adata.obsm[SPATIAL] = adata.obsm[SPATIAL].astype(float)
        return adata
    import pandas as pd

    places = pd.read_parquet(folder / "spatial" / _POSITIONS[-1]).set_index("barcode").reindex(adata.obs_names)
    adata.obs[["in_tissue", "array_row", "array_col"]] = places[["in_tissue", "array_row", "array_col"]]
    adata.obsm[SPATIAL] = places[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(float)
    entry: dict[str, Any] = next(iter(adata.uns[SPATIAL].values()))
    entry[SCALEFACTORS] = json.loads((folder / "spatial" / "scalefactors_json.json").read_bytes())
    entry[IMAGES] = _images(folder / "spatial")
    return adata


def _images(folder: Path) -> dict[str, Any]:
    from skimage.io import imread

    paths = {key: folder / f"tissue_{key}_image.png" for key in ("hires", "lowres")}
    return {key: imread(path) for key, path in paths.items() if path.is_file()}
