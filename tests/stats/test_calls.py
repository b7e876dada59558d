import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omib_spatial.stats.calls import false_share, largest_call, missed_share, smallest_call

posteriors = st.lists(st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.9, 0.97, 1.0]), min_size=1, max_size=30).map(np.array)
shares = st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.7, 1.0])


def every_call(posterior: np.ndarray) -> list[np.ndarray]:
    """Of all spots at or above a threshold, and of none."""
    return [np.zeros(len(posterior), bool), *(posterior >= level for level in np.unique(posterior)[::-1])]


@given(posteriors, shares)
def test_the_largest_call_is_the_largest_whose_expected_false_share_is_allowed(posterior, fdr):
    allowed = [called for called in every_call(posterior) if false_share(posterior, called) <= fdr + 1e-12]
    assert largest_call(posterior, fdr).sum() == max(called.sum() for called in allowed)
    assert false_share(posterior, largest_call(posterior, fdr)) <= fdr + 1e-12


@given(posteriors, shares)
def test_the_smallest_call_is_the_smallest_whose_expected_missed_share_is_allowed(posterior, miss):
    called = smallest_call(posterior, miss)
    assert missed_share(posterior, called) <= miss + 1e-9 and not called[posterior == 0].any()
    if posterior.any() and miss < 1:
        fewer = [c for c in every_call(posterior) if c.sum() < called.sum()]
        assert all(missed_share(posterior, c) > miss - 1e-9 for c in fewer)


def test_shares_are_expectations_over_the_spots():
    posterior, called = np.array([0.9, 0.8, 0.1, 0.2]), np.array([True, True, False, False])
    assert np.isclose(false_share(posterior, called), 0.15) and np.isclose(missed_share(posterior, called), 0.3 / 2)
    assert false_share(posterior, ~called & called) == 0 and missed_share(posterior * 0, called) == 0


def test_where_all_may_be_missed_none_is_called():
    assert not smallest_call(np.array([0.2, 0.9, 1.0]), 1.0).any()
