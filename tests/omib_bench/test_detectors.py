import importlib.util

import numpy as np
import pytest

from omib_bench.detectors import PLAIN, SEEDED, pyod_detectors

PYOD = pytest.mark.skipif(importlib.util.find_spec("pyod") is None, reason="PyOD is not installed (extra bench)")


def found(detect, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of inliers and of outliers."""
    rng = np.random.default_rng(0)
    train, inside, outside = (rng.normal(size=(n, 4)) for n in (200, 30, 30))
    scores = detect(train, np.concatenate([inside, outside + 8]), seed)
    assert scores.shape == (60,) and np.isfinite(scores).all()
    return scores[:30], scores[30:]


@pytest.mark.parametrize("name", list(PLAIN))
def test_outliers_score_higher(name):
    inside, outside = found(PLAIN[name])
    assert inside.max() < outside.min()


@PYOD
@pytest.mark.parametrize("name", ["IForest", "ECOD", "LOF", "OCSVM", "DeepSVDD", "AutoEncoder"])
def test_outliers_score_higher_with_pyod(name):
    inside, outside = found(pyod_detectors()[name])
    assert np.median(inside) < np.median(outside)
    assert len(np.unique(np.r_[inside, outside])) > 20


@PYOD
def test_seeded_detectors_are_those_that_a_seed_changes():
    everyone = PLAIN | pyod_detectors()
    for name in ("IForest", "ECOD", "LOF", "kNN", "Mahalanobis"):
        changes = not np.array_equal(found(everyone[name], 0)[0], found(everyone[name], 1)[0])
        assert changes == (name in SEEDED)
