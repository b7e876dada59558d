"""What the commands read: files and folders of slides of any kind that the library takes, as one AnnData."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omib_spatial._reading import named_read, read_anndata
from omib_spatial._warn import warn
from omib_spatial.cli.joining import join_slides

if TYPE_CHECKING:
    from anndata import AnnData

KINDS = "an .h5ad file, a .zarr folder (AnnData or SpatialData), a folder of Space Ranger, or a folder of these"
_MATRIX = "feature_bc_matrix", "feature_cell_matrix", "matrix.mtx"
_OUTS = "outs", "spatial", "binned_outputs", "segmented_outputs"


def read_slides(
    paths: Path | Sequence[Path],
    *,
    library_key: str | None = None,
    image_key: str | None = None,
    table_key: str | None = None,
) -> "AnnData":
    """Read one slide, or several as one AnnData.

    Parameters
    ----------
    paths
        ``.h5ad`` files, ``.zarr`` folders of AnnData or SpatialData, folders of Space Ranger, or folders of these.
    library_key, image_key, table_key
        As in `read_with_key`.

    Returns
    -------
    AnnData in memory; several are joined as `read_with_key` says.
    """
    return read_with_key(paths, library_key=library_key, image_key=image_key, table_key=table_key)[0]


def read_with_key(
    paths: Path | Sequence[Path],
    *,
    library_key: str | None = None,
    image_key: str | None = None,
    table_key: str | None = None,
) -> tuple["AnnData", str | None]:
    """Read one slide, or several as one AnnData, and say which ``obs`` column separates the slices.

    Several are joined on the genes that all have. A slice keeps the name that it has in its file where no other file
    has the same, else the file's name stands before it, and likewise before barcodes.

    Parameters
    ----------
    paths
        As of `read_slides`.
    library_key
        ``obs`` column that separates slices within a file; where several files are joined, those without it are one
        slice each.
    image_key
        Image of a SpatialData that is taken; None takes the best.
    table_key
        Table of a SpatialData; None takes ``"table"``, or the only one.

    Returns
    -------
    The AnnData, and ``library_key``: the given one; else the regions' column of a SpatialData, or ``"library_id"``
    where several were joined; else None.

    Raises
    ------
    FileNotFoundError
        A path does not exist, or a folder holds no slide.
    ValueError, KeyError
        A file cannot be read, or slides cannot be joined: the message names the file.
    """
    sources = find_sources([paths] if isinstance(paths, (str, os.PathLike)) else paths)
    read = read_each(sources, library_key=library_key, image_key=image_key, table_key=table_key)
    return join_slides(sources, read, library_key)


def read_each(
    sources: Sequence[Path],
    *,
    library_key: str | None = None,
    image_key: str | None = None,
    table_key: str | None = None,
) -> list[tuple["AnnData", str | None]]:
    """Every slide of `find_sources` by itself, with the ``obs`` column that separates its slices.

    Parameters and errors are those of `read_with_key`.
    """
    found = [_read(source, library_key, image_key, table_key) for source in sources]
    return [(_under_tissue(source, adata), key) for source, (adata, key) in zip(sources, found, strict=True)]


def find_sources(paths: Iterable[Path]) -> list[Path]:
    """Files and folders of single slides, folders of slides taken apart, in the order of names. Nothing is read.

    Raises
    ------
    FileNotFoundError
        A path does not exist, or a folder holds no slide.
    ValueError
        A file is of no kind that can be read, or one is given twice.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: look at its spelling, and at the folder that you are in.")
        if path.is_dir() and not (is_zarr(path) or is_space_ranger(path)):
            inside = [each for each in sorted(path.iterdir()) if not each.name.startswith(".") and _is_slide(each)]
            if not inside:
                raise FileNotFoundError(f"{path} holds no slides: give {KINDS}.")
            found += inside
        elif _is_slide(path) or (path.is_file() and path.suffix in {".h5", ".gz", ".mtx"}):
            found.append(path)
        else:
            raise ValueError(f"{path} is no slide that can be read: give {KINDS}.")
    if len({path.resolve() for path in found}) < len(found):
        raise ValueError("A slide is given twice: give each once.")
    return found


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr store."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs"))


def is_spatialdata(path: Path) -> bool:
    """Whether a folder is the zarr store of a SpatialData."""
    if not is_zarr(path):
        return False
    attributes = attributes_of(path)
    return "spatialdata_attrs" in attributes or (
        "encoding-type" not in attributes and any((path / name).is_dir() for name in ("tables", "shapes"))
    )


def is_space_ranger(folder: Path) -> bool:
    """Whether a folder holds what Space Ranger writes for one sample, under any prefix."""
    names = [path.name for path in folder.iterdir()]
    return any(name in _OUTS for name in names) or any(part in name for name in names for part in _MATRIX)


def _is_slide(path: Path) -> bool:
    if path.is_file():
        return path.suffix == ".h5ad"
    return path.is_dir() and (is_zarr(path) or is_space_ranger(path))


def attributes_of(store: Path) -> dict[str, Any]:
    """Attributes of a zarr group, read as plain JSON; empty where there are none."""
    try:
        if (store / "zarr.json").is_file():
            return dict(json.loads((store / "zarr.json").read_text()).get("attributes", {}))
        return dict(json.loads((store / ".zattrs").read_text()))
    except (OSError, ValueError):
        return {}


def _read(
    path: Path, library_key: str | None, image_key: str | None, table_key: str | None
) -> tuple["AnnData", str | None]:
    if is_spatialdata(path):
        return _read_spatialdata(path, library_key, image_key, table_key)
    if table_key is not None:
        raise ValueError(f"{path} is no SpatialData and has no tables: leave out --table-key.")
    if (path.is_file() and path.suffix == ".h5ad") or is_zarr(path):
        return read_anndata(path), library_key
    from omib_spatial.slides.visium import read_visium

    if path.is_file():
        return read_visium(path.parent, counts_file=path.name), library_key
    return read_visium(path), library_key


def _under_tissue(source: Path, adata: "AnnData") -> "AnnData":
    """Without spots beside the tissue, which is said."""
    from omib_spatial.slides.off_tissue import under_tissue

    kept = under_tissue(adata)
    if left_out := adata.n_obs - kept.n_obs:
        where = "beside the tissue (obs['in_tissue'] is 0) and are left out"
        warn(f"{source.name}: {left_out} of {adata.n_obs} spots lie {where}.")
    return kept


def _read_spatialdata(
    path: Path, library_key: str | None, image_key: str | None, table_key: str | None
) -> tuple["AnnData", str]:
    import spatialdata

    from omib_spatial.slides.spatialdata import to_anndata

    sdata = named_read(path, spatialdata.read_zarr)
    tables = list(sdata.tables)
    if table_key is None and len(tables) != 1 and "table" not in tables:
        raise ValueError(f"{path} has the tables {tables}: say by --table-key which one is meant.")
    table_key = table_key or ("table" if "table" in tables else tables[0])
    adata, region_key = to_anndata(sdata, table_key, image_key=image_key)
    return adata, library_key or region_key
