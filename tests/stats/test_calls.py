import numpy as np
from statsmodels.stats.multitest import multipletests

from omib_spatial.stats.calls import call


def test_calls_are_benjamini_hochberg_in_each_slice_alone():
    rng = np.random.default_rng(1)
    pvalues, codes = rng.uniform(size=200) ** 2, rng.integers(0, 3, 200)
    called = call(pvalues, codes, 0.2)
    for code in range(3):
        rows = codes == code
        np.testing.assert_array_equal(called[rows], multipletests(pvalues[rows], 0.2, method="fdr_bh")[0])
        np.testing.assert_array_equal(called[rows], call(pvalues[rows], codes[rows], 0.2))


def test_nan_is_not_called_and_plays_no_part():
    rng = np.random.default_rng(2)
    pvalues, codes = rng.uniform(size=100) ** 3, np.repeat([0, 1], 50)
    spoiled = np.concatenate([pvalues, np.full(40, np.nan)])
    called = call(spoiled, np.concatenate([codes, np.full(20, 1), np.full(20, 2)]), 0.2)
    assert called[:100].any() and not called[100:].any()
    np.testing.assert_array_equal(called[:100], call(pvalues, codes, 0.2))
