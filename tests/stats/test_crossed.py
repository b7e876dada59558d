import numpy as np
import pytest

from omib_spatial.stats.crossed import RIDGE, crossed_distance, left_out_rest, slopes, transfer
from omib_spatial.stats.distance import Distance

GROUPS = np.repeat([0, 1, 2], 200)


def related(strength: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three columns of which four others tell a part, the same in all groups, whose means differ."""
    rng = np.random.default_rng(seed)
    given = rng.normal(size=(600, 4))
    own = rng.normal(size=(600, 3)) + strength * given @ rng.normal(size=(4, 3)) + 2 * rng.normal(size=(3, 3))[GROUPS]
    return own, given


def test_what_is_told_from_group_to_group_is_the_share_of_the_variance():
    own, given = related(0.0)
    assert transfer(own, given, GROUPS) < 0.01
    own, given = related(0.5)
    own_variance = np.square(own - np.stack([own[g == GROUPS].mean(0) for g in range(3)])[GROUPS]).sum()
    assert transfer(own, given, GROUPS) == pytest.approx(1 - 600 * 3 / own_variance, abs=0.03)


def test_a_relation_that_another_group_has_the_other_way_round_tells_nothing():
    own, given = related(0.0)
    turned = own + given[:, :3] * np.array([1, -1, 0])[GROUPS, None]
    assert transfer(turned, given, GROUPS) < 0.03


def test_the_slopes_are_those_of_a_ridge_regression():
    own, given = related(0.5)
    stacked = np.vstack([given, np.sqrt(RIDGE) * np.eye(4)])
    expected = np.linalg.lstsq(stacked, np.vstack([own, np.zeros((4, 3))]))[0]
    np.testing.assert_allclose(slopes(own, given, RIDGE), expected, rtol=1e-6)


def test_the_rest_of_a_group_does_not_depend_on_its_own_relation():
    own, given = related(0.5)
    before = left_out_rest(own, given, GROUPS, RIDGE)
    others = own.copy()
    others[GROUPS == 0] += 5
    after = left_out_rest(others, given, GROUPS, RIDGE)
    np.testing.assert_allclose(after[GROUPS == 0], before[GROUPS == 0] + 5)
    assert not np.allclose(after[GROUPS == 1], before[GROUPS == 1])


def test_spots_that_break_the_relation_are_far_though_neither_side_is_odd():
    own, given = related(1.0)
    distance = crossed_distance(own, given, np.zeros(600), GROUPS)
    assert distance.axes.shape == (7, 3)
    usual = distance(np.hstack([own, given]), np.zeros(600))
    broken = distance(np.hstack([own[::-1], given]), np.zeros(600))
    alone = Distance.fit(own, np.zeros(600))
    assert (broken > np.quantile(usual, 0.95)).mean() > 0.3
    assert (alone(own[::-1], np.zeros(600)) > np.quantile(alone(own, np.zeros(600)), 0.95)).mean() < 0.06


def test_its_gradient_is_that_of_the_distance():
    own, given = related(1.0)
    noise = np.random.default_rng(1).gamma(2, size=600)
    distance, values = crossed_distance(own, given, noise, GROUPS), np.hstack([own, given])
    step, slope = 1e-5, distance.gradient(values, noise)
    for column in range(7):
        moved = values + step * np.eye(7)[column]
        found = (distance(moved, noise) - distance(values, noise)) / step
        np.testing.assert_allclose(slope[:, column], found, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(distance.whitened(values, noise), axis=1), distance(values, noise))
