"""What scoring left of every slice, and the verdict on it."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._keys import Written
from omib_spatial.detector.scoring import SliceGroups
from omib_spatial.stats.slide_test import cauchy_combination
from omib_spatial.stats.verdict import CANNOT_TELL, FEWEST_SPOTS, Verdict, conclude


def read_groups(adata: AnnData, keys: Written) -> pd.DataFrame:
    """What `omib_spatial.tl.score` left of every slice and combination of modalities."""
    groups = adata.uns.get(keys.uns, {}).get("groups")
    needed = set(SliceGroups._fields) - set(SliceGroups._field_defaults)
    complete = groups is not None and needed <= set(groups) and "params" in adata.uns[keys.uns]
    if not complete or keys.score not in adata.obs or keys.modalities not in adata.obs:
        raise KeyError(
            f"uns[{keys.uns!r}]['groups'], obs[{keys.score!r}] and obs[{keys.modalities!r}] are needed to call: run "
            f"omib_spatial.tl.score(adata, model, key_added={keys.key_added!r}) first."
        )
    # A slide that was scored by an earlier version lacks the rest.
    return pd.DataFrame(SliceGroups._field_defaults | dict(groups))


def check_scored_together(name: str, own: pd.DataFrame, judged_by: np.ndarray) -> None:
    """Raise ValueError if more spots of a slice have a score than were scored by what ``uns`` knows of.

    Parameters
    ----------
    name
        Of the slice.
    own
        Its groups.
    judged_by
        Modalities of its spots that have a score, (n,).
    """
    recorded = dict(zip(own["modalities"], own["n_spots"], strict=True))
    for modalities, n in zip(*np.unique(judged_by.astype(str), return_counts=True), strict=True):
        if n > recorded.get(modalities, 0):
            raise ValueError(
                f"{n} spots of slice {name!r} have a score by {modalities}, and uns knows of "
                f"{recorded.get(modalities, 0)}: they were scored in another AnnData, or slices were renamed. Call "
                "before slides are joined, or score again."
            )


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


def slide_pvalue(own: pd.DataFrame) -> float:
    """That a healthy slide looks as mixed as this one, of all groups of `FEWEST_SPOTS` spots; NaN if none can say.

    Groups of a slide were judged by different modalities. Each counts as much as it has spots.
    """
    told = own[(own["n_spots"] >= FEWEST_SPOTS) & own["pvalue"].notna()]
    return cauchy_combination(told["pvalue"].tolist(), told["n_spots"].tolist()) if len(told) else np.nan


def verdict_on(
    own: pd.DataFrame, own_reference: bool, unlike: str, level: float, unscored: str | None = None
) -> Verdict:
    """Verdict on a slide, from the groups of its spots that were judged by the same modalities."""
    if own.empty:
        return Verdict(CANNOT_TELL, unscored or "No spot could be scored.")
    main = own.loc[own["n_spots"].idxmax()]
    if len(own) > 1 and main["n_spots"] < FEWEST_SPOTS <= own["n_spots"].sum():
        few = f"At most {main['n_spots']} spots were judged by the same modalities: {FEWEST_SPOTS} are needed."
        return Verdict(CANNOT_TELL, few)
    if own_reference:
        return Verdict(
            CANNOT_TELL,
            "The healthy reference was found on slides of which it is assumed that something abnormal is there: no "
            "healthy slide says whether it is.",
        )
    return conclude(
        slide_pvalue(own),
        level,
        n_spots=int(own["n_spots"].sum()),
        n_slides=int(main["n_slides"]),
        location_pvalue=float(main["location_pvalue"]),
        unlike=unlike,
        modalities=str(main["modalities"]),
    )
