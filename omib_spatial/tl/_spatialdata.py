"""Let what works on AnnData work on a table of a SpatialData object."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import pandas as pd
from anndata import AnnData

from omib_spatial._checked import checked_arguments
from omib_spatial._keys import IMAGE_FEATURES, REFERENCE, Written
from omib_spatial.slides.results import recorded_params
from omib_spatial.slides.spatialdata import table_of, to_anndata

F = TypeVar("F", bound=Callable[..., Any])


def accepts_spatialdata(function: F) -> F:
    """Check the arguments; let ``adata`` be a SpatialData, of which ``table_key`` is read and gets the results."""

    @wraps(function)
    def on_table(*args: Any, **kwargs: Any) -> Any:
        bound = checked_arguments(function, args, kwargs)
        sdata = bound.arguments["adata"]
        if isinstance(sdata, AnnData):
            with tables_back_on_error(sdata):
                return function(*bound.args, **bound.kwargs)
        if not hasattr(sdata, "tables"):
            return function(*bound.args, **bound.kwargs)
        bound.apply_defaults()
        given = bound.arguments
        if given.get("copy"):
            raise ValueError("copy=True copies an AnnData: copy the SpatialData yourself and score the copy.")
        given["adata"], region_key = to_anndata(sdata, given["table_key"], **_keys_of(sdata, given))
        given["library_key"] = given["library_key"] or region_key
        result = function(*bound.args, **bound.kwargs)
        _bring_back(given["adata"], table_of(sdata, given["table_key"]), Written(given["key_added"]))
        return result

    return on_table  # type: ignore[return-value]


@contextmanager
def tables_back_on_error(adata: AnnData) -> Iterator[None]:
    """Give a lazily read ``adata``, whose tables are read into memory, its lazy ones back where anything fails."""
    obs, var = adata.obs, adata.var
    try:
        yield
    except BaseException:
        for name, before in (("obs", obs), ("var", var)):
            if not isinstance(before, pd.DataFrame):
                setattr(adata, name, before)
        raise


def _keys_of(sdata: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of image and coordinates: what was asked for, else the model's, else those of the run that is looked at."""
    asked = vars(given["model"].layout) if "model" in given else {}
    recorded = recorded_params(table_of(sdata, given["table_key"]).uns, given["key_added"])
    keys = {key: given.get(key) or asked.get(key) or recorded.get(key) or None for key in ("image_key", "spatial_key")}
    return keys if keys["spatial_key"] else {"image_key": keys["image_key"]}


def _bring_back(adata: AnnData, table: AnnData, keys: Written) -> None:
    """Put results where the user looks for them."""
    scored = (keys.score, keys.pvalue, keys.slice_pvalue, keys.modalities, keys.call, keys.anomaly, keys.label)
    rested = {keys.region: keys.regions, keys.zone: keys.regions, keys.clone: keys.clones, keys.subtype: keys.subtypes}
    for column, record in rested.items():
        # adata has all columns of the table, but for those that rested on earlier calls.
        if column in table.obs and column not in adata.obs:
            del table.obs[column]
            for stale in (record, f"{column}_colors"):
                table.uns.pop(stale, None)
    # The same holds for what explained an earlier score.
    told = ((adata.obsm, table.obsm, keys.contributions), (adata.obsm, table.obsm, keys.deviation))
    more = ((adata.layers, table.layers, keys.gene_contributions),)
    tables = ((adata.uns, table.uns, keys.explained), (adata.uns, table.uns, keys.patch_contributions))
    for own, theirs, key in (*told, *more, *tables):
        if key in theirs and key not in own:
            del theirs[key]
    for key in (*scored, keys.region, keys.zone, keys.clone, keys.subtype, REFERENCE, f"{REFERENCE}_score"):
        if key in adata.obs:
            table.obs[key] = adata.obs[key]
    if keys.gene_contributions in adata.layers:
        table.layers[keys.gene_contributions] = adata.layers[keys.gene_contributions]
    shown = [keys.drawn(name) for name in recorded_params(adata.uns, keys.uns).get("modalities", ())]
    for key in (keys.embedding, keys.probability, keys.contributions, keys.deviation, *shown, IMAGE_FEATURES):
        if key in adata.obsm:
            table.obsm[key] = adata.obsm[key]
    explained = (keys.explained, keys.patch_contributions, keys.clones, keys.subtypes)
    colours = (f"{keys.call}_colors", f"{keys.clone}_colors", f"{keys.subtype}_colors")
    for key in (keys.uns, keys.verdicts, keys.regions, *explained, *colours, IMAGE_FEATURES, REFERENCE):
        if key in adata.uns:
            table.uns[key] = adata.uns[key]
