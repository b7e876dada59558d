"""Many slides made ready for a fit that streams them."""

from functools import partial
from pathlib import Path

import numpy as np
from anndata import AnnData
from scipy import sparse

from omib_spatial._checked import File, Files, Key, checked
from omib_spatial._keys import SPATIAL
from omib_spatial.modalities import check_input, choose_modalities
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides.files import each_file
from omib_spatial.slides.split import spatial_tiles

TOGETHER = 32
"""Spots that come to stand next to each other in the file, as they do in a training tile."""


@checked
def prepare_files(
    paths: Files,
    folder: File,
    *,
    layer: Key | None = None,
    spatial_key: Key = SPATIAL,
    library_key: Key | None = None,
) -> list[Path]:
    """Check slides and write them so that a fit can stream them: counts by rows, neighbours next to each other.

    One Dask task per file, on the scheduler that is set: threads by default, a cluster where a
    ``dask.distributed.Client`` is open. A worker holds one slide at a time.

    Parameters
    ----------
    paths
        ``.h5ad`` files with different names.
    folder
        Where they are written under the same names; made if missing.
    layer, spatial_key, library_key
        As in `omib_spatial.tl.fit`.

    Returns
    -------
    The files written, to be opened by `anndata.experimental.read_lazy` and put together by `anndata.concat`.

    Raises
    ------
    ValueError
        Two files of one name, files that are in ``folder`` already, or one that `omib_spatial.pp.check` refuses for
        another reason than too few spots.

    Examples
    --------
    >>> omib.pp.prepare_files(["slides/p1.h5ad", "slides/p2.h5ad"], "ready/")
    [PosixPath('ready/p1.h5ad'), PosixPath('ready/p2.h5ad')]
    """
    return each_file(partial(_arrange, layer=layer, spatial_key=spatial_key, library_key=library_key), paths, folder)


def _arrange(adata: AnnData, *, layer: str | None, spatial_key: str, library_key: str | None) -> AnnData:
    tissue = Tissue(adata, Layout(layer, spatial_key, library_key))
    # Whether there are enough spots is for all files together to say.
    check_input(tissue, choose_modalities(tissue).values(), required=True)
    tiles = spatial_tiles(tissue.locations, np.arange(adata.n_obs), TOGETHER)
    adata = adata[np.concatenate(tiles)].copy()
    if layer is None:
        adata.X = sparse.csr_matrix(adata.X)
    else:
        adata.layers[layer] = sparse.csr_matrix(adata.layers[layer])
    return adata
