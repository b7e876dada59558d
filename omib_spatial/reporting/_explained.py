"""What makes up scores, where `omib_spatial.tl.explain` has said it."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial import get
from omib_spatial._keys import Written
from omib_spatial.reporting._layers import numeric

CALLED = "called"
"""Group of all called spots; of one slide of several, its name follows."""
_GENES, _ARMS, _FEATURES = 12, 6, 4
_LABELS = {
    "gene": "expression",
    "genome": "chromosomes",
    "image": "picture",
    "contrast": "side of its slide",
    "noise": "noise",
}
NOTHING: dict[str, Any] = {"shares": [], "genes": [], "arms": [], "features": []}


def contribution_layers(adata: AnnData, keys: Written, rows: np.ndarray) -> dict[str, dict[str, Any]]:
    """A layer for each modality of one slide.

    Parameters
    ----------
    adata, keys
        What was scored, under which keys.
    rows
        Of the slide, (n,).
    """
    if keys.contributions not in adata.obsm:
        return {}
    table = pd.DataFrame(adata.obsm[keys.contributions]).iloc[rows]
    about = "How much of the score is due to it, in units of the score; 0: as much as in this slide's healthy spots."
    return {
        f"from-{name}": numeric(f"From {_label(name)}", table[name].to_numpy(float), about, centred=True)
        for name in table
        if table[name].fillna(0).any()
    }


def called_on(adata: AnnData, keys: Written, slide: str) -> str:
    """Name of the group of a slide's called spots."""
    groups = _groups(adata, keys)
    return f"{CALLED}: {slide}" if f"{CALLED}: {slide}" in groups else CALLED


def explained(adata: AnnData, keys: Written, group: str) -> dict[str, Any]:
    """Shares of modalities, top genes, arms and features of a group of spots; empty lists where nothing is said.

    Parameters
    ----------
    adata, keys
        What was scored, under which keys.
    group
        Region, or `called_on`.
    """
    if group not in _groups(adata, keys):
        return NOTHING
    shares = get.explanation(adata, "modalities", group=group, key_added=keys.key_added)
    found = [
        {"name": _label(name), "value": float(np.clip(share, 0, 1)), "text": f"{round(100 * share)} %"}
        for name, share in shares["share"].items()
        if np.isfinite(share) and share != 0
    ]
    genes = _top(adata, keys, group, "genes", _GENES)
    arms, features = (_top(adata, keys, group, name, n) for name, n in (("arms", _ARMS), ("features", _FEATURES)))
    return {
        "shares": found,
        "genes": genes.index.tolist(),
        "arms": _with_sides(arms["change"]),
        "features": _with_sides(features["change"]),
    }


def _with_sides(change: pd.Series) -> list[str]:
    """Names, and whether they are higher or lower than in healthy tissue; of an arm that says no gain or loss yet."""
    return [f"{name} {'higher' if value > 0 else 'lower'}" for name, value in change.items()]


def _top(adata: AnnData, keys: Written, group: str, table: str, n: int) -> pd.DataFrame:
    """Rows of a table of a group that speak most for it, those that speak against it left out."""
    if table not in adata.uns[keys.explained]:
        return pd.DataFrame({"contribution": [], "change": []})
    rows = get.explanation(adata, table, group=group, key_added=keys.key_added)
    # Columns of an array have no names that say anything.
    rows = rows[rows["modality"].astype(str) == "image"] if "modality" in rows else rows
    rows = rows[rows["contribution"] > 0].sort_values("contribution", ascending=False, kind="stable").head(n)
    return rows.assign(change=rows["change"].fillna(0.0))


def _groups(adata: AnnData, keys: Written) -> set[str]:
    if "modalities" not in adata.uns.get(keys.explained, {}):
        return set()
    return set(adata.uns[keys.explained]["modalities"]["group"].astype(str))


def _label(modality: Any) -> str:
    return _LABELS.get(str(modality), str(modality))
