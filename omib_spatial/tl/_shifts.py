"""Slides that are unlike the healthy reference as a whole: measured, said in words, and recorded."""

from collections.abc import Sequence

import numpy as np

from omib_spatial._warn import ScoredWarning, warn
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.scoring import Scores, modalities_per_slice
from omib_spatial.detector.shifts import Shift, measure_shifts, shift_table
from omib_spatial.modalities import Spots
from omib_spatial.slides import Tissue


def slide_records(
    model: AnomalyModel, tissue: Tissue, spots: Spots, scores: Scores
) -> tuple[dict[str, dict[str, np.ndarray]], list[Shift]]:
    """What is kept of slides as a whole in ``uns[key_added]``, ``shifts`` and ``modalities``, and the shifts.

    Parameters
    ----------
    model
        By which they were scored.
    tissue, spots, scores
        All spots.
    """
    shifts = measure_shifts(model.modalities, model.intervals, tissue, spots)
    modalities = modalities_per_slice(tissue, spots, np.isfinite(scores.score))
    return {"shifts": shift_table(shifts), "modalities": modalities}, shifts


def warn_of_shifts(shifts: Sequence[Shift]) -> None:
    """One warning per slide that lies beyond what healthy slides show.

    Parameters
    ----------
    shifts
        Of all slides.
    """
    beyond = [shift for shift in shifts if shift.beyond]
    for name in dict.fromkeys(shift.slice for shift in beyond):
        # Genes and genome may say the same of the same counts.
        found = {shift.statistic: shift for shift in reversed(beyond) if shift.slice == name}.values()
        advice = " ".join(dict.fromkeys(shift.advice for shift in found))
        warn(
            f"{f'Slide {name!r}' if name else 'The slide'} is unlike the healthy reference: "
            f"{'; '.join(map(in_words, found))}. Scores there may show this instead of disease. {advice} If it "
            "cannot be mended, fit a model on healthy slides that are like this one.",
            ScoredWarning,
        )


def in_words(shift: Shift) -> str:
    """What is odd of a slide, as in "45 times lower counts per spot (64; the reference has 2,861, ...)".

    Parameters
    ----------
    shift
        Of one slide and modality.
    """
    ratio = max(shift.value, shift.usual) / max(min(shift.value, shift.usual), 1e-12)
    times = f"{_number(ratio)} times " if shift.logarithmic else ""
    side = "lower" if shift.value < shift.usual else "higher"
    if np.isinf(shift.high):
        expected = f"{_number(shift.low)} or more"
    elif np.isinf(shift.low):
        expected = f"{_number(shift.high)} or less"
    else:
        expected = f"{_number(shift.low)} to {_number(shift.high)}"
    return (
        f"{times}{side} {shift.statistic} ({_number(shift.value)}; the reference has {_number(shift.usual)}, healthy "
        f"slides have {expected})"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"
