import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omib_spatial.stats.null import SlicePrior, conformal_pvalues
from omib_spatial.stats.settings import CalibrationSettings

SETTINGS = CalibrationSettings()
DIFFER = SETTINGS.between_slice_sd
finite = st.floats(-1e3, 1e3)


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
