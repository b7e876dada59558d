import numpy as np
import pytest
from scipy.stats import kstest, t

from omib_spatial.stats.slide_test import spread_pvalue


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
