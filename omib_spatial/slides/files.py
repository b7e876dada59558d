"""One piece of work on many slides, one Dask task per file."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import anndata as ad
import dask

from omib_spatial._atomic import check_folder, replacing
from omib_spatial._reading import read_anndata


def each_file(work: Callable[[ad.AnnData], ad.AnnData], paths: Iterable[str | Path], folder: str | Path) -> list[Path]:
    """Read each ``.h5ad`` of ``paths``, do ``work`` on it, and write the result into ``folder`` under the same name.

    Tasks run on the scheduler that is set: threads by default, a cluster where a ``dask.distributed.Client`` is open.
    A worker holds one slide at a time, and a file is complete when it appears.

    Raises
    ------
    ValueError
        Two files of one name, files that are in ``folder`` already, or one that ``work`` refuses, by name.
    OSError
        A file cannot be read or written.
    """
    sources, folder = [Path(path) for path in paths], Path(folder)
    if len({path.name for path in sources}) < len(sources):
        raise ValueError("Two of the files have one name: what is written of them would collide.")
    if any(path.parent.resolve() == folder.resolve() for path in sources):
        raise ValueError(f"{folder} holds some of the files themselves: pass another folder.")
    if there := [path.name for path in sources if os.path.lexists(folder / path.name)]:
        some = ", ".join([*map(repr, there[:5]), *(["..."] if len(there) > 5 else [])])
        raise ValueError(f"{folder} holds {some} already: pass another folder, or leave these files out.")
    check_folder(folder)
    task = dask.delayed(_one)
    return list(dask.compute(*[task(work, source, folder) for source in sources]))


def _one(work: Callable[[ad.AnnData], ad.AnnData], source: Path, folder: Path) -> Path:
    adata = read_anndata(source)
    try:
        adata = work(adata)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{source}: {error.args[0] if error.args else error}") from error
    with replacing(folder / source.name, overwrite=False) as partial:
        adata.write_h5ad(partial)
    return folder / source.name
