"""What makes a slide, or a set of slides, say less of healthy tissue than it seems to."""

import numpy as np
import pandas as pd

from omib_spatial._warn import warn
from omib_spatial.slides.slides import named
from omib_spatial.slides.tissue import Tissue

LONG_EDGES = 0.1
"""Share of the edges that reach over two spacings, from which on spots are missing."""
ENOUGH = 30
"""Spots of two slices whose total counts are all the same by no chance."""


def warn_of_gaps(tissue: Tissue) -> None:
    """Warn, in one warning, of slices from which many spots were taken out: distant spots pass for neighbours there.

    On slides as they come, at most a fourteenth of the edges of the graph were seen to reach over two spacings; on the
    healthy spots of sections with tumour, a tenth and more.

    Parameters
    ----------
    tissue
        That is to be fitted on.
    """
    if tissue.layout.neighbors_key is not None:
        return
    edges, found = tissue.graph.tocoo(), []
    length = np.linalg.norm(tissue.coordinates[edges.row] - tissue.coordinates[edges.col], axis=1)
    for code, name in enumerate(tissue.libraries):
        own = tissue.codes[edges.row] == code
        if own.any():
            nearest = pd.Series(length[own]).groupby(edges.row[own]).min().median()
            found += [name] * bool((length[own] > 2.1 * nearest).mean() > LONG_EDGES)
    if found:
        where = "the slice" if len(tissue.libraries) == 1 else f"slices {named(np.array(found))}"
        warn(
            f"Spots are missing in {where}: many are taken for neighbours that lie apart, and their surroundings say "
            "little. If spots were taken out, as those of a tumour, keep slides whole and mark the healthy spots with "
            "reference_key=."
        )


def warn_of_copies(tissue: Tissue) -> None:
    """Warn of slices that have the same counts: one slide under several names would pass for several healthy donors.

    Parameters
    ----------
    tissue
        That is to be fitted on.
    """
    known: dict[bytes, list[str]] = {}
    for code, name in enumerate(tissue.libraries):
        own = np.sort(tissue.depth[tissue.codes == code])
        if len(own) >= ENOUGH and np.ptp(own) > 0:
            known.setdefault(own.tobytes(), []).append(name)
    for names in known.values():
        if len(names) > 1:
            warn(
                f"Slices {named(np.array(names))} have spots of the same total counts: one slide under several "
                "names says too little of how healthy slides differ. Keep one of them."
            )
