"""What a distance is made of, against the distance itself."""

import numpy as np
import torch

from omib_spatial.detector.attribution import of_summaries
from omib_spatial.modalities import Summary
from omib_spatial.modalities.base import DenseRows
from omib_spatial.stats.distance import Distance


def test_terms_sum_to_the_distance_of_spots_of_usual_noise_wherever_the_line_starts():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 5)).astype(np.float32)
    summary, data = Summary(3), DenseRows(features, torch.zeros(5), torch.ones(5))
    summary.fit(features)
    data.__dict__["noise"] = np.full(80, 2.0)
    line = np.stack([rng.normal(size=3), rng.normal(size=3)])
    distance = Distance(line, np.eye(3), np.stack([np.ones(3), np.zeros(3)]), np.array([1.0, 3.0]))
    rows = np.arange(10)
    values = summary.of(data, rows).numpy()
    (made,) = of_summaries(distance, [(summary, data)], rows, values, data.noise, 2.0)
    np.testing.assert_allclose(made.terms.sum(1), distance(values, data.noise[rows]), rtol=1e-4)
    np.testing.assert_allclose(made.change, features[:10] - made.origin, rtol=1e-6)
