"""Which modalities a fit takes that names none."""

import numpy as np

from omib_spatial._warn import warn
from omib_spatial.detector.beta import MINIMUM
from omib_spatial.detector.reference import Reference
from omib_spatial.modalities import Modality
from omib_spatial.slides import Tissue


def leave_out_rare(tissue: Tissue, chosen: dict[str, Modality], reference: Reference) -> None:
    """Remove modalities from ``chosen``, the rarest first, until enough reference spots have all; warn of each.

    Parameters
    ----------
    tissue
        All spots.
    chosen
        Modalities by name that the user has not named; those that stay are fitted. The first one always stays.
    reference
        What is learned from.
    """
    healthy, taught = reference.spots, reference.taught
    present = {name: _present(tissue, chosen[name], healthy, healthy | taught) for name in list(chosen)[1:]}

    def enough() -> bool:
        having_all = np.logical_and.reduce([np.ones_like(healthy), *present.values()])
        return min((having_all & healthy).sum(), (having_all & taught).sum()) >= MINIMUM

    while present and not enough():
        rarest = min(present, key=lambda name: (present[name] & healthy).sum())
        n = int((present.pop(rarest) & healthy).sum())
        del chosen[rarest]
        warn(
            f"Left out: {rarest!r}, which {n} of {healthy.sum()} reference spots have, and {MINIMUM} are needed "
            f"together with {list(chosen)}. Name it in modalities= to have an error instead, and see "
            "omib_spatial.pp.check."
        )


def _present(tissue: Tissue, modality: Modality, reference: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Which spots have a modality, (n_obs,) bool: none if the reference cannot teach it."""
    try:
        modality.fit(tissue, reference, visible)
        return modality.prepare(tissue).present
    except ValueError:
        return np.zeros_like(reference)
