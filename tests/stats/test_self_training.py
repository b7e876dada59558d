"""Splits in two and self-training, against closed forms and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score

from omib_spatial.stats.self_training import (
    ROUNDS,
    Gaussian,
    GaussianOdds,
    LogisticOdds,
    otsu,
    self_train,
    standard,
)


def brute_otsu(values: np.ndarray) -> float:
    """Best variance between groups over every split between two neighbours in order."""
    ordered = np.sort(values)
    between = [i * (len(ordered) - i) * (ordered[:i].mean() - ordered[i:].mean()) ** 2 for i in range(1, len(ordered))]
    return max(between)


@settings(max_examples=200)
@given(st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=40))
def test_otsu_is_the_best_of_all_splits(values):
    values = np.array(values)
    cut = otsu(values)
    low, high = values[values <= cut], values[values > cut]
    best = brute_otsu(values)
    assert low.size and values.min() <= cut <= values.max()
    if best > 1e-9:
        assert high.size
        assert len(low) * len(high) * (low.mean() - high.mean()) ** 2 == pytest.approx(best)


def test_otsu_lies_between_two_groups_wherever_they_are():
    values = np.array([0.0, 1, 2, 10, 11, 12])
    assert otsu(values) == 6
    assert otsu(values[::-1]) == 6
    assert otsu(3 * values - 5) == pytest.approx(13)
    assert otsu(np.array([0.0] * 50 + [1.0] * 3)) == 0.5


@settings(max_examples=50)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.floats(0.1, 10), st.floats(-10, 10))
def test_standard_has_mean_zero_and_unit_spread_and_no_units(values, scale, shift):
    values = np.array(values)
    found = standard(values)
    # Of equal values what is left of rounding is divided by next to nothing.
    assert abs(found.mean()) < 1e-2
    if values.std() > 1e-3:
        assert abs(found.mean()) < 1e-6
        assert found.std() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(standard(scale * values + shift), found, atol=1e-4)


def test_what_does_not_vary_is_zero():
    assert not standard(np.full(5, 3.25)).any()


def test_log_density_is_that_of_a_gaussian():
    """Up to the constant of its dimension, and the shrinkage of a tenth towards a sphere."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3)) + [1, -2, 4]
    members = np.arange(500) < 400
    covariance = np.cov(values[members].T, bias=True)
    shrunk = 0.9 * covariance + (0.1 * np.trace(covariance) / 3 + 1e-3) * np.eye(3)
    exact = multivariate_normal(values[members].mean(0), shrunk).logpdf(values) + 1.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(Gaussian.fit(values[members]).log_density(values), exact, atol=1e-8)


def test_log_density_of_a_sphere_is_the_closed_form_whatever_the_shrinkage():
    """Where the covariance is a sphere, shrinking it towards one changes nothing."""
    axes = np.concatenate([np.eye(4), -np.eye(4)])
    for copies in (1, 10):
        values = np.concatenate([np.tile(axes, (copies, 1)), [[3.0, 0, 0, 0]]])
        members = np.arange(len(values)) < 8 * copies
        variance = 0.25 + 1e-3
        exact = -0.5 * np.square(values).sum(1) / variance - 2 * np.log(variance)
        np.testing.assert_allclose(Gaussian.fit(values[members]).log_density(values), exact)


@pytest.mark.parametrize(("n", "shrink"), [(40, 0.1), (39, 10 / 39), (10, 1.0), (4, 1.0)])
def test_few_members_are_taken_for_a_sphere(n, shrink):
    values = np.random.default_rng(n).normal(size=(60, 10)) * np.arange(1, 11)
    members = np.arange(60) < n
    covariance = np.cov(values[members].T, bias=True)
    shrunk = (1 - shrink) * covariance + (shrink * np.trace(covariance) / 10 + 1e-3) * np.eye(10)
    exact = multivariate_normal(values[members].mean(0), shrunk).logpdf(values) + 5 * np.log(2 * np.pi)
    np.testing.assert_allclose(Gaussian.fit(values[members]).log_density(values), exact, atol=1e-8)


def test_log_density_reads_one_axis():
    values = np.random.default_rng(0).normal(size=(50, 1))
    variance = values.var() + 1e-3
    exact = -0.5 * np.square(values[:, 0] - values.mean()) / variance - 0.5 * np.log(variance)
    np.testing.assert_allclose(Gaussian.fit(values).log_density(values), exact)


def test_gaussian_odds_draw_the_tails_in_and_keep_the_order():
    values = np.random.default_rng(0).normal(size=(100, 2))
    values[:50] += 3
    high, low = np.arange(100) < 50, np.arange(100) >= 50
    odds = GaussianOdds.teach(values, high, low)(values)
    plain = Gaussian.fit(values[high]).log_density(values) - Gaussian.fit(values[low]).log_density(values)
    np.testing.assert_array_equal(np.argsort(odds), np.argsort(plain))
    np.testing.assert_allclose(np.sign(odds) * np.expm1(np.abs(odds)), plain)
    np.testing.assert_allclose(GaussianOdds.teach(values, low, high)(values), -odds)


def test_gaussian_odds_tell_what_spreads_from_what_does_not():
    """Subclones lie on both sides of healthy tissue, where no line divides them from it."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=(100, 2)) * 0.2, rng.normal(size=(100, 2)) * 3])
    high = np.arange(200) >= 100
    assert roc_auc_score(high, GaussianOdds.teach(values, high, ~high)(values)) > 0.95
    assert roc_auc_score(high, LogisticOdds.teach(values, high, ~high)(values)) < 0.7


def test_logistic_odds_weigh_both_sides_alike_and_swap_with_them():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(330, 2))
    values[:30] += 3
    high, low = np.arange(330) < 30, np.arange(330) >= 30
    odds = LogisticOdds.teach(values, high, low)(values)
    assert odds.shape == (330,) and roc_auc_score(high, odds) > 0.99
    assert ((odds > 0) == high).mean() > 0.95
    np.testing.assert_allclose(LogisticOdds.teach(values, low, high)(values), -odds, atol=1e-3)


def test_spots_of_neither_side_teach_nothing():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(90, 3))
    high, low = np.arange(90) < 30, np.arange(90) >= 60
    other = values.copy()
    other[30:60] = 100
    for kind in (GaussianOdds, LogisticOdds):
        one, two = (kind.teach(some, high, low)(some) for some in (values, other))
        np.testing.assert_allclose(one[high | low], two[high | low])


def test_self_training_teaches_the_outer_halves_of_both_sides():
    seen = []

    def teach(values, high, low):
        seen.append((high.copy(), low.copy()))
        return lambda values: values[:, 0]

    start = np.array([0.0, 1, 2, 3, 10, 11, 12, 13])
    values = np.arange(8.0)[:, None]
    found = standard(self_train(values, start, teach)(values))
    assert len(seen) == ROUNDS
    high, low = seen[0]
    np.testing.assert_array_equal(high, start >= 11.5)
    np.testing.assert_array_equal(low, start <= 1.5)
    np.testing.assert_allclose(found, standard(np.arange(8.0)))


@pytest.mark.parametrize("kind", [GaussianOdds, LogisticOdds])
@pytest.mark.parametrize("sign", [1, -1])
def test_self_training_mends_a_start_that_is_mostly_noise_and_keeps_its_side(kind, sign):
    rng = np.random.default_rng(0)
    abnormal = np.arange(300) < 120
    values = rng.normal(size=(300, 5))
    values[abnormal, :2] += 4
    start = sign * (abnormal + rng.normal(size=300))
    assert 0.7 < roc_auc_score(abnormal, sign * start) < 0.8
    assert roc_auc_score(abnormal, sign * self_train(values, start, kind.teach)(values)) > 0.98


def cloud(seed: int = 0):
    """Two overlapping kinds of spots, and which are which."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(120, 4)) * [3, 1, 1, 0.3]
    values[:40] += [2, 1, 0, 0]
    return values, np.arange(120) < 40


@pytest.mark.parametrize("kind", [GaussianOdds, LogisticOdds])
def test_mean_slopes_lead_from_the_origin_to_every_spot(kind):
    values, high = cloud()
    odds = kind.teach(values, high, ~high)
    origin = values[~high].mean(0)
    slopes = odds.slopes(values, origin)
    np.testing.assert_allclose((slopes * (values - origin)).sum(1), odds(values) - odds(origin[None]), atol=1e-9)


@pytest.mark.parametrize("kind", [GaussianOdds, LogisticOdds])
def test_mean_slopes_are_the_integral_of_the_gradient(kind):
    """Of the straight line, by the trapezoidal rule on numerical gradients."""
    values, high = cloud()
    odds, origin, step = kind.teach(values, high, ~high), values[~high].mean(0), 1e-5
    spot = values[:1]
    at = origin + np.linspace(0, 1, 4001)[:, None] * (spot - origin)
    gradient = np.stack([(odds(at + step * e) - odds(at - step * e)) / (2 * step) for e in np.eye(4)], 1)
    expected = np.trapezoid(gradient, dx=1 / 4000, axis=0)
    if kind is LogisticOdds:
        np.testing.assert_allclose(odds.slopes(spot, origin)[0], expected, atol=1e-6)
    # The signed logarithm bends by the value of all features together: their shares are those of the quadratic.
    shares = expected * (spot[0] - origin)
    found = odds.slopes(spot, origin)[0] * (spot[0] - origin)
    assert np.corrcoef(shares, found)[0, 1] > 0.95 and shares.sum() == pytest.approx(found.sum(), abs=1e-3)


def test_the_slope_at_the_origin_itself_is_the_gradient():
    values, high = cloud()
    odds, step = GaussianOdds.teach(values, high, ~high), 1e-6
    origin = values[100]
    expected = [(odds((origin + step * e)[None]) - odds((origin - step * e)[None]))[0] / (2 * step) for e in np.eye(4)]
    np.testing.assert_allclose(odds.slopes(origin[None], origin)[0], expected, rtol=1e-4)
