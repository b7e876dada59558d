"""What the commands read: files and folders of slides of any kind that the library takes, as one AnnData."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omib_spatial._keys import LIBRARY, SPATIAL, Written
from omib_spatial._reading import named_read, read_anndata
from omib_spatial._warn import warn

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


def join_slides(
    sources: Sequence[Path], read: Sequence[tuple["AnnData", str | None]], library_key: str | None = None
) -> tuple["AnnData", str | None]:
    """One AnnData of the slides of `read_each`, one below the other, and the ``obs`` column that separates slices.

    Parameters
    ----------
    sources, read
        Slides, and what was read of each.
    library_key
        As of `read_with_key`, which says how they are joined.

    Raises
    ------
    ValueError
        Slides cannot be joined: the message names the file.
    """
    if len(read) == 1:
        return read[0]
    return _join(sources, read, library_key or LIBRARY), library_key or LIBRARY


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


def _join(sources: Sequence[Path], read: Sequence[tuple["AnnData", str | None]], key: str) -> "AnnData":
    """Several slides in one AnnData, slices told apart by ``obs[key]``."""
    import anndata

    from omib_spatial.slides.results import drop_results
    from omib_spatial.slides.slides import slide_entries

    slices = [_slices(source, *each, key) for source, each in zip(sources, read, strict=True)]
    sides = sides_of(sources)
    every = [name for names in slices for name in dict.fromkeys(names)]
    barcodes = [name for adata, _ in read for name in adata.obs_names]
    unlike = len(set(barcodes)) == len(barcodes)
    parts: list[AnnData] = []
    entries: dict[str, Any] = {}
    for side, (adata, _), names in zip(sides, read, slices, strict=True):
        new = {name: name if every.count(name) == 1 else _both(side, name) for name in dict.fromkeys(names)}
        part = adata.copy() if adata.is_view else adata
        # Of several runs there is no one record: columns of results without it would be taken for the user's.
        drop_results(part, Written())
        part.obs[key] = [new[name] for name in names]
        if not unlike:
            part.obs_names = [f"{side}_{name}" for name in part.obs_names]
        spatial = slide_entries(part)
        # A file of one slice may call the entry by another name than the column has.
        single = len(new) == 1 and len(spatial) == 1
        entries |= {new[names[0]] if single else new[name]: e for name, e in spatial.items() if single or name in new}
        parts.append(part)
    joined = anndata.concat(parts, join="inner", merge="first")
    if not joined.n_vars:
        raise ValueError(
            f"The slides have no gene in common ({_ways(sources, parts)}): give all the same kind of names."
        )
    joined.obs[key] = joined.obs[key].astype("category")
    if entries:
        joined.uns[SPATIAL] = entries
    _warn_of_lost(parts, joined)
    return joined


def _slices(source: Path, adata: "AnnData", own_key: str | None, key: str) -> list[str]:
    """Slice of every spot of one file, by the column that separates them, or all one."""
    from omib_spatial.slides.slides import slide_entries

    column = next((name for name in (key, own_key) if name in adata.obs), None)
    if column is not None:
        return [str(name) for name in adata.obs[column]]
    names = list(slide_entries(adata))
    if len(names) > 1:
        raise ValueError(f"{source} has several slices ({', '.join(names)}): tell them apart by --library-key.")
    return [names[0] if names else _side(source)] * adata.n_obs


def _side(source: Path) -> str:
    """Name of a file or folder; 'outs' says nothing, the folder above it does."""
    path = source.resolve()
    return (path.parent if path.name == "outs" else path).name.removesuffix(path.suffix)


def sides_of(sources: Sequence[Path]) -> list[str]:
    """Names of files and folders, without endings; numbered where two have one."""
    names = [_side(source) for source in sources]
    return [name if names.count(name) == 1 else f"{name}{i}" for i, name in enumerate(names, 1)]


def _both(side: str, name: str) -> str:
    return name if side == name else f"{side}_{name}"


def _ways(sources: Sequence[Path], parts: Sequence["AnnData"]) -> str:
    return ", ".join(
        f"{path.name}: {part.var_names[0]!r}" for path, part in zip(sources, parts, strict=True) if part.n_vars
    )


def _warn_of_lost(parts: Sequence["AnnData"], joined: "AnnData") -> None:
    """Warn of genes, layers and features that not all files have."""
    from omib_spatial.slides.slides import named

    lost = []
    genes = set().union(*(part.var_names for part in parts))
    if more := len(genes) - joined.n_vars:
        lost.append(f"{more} of {len(genes)} genes")
    for slot in ("layers", "obsm"):
        keys = set().union(*(getattr(part, slot) for part in parts)) - set(getattr(joined, slot))
        if keys:
            lost.append(f"{slot} {named(sorted(keys))}")
    if lost:
        warn(f"Left out, since not all slides have them: {'; '.join(lost)}.")
