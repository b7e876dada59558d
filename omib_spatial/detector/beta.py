"""The bound on beta, from what the modalities of the reference share."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from omib_spatial.core import Mine
from omib_spatial.modalities import Spots, Summary

BOUND_ROWS = 5000
"""Reference spots that the bound on beta is estimated from at most."""
MINIMUM = 30
"""Reference spots with every modality that the bound on beta is estimated from at least."""


def bounds_on_beta(
    spots: Spots, summaries: Mapping[str, Summary], training: np.ndarray, seed: int
) -> dict[str, float | int]:
    """Estimate M_l and M_u from the summaries of training spots (n_obs,) that have every modality.

    Parameters
    ----------
    spots
        All spots.
    summaries
        Fitted summary of each modality.
    training
        Spots that the network learns from, (n_obs,) bool.
    seed
        Of the at most `BOUND_ROWS` spots that are drawn, and of the critic.

    Returns
    -------
    ``M_l`` and ``M_u``, the entropies ``H_...`` and mutual information ``I_...`` (nats) that they follow from, and the
    critic's setting ``mine_...``, of which all of these are properties.
    """
    rows = np.flatnonzero(training & spots.present.all(1))
    if len(rows) < MINIMUM:
        raise ValueError(
            f"Only {len(rows)} reference spots have all of {list(spots.prepared)}; the bound on beta needs {MINIMUM}. "
            "Leave out a modality, or give beta yourself, as by config=dataclasses.replace("
            "omib_spatial.tl.OBJECTIVES['reconstruction'].config, beta=0.05)."
        )
    rows = np.random.default_rng(seed).permutation(rows)[:BOUND_ROWS]
    mine = Mine(seed=seed)
    bounds = mine.bounds({n: s.of(spots.prepared[n], rows) for n, s in summaries.items()})
    entropies = {f"H_{name}": value for name, value in bounds.entropies.items()}
    shared = {f"I_{pair}".replace(" & ", "_"): value for pair, value in bounds.mutual_information.items()}
    setting = {f"mine_{name}": value for name, value in asdict(mine).items()}
    return {"M_l": bounds.lower, "M_u": bounds.upper, **entropies, **shared, **setting}
