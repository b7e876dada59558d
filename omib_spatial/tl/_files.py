"""Many slides scored by one model."""

from functools import partial
from pathlib import Path
from typing import Any

from anndata import AnnData

from omib_spatial._checked import Accelerator, File, Files, Flag, Key, KeyAdded, checked
from omib_spatial.detector import load
from omib_spatial.slides.files import each_file
from omib_spatial.tl._score import score


@checked
def score_files(
    paths: Files,
    model_folder: File,
    folder: File,
    *,
    library_key: Key | None = None,
    layer: Key | None = None,
    key_added: KeyAdded = "omib",
    accelerator: Accelerator = "auto",
    allow_download: Flag = False,
) -> list[Path]:
    """Score slides with a saved model, one Dask task per file.

    Tasks run on the scheduler that is set: threads by default, a cluster where a ``dask.distributed.Client`` is open.
    A slide gets the scores that `score` gives it alone.

    Parameters
    ----------
    paths
        ``.h5ad`` files with different names.
    model_folder
        Where ``model.save`` wrote the model; every worker reads it.
    folder
        Where scored slides are written under the same names; made if missing.
    library_key, layer, key_added, accelerator
        As in `score`.
    allow_download
        As in `omib_spatial.load`.

    Returns
    -------
    The files written.

    Raises
    ------
    ValueError
        Two files of one name, files that are in ``folder`` already, or one that cannot be scored.
    OSError
        A file cannot be read or written.

    Examples
    --------
    >>> model.save("breast/")
    >>> omib.tl.score_files(["slides/p1.h5ad", "slides/p2.h5ad"], "breast/", "scored/")
    [PosixPath('scored/p1.h5ad'), PosixPath('scored/p2.h5ad')]
    """
    options = {"library_key": library_key, "layer": layer, "key_added": key_added, "accelerator": accelerator}
    return each_file(partial(_score, model_folder, allow_download, **options), paths, folder)


def _score(model_folder: str | Path, allow_download: bool, adata: AnnData, **options: Any) -> AnnData:
    score(adata, load(model_folder, allow_download=allow_download), **options)
    return adata
