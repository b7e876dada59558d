"""Tables of what makes up scores, per group of spots."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._keys import ABNORMAL, Written
from omib_spatial.detector.explanation import Explanation
from omib_spatial.detector.judged import JudgedSlice
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.modalities import Gene, Genome, Modality
from omib_spatial.slides import Tissue
from omib_spatial.slides.gene_table import translate
from omib_spatial.slides.results import recorded_params
from omib_spatial.slides.slides import library_codes

CALLED = "called"
"""Group of all called spots."""
NOISE = "noise"
"""What of a score is no modality's, but the spot's noise."""


@dataclass(frozen=True)
class Groups:
    """Groups of spots that are explained.

    Attributes
    ----------
    names, of
        Of each group, and the ``obs`` column that it is of.
    members
        (g, n_obs) bool.
    called
        (n_obs,) bool, of the spots that have a score.
    """

    names: list[str]
    of: list[str]
    members: np.ndarray
    called: np.ndarray

    @classmethod
    def read(cls, adata: AnnData, keys: Written, groupby: str | Sequence[str] | None) -> Self:
        """All called spots, those of each slice where there are several, and the groups of columns.

        Raises
        ------
        KeyError
            There is no score, no call, or no such column.
        """
        for key in (keys.score, keys.call, keys.uns):
            if not recorded_params(adata.uns, key) if key == keys.uns else key not in adata.obs:
                raise KeyError(
                    f"{key!r} does not exist: run omib_spatial.tl.score first, or pass the key_added= that was given "
                    "to it."
                )
        columns = [groupby] if isinstance(groupby, str) else list(() if groupby is None else groupby)
        if missing := [name for name in columns if name not in adata.obs]:
            raise KeyError(f"obs has no column {missing}: groupby is one of {list(adata.obs)}.")
        if measured := [name for name in columns if pd.api.types.is_float_dtype(adata.obs[name].dtype)]:
            raise TypeError(
                f"obs[{measured[0]!r}] holds measured numbers, and groupby= needs groups: cut it into some, as by "
                "pandas.cut."
            )
        if groupby is None and keys.region in adata.obs:
            columns = [keys.region]
        scored = np.isfinite(adata.obs[keys.score].to_numpy(np.float64))
        called = (adata.obs[keys.call] == ABNORMAL).to_numpy(bool) & scored
        found = [(CALLED, keys.call, called)]
        library = recorded_params(adata.uns, keys.uns).get("library_key") or None
        if library in adata.obs and len(names := library_codes(adata, library, missing_ok=True)[1]) > 1:
            own = adata.obs[library].astype(str).to_numpy()
            found += [(f"{CALLED}: {name}", keys.call, called & (own == name)) for name in dict.fromkeys(own)]
        for column in columns:
            values = adata.obs[column].astype("category")
            found += [(str(c), column, (values == c).to_numpy(bool) & scored) for c in values.cat.categories]
        kept = [group for group in found if group[2].any()]
        names, of, members = (list(part) for part in zip(*kept, strict=True)) if kept else ([], [], [])
        return cls(names, of, np.array(members, bool).reshape(len(kept), adata.n_obs), called)

    @property
    def sizes(self) -> np.ndarray:
        """Spots of each group, (g,)."""
        return self.members.sum(1)

    def weights(self, tissue: Tissue) -> np.ndarray:
        """(n_obs, g): sums with them are means over each group."""
        return (self.members / np.maximum(self.sizes, 1)[:, None]).T.astype(np.float64)


def gene_columns(modality: Modality, var: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Columns of a modality's gene terms, and of ``var``, that are the same genes."""
    there = translate(modality.genes, var)  # type: ignore[attr-defined]
    known = np.flatnonzero(there >= 0)
    # The genome's terms are of the genes that the data has, expression's of all.
    own = np.arange(len(known)) if isinstance(modality, Genome) else known
    return own, there[known]


def tables(
    found: Explanation, slices: Sequence[JudgedSlice], groups: Groups, model: AnomalyModel, tissue: Tissue
) -> dict[str, Any]:
    """All tables by name.

    Parameters
    ----------
    found
        What the scores are made of.
    slices
        That were judged.
    groups
        Whose means were taken.
    model, tissue
        By which and of which.
    """
    made = {
        "modalities": _modalities(found, groups, list(model.modalities)),
        "genes": _genes(found, groups, model, tissue),
        "arms": _arms(found, groups, model),
        "features": _features(found, groups, model, tissue),
        "check": _check(found, groups, list(model.modalities)),
        "slices": pd.DataFrame(
            {
                "slice": [tissue.libraries[tissue.codes[judged.rows[0]]] for judged in slices],
                "modalities": ["+".join(judged.combination) for judged in slices],
                "origin": [judged.origin for judged in slices],
                "n_origin": [int((judged.healthy > 0).sum()) for judged in slices],
            }
        ),
    }
    return {name: table for name, table in made.items() if len(table)}


def _modalities(found: Explanation, groups: Groups, names: list[str]) -> pd.DataFrame:
    both = np.column_stack([found.contributions, found.noise])
    rows = []
    for name, of, members in zip(groups.names, groups.of, groups.members, strict=True):
        mean = np.nan_to_num(both[members]).mean(0)
        removed = [*np.nan_to_num(found.removed[members]).mean(0), np.nan]
        total = float((found.score - found.origin)[members].mean())
        for modality, value, without in zip([*names, NOISE], mean, removed, strict=True):
            rows.append((name, of, int(members.sum()), modality, value, value / total if total else np.nan, without))
    columns = ["group", "of", "n_spots", "modality", "contribution", "share", "removed"]
    return _categorical(pd.DataFrame(rows, columns=columns), "group", "of", "modality")


def _genes(found: Explanation, groups: Groups, model: AnomalyModel, tissue: Tissue) -> pd.DataFrame:
    var, g = tissue.adata.var, len(groups.names)
    parts = {kind: np.zeros((g, len(var))) for kind in ("by_expression", "by_genome")}
    change, known = np.full((g, len(var)), np.nan), np.zeros(len(var), bool)
    for name, modality in model.modalities.items():
        terms = {Gene: found.features, Genome: found.genes}.get(type(modality), {}).get(name)
        if terms is None or g == 0:
            continue
        own, there = gene_columns(modality, var)
        parts["by_expression" if isinstance(modality, Gene) else "by_genome"][:, there] += terms.values[:, own]
        known[there] = True
        moved = (found.change if isinstance(modality, Gene) else found.gene_change).get(name)
        if moved is not None:
            new = np.isnan(change[:, there]) | isinstance(modality, Gene)
            change[:, there] = np.where(new, moved[:, own], change[:, there])
    genes = np.flatnonzero(known)
    total = sum(parts.values())[:, genes]  # type: ignore[index]
    pieces = []
    for i, name in enumerate(groups.names):
        order = np.argsort(-total[i], kind="stable")
        at = genes[order]
        pieces.append(
            pd.DataFrame(
                {
                    "group": name,
                    "gene": var.index[at].astype(str),
                    "contribution": total[i, order],
                    **{kind: values[i, at] for kind, values in parts.items()},
                    "change": change[i, at],
                    "rank": np.arange(1, len(at) + 1),
                }
            )
        )
    return _categorical(_stacked(pieces), "group", "gene")


def _arms(found: Explanation, groups: Groups, model: AnomalyModel) -> pd.DataFrame:
    pieces = []
    for name, modality in model.modalities.items():
        if not isinstance(modality, Genome) or name not in found.features:
            continue
        arm = np.array(modality.window_positions()["arm"], str)
        order = list(dict.fromkeys(arm.tolist()))
        member = np.array([arm == one for one in order], float)
        contribution = found.features[name].values @ member.T
        change = found.change[name] @ (member / member.sum(1, keepdims=True)).T if name in found.change else None
        for i, group in enumerate(groups.names):
            table = {"group": group, "arm": order, "contribution": contribution[i]}
            pieces.append(pd.DataFrame(table | {"change": np.nan if change is None else change[i]}))
    return _categorical(_stacked(pieces), "group", "arm")


def _features(found: Explanation, groups: Groups, model: AnomalyModel, tissue: Tissue) -> pd.DataFrame:
    pieces = []
    for name, modality in model.modalities.items():
        if isinstance(modality, (Gene, Genome)) or name not in found.features:
            continue
        values = found.features[name].values
        label = modality.feature_names(tissue, values.shape[1])
        for i, group in enumerate(groups.names):
            change = found.change[name][i] if name in found.change else np.nan
            pieces.append(
                pd.DataFrame(
                    {"group": group, "modality": name, "feature": label, "contribution": values[i], "change": change}
                )
            )
    return _categorical(_stacked(pieces), "group", "modality", "feature")


def _check(found: Explanation, groups: Groups, names: list[str]) -> pd.DataFrame:
    gap, rows = found.score - found.origin, []
    for column, name in enumerate(names):
        own = groups.called & np.isfinite(found.contributions[:, column])
        if own.any():
            said, removed = found.contributions[own, column], found.removed[own, column]
            error = float(np.abs(said - removed).mean())
            rows.append((name, int(own.sum()), said.mean(), removed.mean(), error, error / float(gap[own].mean())))
    return pd.DataFrame(rows, columns=["modality", "n_spots", "said", "removed", "error", "relative_error"])


def _stacked(pieces: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame()


def _categorical(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Names as categories in order of appearance: thousands of equal texts take room in a file."""
    for column in columns:
        if column in table:
            table[column] = pd.Categorical(table[column], list(dict.fromkeys(table[column])))
    return table
