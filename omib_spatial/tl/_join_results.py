"""Results of several models, each of other spots, in one AnnData."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._keys import CLASSES, Written
from omib_spatial._version import __version__
from omib_spatial.tl._call import write_calls
from omib_spatial.tl._verdicts import slices_of

_OF_THE_FIT = ("M_l", "M_u", "beta", "n_reference", "n_calibration")
"""Parameters that differ between the models, as do entropies (``H_``) and information (``I_``)."""


def join_results(
    adata: AnnData, keys: Written, donors: np.ndarray, scored: Sequence[AnnData], failed: Mapping[str, str]
) -> None:
    """Put the results of all donors, in the order of ``donors``, into ``adata``; of those that ``failed``, why."""
    rows = np.concatenate([np.flatnonzero(donors == name) for name in dict.fromkeys(donors) if name not in failed])
    records = [own.uns[keys.uns] for own in scored]
    for column in (keys.score, keys.pvalue, keys.slice_pvalue, keys.modalities, keys.label):
        if all(column in own.obs for own in scored):
            parts = [own.obs[column] for own in scored]
            categories = isinstance(parts[0].dtype, pd.CategoricalDtype)
            joined = pd.api.types.union_categoricals(parts) if categories else np.concatenate(parts)
            adata.obs[column] = pd.Series(joined, rows).reindex(range(adata.n_obs)).array
    adata.obsm.pop(keys.embedding, None)
    params = {key: value for key, value in records[0]["params"].items() if _is_shared(key, value, records)}
    modalities = dict.fromkeys(str(name) for record in records for name in record["params"]["modalities"])
    lists = {"modalities": modalities, "cross_fit": dict.fromkeys(donors)}
    params["pooling_hops"] = max(record["params"]["pooling_hops"] for record in records)
    adata.uns[keys.uns] = {
        "version": __version__,
        "params": params | {name: np.array(list(values), str) for name, values in lists.items()},
        "groups": _stacked([record["groups"] for record in records]),
        "shifts": _stacked([record["shifts"] for record in records]),
        "modalities": _shares([record["modalities"] for record in records]),
    }
    if all(keys.probability in own.obsm for own in scored):
        classes = list(dict.fromkeys(str(name) for record in records for name in record[CLASSES]))
        tables = [pd.DataFrame(own.obsm[keys.probability], columns=list(own.uns[keys.uns][CLASSES])) for own in scored]
        joined = pd.concat(tables).reindex(columns=classes).set_axis(rows)
        adata.obsm[keys.probability] = joined.reindex(range(adata.n_obs)).to_numpy()
        adata.uns[keys.uns][CLASSES] = np.array(classes, str)
    slices = slices_of(adata, keys)
    unscored = {name: failed[donor] for name, donor in zip(slices, donors, strict=True) if donor in failed}
    adata.uns[keys.uns]["unscored"] = {
        "slice": np.array(list(unscored), str),
        "reason": np.array(list(unscored.values()), str),
    }
    write_calls(adata, keys)


def _is_shared(key: str, value: Any, records: Sequence[Mapping[str, Any]]) -> bool:
    if key in _OF_THE_FIT or key.startswith(("H_", "I_")):
        return False
    return all(np.array_equal(value, record["params"].get(key)) for record in records)


def _stacked(tables: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Columns of several tables one below the other."""
    return {name: np.concatenate([np.atleast_1d(table[name]) for table in tables]) for name in tables[0]}


def _shares(tables: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Share of spots that have each modality, by slice; 0 where a model does not know it."""
    frames = [pd.DataFrame(table["share"], table["slice"], list(table["modality"])) for table in tables]
    whole = pd.concat(frames).fillna(0.0)
    return {
        "slice": whole.index.to_numpy(str),
        "modality": np.array(list(whole), str),
        "share": whole.to_numpy(float),
    }
