import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, kstest, spearmanr
from sklearn.metrics import roc_auc_score

from omib_spatial.stats.ordering import CLONAL_LEVEL, FEWEST_BLOCKS, SlideOrder, clone_pvalue
from omib_spatial.stats.self_training import GaussianOdds, self_train
from omib_spatial.stats.slide_test import cauchy_combination
from omib_spatial.stats.smooth import along_axes


def slide(seed=0, n=200, share=0.4, strength=1.5, windows=30):
    """Profiles of which a clone differs, and log distances that follow them and see it dimly."""
    rng = np.random.default_rng(seed)
    clone = np.arange(n) < share * n
    profiles = rng.normal(size=(n, windows)) + strength * clone[:, None] * (rng.random(windows) < 0.4)
    logs = along_axes(profiles, 8) @ np.r_[rng.normal(size=7), 0.9]  # that of the clone is the last one
    return clone, np.sign(np.corrcoef(logs, clone)[0, 1]) * logs + 0.2 * logs.std() * rng.normal(size=n), profiles


@pytest.mark.parametrize("share", [0.2, 0.4, 0.7])
def test_a_clone_that_distances_see_dimly_comes_out(share):
    clone, logs, profiles = slide(share=share)
    ordered = SlideOrder.fit(logs, profiles, 8).ordered
    assert roc_auc_score(clone, logs) + 0.06 < roc_auc_score(clone, ordered) > 0.9


def test_log_distances_say_which_side_is_which():
    clone, logs, profiles = slide()
    assert roc_auc_score(clone, SlideOrder.fit(-logs, profiles, 8).ordered) < 0.15


@given(st.integers(0, 1000), st.integers(20, 80))
def test_values_stay_and_follow_both_opinions(seed, n):
    _, logs, profiles = slide(seed, n)
    order = SlideOrder.fit(logs, profiles, 8)
    np.testing.assert_array_equal(np.sort(order.ordered), np.sort(logs))
    assert spearmanr(order.ordered, logs / logs.std() + order.odds / order.odds.std())[0] == pytest.approx(1)


def test_the_odds_are_those_of_self_training_along_the_leading_axes():
    _, logs, profiles = slide()
    along = along_axes(profiles, 3)
    basis = np.linalg.svd(along, full_matrices=False)[0]
    start = basis @ (basis.T @ (logs - logs.mean()))
    values = along / along.std(0).max()
    expected = self_train(values, start, GaussianOdds.teach)(values)
    np.testing.assert_allclose(SlideOrder.fit(logs, profiles, 3).odds, expected, atol=1e-8)


def test_odds_of_other_profiles_are_those_of_the_same_classifier():
    _, logs, profiles = slide()
    order = SlideOrder.fit(logs, profiles, 8)
    np.testing.assert_allclose(order.odds_of(profiles[:5]), order.odds[:5])
    np.testing.assert_allclose(order.coordinates, (profiles - order.mean) @ order.axes)


def test_slopes_lead_from_any_origin_to_every_spot():
    order = SlideOrder.fit(*slide()[1:], 8)
    origin = float(order.key[7])
    found = order.at(np.array(origin)) + order.slope(origin) * (order.key - origin)
    np.testing.assert_allclose(found, order.ordered, atol=1e-5)
    assert (order.slope(origin) >= 0).all() and np.isfinite(order.slope(origin)).all()


def test_the_order_of_rows_and_units_do_not_matter():
    _, logs, profiles = slide()
    shuffled = np.random.default_rng(1).permutation(len(logs))
    expected = SlideOrder.fit(logs, profiles, 8).ordered[shuffled]
    np.testing.assert_allclose(SlideOrder.fit(logs[shuffled], profiles[shuffled], 8).ordered, expected, atol=1e-9)
    scaled = SlideOrder.fit(2 * logs[shuffled] + 3, profiles[shuffled] + 5, 8).ordered
    np.testing.assert_allclose(scaled, 2 * expected + 3, atol=1e-9)


def test_spots_that_nothing_tells_apart_share_their_values():
    _, logs, profiles = slide(n=60)
    order = SlideOrder.fit(np.tile(logs, 2), np.tile(profiles, (2, 1)), 8)
    np.testing.assert_array_equal(order.ordered[:60], order.ordered[60:])
    assert order.ordered.mean() == pytest.approx(logs.mean())


@pytest.mark.parametrize("what", ["distances", "profiles", "both"])
def test_where_all_spots_are_alike_there_is_no_order(what):
    _, logs, profiles = slide()
    logs = logs if what == "profiles" else np.ones_like(logs)
    assert SlideOrder.fit(logs, profiles if what == "distances" else np.ones_like(profiles), 8) is None


def halves(seed, clonal, blocks=150):
    """Log distances, and two halves of the genes; they differ at the same places in a clone alone."""
    rng = np.random.default_rng(seed)
    side = np.arange(200) < 80
    places = rng.normal(size=(2, blocks)) if not clonal else np.repeat(rng.normal(size=(1, blocks // 5)), 5, axis=1)
    own = [rng.normal(size=(200, blocks)) + side[:, None] * places[i % len(places)] for i in range(2)]
    return side + 0.5 * rng.normal(size=200), (own[0], own[1]), np.repeat(np.arange(6), blocks // 6)


def test_the_p_value_of_a_clone_is_small_and_that_of_a_programme_is_uniform():
    assert clone_pvalue(*halves(0, clonal=True), 8) == pytest.approx(0.001)
    found = [clone_pvalue(*halves(seed, clonal=False), 8) for seed in range(60)]
    assert kstest(found, "uniform").pvalue > 0.01


def test_a_programme_passes_as_often_as_it_says_however_clear_the_sides_are():
    """Both halves say nearly the same of such sides: their p-values must not be taken for two opinions."""
    rng, chromosome, n = np.random.default_rng(5), np.repeat([f"chr{i}" for i in range(22)], 8), 300
    found = []
    for _ in range(200):
        side = (rng.random(n) < 0.4).astype(float)
        loads = 0.6 * rng.normal(size=(2, len(chromosome)))
        one, other = side[:, None] * loads[:, None] + rng.normal(size=(2, n, len(chromosome)))
        found.append(clone_pvalue(side + rng.normal(0, 0.5, n), (one, other), chromosome, 8))
    for level in (0.01, 0.05, 0.1):
        assert binomtest(int(np.sum(np.array(found) <= level)), len(found), level, "greater").pvalue > 0.01


def test_the_p_value_of_a_clone_does_not_depend_on_units():
    logs, (one, other), chromosome = halves(3, clonal=False)
    expected = clone_pvalue(logs, (one, other), chromosome, 8)
    assert clone_pvalue(2 * logs + 1, (3 * one, 5 * other), chromosome, 8) == expected < 1


def test_without_blocks_or_where_spots_are_alike_no_clone_is_told():
    logs, (one, other), chromosome = halves(0, clonal=True)
    for few in (0, FEWEST_BLOCKS - 1):
        assert np.isnan(clone_pvalue(logs, (one[:, :few], other[:, :few]), chromosome[:few], 8))
    assert math.factorial(FEWEST_BLOCKS - 1) < 1 / CLONAL_LEVEL < math.factorial(FEWEST_BLOCKS)
    assert clone_pvalue(np.ones_like(logs), (one, other), chromosome, 8) == 1
    assert clone_pvalue(logs, (one, np.ones_like(other)), chromosome, 8) == 1


def test_two_halves_are_combined_as_p_values_of_the_same_spots(monkeypatch):
    said = iter([0.01, 0.5])
    monkeypatch.setattr("omib_spatial.stats.ordering.agreement_pvalue", lambda *_: next(said))
    found = clone_pvalue(*halves(0, clonal=True), 8)
    assert found == pytest.approx(cauchy_combination([0.01, 0.5])) and 0.015 < found < 0.025
