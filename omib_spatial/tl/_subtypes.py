"""Subtypes: kinds of anomaly across slices and patients."""

import logging
import math
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._checked import Few, Flag, InnerShare, Key, KeyAdded, Many, Seed
from omib_spatial._colours import group_colours
from omib_spatial._keys import ABNORMAL, Written
from omib_spatial.slides import Tissue
from omib_spatial.slides import validation as check
from omib_spatial.slides.results import check_results, recorded_layout
from omib_spatial.stats.kinds import FEWEST, Kinds, find_kinds
from omib_spatial.tl._spatialdata import accepts_spatialdata

logger = logging.getLogger("omib_spatial")


@accepts_spatialdata
def subtypes(
    adata: AnnData,
    *,
    use_rep: Key | None = None,
    max_subtypes: Few = 6,
    level: InnerShare = 0.05,
    n_null: Many = 50,
    seed: Seed = 0,
    library_key: Key | None = None,
    key_added: KeyAdded = "omib",
    table_key: Key = "table",
    copy: Flag = False,
) -> AnnData | None:
    """Group called spots of all slices into kinds of anomaly, by the direction in which they deviate.

    Each spot is compared with the healthy side of its own slice, so that what moves a slide as a whole cancels. There
    are as many kinds as stand out most from what one kind would give that is as smooth over the tissue
    (`omib_spatial.stats.kinds.find_kinds`), and one kind is an answer. A kind may hold to one slice: whether that is
    its patient or its preparation is not told.

    Parameters
    ----------
    adata
        After `explain`, and called.
    use_rep
        ``obsm`` key of another space to look for kinds in, such as ``"X_omib"``. None takes what `explain` wrote.
    max_subtypes
        Kinds at most.
    level
        Share of tissues with one kind in which more are found.
    n_null
        Draws of such a tissue; the p-value is at least ``1 / (n_null + 1)``.
    seed
        Of clustering and draws.
    library_key
        ``obs`` column of slices. None takes the one that was scored with.
    key_added
        Prefix of what is read and written.
    table_key
        Table of a SpatialData that is read and written.
    copy
        Return a copy with the kinds and leave ``adata`` as it is.

    Returns
    -------
    None, or the copy. Writes

    ``obs["{key_added}_subtype"]``
        Categorical, ``"kind 1"`` the largest; missing where a spot is not called. Colours are in ``uns``.
    ``uns["{key_added}_subtypes"]``
        ``"kinds"``: table of kinds and slices: ``subtype``, ``slice``, ``n_spots``, ``share`` of the slice's called
        spots, ``mean_score``. ``"choice"``: for each number of kinds that was tried, the ``silhouette``, what is
        ``expected`` where there is one kind and its ``sd``, by how many of these it stands out (``excess``), and
        whether it was ``chosen``. ``"params"``: with the ``pvalue`` of one kind.

    Raises
    ------
    KeyError
        Nothing was explained or called yet, or a column or ``use_rep`` does not exist.
    ValueError
        No spot is called, or a number is out of its range. ``adata`` stays as it was.

    References
    ----------
    Rousseeuw 1987 (silhouettes); Tibshirani, Walther & Hastie 2001 (a null of one cluster).

    Examples
    --------
    >>> omib.tl.call(adata, question="part")
    >>> omib.tl.explain(adata, model)
    >>> omib.tl.subtypes(adata)
    >>> adata.obs["omib_subtype"].cat.categories.tolist()
    ['kind 1']
    """
    if n_null < 1 / level - 1:
        needed = math.ceil(1 / level - 1)
        raise ValueError(f"n_null is {n_null}, and level={level:g} needs at least {needed} draws (1 / level - 1).")
    adata = adata.copy() if copy else adata
    check.refuse_view(adata)
    check_results(adata, key_added)
    keys = Written(key_added)
    rows, values = _called(adata, keys, use_rep)
    tissue = Tissue(adata, recorded_layout(adata, key_added, library_key=library_key))
    graph = tissue.graph[rows][:, rows]
    found = find_kinds(values, graph, max_kinds=max_subtypes, level=level, n_null=n_null, seed=seed)
    n_kinds = int(found.label.max()) + 1
    names, labels = [f"kind {number + 1}" for number in range(n_kinds)], np.full(adata.n_obs, -1)
    labels[rows] = found.label
    record = {
        "kinds": _table(adata, keys, tissue, labels, names),
        "choice": _choice(found, n_kinds),
        "params": {
            "use_rep": use_rep or keys.deviation, "level": level, "n_null": n_null, "pvalue": found.pvalue,
            "n_kinds": n_kinds, "hops": found.hops, "seed": seed,
        },
    }  # fmt: skip
    adata.obs[keys.subtype] = pd.Categorical.from_codes(labels, names)
    adata.uns[f"{keys.subtype}_colors"] = group_colours(names)
    adata.uns[keys.subtypes] = {name: table for name, table in record.items() if len(table)}
    _say(found, n_kinds, len(rows), keys)
    return adata if copy else None


def _called(adata: AnnData, keys: Written, use_rep: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Called spots (n,), and the values (n, p) by which they are grouped."""
    if keys.call not in adata.obs:
        raise KeyError(f"obs[{keys.call!r}] does not exist: call spots first, with omib_spatial.tl.call.")
    rep = use_rep or keys.deviation
    if rep not in adata.obsm:
        way = "run omib_spatial.tl.explain first" if use_rep is None else f"use_rep is one of {list(adata.obsm)}"
        raise KeyError(f"obsm[{rep!r}] does not exist: {way}.")
    called = (adata.obs[keys.call] == ABNORMAL).to_numpy(bool)
    values = np.asarray(adata.obsm[rep], np.float64)
    rows = np.flatnonzero(called & np.isfinite(values).any(1))
    if len(rows) == 0:
        raise ValueError(
            "No spot is called, so there is no anomaly to divide: ask which part it is by "
            "omib_spatial.tl.call(adata, question='part')."
        )
    values = values[rows]
    # Which modalities a spot has is no kind of anomaly.
    shared = np.asarray(np.isfinite(values).all(0))
    if shared.any() and not shared.all():
        logger.info(
            "Some called spots lack a modality: kinds are told by what all of them have, %d of %d values.",
            shared.sum(), len(shared),
        )  # fmt: skip
        values = values[:, shared]
    return rows, np.nan_to_num(values)


def _table(adata: AnnData, keys: Written, tissue: Tissue, labels: np.ndarray, names: list[str]) -> pd.DataFrame:
    rows, score = [], adata.obs[keys.score].to_numpy(np.float64)
    for number, name in enumerate(names):
        for code, library in enumerate(tissue.libraries):
            own = (labels == number) & (tissue.codes == code)
            if own.any():
                share = own.sum() / ((labels >= 0) & (tissue.codes == code)).sum()
                rows.append((name, library, int(own.sum()), float(share), float(score[own].mean())))
    return pd.DataFrame(rows, columns=["subtype", "slice", "n_spots", "share", "mean_score"])


def _choice(found: Kinds, n_kinds: int) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "n_kinds": found.n_kinds,
        "silhouette": found.silhouette,
        "expected": found.expected,
        "sd": found.spread,
        "excess": (found.silhouette - found.expected) / found.spread,
        "chosen": found.n_kinds == n_kinds,
    }
    return pd.DataFrame(columns)


def _say(found: Kinds, n_kinds: int, n: int, keys: Written) -> None:
    """One line of the log: how many kinds there are, and how sure that is."""
    if np.isnan(found.pvalue):
        why = f"fewer than {2 * FEWEST} spots are not divided"
    else:
        more = "more than one is" if n_kinds > 1 else "no more than one is"
        why = f"{more} told apart, p = {found.pvalue:.3f} for one kind"
    logger.info(
        "%d kind%s of anomaly in %d called spots (%s). Added obs['%s'] and uns['%s'].",
        n_kinds, "s" * (n_kinds != 1), n, why, keys.subtype, keys.subtypes,
    )  # fmt: skip
