"""Healthy or not: what the network says of a spot, and how far it lies from healthy tissue, weighed together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import scipy.sparse as sp
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from omib_spatial.data import Spots
from omib_spatial.data.graph import average_around
from omib_spatial.tl._smooth import POOLING, smooth_logs
from omib_spatial.tl._surprise import Distance

if TYPE_CHECKING:
    from omib_spatial.tl._model import AnomalyModel

PROBABILITY = "probability"
"""Name of the network's class probabilities among the parts of the evidence."""
PRIOR = 0.03
"""Donors that what is believed of weights before labels are seen counts for (chosen on simulated tissue)."""
PAIRS = 2000
"""Pairs of an unhealthy and a healthy spot that are drawn from each slice: means over these are exact enough."""


@dataclass(frozen=True)
class Verdict:
    """Log odds that a spot is not healthy, from several `opinions` on it.

    A network that was taught a few patients' tumours knows these, and may be wrong about the next patient's; a distance
    from healthy tissue asks for no likeness to them. The first opinion is the network's, the others are distances.

    Attributes
    ----------
    healthy
        Which classes are healthy, (n_classes,) bool.
    location, spread
        Mean and standard deviation of every opinion in labelled spots, (opinions,).
    weight
        Of every opinion, (opinions,).
    line
        Intercept and slope from the weighed sum to log odds, (2,), as if half of the spots were healthy.
    """

    healthy: np.ndarray
    location: np.ndarray
    spread: np.ndarray
    weight: np.ndarray
    line: np.ndarray

    @classmethod
    def fit(
        cls, opinions: np.ndarray, labels: np.ndarray, slices: np.ndarray, donors: np.ndarray, healthy: np.ndarray
    ) -> Self:
        """Learn the weights that rank unhealthy above healthy spots **within** a slice.

        Parameters
        ----------
        opinions
            (n, opinions), of models that did not learn from the spot's donor, NaN where a spot has none.
        labels, slices, donors
            Class of each spot, negative where it is not known, its slice and the slice's donor, (n,).
        healthy
            Which classes are healthy, (n_classes,) bool.
        """
        known = labels >= 0
        location, spread = np.nanmean(opinions[known], 0), np.nanstd(opinions[known], 0) + 1e-12
        standard = np.nan_to_num((opinions[known] - location) / spread)
        sick = ~healthy[labels[known]]
        # Until labels say otherwise, distances weigh as much as each other and the network nothing.
        prior = np.ones(opinions.shape[1])
        prior[0] = 0
        weight = ranking_weights(*pairs(standard, sick, slices[known], donors[known]), prior)
        model = LogisticRegression(class_weight="balanced").fit((standard @ weight)[:, None], sick)
        return cls(healthy, location, spread, weight, np.array([model.intercept_[0], model.coef_[0, 0]]))

    def log_odds(self, opinions: np.ndarray) -> np.ndarray:
        """(n, opinions) to (n,): log odds of not healthy; a missing distance has no say, without the network NaN."""
        standard = (opinions - self.location) / self.spread
        standard[:, 1:] = np.nan_to_num(standard[:, 1:])
        return self.line[0] + self.line[1] * (standard @ self.weight)

    def probability(self, opinions: np.ndarray, network: np.ndarray) -> np.ndarray:
        """Class probabilities (n, classes): the verdict's, shared among (un)healthy classes as the ``network`` does."""
        sick = 1 / (1 + np.exp(-self.log_odds(opinions)))
        share = np.clip(network, 1e-7, None)
        for group, total in ((self.healthy, 1 - sick), (~self.healthy, sick)):
            share[:, group] *= (total / share[:, group].sum(1))[:, None]
        return share.astype(np.float32)


def opinions(
    model: "AnomalyModel", parts: Mapping[str, np.ndarray], spots: Spots, graph: sp.csr_matrix, codes: np.ndarray
) -> np.ndarray:
    """What a `Verdict` weighs, (n_obs, 1 + modalities): the network's log odds, and log distances by modality.

    NaN where a spot lacks the modality.
    """
    healthy = np.isin(model.classes, model.params["healthy_label"])
    alone = {name: model.distances[name][name] for name in model.modalities if name in model.distances}
    odds = network_opinion(parts[PROBABILITY], healthy, graph)
    return np.column_stack([odds, distance_opinions(model, alone, parts, spots, graph, codes)])


def network_opinion(probability: np.ndarray, healthy: np.ndarray, graph: sp.csr_matrix) -> np.ndarray:
    """Log odds of not healthy, averaged over neighbours, (n_obs,); NaN where ``probability`` (n_obs, classes) is."""
    found = np.full(len(probability), np.nan)
    rows = np.flatnonzero(np.isfinite(probability).all(1))
    found[rows] = average_around(network_odds(probability[rows], healthy), graph, rows, POOLING)
    return found


def distance_opinions(
    model: "AnomalyModel",
    distances: Mapping[str, Distance],
    parts: Mapping[str, np.ndarray],
    spots: Spots,
    graph: sp.csr_matrix,
    codes: np.ndarray,
) -> np.ndarray:
    """Logarithms of the ``distances`` by modality, averaged over neighbours, (n_obs, modalities).

    Of a modality whose anomalies are clonal, what follows each slice's own leading axes is kept.
    """
    found = np.full((len(codes), len(spots.prepared)), np.nan)
    for column, (name, prepared) in enumerate(spots.prepared.items()):
        rows = np.flatnonzero(prepared.present)
        if name not in distances or len(rows) == 0:
            continue
        distance = distances[name](parts[name][rows], prepared.noise[rows])
        around = average_around(distance, graph, rows, POOLING)
        n_axes = model.modalities[name].clonal_axes
        found[rows, column] = smooth_logs(around, prepared, graph, rows, codes, n_axes)
    return found


def network_odds(network: np.ndarray, healthy: np.ndarray) -> np.ndarray:
    """Log odds of not healthy, (n,), of the ``network``'s class probabilities (n, classes)."""
    clear = np.clip(network.astype(np.float64), 1e-7, None)
    return np.log(clear[:, ~healthy].sum(1) / clear[:, healthy].sum(1))


def pairs(
    values: np.ndarray, sick: np.ndarray, slices: np.ndarray, donors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """By how much an unhealthy spot's ``values`` (n, p) exceed those of a healthy spot of the same slice, (m, p).

    And what each pair weighs, (m,): every donor 1, its slices alike. Where no slice has both kinds, all spots are
    taken as one slice.
    """
    rng = np.random.default_rng(0)
    both = [code for code in np.unique(slices) if len(np.unique(sick[slices == code])) == 2]
    if not both:
        slices = donors = np.zeros(len(sick), int)
        both = [0]
    owner = [donors[slices == code][0] for code in both]
    found = []
    for code in both:
        ill, well = (np.flatnonzero((slices == code) & kind) for kind in (sick, ~sick))
        found.append(values[rng.choice(ill, PAIRS)] - values[rng.choice(well, PAIRS)])
    return np.concatenate(found), np.repeat([1 / (owner.count(donor) * PAIRS) for donor in owner], PAIRS)


def ranking_weights(excess: np.ndarray, share: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Weights w >= 0, (p,), of the least ``sum_i share_i log(1 + exp(-w . excess_i)) + PRIOR |w - prior|^2 / 2``.

    The first term is a smooth count of wrongly ranked pairs (RankNet, Burges et al. 2005).
    """

    def loss(weight: np.ndarray) -> tuple[float, np.ndarray]:
        lead = excess @ weight
        value = share @ np.logaddexp(0, -lead) + PRIOR * np.square(weight - prior).sum() / 2
        return value, -(share * expit(-lead)) @ excess + PRIOR * (weight - prior)

    return np.asarray(minimize(loss, prior, jac=True, bounds=[(0, None)] * len(prior), tol=1e-10).x)
