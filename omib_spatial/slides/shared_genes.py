"""Whether a target has the genes of a model."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from omib_spatial._warn import warn
from omib_spatial.slides.gene_table import recognise_species, translate
from omib_spatial.slides.slides import named

_ENSEMBL = re.compile(r"ENS[A-Z]*G\d{11}")


def check_shared_genes(
    model_genes: Sequence[str], var: pd.DataFrame, *, warn_below: float = 0.8, refuse_below: float = 0.1
) -> np.ndarray:
    """Position in ``var`` of each of the model's genes: (len(model_genes),) int64, -1 where it is missing.

    Symbols and Ensembl ids, with or without version, are translated into each other
    (`omib_spatial.slides.gene_table.translate`).

    Warns
    -----
    UserWarning
        Fewer than ``warn_below`` of the model's genes are there.

    Raises
    ------
    ValueError
        Fewer than ``refuse_below`` of them are there, or target genes have one name twice.

    Notes
    -----
    With less than a tenth of the genes the level of scores is lost, and on simulated slides their ranking long before
    (docs/unlike_the_reference.md).
    """
    target = var.index.astype(str)
    if not target.is_unique:
        twice = named(target[target.duplicated()].unique())
        raise ValueError(f"var_names are not unique ({twice}): call adata.var_names_make_unique() first.")
    model = pd.Index(model_genes).astype(str)
    positions = translate(model, var)
    missing = positions < 0
    share = np.mean(positions >= 0)
    if share < refuse_below or missing.all():
        raise ValueError(_too_few_genes(model, target, positions, refuse_below))
    if share < warn_below:
        warn(
            f"Only {share:.0%} of the model's {len(model)} genes are in var_names; missing: {named(model, missing)}. "
            "Scores lean on the others."
        )
    return positions


def _too_few_genes(model: pd.Index, target: pd.Index, positions: np.ndarray, needed: float) -> str:
    """Of a model's genes (m,) hardly any has a position in the target."""
    found = positions >= 0
    lost, strange = model[~found], target[~np.isin(np.arange(len(target)), positions)]
    if found.sum() > len(strange):
        hint = f"The table holds {len(target)} genes only: pass it before it is cut."
    else:
        hint = _names_hint(lost, strange)
    genes = f"of the model's {len(model)} genes"
    said = f"Only {found.sum()} {genes} ({named(model, found)}) can be found" if found.any() else f"None {genes} is"
    return (
        f"{said} in var_names; at least {needed:.0%} are needed, or scores say nothing. The model has such as "
        f"{list(lost[:3])}, var_names such as {list(strange[:3])}. {hint} If these are truly other genes, "
        "fit a model on healthy slides that measure them."
    )


def _names_hint(model: pd.Index, target: pd.Index) -> str:
    ensembl = [any(_ENSEMBL.match(name) for name in names[:100]) for names in (model, target)]
    if all(ensembl):
        return "Both are Ensembl ids: check species, and version suffixes such as '.12'."
    if any(ensembl):
        symbols, ids = ("var_names", "the model") if ensembl[0] else ("the model", "var_names")
        return f"Ensembl ids are in {ids}, gene symbols in {symbols}: set var_names to the kind that the model has."
    species = [recognise_species(names) for names in (model, target)]
    if None not in species:
        if species[0] != species[1]:
            return f"The model is of {species[0]} genes, var_names are of {species[1]}: one cannot judge the other."
        return f"Both are {species[0]} genes: the table seems to be of another panel, or of chosen genes only."
    alike = model.str.upper().intersection(target.str.upper())
    if not alike.empty:
        pair = [names[names.str.upper() == alike[0]][0] for names in (model, target)]
        return f"Some differ in upper and lower case only ({pair[0]!r}, {pair[1]!r}): human against mouse genes?"
    return "Set var_names to the kind of names that the model has."
