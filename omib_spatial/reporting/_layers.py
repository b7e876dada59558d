"""What can be laid over the picture: a number or a category of every spot."""

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._colours import (
    ANOMALOUS,
    EITHER_WAY,
    PALETTE,
    REFERENCE_COLOURS,
    SCORE,
    UNKNOWN,
    group_colours,
    stored_colours,
)
from omib_spatial._keys import CALL_COLOURS, REFERENCE, Written

_PALETTE = (*(colour for colour in PALETTE if colour != ANOMALOUS), ANOMALOUS)
"""That of calls last."""
_STOPS = 16
_MOST_CLASSES = 12
"""Different numbers of a column up to which they are classes."""
_DECIMALS = 3


def numeric(label: str, values: np.ndarray, about: str, *, centred: bool = False) -> dict[str, Any]:
    """A layer of numbers, (n,), some of them NaN.

    Parameters
    ----------
    label, values, about
        Its name, the numbers, and a sentence that says what they are.
    centred
        Whether 0 is in the middle of the colours.
    """
    known = values[np.isfinite(values)]
    low, high = (float(value) for value in np.quantile(known, [0.01, 0.99])) if len(known) else (0.0, 1.0)
    if centred:
        high = max(abs(low), abs(high)) or 1.0
        low = -high
    if high <= low:
        high = low + 1.0
    name = EITHER_WAY if centred else SCORE
    colours = [matplotlib.colors.to_hex(colour) for colour in matplotlib.colormaps[name](np.linspace(0, 1, _STOPS))]
    return {
        "label": label, "about": about, "kind": "number", "values": rounded(values), "low": low, "high": high,
        "colours": colours,
    }  # fmt: skip


def categories(label: str, column: pd.Series, about: str, colours: dict[str, str] | None = None) -> dict[str, Any]:
    """A layer of categories; the rarest beyond eight share a grey.

    Parameters
    ----------
    label, column, about
        Its name, the values, and a sentence that says what they are.
    colours
        Of its categories; default: the palette.
    """
    kinds = column.astype("category").cat.remove_unused_categories()
    names = [str(name) for name in kinds.cat.categories]
    given = colours or {}
    # In their order while there are colours for all; else the most frequent have them.
    order = (
        range(len(names)) if len(names) <= len(_PALETTE) else np.argsort(-np.bincount(kinds.cat.codes[kinds.notna()]))
    )
    rank = {names[i]: place for place, i in enumerate(order)}
    shades = [given.get(name, _PALETTE[rank[name]] if rank[name] < len(_PALETTE) else UNKNOWN) for name in names]
    return {
        "label": label, "about": about, "kind": "category", "values": kinds.cat.codes.astype(int).tolist(),
        "names": names, "colours": shades,
    }  # fmt: skip


def layers_of(adata: AnnData, keys: Written, rows: np.ndarray, truth_key: str | None) -> dict[str, dict[str, Any]]:
    """All layers of one slide, by a short name.

    Parameters
    ----------
    adata, keys
        What was scored, under which keys.
    rows
        Of the slide, (n,).
    truth_key
        ``obs`` column of what somebody else says of the spots, if there is one.
    """
    obs = adata.obs.iloc[rows]
    found = {
        "score": numeric(
            "Score", obs[keys.score].to_numpy(float),
            "Standard deviations of this slide's healthy spots beyond the border between healthy and abnormal.",
        ),
        "call": categories("Call", obs[keys.call], "Follows the call level below.", CALL_COLOURS),
    }  # fmt: skip
    if truth_key is not None:
        column, label = obs[truth_key], f"Truth: {truth_key}"
        about = f"The column {truth_key!r}, for comparison."
        if is_continuous(column):
            found["truth"] = numeric(label, column.to_numpy(float, na_value=np.nan), about)
        else:
            plain = column.map(str, na_action="ignore") if column.dtype.kind in "biuf" else column
            found["truth"] = categories(label, plain, about)
    if REFERENCE in obs and adata.uns[keys.uns]["params"].get("reference_key") == REFERENCE:
        words = obs[REFERENCE].map({True: "taken as healthy", False: "not taken"})
        about = "Spots of this slide that the model learned from as healthy: found, not annotated."
        found["reference"] = categories("Found reference", words, about, REFERENCE_COLOURS)
    groups = {
        "clone": (keys.clone, "Clone", "Called spots with one genome profile."),
        "subtype": (keys.subtype, "Kind of anomaly", "Called spots that deviate in one direction."),
    }
    for name, (column, label, about) in groups.items():
        if column in obs and obs[column].notna().any():
            # Those of all slides, so that a clone looks the same on each of them and in plots.
            names = [str(each) for each in adata.obs[column].astype("category").cat.categories]
            shades = stored_colours(adata.uns, column, len(names)) or group_colours(names)
            found[name] = categories(label, obs[column], about, dict(zip(names, shades, strict=True)))
    return found


def is_continuous(column: pd.Series) -> bool:
    """Whether a column holds numbers that are no classes."""
    return bool(column.dtype.kind in "iuf" and column.nunique() > _MOST_CLASSES)


def rounded(values: Any, decimals: int = _DECIMALS) -> list[float | None]:
    """Numbers as JSON has them: short, and null for what is not finite."""
    return [round(float(value), decimals) if np.isfinite(value) else None for value in values]
