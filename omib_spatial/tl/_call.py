"""Calls: which spots are abnormal, by the question that is asked, and what is concluded of each slide."""

import logging
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._checked import Flag, Key, KeyAdded, Share, checked_value
from omib_spatial._keys import ABNORMAL, CALL_COLOURS, NOT_CALLED, REFERENCE, Written
from omib_spatial._settings import RESULT, VERDICTS
from omib_spatial.slides import validation as check
from omib_spatial.slides.results import check_results
from omib_spatial.stats.calls import false_share, largest_call, missed_share, smallest_call
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.stats.two_groups import TwoGroups
from omib_spatial.stats.verdict import ASK_PART, FEWEST_SPOTS, Verdict
from omib_spatial.tl._spatialdata import accepts_spatialdata
from omib_spatial.tl._verdicts import check_scored_together, read_groups, slices_of, slide_pvalue, unlike, verdict_on

logger = logging.getLogger("omib_spatial")
_verdicts = logging.getLogger(VERDICTS)
_TOLD = 12
"""Slides whose verdicts are told one by one."""

Question = Literal["any", "part"]


@accepts_spatialdata
def call(
    adata: AnnData,
    *,
    question: Question | None = None,
    fdr: Share | None = None,
    miss: Share | None = None,
    level: Share | None = None,
    key_added: KeyAdded = "omib",
    table_key: Key = "table",
    library_key: Key | None = None,
    copy: Flag = False,
) -> AnnData | None:
    """Call abnormal spots of slides that were scored. Nothing is fitted or scored again.

    Two questions can be asked. **"any"**: is there anything here? A slide may be healthy, and a false alarm costs.
    Spots are called only on slides whose spots differ more than those of a healthy slide do, at ``level``, and as many
    as the expected share of false calls, ``fdr``, allows. **"part"**: which part is it? The slide is known to be
    diseased, and a miss costs. Every spot is called that is more probably abnormal than not, which is every spot with a
    score above 0; with ``fdr``, fewer, with ``miss``, as few as it allows.

    Parameters
    ----------
    adata
        After `score` or `fit`.
    question
        None asks "any", or "part" where the healthy reference was found on the slides themselves: that something is
        there was decided then.
    fdr
        Largest expected share of false calls. None is that of `fit`, .1 if it was not told, with "any", and no limit
        with "part".
    miss
        With "part": call as few spots as possible so that at most this share of the abnormal ones is expected to be
        missed. It rests on the two groups of the slide (`omib_spatial.stats.two_groups`), not on labels, and may call
        spots with a score below 0, never any that is as near as healthy spots are on average.
    level
        Share of healthy slides that may be found abnormal. None is the ``verdict_level`` of the model, .1 by default.
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
      AUROC), expected shares of false calls and of missed spots (these three NaN below 30 spots), whether the slide
      shows a clone (``clone_pvalue``, NaN where it was not asked), and what the verdict rests on. Regions, clones,
      kinds and explanations of earlier calls are removed.

    Raises
    ------
    KeyError
        Not scored yet, or scored by a version that left nothing to call by.
    ValueError
        An unknown question, a number out of its range, ``miss`` with "any" or beside ``fdr``, or spots that were not
        scored together, as after ``ad.concat``.
    TypeError
        A number that is none, or no AnnData.

    Examples
    --------
    >>> from omib_spatial import datasets, tl
    >>> adata = datasets.simulate_tissue(4, n_spots=80, n_genes=60, n_healthy=3, image=False)
    >>> model = tl.fit(adata, reference_key="healthy", library_key="library_id", max_epochs=6)
    >>> tl.call(adata, question="part")
    >>> list(adata.obs["omib_call"].cat.categories)
    ['not called', 'abnormal']
    """
    check.require_anndata(adata)
    adata = adata.copy() if copy else adata
    check.refuse_view(adata)
    check_results(adata, key_added)
    check.require_column(adata, library_key, "library_key")
    write_calls(adata, Written(key_added), question, fdr, miss, level)
    return adata if copy else None


def write_calls(
    adata: AnnData,
    keys: Written,
    question: Question | None = None,
    fdr: float | None = None,
    miss: float | None = None,
    level: float | None = None,
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
    params = adata.uns[keys.uns]["params"]
    own_reference = params.get("reference_key") == REFERENCE
    question = question or ("part" if own_reference else "any")
    if miss is not None and (question != "part" or fdr is not None):
        raise ValueError("miss= goes with question='part', and not with fdr=: one of the two is limited.")
    level = float(params.get("verdict_level", CalibrationSettings.verdict_level)) if level is None else level
    if question == "any" and fdr is None:
        fdr = float(0.1 if params.get("fdr", "") == "" else params["fdr"])
    score = adata.obs[keys.score].to_numpy(np.float64)
    slices, judged_by = slices_of(adata, keys), adata.obs[keys.modalities].astype(object).to_numpy()
    run = adata.uns[keys.uns]
    without = run.get("unscored", {"slice": (), "reason": ()})
    reasons = dict(zip(without["slice"], without["reason"], strict=True))
    called, posterior, rows = np.zeros(len(score), bool), np.full(len(score), np.nan), []
    for name in dict.fromkeys(slices):
        own = groups[(groups["slice"] == name) & bool(np.isfinite(score[slices == name]).any())]
        verdict = verdict_on(own, own_reference, unlike(run.get("shifts"), name), level, reasons.get(name))
        for group in own.itertuples():
            spots = np.flatnonzero((slices == name) & (judged_by == group.modalities) & np.isfinite(score))
            two = TwoGroups(group.healthy_mean, 1.0, group.abnormal_mean, group.abnormal_sd, group.abnormal_share)
            posterior[spots] = two.posterior(score[spots])
            if question == "part" or verdict.verdict == ABNORMAL:
                called[spots] = choose(score[spots], posterior[spots], fdr, miss)
        check_scored_together(name, own, judged_by[(slices == name) & np.isfinite(score)])
        on = np.flatnonzero((slices == name) & np.isfinite(posterior))
        row = describe(own, verdict, question, called[on], posterior[on], fdr)
        # Slides that were asked for their own reference are no healthy slides to be compared with.
        none = {"pvalue": np.nan, "n_healthy_slides": 0} if own_reference else {}
        rows.append({"slice": name, **row, **none})
    scored = np.isfinite(score)
    codes = np.where(scored, called.astype(int), -1)
    adata.obs[keys.call] = pd.Categorical.from_codes(codes, [NOT_CALLED, ABNORMAL])
    adata.uns[f"{keys.call}_colors"] = list(CALL_COLOURS.values())
    adata.obs[keys.anomaly] = called
    remove_what_rested_on_calls(adata, keys)
    table = pd.DataFrame(rows)
    adata.uns[keys.verdicts] = table.set_index(table["slice"].astype(str).to_numpy())
    say(table, int(called.sum()), int((~scored).sum()), adata.n_obs, question)


def check_arguments(question: Any, fdr: float | None, miss: float | None, level: float | None) -> None:
    """Raise ValueError for what `call` cannot do."""
    if question is not None and not (isinstance(question, str) and question in ("any", "part")):
        raise ValueError(f"question is {question!r}: ask 'any' (is there anything?) or 'part' (which part is it?).")
    for name, value in (("fdr", fdr), ("miss", miss), ("level", level)):
        checked_value(name, value, Share | None)


def choose(score: np.ndarray, posterior: np.ndarray, fdr: float | None, miss: float | None) -> np.ndarray:
    """Which spots of a slide are called, (n,) bool, given that something is there."""
    if miss is not None:
        return smallest_call(posterior, miss)
    above = score > 0
    return above if fdr is None else above & largest_call(posterior, fdr)


def describe(
    own: pd.DataFrame,
    verdict: Verdict,
    question: Question,
    called: np.ndarray,
    posterior: np.ndarray,
    fdr: float | None,
) -> dict[str, Any]:
    """One row of the table of slides, of its spots (n,) that have a score."""
    main = own.loc[own["n_spots"].idxmax()] if len(own) else dict.fromkeys(own.columns, np.nan)
    asked_for = len(called) > 0 and (question == "part" or verdict.verdict == ABNORMAL)
    # Who asked for the part needs no advice to do so.
    reason = verdict.reason.removesuffix(ASK_PART) if question == "part" else verdict.reason
    nothing = " No spot is called: two kinds cannot be told apart here."
    if fdr is not None and (posterior > 0.5).any():
        nothing = (
            f" No spot is called, since more than {fdr:.2g} of any calls would be expected to be false. Allow more "
            "with fdr=, or ask for the whole part with question='part' without it."
        )
    # Of a few spots any two groups are well separated.
    enough = len(called) >= FEWEST_SPOTS
    return {
        "verdict": verdict.verdict,
        "reason": reason + nothing * (asked_for and not called.any()),
        "question": question,
        "n_spots": len(called),
        "n_called": int(called.sum()),
        "expected_false_share": false_share(posterior, called) if enough else np.nan,
        "expected_missed_share": missed_share(posterior, called) if enough else np.nan,
        "separation": float(main["separation"]) if enough else np.nan,
        "pvalue": slide_pvalue(own),
        "n_healthy_slides": int(main["n_slides"]) if len(own) else 0,
        "smallest_spot_pvalue": float(main["smallest_pvalue"]),
        "clone_pvalue": float(main["clone_pvalue"]),
        "modalities": ", ".join(own.sort_values("n_spots", ascending=False)["modalities"]),
    }


def remove_what_rested_on_calls(adata: AnnData, keys: Written) -> None:
    """Remove regions, clones, kinds and tables of explanations of earlier calls, and say so."""
    stale = [key for key in (keys.region, keys.zone, keys.clone, keys.subtype) if key in adata.obs]
    colours = (f"{keys.clone}_colors", f"{keys.subtype}_colors")
    rested = (keys.regions, keys.clones, keys.explained, keys.subtypes, *colours)
    tables = [key for key in rested if key in adata.uns]
    for key in stale:
        del adata.obs[key]
    for key in tables:
        del adata.uns[key]
    if stale or tables:
        logger.info("Removed %s, which rested on earlier calls.", ", ".join([*stale, *tables]))


def say(table: pd.DataFrame, called: int, unscored: int, n_obs: int, question: Question) -> None:
    """Log the verdicts, one line each, and how many spots were called."""
    asked = "Is there anything?" if question == "any" else "Which part is it?"
    line = "Asked %r (%s): %d of %d spots called, %d could not be scored."
    _verdicts.log(RESULT, line, question, asked, called, n_obs, unscored)
    # Of many slides a page of verdicts would hide what else is said: they are in the table.
    level = RESULT if len(table) <= _TOLD else logging.INFO
    for row in table.itertuples():
        name = f"Slide {row.slice!r}" if row.slice else "The slide"
        line = verdict_line(row.verdict, row.reason, row.n_called, row.n_spots, row.question)
        _verdicts.log(level, "%s: %s", name, line)


def verdict_line(verdict: str, reason: str, n_called: int, n_spots: int, question: str) -> str:
    """What is concluded of a slide, in the order of what was asked.

    Parameters
    ----------
    verdict, reason, n_called, n_spots, question
        Columns of ``uns["{key_added}_slides"]``.
    """
    if question == "any":
        return f"{verdict}. {reason} {n_called} of {n_spots} spots called."
    return (
        f"{n_called} of {n_spots} spots called as the abnormal part, if there is one. Is there one? {verdict}. {reason}"
    )
