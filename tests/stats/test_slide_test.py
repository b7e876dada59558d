import numpy as np
import pytest
from scipy.stats import kstest, norm, t

from omib_spatial.stats.slide_test import (
    absolute_moment,
    cauchy_combination,
    sampling_variance,
    spread,
    spread_pvalue,
)


def test_with_exact_spreads_it_is_a_t_test_of_one_slide_more():
    slides, sd = np.exp([0.0, 0.2, 0.7]), 0.4
    variance = (np.var([0.0, 0.2, 0.7]) * 3 + sd**2) / 3
    expected = t.sf((1.1 - 0.3) / np.sqrt(variance * (1 + 1 / 3)), 3)
    assert spread_pvalue(np.exp(1.1), np.inf, slides, np.full(3, np.inf), sd) == pytest.approx(expected, rel=1e-6)


def test_healthy_slides_have_uniform_pvalues_whatever_their_sizes():
    """Where the variance between slides is what is expected, and slides are many."""
    rng, between, found = np.random.default_rng(0), 0.2, []
    for _ in range(1500):
        n = rng.integers(8, 60, 13).astype(float)
        log_spread = rng.normal(-2, between, 13) + rng.normal(0, np.sqrt(0.5 / n))
        found.append(spread_pvalue(np.exp(log_spread[0]), n[0], np.exp(log_spread[1:]), n[1:], between))
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.015)
    assert kstest(found, "uniform").statistic < 0.05


def test_a_wider_spread_is_less_probable_and_the_unit_plays_no_part():
    slides, n = np.array([0.1, 0.12, 0.09]), np.array([10.0, 40.0, 20.0])
    wider = [spread_pvalue(spread, 20.0, slides, n, 0.4) for spread in (0.08, 0.1, 0.2, 0.5)]
    assert (np.diff(wider) < 0).all()
    assert spread_pvalue(0.6, 20.0, slides * 3, n, 0.4) == pytest.approx(wider[2])


def test_what_few_spots_show_is_believed_less():
    slides, n = np.full(6, 0.1), np.full(6, 30.0)
    assert spread_pvalue(0.2, 5.0, slides, n, 0.1) > spread_pvalue(0.2, 50.0, slides, n, 0.1)
    assert np.isnan(spread_pvalue(0.2, 5.0, slides[:0], n[:0], 0.1))


@pytest.mark.parametrize("power", [None, 1.0, 2.0, 4.0, 5.5])
def test_the_spread_of_normal_values_is_their_standard_deviation(power):
    values = norm.ppf((np.arange(20_001) + 0.5) / 20_001)
    assert spread(3 + 0.7 * values, power) == pytest.approx(0.7, rel=5e-3)
    assert power is None or spread(1e300 * values, power) == pytest.approx(1e300, rel=5e-3)
    assert spread(np.zeros(9), power) == 0 and absolute_moment(power or 2.0) == pytest.approx(
        norm.expect(lambda z: abs(z) ** (power or 2.0))
    )


def test_a_power_looks_above_the_median_alone_and_at_the_farthest_most():
    values = np.random.default_rng(0).normal(size=301)
    lower, focus = np.where(values < np.median(values), 5 * values, values), np.where(np.arange(301) < 9, 5, values)
    assert spread(lower, 4.0) == pytest.approx(spread(values, 4.0)) and spread(lower, None) > spread(values, None)
    gains = [spread(focus, power) / spread(values, power) for power in (None, 2.0, 4.0, 8.0)]
    assert gains == sorted(gains)


@pytest.mark.parametrize("power", [None, 2.0, 4.0])
def test_how_far_a_spread_may_be_off_is_what_samples_show(power):
    rng, n = np.random.default_rng(1), 400
    logs = [np.log(spread(values, power)) for values in rng.normal(size=(4000, n))]
    assert n * np.var(logs) == pytest.approx(sampling_variance(power), rel=0.05)
    assert (sampling_variance(2.0), sampling_variance(4.0)) == pytest.approx((1.25, 217 / 144))


def test_pvalues_that_say_the_same_are_one_and_others_are_combined():
    for p in (0.001, 0.3, 0.5, 0.9):
        assert cauchy_combination([p]) == pytest.approx(p) and cauchy_combination([p, p]) == pytest.approx(p)
    assert cauchy_combination([1e-4, 0.5]) == pytest.approx(2e-4, rel=1e-3)
    assert cauchy_combination([0.1, 0.9]) == pytest.approx(0.5)
    assert 0 < cauchy_combination([1e-3, 1.0]) <= 1 and cauchy_combination([1.0, 1.0]) == pytest.approx(0.9)


def test_combined_pvalues_hold_their_level_whatever_they_have_to_do_with_each_other():
    rng = np.random.default_rng(2)
    for shared in (0.0, 0.6, 0.95):
        z = np.sqrt(shared) * rng.normal(size=(4000, 1)) + np.sqrt(1 - shared) * rng.normal(size=(4000, 2))
        found = np.array([cauchy_combination(row) for row in norm.sf(z)])
        assert np.mean(found <= 0.05) == pytest.approx(0.05, abs=0.015)


def test_what_finds_nothing_takes_nothing_away():
    assert cauchy_combination([0.02, 1 - 1e-9]) == cauchy_combination([0.02, 0.95]) < 0.06
    assert cauchy_combination([0.97]) == 0.97 and cauchy_combination([1.0, 1.0]) == pytest.approx(0.9)


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.6, 0.95])
def test_the_combination_keeps_its_level_whatever_the_correlation(correlation):
    rng = np.random.default_rng(0)
    one = rng.normal(size=20_000)
    other = correlation * one + np.sqrt(1 - correlation**2) * rng.normal(size=20_000)
    found = [cauchy_combination(pair) for pair in norm.sf(np.stack([one, other], 1))]
    assert np.mean(np.array(found) <= 0.1) < 0.112


def test_weights_are_those_of_a_mean():
    once, twice = cauchy_combination([0.01, 0.3, 0.3]), cauchy_combination([0.01, 0.3], [1, 2])
    assert once == pytest.approx(twice) and cauchy_combination([0.01, 0.3], [1, 0]) == pytest.approx(0.01)
