"""What is concluded of a slide as a whole, and why."""

from typing import NamedTuple

import numpy as np

ABNORMAL, NOTHING, CANNOT_TELL = "abnormal", "nothing found", "cannot tell"
FEWEST_SLIDES = 3
"""Healthy slides below which "nothing found" would say nothing: hardly anything could be found."""
FEWEST_SPOTS = 30
"""Spots below which a slide shows too little of itself."""

ASK_PART = " If you know that something is there, ask which part it is: question='part'."
"""Ends the reason of a slide that has too few healthy ones beside it."""


class Verdict(NamedTuple):
    """What is concluded of a slide.

    Attributes
    ----------
    verdict
        `ABNORMAL`, `NOTHING` or `CANNOT_TELL`.
    reason
        In a sentence.
    """

    verdict: str
    reason: str


def conclude(
    pvalue: float,
    level: float,
    *,
    n_spots: int,
    n_slides: int,
    location_pvalue: float,
    unlike: str = "",
    modalities: str = "",
) -> Verdict:
    """Verdict on a slide.

    Parameters
    ----------
    pvalue
        That a healthy slide looks as mixed as this one; NaN if nothing can say.
    level
        Share of healthy slides that may be found abnormal.
    n_spots, n_slides
        Spots of the slide that were scored, and healthy slides that it is compared with.
    location_pvalue
        That the healthy spots of a healthy slide lie at least as far from the reference as this slide's do.
    unlike
        How the slide is unlike the healthy reference as a whole, in words; empty if it is not.
    modalities
        By which it was judged; the reference may have more slides with fewer of them.
    """
    if n_spots < FEWEST_SPOTS:
        return Verdict(CANNOT_TELL, f"{n_spots} scored spots are too few: {FEWEST_SPOTS} are needed.")
    if unlike:
        return Verdict(CANNOT_TELL, f"The slide as a whole is unlike the healthy reference: {unlike}.")
    told = rounded(pvalue, level)
    if pvalue <= level:
        return Verdict(ABNORMAL, f"Its spots differ more than those of a healthy slide do (p = {told}).")
    if location_pvalue <= level:
        return Verdict(
            CANNOT_TELL,
            "All of the slide lies further from the reference than healthy slides do (p = "
            f"{rounded(location_pvalue, level)}): all of it may be abnormal, or it was prepared in another way.",
        )
    if n_slides < FEWEST_SLIDES or np.isnan(pvalue):
        compared = f"{n_slides} healthy slide{'s' * (n_slides != 1)}{f' with {modalities}' * bool(modalities)}"
        return Verdict(
            CANNOT_TELL,
            f"The reference has {compared} to compare with; with {FEWEST_SLIDES} or more it can tell.{ASK_PART}",
        )
    return Verdict(NOTHING, f"Its spots differ no more than those of a healthy slide may (p = {told}).")


def rounded(pvalue: float, level: float) -> str:
    """A p-value with two digits, or as many as it takes to lie on its side of the ``level``."""
    texts = (f"{pvalue:.{digits}g}" for digits in range(2, 17))
    return next((text for text in texts if (float(text) <= level) == (pvalue <= level)), str(pvalue))
