"""Results of earlier runs are looked at before they are read: whatever changed them in between is named."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._keys import ABNORMAL, IMAGE_FEATURES, NOT_CALLED, REFERENCE, Written
from omib_spatial.slides.layout import Layout
from omib_spatial.slides.slides import named
from omib_spatial.slides.validation import load_tables, require_column

_COLUMNS = {
    "verdicts": ({"slice", "verdict", "reason", "question", "n_spots", "n_called", "modalities"}, "tl.call"),
    "regions": ({"slice", "outline"}, "tl.regions"),
}
"""Columns that the tables in ``uns`` have at least, and the function that writes each."""
_PARTS = ("params", "history", "genome", "groups", "shifts", "modalities")
_NUMBERS = ("score", "pvalue", "slice_pvalue")
_RESTED = {"region": "regions", "clone": "clones", "subtype": "subtypes"}
"""Columns of ``obs`` and the tables in ``uns`` that are written with them."""


def check_results(adata: AnnData, key_added: str) -> None:
    """Check what is there of the results under ``key_added``; what is not there is for its reader to miss.

    Where they were read lazily, they and ``obs`` and ``var`` are read into memory.

    Raises
    ------
    ValueError
        Something is of another kind than what was written, or lacks a part, with the key and the function to run again.
    """
    keys = Written(key_added)
    if not adata.is_view:
        load_tables(adata)
    for key in () if adata.is_view else (*keys.places()["uns"], REFERENCE):
        if key in adata.uns and (loaded := in_memory(adata.uns[key])) is not adata.uns[key]:
            adata.uns[key] = loaded
    _check_records(adata, keys)
    for name in _NUMBERS:
        key = getattr(keys, name)
        if key in adata.obs and not pd.api.types.is_numeric_dtype(adata.obs[key].dtype):
            raise _changed(f"obs[{key!r}]", f"holds {adata.obs[key].dtype}, no numbers", "tl.score")
    if keys.call in adata.obs:
        known = {str(value) for value in pd.unique(adata.obs[keys.call].dropna())}
        if strange := sorted(known - {ABNORMAL, NOT_CALLED}):
            raise _changed(f"obs[{keys.call!r}]", f"holds {strange[:3]}", "tl.call")


def in_memory(value: Any) -> Any:
    """What is read lazily, anywhere in a nested mapping, read; the same object if there is nothing of that kind."""
    if hasattr(value, "to_memory"):
        return value.to_memory()
    if isinstance(value, Mapping):
        loaded = {key: in_memory(part) for key, part in value.items()}
        return value if all(loaded[key] is part for key, part in value.items()) else loaded
    lazy = hasattr(value, "__array__") and hasattr(value, "chunks")
    return np.asarray(value) if lazy else value


def recorded_params(uns: Mapping[str, Any], key_added: str) -> Mapping[str, Any]:
    """Parameters of the run that left its record in ``uns``; none where there is no record, or something else."""
    record = uns.get(key_added)
    params = record.get("params") if isinstance(record, Mapping) else None
    return params if isinstance(params, Mapping) else {}


def drop_results(adata: AnnData, keys: Written) -> None:
    """Delete features of images, and all that a run wrote under ``keys``, where their records are there."""
    if IMAGE_FEATURES in adata.uns:
        del adata.uns[IMAGE_FEATURES]
        adata.obsm.pop(IMAGE_FEATURES, None)
    if not (params := recorded_params(adata.uns, keys.uns)):
        return
    for place, names in keys.places(map(str, params.get("modalities", ()))).items():
        held = getattr(adata, place)
        for name in names:
            if name in held:
                del held[name]


def recorded_layout(adata: AnnData, key_added: str, **given: Any) -> Layout:
    """Where the run was read that left its results under ``key_added``, but for what is ``given`` and not None.

    Raises
    ------
    KeyError
        Slices are separated by a column that does not exist.
    """
    names, recorded = [field.name for field in fields(Layout)], recorded_params(adata.uns, key_added)
    # What was None is kept as an empty text.
    known = {name: recorded[name] for name in names if recorded.get(name, "") != ""}
    values: dict[str, Any] = known | {name: value for name, value in given.items() if value is not None}
    if "n_neighbors" in values:
        values["n_neighbors"] = int(values["n_neighbors"])
    layout = Layout(**values)
    require_column(adata, layout.library_key, "library_key")
    return layout


def require_scored(adata: AnnData, keys: Written, *columns: str, record: bool = False) -> None:
    """Raise KeyError where ``obs`` lacks one of the ``columns`` of a run, or ``uns`` its ``record``, if asked for."""
    lacking = [f"obs[{column!r}]" for column in columns if column not in adata.obs]
    lacking += [f"uns[{keys.uns!r}]"] if record and not recorded_params(adata.uns, keys.uns) else []
    if lacking:
        raise KeyError(
            f"{lacking[0]} does not exist: run omib_spatial.tl.score first, or pass the key_added= that was given to "
            "it."
        )


def check_slides(adata: AnnData, keys: Written, names: Iterable[str]) -> None:
    """Raise KeyError for slides of which the table of slides says nothing."""
    known = set(adata.uns[keys.verdicts]["slice"].astype(str))
    if strange := [name for name in dict.fromkeys(names) if name not in known]:
        raise KeyError(
            f"uns[{keys.verdicts!r}] says nothing of the slides {named(strange)}: run omib_spatial.tl.score again."
        )


def check_columns(adata: AnnData, keys: Written) -> None:
    """Raise ValueError where a table of regions, clones or kinds has lost its column of ``obs``."""
    for column, table in _RESTED.items():
        if getattr(keys, table) in adata.uns and getattr(keys, column) not in adata.obs:
            raise _changed(f"obs[{getattr(keys, column)!r}]", "is missing, and its table is there", f"tl.{table}")


def _check_records(adata: AnnData, keys: Written) -> None:
    """Kinds of what is in ``uns``."""
    run = adata.uns.get(keys.uns, {})
    if not isinstance(run, Mapping):
        raise _changed(f"uns[{keys.uns!r}]", f"is {type(run).__name__}", "tl.score")
    if "groups" in run and "params" not in run:
        raise _changed(f"uns[{keys.uns!r}]", "lacks 'params'", "tl.score")
    for part in _PARTS:
        # Groups are a table; the others are mappings.
        if not isinstance(run.get(part, {}), Mapping | pd.DataFrame):
            raise _changed(f"uns[{keys.uns!r}][{part!r}]", f"is {type(run[part]).__name__}", "tl.score")
    for name, (columns, writer) in _COLUMNS.items():
        key = getattr(keys, name)
        if (table := adata.uns.get(key)) is None:
            continue
        if not isinstance(table, pd.DataFrame):
            raise _changed(f"uns[{key!r}]", f"is {type(table).__name__}, no table", writer)
        if lacking := sorted(columns - set(table)):
            raise _changed(f"uns[{key!r}]", f"lacks the columns {lacking}", writer)
    if not isinstance(adata.uns.get(keys.explained, {}), Mapping):
        raise _changed(f"uns[{keys.explained!r}]", f"is {type(adata.uns[keys.explained]).__name__}", "tl.explain")


def _changed(where: str, what: str, writer: str) -> ValueError:
    return ValueError(
        f"{where} {what}: it was changed after omib_spatial had written it. Run omib_spatial.{writer} again, or pass "
        "another key_added=."
    )
