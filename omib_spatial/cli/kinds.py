"""Kinds of anomaly across the slides of a cohort, which no slide tells by itself."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from omib_spatial import tl
from omib_spatial._atomic import replacing
from omib_spatial._keys import ABNORMAL, SPATIAL, Written
from omib_spatial.cli.outputs import write_slides

if TYPE_CHECKING:
    from anndata import AnnData

TABLE = "subtypes.csv"
_SLICE = "slice"
_APART = ": "
"""Between the name of a file's folder and what is within it."""


def seek_kinds(
    files: Mapping[str, Path], out: Path, *, shared: bool, write_report: Callable[[str, "AnnData"], object]
) -> str:
    """Look for kinds of anomaly in all slides together, and write them into each.

    Parameters
    ----------
    files
        Scored and explained slides by name.
    out
        Folder of the table.
    shared
        Whether all were scored by one model: directions of different models do not compare.
    write_report
        Takes the name of a slide whose kinds changed, and the slide.

    Returns
    -------
    Why no kinds were sought; empty if they were.
    """
    keys = Written()
    parts = {name: _part(path, name, keys) for name, path in files.items()} if shared else {}
    called = [name for name, part in parts.items() if part is not None]
    found, why = None, ""
    if not shared:
        why = "slides were judged by different models, whose directions do not compare"
    elif len(called) < 2:
        why = "fewer than two slides have called spots that were explained"
    else:
        found = ad.concat([part for part in parts.values() if part is not None], uns_merge="first")
        tl.subtypes(found, library_key=_SLICE)
    for name, path in files.items():
        _write(name, path, found, keys, write_report)
    if found is None:
        (out / TABLE).unlink(missing_ok=True)
    else:
        with replacing(out / TABLE) as partial:
            found.uns[keys.subtypes]["kinds"].to_csv(partial, index=False)
    return why


def _part(path: Path, name: str, keys: Written) -> "AnnData | None":
    """What is needed of one file: calls, places and directions; None where no spot is called."""
    adata = ad.read_h5ad(path, backed="r")
    try:
        if keys.deviation not in adata.obsm or not (adata.obs[keys.call] == ABNORMAL).any():
            return None
        params = adata.uns[keys.uns]["params"]
        library, spatial = params.get("library_key") or None, str(params.get("spatial_key") or SPATIAL)
        obs = adata.obs[[keys.score, keys.call]].copy()
        several = library is not None and adata.obs[library].nunique() > 1
        obs[_SLICE] = name + _APART + adata.obs[library].astype(str) if several else name
        obs.index = name + _APART + obs.index
        values = {SPATIAL: adata.obsm[spatial][:, :2], keys.deviation: adata.obsm[keys.deviation]}
        near = {"n_neighbors": params["n_neighbors"]} if "n_neighbors" in params else {}
        # Genes are not looked at; an AnnData without any is refused.
        none = sparse.csr_matrix((len(obs), 1), dtype=np.float32)
        return ad.AnnData(none, obs=obs, obsm=values, uns={keys.uns: {"params": near}})
    finally:
        adata.file.close()


def _write(
    name: str, path: Path, found: "AnnData | None", keys: Written, write_report: Callable[[str, "AnnData"], object]
) -> None:
    """Bring the kinds of one file up to date, and its report where they changed."""
    adata = ad.read_h5ad(path)
    new = None
    if found is not None:
        new = found.obs[keys.subtype].reindex(name + _APART + adata.obs_names).set_axis(adata.obs_names)
    old = adata.obs.get(keys.subtype)
    if (old is None and new is None) or (old is not None and new is not None and old.equals(new)):
        return
    for table, key in ((adata.obs, keys.subtype), (adata.uns, keys.subtypes), (adata.uns, f"{keys.subtype}_colors")):
        if key in table:
            del table[key]
    if found is not None:
        adata.obs[keys.subtype] = pd.Categorical(new, found.obs[keys.subtype].cat.categories)
        for key in (keys.subtypes, f"{keys.subtype}_colors"):
            adata.uns[key] = found.uns[key]
    write_slides(adata, path)
    write_report(name, adata)
