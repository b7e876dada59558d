import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from omib_spatial.tl._calibration import call, conformal_pvalues

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


def test_nan_stays_nan_and_is_not_called():
    pvalues = conformal_pvalues(np.array([np.nan, 100.0]), np.arange(99.0))
    assert np.isnan(pvalues[0])
    assert call(pvalues, np.zeros(2, int), 0.1).tolist() == [False, True]


def test_calls_are_benjamini_hochberg_in_each_slice_alone():
    rng = np.random.default_rng(1)
    pvalues, codes = rng.uniform(size=200) ** 2, rng.integers(0, 3, 200)
    called = call(pvalues, codes, 0.2)
    for code in range(3):
        rows = codes == code
        np.testing.assert_array_equal(called[rows], multipletests(pvalues[rows], 0.2, method="fdr_bh")[0])
        np.testing.assert_array_equal(called[rows], call(pvalues[rows], codes[rows], 0.2))
