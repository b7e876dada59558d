import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from omib_spatial.tl._surprise import Distance, Surprise, pattern_name


def test_distance_is_mahalanobis_under_ledoit_wolf():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5))
    reference /= reference.std(0)
    other = rng.normal(size=(20, 5))
    expected = np.sqrt(LedoitWolf().fit(reference).mahalanobis(other))
    np.testing.assert_allclose(Distance.fit(reference)(other), expected, rtol=1e-4)


def test_distance_does_not_depend_on_the_units_of_a_column():
    rng = np.random.default_rng(1)
    reference, other, units = rng.normal(size=(200, 3)), rng.normal(size=(9, 3)), np.array([1.0, 100.0, 0.01])
    np.testing.assert_allclose(
        Distance.fit(reference)(other), Distance.fit(reference * units)(other * units), rtol=1e-3
    )


def test_score_is_standardised_by_the_held_out_spots():
    rng = np.random.default_rng(2)
    held_out = rng.gamma(3, size=(500, 2)) * [1, 50] + [0, 7]
    surprise = Surprise.fit(held_out)
    scores = surprise.score(held_out)
    assert scores.mean() == pytest.approx(0, abs=1e-9) and scores.std() == pytest.approx(1, abs=1e-9)
    assert surprise.pvalue(scores).min() == pytest.approx(2 / 501)  # the highest held-out spot itself counts
    assert surprise.pvalue(scores.max(keepdims=True) + 1) == pytest.approx(1 / 501)


@pytest.mark.parametrize("part", [0, 1])
def test_a_greater_distance_in_any_part_scores_higher(part):
    held_out = np.random.default_rng(3).gamma(3, size=(100, 2))
    surprise, step = Surprise.fit(held_out), np.eye(2)[part]
    assert (surprise.score(held_out + step) > surprise.score(held_out)).all()


def test_parts_of_very_different_scale_count_alike():
    held_out = np.random.default_rng(4).normal(size=(400, 2)) * [1, 1000]
    surprise = Surprise.fit(held_out)
    origin = surprise.score(np.zeros((1, 2)))
    one, other = (surprise.score(held_out.std(0) * e[None]) - origin for e in np.eye(2))
    np.testing.assert_allclose(one, other)


def test_pattern_names_what_is_present():
    assert pattern_name(["gene", "image", "genome"], np.array([True, False, True])) == "gene+genome"
