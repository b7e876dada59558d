from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.mixture import GaussianMixture

from omib_spatial.stats.calls import call
from omib_spatial.stats.null import (
    SliceNull,
    SlicePrior,
    conformal_pvalues,
    empirical_null,
    has_two_kinds,
    slice_pvalues,
    two_components,
)
from omib_spatial.stats.settings import CalibrationSettings

SETTINGS = CalibrationSettings()
DIFFER = SETTINGS.between_slice_sd
AVERAGED = 19
"""Spots that count as one in these tests."""
finite = st.floats(-1e3, 1e3)
PRIOR = SlicePrior(location=0.0, spread=0.1, location_sd=0.4, log_spread_sd=0.4, degrees_of_freedom=6)


def draw(rng, n: int, share: float, *, location: float = 0.2, gap: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Log distances of a slide whose last ``share`` of spots is anomalous, and which are."""
    sick = np.arange(n) >= n - round(share * n)
    return rng.normal(location, 0.11, n) + sick * rng.gamma(8, gap / 8, n), sick


def null(values: np.ndarray, prior: SlicePrior = PRIOR) -> SliceNull:
    return empirical_null(values, len(values) / AVERAGED, prior, SETTINGS)


def by_slice(values: np.ndarray, codes: np.ndarray | None = None, prior: SlicePrior = PRIOR) -> np.ndarray:
    codes = np.zeros(len(values), int) if codes is None else codes
    return slice_pvalues(values, codes, np.full(len(values), 1 / AVERAGED), prior, SETTINGS)


def called(values: np.ndarray, prior: SlicePrior = PRIOR) -> np.ndarray:
    return call(by_slice(values, prior=prior), np.zeros(len(values), int), 0.1)


@given(st.lists(finite, min_size=1, max_size=30), st.lists(finite, min_size=1, max_size=30))
def test_pvalue_is_the_share_of_reference_at_least_as_high(scores, calibration):
    expected = [(1 + sum(c >= s for c in calibration)) / (1 + len(calibration)) for s in scores]
    np.testing.assert_allclose(conformal_pvalues(np.array(scores), np.array(calibration)), expected)


def test_pvalues_of_exchangeable_scores_are_valid():
    rng = np.random.default_rng(0)
    draws = [conformal_pvalues(rng.normal(size=1), rng.normal(size=99))[0] for _ in range(4000)]
    for level in (0.05, 0.1, 0.5):
        assert np.mean(np.array(draws) <= level) == pytest.approx(level, abs=0.02)


def test_prior_is_the_mean_of_the_slides_and_their_predictive_spread():
    prior = SlicePrior.fit(np.array([[1.0, 0.1], [2.0, 0.4], [3.0, 0.2]]), SETTINGS)
    assert prior.location == 2 and prior.spread == pytest.approx(0.2)
    assert prior.location_sd == pytest.approx(np.sqrt((2 + DIFFER[0] ** 2) / 3 * (4 / 3)))
    assert prior.log_spread_sd == pytest.approx(np.sqrt((2 * np.log(2) ** 2 + DIFFER[1] ** 2) / 3 * (4 / 3)))
    assert prior.degrees_of_freedom == 3


def test_one_slide_tells_where_and_nothing_of_how_much_slides_differ():
    prior = SlicePrior.fit(np.array([[0.7, 0.1]]), SETTINGS)
    assert (prior.location, prior.degrees_of_freedom) == (pytest.approx(0.7), 1)
    assert (prior.location_sd, prior.log_spread_sd) == pytest.approx(tuple(np.sqrt(2) * np.array(DIFFER)))


def test_pvalue_is_the_upper_tail():
    values = np.array([-1.0, 0.5, 3.0])
    np.testing.assert_allclose(SliceNull(0.5, 2.0).pvalue(values), norm.sf((values - 0.5) / 2))
    np.testing.assert_allclose(SliceNull(0.5, 2.0, 3).pvalue(values), student.sf((values - 0.5) / 2, 3))


@pytest.mark.parametrize(("location", "spread"), [(0.0, 0.1), (0.5, 0.1), (-0.7, 0.15), (0.3, 0.07)])
def test_pvalues_are_uniform_on_a_healthy_slide_that_is_shifted_as_slides_are(location, spread):
    values = np.random.default_rng(0).normal(location, spread, 20_000)
    pvalues = by_slice(values)
    for level in (0.01, 0.05, 0.1, 0.5):
        assert np.mean(pvalues <= level) == pytest.approx(level, rel=0.1, abs=0.002)


def test_one_spot_is_weighed_against_the_prior():
    """Closed form: a spot counts as one, of no spread; the prior's spread as 1 / (2 log_spread_sd^2) spots."""
    prior_spots = 0.5 / PRIOR.log_spread_sd**2
    spread2 = prior_spots * PRIOR.spread**2 / (1 + prior_spots)
    weight, precision = 1 / spread2, PRIOR.location_sd**-2
    found = null(np.array([0.3]))
    assert found.location == pytest.approx(0.3 * weight / (weight + precision), rel=1e-4)
    assert found.spread == pytest.approx(np.sqrt(spread2 + 1 / (weight + precision)), rel=1e-3)


def test_the_fewer_spots_the_nearer_the_null_is_to_the_prior():
    many = norm.ppf((np.arange(200 * AVERAGED) + 0.5) / (200 * AVERAGED)) * 0.2 + 0.5
    few = norm.ppf((np.arange(2 * AVERAGED) + 0.5) / (2 * AVERAGED)) * 0.2 + 0.5
    found = [null(values) for values in (few, many)]
    assert found[1].location == pytest.approx(0.5, abs=0.002) and found[1].spread == pytest.approx(0.2, abs=0.004)
    assert found[0].location < 0.48 and found[0].spread < 0.19


@settings(deadline=None, max_examples=20)
@given(st.floats(-5, 5), st.integers(0, 99))
def test_only_the_difference_to_the_prior_matters(shift, seed):
    values, _ = draw(np.random.default_rng(seed), 200, 0.3)
    moved = PRIOR._replace(location=shift)
    np.testing.assert_allclose(by_slice(values + shift, prior=moved), by_slice(values), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_calls_do_not_change_with_a_shift_that_slides_have(share):
    values, _ = draw(np.random.default_rng(3), 4000, share, location=0.0)
    before = called(values)
    for shift in (-0.5, 0.2, 0.5):
        assert np.mean(called(values + shift) != before) < 0.002


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8])
def test_false_discoveries_are_near_nominal_and_anomalies_are_found(share):
    rng = np.random.default_rng(int(100 * share))
    false, found = [], []
    for _ in range(20):
        values, sick = draw(rng, 1000, share, location=rng.normal(0, 0.3))
        flagged = called(values)
        false.append((flagged & ~sick).sum() / max(flagged.sum(), 1))
        found.append(flagged[sick].mean())
    assert np.mean(false) < 0.12
    assert np.mean(found) > 0.7


def test_hardly_any_healthy_slide_has_calls():
    rng = np.random.default_rng(5)
    slides = [called(draw(rng, 300, 0, location=rng.normal(0, 0.3))[0]) for _ in range(40)]
    assert np.mean([some.any() for some in slides]) < 0.2
    assert np.mean(slides) < 0.02


def test_a_slide_far_beyond_healthy_slides_is_called_as_a_whole():
    values, _ = draw(np.random.default_rng(6), 500, 0, location=1.5)
    assert called(values).all()
    assert called(values, PRIOR._replace(location_sd=1.0)).sum() < 5


def test_the_lower_of_two_components_is_found_under_a_majority_of_anomalies():
    values, sick = draw(np.random.default_rng(7), 5000, 0.8)
    mixture = two_components(np.sort(values), 0.1)
    low = int(np.argmin(mixture.means_))
    found = mixture.means_[low, 0], np.sqrt(mixture.covariances_[low, 0]), mixture.weights_[low]
    assert found == pytest.approx((values[~sick].mean(), values[~sick].std(), 0.2), rel=0.15)


def test_of_two_kinds_the_null_rests_on_the_spots_of_the_lower_one():
    """Closed form, with as many independent spots as the lower component's share of them."""
    values = np.sort(draw(np.random.default_rng(10), 400, 0.8, location=0.4)[0])
    mixture = two_components(values, PRIOR.spread)
    low = int(np.argmin(mixture.means_[:, 0]))
    n, prior_spots = 400 / AVERAGED * mixture.weights_[low], 0.5 / PRIOR.log_spread_sd**2
    spread2 = (n * mixture.covariances_[low, 0] + prior_spots * PRIOR.spread**2) / (n + prior_spots)
    weight, precision = n / spread2, PRIOR.location_sd**-2
    found = null(values)
    assert found.location == pytest.approx(mixture.means_[low, 0] * weight / (weight + precision))
    assert found.spread == pytest.approx(np.sqrt(spread2 + 1 / (weight + precision)))


@pytest.mark.parametrize("factor", [0.1, 5.0])
def test_two_kinds_by_width_or_by_schwarz_with_as_many_spots_as_are_independent(factor):
    """The criterion by hand: sklearn's own, of as many points as there are independent spots."""
    prior = PRIOR._replace(log_spread_sd=factor)
    for n, gap in product((400, 100), (0.0, 0.3, 0.9)):
        points = np.sort(draw(np.random.default_rng(9), n, 0.3, gap=gap)[0])
        one, two = GaussianMixture(1).fit(points[:, None]), two_components(points, 0.1)
        for independent in (n, n / AVERAGED):
            bics = [
                -2 * independent * m.score(points[:, None]) + k * np.log(independent) for m, k in ((one, 2), (two, 5))
            ]
            wide = student.sf(np.log(points.std() / 0.1) / factor, prior.degrees_of_freedom) < SETTINGS.credible
            found = has_two_kinds(points, points.std(), independent, two, prior, SETTINGS.credible)
            assert found == (wide or bics[1] < bics[0])


@pytest.mark.parametrize("n", [1, 2, 30, 2000])
def test_equal_scores_are_called_together_or_not_at_all(n):
    pvalues = by_slice(np.full(n, 0.2))
    assert (pvalues == pvalues[0]).all() and 0.3 < pvalues[0] < 0.6
    assert called(np.full(n, 9.0)).all()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=40), st.integers(0, 9))
def test_a_spot_farther_away_has_no_greater_pvalue_and_order_does_not_matter(values, seed):
    values = np.array(values)
    pvalues = by_slice(values)
    assert ((pvalues >= 0) & (pvalues <= 1)).all()
    assert (np.diff(pvalues[np.argsort(values, kind="stable")]) <= 0).all()
    order = np.random.default_rng(seed).permutation(len(values))
    again = by_slice(values[order])
    np.testing.assert_allclose(again, pvalues[order], rtol=1e-9, atol=1e-300)


def test_a_slice_is_judged_by_itself_and_nan_is_not_called():
    rng = np.random.default_rng(8)
    values, codes = np.concatenate([draw(rng, 300, 0.2)[0], draw(rng, 300, 0.6)[0] - 0.4, [np.nan] * 3]), np.zeros(603)
    codes[300:600], codes[600:] = 1, 2
    values[5] = np.nan
    pvalues = by_slice(values, codes)
    for code in (0, 1):
        rows = codes == code
        np.testing.assert_array_equal(pvalues[rows], by_slice(values[rows], codes[rows]))
    np.testing.assert_array_equal(np.isnan(pvalues), np.isnan(values))
    flagged = call(pvalues, codes, 0.1)
    assert flagged[:600].any() and not flagged[np.isnan(values)].any()


def test_a_slice_is_worth_the_sum_of_its_spots_that_are_there():
    values, _ = draw(np.random.default_rng(11), 300, 0.2)
    codes, share = np.repeat([0, 1], 150), np.random.default_rng(12).uniform(0.01, 0.3, 300)
    values[:7] = np.nan
    pvalues = slice_pvalues(values, codes, share, PRIOR, SETTINGS)
    for rows in (np.arange(7, 150), np.arange(150, 300)):
        expected = empirical_null(values[rows], share[rows].sum(), PRIOR, SETTINGS)
        np.testing.assert_array_equal(pvalues[rows], expected.pvalue(values[rows]))


@pytest.mark.parametrize("change", [{"n_quantiles": 20}, {"credible": 0.9}, {"min_log_spread": 0.5}])
def test_the_null_is_by_its_settings(change):
    values, _ = draw(np.random.default_rng(13), 300, 0.0)
    assert empirical_null(values, 20, PRIOR, replace(SETTINGS, **change)) != empirical_null(values, 20, PRIOR, SETTINGS)
