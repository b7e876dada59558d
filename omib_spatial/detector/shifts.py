"""How unlike the healthy reference a slide is as a whole: depth, genes, expression, colours."""

import logging
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from omib_spatial.modalities import Modality, Spots
from omib_spatial.modalities.slide_statistics import SlideDescription
from omib_spatial.slides import Tissue
from omib_spatial.stats.shift import ReferenceInterval, comparable, natural

logger = logging.getLogger("omib_spatial")

MIN_SPOTS = 30
"""Spots below which a slide is not judged as a whole: a dozen may all be of one corner (measured on her2st)."""
_TOO_FEW = f"no reference slide has {MIN_SPOTS} spots with it."


class Shift(NamedTuple):
    """The statistic by which a slide is most unlike the reference in one modality.

    Attributes
    ----------
    slice, modality, statistic
        Names.
    value
        What the slide shows.
    usual
        What reference slides show on average.
    low, high
        Between which one more healthy slide is expected; infinite on a side that is not strange.
    deviations
        Standard deviations of one more healthy slide from ``usual``, negative below it.
    beyond
        Whether the value lies outside.
    logarithmic
        Whether it differs by a factor.
    advice
        What to look at then.
    """

    slice: str
    modality: str
    statistic: str
    value: float
    usual: float
    low: float
    high: float
    deviations: float
    beyond: bool
    logarithmic: bool
    advice: str


def fit_shifts(
    modalities: Mapping[str, Modality], tissue: Tissue, spots: Spots, reference: np.ndarray
) -> dict[str, ReferenceInterval]:
    """What the reference's slides show of each modality's statistics; none where no slide has `MIN_SPOTS` of them.

    Parameters
    ----------
    modalities
        Fitted, by name.
    tissue, spots
        All spots, and what each of them has.
    reference
        Healthy spots, (n_obs,) bool.
    """
    found = {}
    for name, modality in modalities.items():
        own = reference & spots.prepared[name].present
        own &= _on_large_slices(tissue, own)
        slides = modality.describe_slides(tissue, own)
        donors = [_donor(tissue, own, code) for code in slides]
        described: list[SlideDescription] = list(slides.values())
        if len(described) == 1:
            # A single slide is its two halves: how much slides differ is then the prior's to say.
            halves = [modality.describe_slides(tissue, half) for half in _halves(tissue, own)]
            described = [one for half in halves for code, one in half.items() if code in slides]
            donors *= len(described)
        if len(described) < 2:
            if modality.statistics:
                logger.info("%s: whether a slide is like the reference as a whole cannot be told; %s", name, _TOO_FEW)
            continue
        values, profiles = (np.stack(part) for part in zip(*described, strict=True))
        found[name] = ReferenceInterval.fit(values, profiles, np.array(donors), modality.statistics)
    return found


def measure_shifts(
    modalities: Mapping[str, Modality], intervals: Mapping[str, ReferenceInterval], tissue: Tissue, spots: Spots
) -> list[Shift]:
    """Of every slide and modality the statistic that is nearest to its limit, or furthest beyond.

    A modality is looked at in the spots that are judged by it, where a slide has `MIN_SPOTS` of them.

    Parameters
    ----------
    modalities
        Fitted, by name.
    intervals
        From `fit_shifts`; a modality without one says nothing.
    tissue, spots
        All spots that are scored, and what each of them is judged by.
    """
    found = []
    for name, interval in intervals.items():
        judged = spots.prepared[name].present
        visible = judged & _on_large_slices(tissue, judged)
        statistics = modalities[name].statistics
        usual, low, high = (natural(x, statistics) for x in (interval.location, interval.low, interval.high))
        for code, (values, profile) in modalities[name].describe_slides(tissue, visible).items():
            compared = [
                value if statistic.compare is None else statistic.compare(profile, interval.profile)
                for value, statistic in zip(values, statistics, strict=True)
            ]
            x = comparable(np.array(compared), statistics)
            excess = interval.excess(x)
            worst = int(np.argmax(excess))
            about = statistics[worst]
            found.append(
                Shift(
                    slice=tissue.libraries[code],
                    modality=name,
                    statistic=about.name,
                    value=float(compared[worst]),
                    usual=float(usual[worst]),
                    low=float(low[worst]),
                    high=float(high[worst]),
                    deviations=float((x - interval.location)[worst] / interval.spread[worst]),
                    beyond=bool(excess[worst] > 1),
                    logarithmic=about.logarithmic,
                    advice=about.advice,
                )
            )
    return sorted(found, key=lambda shift: tissue.libraries.index(shift.slice))


def shift_table(shifts: Collection[Shift]) -> dict[str, np.ndarray]:
    """One array per column, as h5ad and zarr keep them; a row per slide and modality."""
    columns = {
        "slice": str,
        "modality": str,
        "statistic": str,
        "value": float,
        "usual": float,
        "low": float,
        "high": float,
        "deviations": float,
        "beyond": bool,
    }
    return {name: np.array([getattr(s, name) for s in shifts], kind) for name, kind in columns.items()}


def _on_large_slices(tissue: Tissue, spots: np.ndarray) -> np.ndarray:
    """Which spots are on slices that have `MIN_SPOTS` of the given ones (n_obs,), (n_obs,) bool."""
    enough = np.bincount(tissue.codes, spots, len(tissue.libraries)) >= MIN_SPOTS
    return np.asarray(enough[tissue.codes])


def _donor(tissue: Tissue, reference: np.ndarray, code: int) -> int:
    """Donor of most reference spots of a slice."""
    return int(np.bincount(tissue.donors[reference & (tissue.codes == code)]).argmax())


def _halves(tissue: Tissue, reference: np.ndarray) -> list[np.ndarray]:
    """Left and right half of the reference of every slice, (n_obs,) bool each."""
    x, left = tissue.coordinates[:, 0], np.zeros(tissue.n_obs, bool)
    for code in range(len(tissue.libraries)):
        own = reference & (tissue.codes == code)
        if own.any():
            left |= own & (x <= np.median(x[own]))
    return [left, reference & ~left]
