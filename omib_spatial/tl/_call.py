"""Calls: which spots are abnormal, by the question that is asked, and what is concluded of each slide."""

import logging
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._keys import ABNORMAL, CALL_COLOURS, NOT_CALLED, REFERENCE, Written
from omib_spatial.stats.calls import false_share, largest_call, missed_share, smallest_call
from omib_spatial.stats.two_groups import TwoGroups
from omib_spatial.stats.verdict import Verdict, conclude
from omib_spatial.tl._spatialdata import accepts_spatialdata

logger = logging.getLogger("omib_spatial")

Question = Literal["any", "part"]


@accepts_spatialdata
def call(
    adata: AnnData,
    *,
    question: Question | None = None,
    fdr: float | None = None,
    miss: float | None = None,
    level: float = 0.05,
    key_added: str = "omib",
    table_key: str = "table",
    library_key: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Call abnormal spots of slides that were scored. Nothing is fitted or scored again.

    Two questions can be asked. **"any"**: is there anything here? A slide may be healthy, and a false alarm costs.
    Spots are called only on slides whose spots differ more than those of a healthy slide do, at ``level``, and as many
    as the expected share of false calls, ``fdr``, allows. **"part"**: which part is it? The slide is known to be
    diseased, and a miss costs. Every spot is called that is more probably abnormal than not, which is every spot with a
    score above 0; with ``fdr`` or ``miss``, as many or as few as these allow.

    Parameters
    ----------
    adata
        After `score` or `fit`.
    question
        None asks "any", or "part" where the healthy reference was found on the slides themselves: that something is
        there was decided then.
    fdr
        Largest expected share of false calls. None is .1 with "any", and no limit with "part".
    miss
        With "part": call as few spots as possible so that at most this share of the abnormal ones is expected to be
        missed. It rests on the two groups of the slide (`omib_spatial.stats.two_groups`), not on labels, and may call
        spots with a score below 0, never any that is as near as healthy spots are on average.
    level
        Share of healthy slides that may be found abnormal.
    key_added
        Prefix of what is read and written.
    table_key
        Table of a SpatialData that is read and written.
    library_key
        Of a SpatialData; an AnnData is read as it was scored.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    None, or the copy. Writes:

    - ``obs["{key_added}_call"]``: ``"abnormal"`` or ``"not called"``, missing where a spot has no score. A spot that is
      not called is not known to be healthy. Colours are in ``uns["{key_added}_call_colors"]``.
    - ``obs["{key_added}_anomaly"]``: the same as a boolean, for code that was written for version 0.1.
    - ``uns["{key_added}_slides"]``: a table with a row per slide: ``verdict`` (``"abnormal"``, ``"nothing found"`` or
      ``"cannot tell"``) and its ``reason``, ``n_called``, how well the two groups are separated (``separation``, an
      AUROC), expected shares of false calls and of missed spots, and what the verdict rests on.

    Raises
    ------
    KeyError
        Not scored yet, or scored by a version that left nothing to call by.
    ValueError
        An unknown question, a number out of its range, or ``miss`` with "any" or beside ``fdr``.

    Examples
    --------
    >>> from omib_spatial import datasets, tl
    >>> adata = datasets.simulate_tissue(4, n_spots=80, n_genes=60, n_healthy=3, image=False)
    >>> model = tl.fit(adata, reference_key="healthy", library_key="library_id", max_epochs=6)
    >>> tl.call(adata, question="part")
    >>> list(adata.obs["omib_call"].cat.categories)
    ['not called', 'abnormal']
    """
    adata = adata.copy() if copy else adata
    if adata.is_view:
        raise ValueError("adata is a view of another AnnData: pass adata.copy().")
    write_calls(adata, Written(key_added), question, fdr, miss, level)
    return adata if copy else None


def write_calls(
    adata: AnnData,
    keys: Written,
    question: Question | None = None,
    fdr: float | None = None,
    miss: float | None = None,
    level: float = 0.05,
) -> None:
    """Call, and write what `call` says.

    Parameters
    ----------
    adata, keys
        What was scored, under which keys.
    question, fdr, miss, level
        As in `call`.
    """
    check_arguments(question, fdr, miss, level)
    groups = read_groups(adata, keys)
    own_reference = adata.uns[keys.uns]["params"].get("reference_key") == REFERENCE
    question = question or ("part" if own_reference else "any")
    score = adata.obs[keys.score].to_numpy(np.float64)
    slices, judged_by = slices_of(adata, keys), adata.obs[keys.modalities].astype(object).to_numpy()
    called, posterior, rows = np.zeros(len(score), bool), np.full(len(score), np.nan), []
    for name in dict.fromkeys(slices):
        own = groups[groups["slice"] == name]
        verdict = verdict_on(own, own_reference, unlike(adata.uns[keys.uns].get("shifts"), name), level)
        for group in own.itertuples():
            spots = np.flatnonzero((slices == name) & (judged_by == group.modalities) & np.isfinite(score))
            two = TwoGroups(group.healthy_mean, 1.0, group.abnormal_mean, group.abnormal_sd, group.abnormal_share)
            posterior[spots] = two.posterior(score[spots])
            if question == "part" or verdict.verdict == ABNORMAL:
                called[spots] = choose(score[spots], posterior[spots], question, fdr, miss)
        on = np.flatnonzero((slices == name) & np.isfinite(posterior))
        rows.append({"slice": name, **describe(own, verdict, question, called[on], posterior[on])})
    scored = np.isfinite(score)
    codes = np.where(scored, called.astype(int), -1)
    adata.obs[keys.call] = pd.Categorical.from_codes(codes, [NOT_CALLED, ABNORMAL])
    adata.uns[f"{keys.call}_colors"] = list(CALL_COLOURS.values())
    adata.obs[keys.anomaly] = called
    table = pd.DataFrame(rows)
    adata.uns[keys.verdicts] = table.set_index(table["slice"].astype(str).to_numpy())
    say(table, int(called.sum()), int((~scored).sum()), adata.n_obs, question)


def check_arguments(question: Any, fdr: float | None, miss: float | None, level: float) -> None:
    """Raise ValueError for what `call` cannot do."""
    if question not in (None, "any", "part"):
        raise ValueError(f"question is {question!r}: ask 'any' (is there anything?) or 'part' (which part is it?).")
    for name, value in (("fdr", fdr), ("miss", miss), ("level", level)):
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} is {value!r}: it is a share, from 0 to 1.")
    if miss is not None and (question != "part" or fdr is not None):
        raise ValueError("miss= goes with question='part', and not with fdr=: one of the two is limited.")


def read_groups(adata: AnnData, keys: Written) -> pd.DataFrame:
    """What `omib_spatial.tl.score` left of every slice and combination of modalities."""
    groups = adata.uns.get(keys.uns, {}).get("groups")
    if groups is None or keys.score not in adata.obs or keys.modalities not in adata.obs:
        raise KeyError(
            f"uns[{keys.uns!r}]['groups'], obs[{keys.score!r}] and obs[{keys.modalities!r}] are needed to call: run "
            f"omib_spatial.tl.score(adata, model, key_added={keys.key_added!r}) first."
        )
    return pd.DataFrame(dict(groups))


def slices_of(adata: AnnData, keys: Written) -> np.ndarray:
    """Name of the slice of every spot, (n_obs,), as it was scored."""
    library_key = adata.uns[keys.uns]["params"].get("library_key") or None
    if library_key is None:
        names = adata.uns[keys.uns]["groups"]["slice"]
        return np.full(adata.n_obs, str(names[0]) if len(names) else "", object)
    if library_key not in adata.obs:
        raise KeyError(f"obs[{library_key!r}] separated the slices when adata was scored and is gone: score again.")
    return adata.obs[library_key].astype(str).to_numpy(object)


def unlike(shifts: Any, name: str) -> str:
    """In which statistics a slide lies beyond what healthy slides show; empty if in none."""
    if shifts is None:
        return ""
    table = pd.DataFrame(dict(shifts))
    found = table[(table["slice"] == name) & table["beyond"].astype(bool)].drop_duplicates("statistic")
    return "; ".join(
        f"{row.statistic} {row.value:.3g}, where the reference has {row.usual:.3g}" for row in found.itertuples()
    )


def verdict_on(own: pd.DataFrame, own_reference: bool, unlike: str, level: float) -> Verdict:
    """Verdict on a slide, from the combination of modalities that most of its spots have."""
    if own.empty:
        return Verdict("cannot tell", "No spot could be scored.")
    main = own.loc[own["n_spots"].idxmax()]
    if own_reference:
        return Verdict(
            "cannot tell",
            "The healthy reference was found on the slides themselves, on the assumption that something abnormal is "
            "there: no healthy slide says whether it is.",
        )
    return conclude(
        float(main["pvalue"]),
        level,
        n_spots=int(own["n_spots"].sum()),
        n_slides=int(main["n_slides"]),
        location_pvalue=float(main["location_pvalue"]),
        unlike=unlike,
    )


def choose(
    score: np.ndarray, posterior: np.ndarray, question: Question, fdr: float | None, miss: float | None
) -> np.ndarray:
    """Which spots of a slide are called, (n,) bool, given that something is there."""
    if miss is not None:
        return smallest_call(posterior, miss)
    limit = 0.1 if fdr is None and question == "any" else fdr
    above = score > 0
    return above if limit is None else above & largest_call(posterior, limit)


def describe(
    own: pd.DataFrame, verdict: Verdict, question: Question, called: np.ndarray, posterior: np.ndarray
) -> dict[str, Any]:
    """One row of the table of slides, of its spots (n,) that have a score."""
    main = own.loc[own["n_spots"].idxmax()] if len(own) else dict.fromkeys(own.columns, np.nan)
    return {
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "question": question,
        "n_spots": len(called),
        "n_called": int(called.sum()),
        "expected_false_share": false_share(posterior, called),
        "expected_missed_share": missed_share(posterior, called),
        "separation": float(main["separation"]),
        "pvalue": float(main["pvalue"]),
        "n_healthy_slides": int(main["n_slides"]) if len(own) else 0,
        "smallest_spot_pvalue": float(main["smallest_pvalue"]),
        "modalities": ", ".join(own.sort_values("n_spots", ascending=False)["modalities"]),
    }


def say(table: pd.DataFrame, called: int, unscored: int, n_obs: int, question: Question) -> None:
    """Log the verdicts, one line each, and how many spots were called."""
    asked = "Is there anything?" if question == "any" else "Which part is it?"
    logger.info(
        "Asked %r (%s): %d of %d spots called, %d could not be scored.", question, asked, called, n_obs, unscored
    )
    for row in table.itertuples():
        name = f"Slide {row.slice!r}" if row.slice else "The slide"
        logger.info("%s: %s. %s %d of %d spots called.", name, row.verdict, row.reason, row.n_called, row.n_spots)
