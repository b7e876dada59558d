"""Tables of what makes up scores, per group of spots."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from omib_spatial.detector.divided import credited_to
from omib_spatial.detector.explanation import Explanation, FeatureSums, FeatureTerms
from omib_spatial.detector.judged import JudgedSlice
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.scoring import in_words
from omib_spatial.modalities import Contrast, Gene, Genome, Image, Modality
from omib_spatial.slides import Tissue
from omib_spatial.slides.gene_positions import arm_names
from omib_spatial.slides.gene_table import translate
from omib_spatial.tl._explain_groups import Groups

NOISE = "noise"
"""What of a score is no modality's, but the spot's noise."""
BY: dict[type[Modality], str] = {Gene: "by_expression", Genome: "by_genome"}
"""Columns for what genes make up through each kind of modality."""


def gene_columns(modality: Modality, var: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Columns of a modality's gene terms, and of ``var``, that are the same genes."""
    there = translate(modality.genes, var)  # type: ignore[attr-defined]
    known = np.flatnonzero(there >= 0)
    # The genome's terms are of the genes that the data has, expression's of all.
    own = np.arange(len(known)) if isinstance(modality, Genome) else known
    return own, there[known]


class GeneTerms(NamedTuple):
    """What genes make up of one modality that reads them.

    Attributes
    ----------
    modality
        The modality.
    terms
        Of its genes.
    change
        Of its genes' expression, (g, genes), if it is known.
    """

    modality: Gene | Genome
    terms: FeatureTerms
    change: np.ndarray | None


def gene_terms(sums: FeatureSums, model: AnomalyModel) -> list[GeneTerms]:
    """Of each modality that reads genes."""
    found = []
    for name, modality in model.modalities.items():
        if isinstance(modality, Gene) and name in sums.features:
            found.append(GeneTerms(modality, sums.features[name], sums.change.get(name)))
        elif isinstance(modality, Genome) and name in sums.genes:
            found.append(GeneTerms(modality, sums.genes[name], sums.gene_change.get(name)))
    return found


def explained_modalities(found: Explanation, model: AnomalyModel) -> list[str]:
    """Names of those that make up anything by themselves: not of one all of which others make up."""
    divided = bool(found.inside)
    return [
        name
        for column, (name, modality) in enumerate(model.modalities.items())
        if not (divided and isinstance(modality, Contrast) and not np.nan_to_num(found.contributions[:, column]).any())
    ]


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
        "modalities": _modalities(found, groups, model),
        "genes": _genes(found, groups, model, tissue),
        "arms": _arms(found, groups, model, tissue),
        "features": _features(found, groups, model, tissue),
        "check": _check(found, groups, model),
        "slices": pd.DataFrame(
            {
                "slice": [tissue.libraries[tissue.codes[judged.rows[0]]] for judged in slices],
                "modalities": [in_words(judged.combination) for judged in slices],
                "origin": [judged.origin for judged in slices],
                "n_origin": [int((judged.healthy > 0).sum()) for judged in slices],
            }
        ),
    }
    return {name: table for name, table in made.items() if len(table)}


def _modalities(found: Explanation, groups: Groups, model: AnomalyModel) -> pd.DataFrame:
    names, rows = explained_modalities(found, model), []
    own = [list(model.modalities).index(name) for name in names]
    both = np.column_stack([found.contributions[:, own], found.noise])
    for name, of, members in zip(groups.names, groups.of, groups.members, strict=True):
        mean = np.nan_to_num(both[members]).mean(0)
        removed = [*np.nan_to_num(found.removed[members][:, own]).mean(0), np.nan]
        total = float((found.score - found.origin)[members].mean())
        for modality, value, without in zip([*names, NOISE], mean, removed, strict=True):
            rows.append((name, of, int(members.sum()), modality, value, value / total if total else np.nan, without))
    columns = ["group", "of", "n_spots", "modality", "contribution", "share", "removed"]
    return _categorical(pd.DataFrame(rows, columns=columns), "group", "of", "modality")


def _genes(found: Explanation, groups: Groups, model: AnomalyModel, tissue: Tissue) -> pd.DataFrame:
    var, g = tissue.adata.var, len(groups.names)
    parts = {kind: np.zeros((g, len(var))) for kind in BY.values()}
    change, known = np.full((g, len(var)), np.nan), np.zeros(len(var), bool)
    for modality, terms, moved in gene_terms(found, model):
        own, there = gene_columns(modality, var)
        parts[BY[type(modality)]][:, there] += terms.values[:, own]
        known[there] = True
        if moved is not None:
            new = np.isnan(change[:, there]) | isinstance(modality, Gene)
            change[:, there] = np.where(new, moved[:, own], change[:, there])
    inside = [kind for kind in BY if kind in found.inside]
    for kind in inside:
        parts[BY[kind]] += found.inside[kind].values
        known |= found.inside_change[kind].any(0)
    # One unit for all that was found inside: that of expression goes over that of the genome.
    for kind in reversed(inside):
        change = np.where(found.inside_change[kind].any(0), found.inside_change[kind], change)
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


def _arms(found: Explanation, groups: Groups, model: AnomalyModel, tissue: Tissue) -> pd.DataFrame:
    pieces = []
    for name, modality in model.modalities.items():
        if isinstance(modality, Genome) and name in found.features:
            arm = modality.window_positions()["arm"]
            pieces.append(_of_arms(groups, arm, found.features[name].values, found.change.get(name)))
    if Genome in found.inside and tissue.gene_positions is not None:
        used = found.inside_change[Genome].any(0)
        values, change = found.inside[Genome].values[:, used], found.inside_change[Genome][:, used]
        pieces.append(_of_arms(groups, arm_names(tissue.gene_positions)[used], values, change))
    return _categorical(_added(_stacked(pieces), ["group", "arm"]), "group", "arm")


def _of_arms(groups: Groups, arm: Any, values: np.ndarray, change: np.ndarray | None) -> pd.DataFrame:
    """Sums of contributions ``values`` and means of changes (g, p), over windows or genes of each arm, ``arm`` (p,)."""
    order = list(dict.fromkeys(np.asarray(arm, str).tolist()))
    member = (np.array(order)[:, None] == np.asarray(arm, str)).astype(float)
    mean = np.full((len(groups.names), len(order)), np.nan)
    if change is not None:
        mean = change @ (member / member.sum(1, keepdims=True)).T
    columns = zip(groups.names, values @ member.T, mean, strict=True)
    return _stacked([pd.DataFrame({"group": g, "arm": order, "contribution": v, "change": c}) for g, v, c in columns])


def _added(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """What is said twice as one row: contributions sum, and the change is the first that is known."""
    if not len(table):
        return table
    return table.groupby(keys, sort=False, as_index=False).agg({"contribution": "sum", "change": "first"})


def _features(found: Explanation, groups: Groups, model: AnomalyModel, tissue: Tissue) -> pd.DataFrame:
    pieces, keys = [], ["group", "modality", "feature"]
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
    pieces = [*_inside_image(found, groups, model, tissue), *pieces]
    return _categorical(_added(_stacked(pieces), keys), *keys)


def _inside_image(found: Explanation, groups: Groups, model: AnomalyModel, tissue: Tissue) -> list[pd.DataFrame]:
    """What statistics of the image make up inside the slide, of each group."""
    if Image not in found.inside:
        return []
    name = credited_to(Image, model.modalities)
    if name is None:
        return []
    values, change = found.inside[Image].values, found.inside_change[Image]
    label = Image().feature_names(tissue, values.shape[1])
    columns = zip(groups.names, values, change, strict=True)
    return [
        pd.DataFrame({"group": g, "modality": name, "feature": label, "contribution": v, "change": c})
        for g, v, c in columns
    ]


def _check(found: Explanation, groups: Groups, model: AnomalyModel) -> pd.DataFrame:
    gap, rows = found.score - found.origin, []
    for name in explained_modalities(found, model):
        column = list(model.modalities).index(name)
        own = groups.called & np.isfinite(found.contributions[:, column])
        if own.any():
            said, removed = found.contributions[own, column], found.removed[own, column]
            error, size = float(np.abs(said - removed).mean()), float(gap[own].mean())
            # Where all called spots lie at the origin there is nothing to compare with.
            rows.append((name, int(own.sum()), said.mean(), removed.mean(), error, error / size if size else np.nan))
    return pd.DataFrame(rows, columns=["modality", "n_spots", "said", "removed", "error", "relative_error"])


def _stacked(pieces: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame()


def _categorical(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Names as categories in order of appearance: thousands of equal texts take room in a file."""
    for column in columns:
        if column in table:
            table[column] = pd.Categorical(table[column], list(dict.fromkeys(table[column])))
    return table
