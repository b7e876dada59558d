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
    obs, var, uns = adata.obs, adata.var, dict(adata.uns)
    try:
        yield
    except BaseException:
        for name, before in (("obs", obs), ("var", var)):
            if not isinstance(before, pd.DataFrame):
                setattr(adata, name, before)
        if not isinstance(obs, pd.DataFrame):
            adata.uns = uns
        raise


def _keys_of(sdata: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of image and coordinates: what was asked for, else the model's, else those of the run that is looked at."""
    asked = vars(given["model"].layout) if "model" in given else {}
    recorded = recorded_params(table_of(sdata, given["table_key"]).uns, given["key_added"])
    keys = {key: given.get(key) or asked.get(key) or recorded.get(key) or None for key in ("image_key", "spatial_key")}
    return keys if keys["spatial_key"] else {"image_key": keys["image_key"]}


def _bring_back(adata: AnnData, table: AnnData, keys: Written) -> None:
    """Put results where the user looks for them, and take away what ``adata``, which had them all, has no more."""
    runs = [recorded_params(each.uns, keys.uns).get("modalities", ()) for each in (table, adata)]
    for place, names in keys.places(str(name) for run in runs for name in run).items():
        own, theirs = getattr(adata, place), getattr(table, place)
        for key in names:
            if key in own:
                theirs[key] = own[key]
            elif key in theirs:
                del theirs[key]
    shared = {"obs": (REFERENCE, f"{REFERENCE}_score"), "obsm": (IMAGE_FEATURES,), "uns": (REFERENCE, IMAGE_FEATURES)}
    for place, names in shared.items():
        own, theirs = getattr(adata, place), getattr(table, place)
        for key in names:
            if key in own:
                theirs[key] = own[key]
