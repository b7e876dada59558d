"""What single features make of the evidence inside a slide."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omib_spatial.stats.contiguity import gene_slopes, spot_profiles
from omib_spatial.stats.contrast import view_weights
from omib_spatial.stats.replicas import SlideViews, TrainedView


@dataclass(frozen=True)
class ViewTerms:
    """One view's part of the evidence beyond an origin, divided among the features of the view.

    By integrated gradients (Sundararajan, Taly & Yan 2017) along the straight line of features from the origin, in
    closed form: terms sum to the part.

    Attributes
    ----------
    features
        Of all spots of the slide, (n, p).
    healthy
        Weights of the spots whose mean is the origin, (n,), of sum 1.
    trained
        The view as each replica has learned it.
    weights
        Of each replica's log odds in the evidence, (replicas,).
    """

    features: np.ndarray
    healthy: np.ndarray
    trained: Sequence[TrainedView]
    weights: np.ndarray

    @property
    def value(self) -> np.ndarray:
        """Evidence of this view less that at the origin, (n,)."""
        parts = [view.odds(view.values) - view.odds(self._origin(view)[None]) for view in self.trained]
        return self.weights @ np.stack(parts)

    def terms(self, rows: np.ndarray) -> np.ndarray:
        """What each feature makes up of ``rows`` (m,), (m, p)."""
        slopes = np.zeros((len(rows), self.features.shape[1]))
        for weight, view in zip(self.weights, self.trained, strict=True):
            along = view.odds.slopes(view.values[rows], self._origin(view)) @ view.axes.T
            slopes[:, view.seen] += weight * (along if view.chromosome is None else gene_slopes(along, view.chromosome))
        return slopes * self.change(rows)

    def at(self, features: np.ndarray) -> np.ndarray:
        """`value` (m,) of spots with these features (m, p)."""
        change, total = features - self.healthy @ self.features, np.zeros(len(features))
        for weight, view in zip(self.weights, self.trained, strict=True):
            own, origin = change[:, view.seen], self._origin(view)
            along = own if view.chromosome is None else spot_profiles(own, view.chromosome)
            total += weight * (view.odds(origin + along @ view.axes) - view.odds(origin[None]))
        return total

    def change(self, rows: np.ndarray) -> np.ndarray:
        """Features of ``rows`` (m,) less the origin, (m, p)."""
        return self.features[rows] - self.healthy @ self.features

    def _origin(self, view: TrainedView) -> np.ndarray:
        # Components are linear in the features.
        return self.healthy @ view.values


def contrast_terms(views: SlideViews, trained: Sequence[Sequence[TrainedView]], healthy: np.ndarray) -> list[ViewTerms]:
    """Divide the evidence that `omib_spatial.stats.contrast.slide_contrast` finds on a slide.

    Parameters
    ----------
    views
        Of the slide, which has an answer.
    trained
        What its replicas have learned (`omib_spatial.stats.contrast.trained_replicas`).
    healthy
        Weights of the spots whose mean is the origin, (n,), of sum 1.

    Returns
    -------
    Of genome, expression and, if there is one, the image. Their values sum to the evidence, up to a constant.
    """
    _, scale = view_weights(np.stack([[view.score for view in each] for each in trained]))
    seen = [views.genes, views.expression, *([] if views.image is None else [views.image])]
    found = []
    for i, features in enumerate(seen):
        own = [each[i] for each in trained]
        spread = np.array([view.odds(view.values).std() + 1e-9 for view in own])
        found.append(ViewTerms(features, healthy, own, scale[i] / len(own) / spread))
    return found
