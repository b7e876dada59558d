"""Several slides in one AnnData: names that differ, genes that all have, and what is left behind."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omib_spatial._keys import LIBRARY, SPATIAL, Written
from omib_spatial._warn import warn

if TYPE_CHECKING:
    from anndata import AnnData


def join_slides(
    sources: Sequence[Path], read: Sequence[tuple["AnnData", str | None]], library_key: str | None = None
) -> tuple["AnnData", str | None]:
    """One AnnData of several slides, one below the other, and the ``obs`` column that separates slices.

    Parameters
    ----------
    sources, read
        Slides, and what `omib_spatial.cli.inputs.read_each` made of them.
    library_key
        As of `omib_spatial.cli.inputs.read_with_key`, which says how they are joined.

    Raises
    ------
    ValueError
        Slides cannot be joined: the message names the file.
    """
    if len(read) == 1:
        return read[0]
    return _join(sources, read, library_key or LIBRARY), library_key or LIBRARY


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
