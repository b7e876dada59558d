"""What the numbers of a slide mean, in sentences."""

from typing import Any

import numpy as np
import pandas as pd

from omib_spatial._keys import ABNORMAL
from omib_spatial.stats.ordering import CLONAL_LEVEL
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.stats.verdict import rounded

HEADLINES = {
    ABNORMAL: "Abnormal tissue was found",
    "nothing found": "Nothing was found",
    "cannot tell": "The slide as a whole cannot be judged",
}
"""By verdict."""
NOT_SAID = (
    "This page is for research. It is not a medical device, and no diagnosis or treatment may rest on it.",
    "A spot that is not called is not known to be healthy. A small lesion, or one that looks like healthy tissue in "
    "what was measured, can be missed.",
    "A called spot is unlike the healthy tissue that the model knows. That may be disease, but also a tissue that the "
    "reference lacks, an artefact of the section, or a batch.",
    "The score does not say how malignant something is, and scores of two slides compare in part only.",
    "A spot holds many cells. What lies between spots was not measured.",
)


def calibration(row: Any) -> list[str]:
    """How sure calls are, a sentence each.

    Parameters
    ----------
    row
        Of the table of slides.
    """
    asked = {
        "any": "“Is there anything?”: spots are called where a slide differs within itself more than healthy ones.",
        "part": "“Which part is it?”: that something is there is taken for granted; a healthy slide has calls, too.",
    }
    said = [f"The question was {asked.get(str(row.question), row.question)}"]
    if np.isfinite(row.expected_false_share) and row.n_called:
        said.append(
            f"Of the called spots, {_share(row.expected_false_share)} are expected to be false; of the abnormal spots, "
            f"{_share(row.expected_missed_share)} are expected to be missed. Both rest on the two groups that the "
            "slide's scores fall into, not on labels. Where truth was known they held in the mean of several slides, "
            "not on each; around small foci more was false. Spots at the border of a region are the least sure."
        )
    if np.isfinite(row.separation):
        said.append(f"The two groups are separated with an AUROC of {row.separation:.2f} (.5: not at all, 1: wholly).")
    if np.isfinite(row.pvalue) and row.n_healthy_slides > 1:
        said.append(
            f"Compared with {row.n_healthy_slides} healthy slides that were left out, the slide as a whole has the "
            f"p-value {rounded(row.pvalue, CalibrationSettings.verdict_level)}."
        )
    else:
        said.append("There were too few healthy slides to compare the slide as a whole with.")
    if np.isfinite(row.clone_pvalue):
        said.append(_clone(row.clone_pvalue))
    if np.isfinite(row.smallest_spot_pvalue):
        said.append(
            f"A single spot's p-value against healthy slides cannot be smaller than {row.smallest_spot_pvalue:.2g}: it "
            "rests on so few healthy spots that were left out."
        )
    return said


def _clone(pvalue: float) -> str:
    told = rounded(pvalue, CLONAL_LEVEL)
    if pvalue <= CLONAL_LEVEL:
        return (
            "Between the two sides of the slide genes differ that lie together on the genome, as in a clone with "
            f"gained and lost arms (p = {told}). So spots are in the order that their distances from healthy "
            "tissue and the slide's own genome profiles show together. This is no verdict: healthy tissue beside a "
            "tumour can show it, too."
        )
    return (
        "Between the two sides of the slide nothing speaks clearly of a clone with gained and lost arms (p = "
        f"{told}). So spots are in the order of their distances from healthy tissue alone."
    )


def found_on(n_called: int, n_scored: int, n_inside: int, regions: pd.DataFrame) -> str:
    """What was found on a slide, in one sentence.

    Parameters
    ----------
    n_called, n_scored, n_inside
        Spots that are called, that have a score, and that are called and in a region.
    regions
        Of the slide.
    """
    called = f"{n_called} of {n_scored} scored spots are called abnormal"
    if not len(regions):
        return f"{called}." if not n_called else f"{called}, none of them in a region."
    size = ""
    if (regions["unit"] == "um").all():
        size = f" ({regions['area'].sum() / 1e6:.3g} mm²)"
    return f"{called}, {n_inside} of them in {len(regions)} region{'s' * (len(regions) > 1)}{size}."


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if value >= 0.01 or value == 0 else "less than 1 %"


def area(row: pd.Series) -> str:
    """Area of a region in words, empty where micrometres are not known."""
    return f"{row['area'] / 1e6:.3g} mm²" if row["unit"] == "um" else ""
