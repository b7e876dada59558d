import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from omib_spatial.stats.stacking import N_PAIRS, PRIOR_DONORS, Stacking, class_log_odds, pairs, ranking_weights

HEALTHY = np.array([True, False, True, False])


def judged(seed: int, signal: tuple[float, ...], n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Predictors of which each has its ``signal``, the last one with a shift per slice; labels, slices."""
    rng = np.random.default_rng(seed)
    labels, slices = rng.integers(-1, 2, n), rng.integers(0, 4, n)
    predictors = rng.normal(size=(n, len(signal))) + (labels == 1)[:, None] * np.array(signal)
    return predictors, labels, slices, np.array([True, False])


@pytest.mark.parametrize("seed", range(3))
def test_a_predictor_weighs_if_it_helps(seed):
    predictors, labels, slices, healthy = judged(seed, (3.0, -3.0, 3.0))
    stacking = Stacking.fit(predictors, labels, slices, slices, healthy)
    assert stacking.weight[1] == 0 and stacking.weight[0] > 0.5 and stacking.weight[2] > 1
    known = labels >= 0
    np.testing.assert_allclose(stacking.location, predictors[known].mean(0))
    np.testing.assert_allclose(stacking.spread, predictors[known].std(0))
    assert roc_auc_score(labels[known], stacking.log_odds(predictors)[known]) > 0.97


def test_what_differs_between_slices_only_does_not_count():
    predictors, labels, slices, healthy = judged(0, (1.0, 0.0))
    # Most spots of slices 2 and 3 are unhealthy; the second predictor says which slice it is, and errs within a slice.
    rng = np.random.default_rng(1)
    labels = (rng.random(len(labels)) < np.where(slices > 1, 0.9, 0.1)).astype(int)
    predictors[:, 0] = labels + rng.normal(size=len(labels))
    predictors[:, 1] = 5 * (slices > 1) - labels + rng.normal(size=len(labels))
    assert roc_auc_score(labels, predictors[:, 1]) > roc_auc_score(labels, predictors[:, 0])
    stacking = Stacking.fit(predictors, labels, slices, slices, healthy)
    assert stacking.weight[0] > 0 and stacking.weight[1] == 0


def test_odds_are_those_of_balanced_halves():
    rng = np.random.default_rng(0)
    labels = (np.arange(2000) < 200).astype(int)
    predictors = (labels * 2.0 + rng.normal(size=2000))[:, None]
    stacking = Stacking.fit(predictors, labels, np.zeros(2000), np.zeros(2000), np.array([True, False]))
    # The closed form for two Gaussians of unit variance, 2 apart: log odds 2 (x - 1).
    np.testing.assert_allclose(stacking.log_odds(np.array([[0.0], [1.0], [3.0]])), [-2, 0, 4], atol=0.6)


def fixed(line=(0.5, 2.0)) -> Stacking:
    ones = np.ones(3)
    return Stacking(HEALTHY, 2 * ones, 4 * ones, np.array([0.5, 1, 0]), np.array(line))


def test_log_odds_by_hand_and_missing_distances_have_no_say():
    predictors = np.array([[4.0, 10, 99], [4, np.nan, 99], [4, 10, np.nan], [np.nan, 10, 99]])
    found = fixed().log_odds(predictors)
    np.testing.assert_allclose(found[:3], [0.5 + 2 * (0.25 + 2), 0.5 + 2 * 0.25, 0.5 + 2 * 2.25])
    assert np.isnan(found[3])


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_probabilities_sum_to_one_and_keep_the_networks_shares(seed):
    rng = np.random.default_rng(seed)
    network, predictors = rng.dirichlet(np.ones(4), 20).astype(np.float32), rng.normal(size=(20, 3)) * 5
    predictors[0, 0] = np.nan
    network[0] = np.nan
    found = fixed().probability(predictors, network)
    assert np.isnan(found[0]).all()
    found, network = found[1:], network[1:]
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    sick = 1 / (1 + np.exp(-fixed().log_odds(predictors[1:])))
    np.testing.assert_allclose(found[:, ~HEALTHY].sum(1), sick, rtol=1e-5, atol=1e-6)
    share = np.clip(network, 1e-7, None)
    np.testing.assert_allclose(found[:, 1] * share[:, 3], found[:, 3] * share[:, 1], rtol=1e-4, atol=1e-9)


def test_log_odds_of_several_classes():
    network = np.array([[0.1, 0.2, 0.3, 0.4], [1.0, 0, 0, 0]], np.float32)
    found = class_log_odds(network, HEALTHY)
    assert found[0] == pytest.approx(np.log(0.6 / 0.4), rel=1e-5)
    assert np.isfinite(found[1]) and found[1] < -10


def test_predictors_that_never_differ_keep_what_was_believed_of_them():
    predictors, labels, slices, healthy = judged(0, (1.0, 1.0, 1.0))
    stacking = Stacking.fit(np.ones_like(predictors), labels, slices, slices, healthy)
    np.testing.assert_allclose(stacking.weight, [0, 1, 1])


def test_pairs_are_of_one_slice_and_donors_weigh_the_same():
    slices = np.repeat(np.arange(5), 10)
    donors, sick = np.array([0, 0, 0, 1, 2])[slices], np.tile([True, False], 25)
    sick[slices == 4] = False
    values = np.column_stack([slices * 100.0 + sick, sick])
    excess, share = pairs(values, sick, slices, donors)
    assert excess.shape == (4 * N_PAIRS, 2) and (excess == 1).all()
    assert np.unique(share * N_PAIRS).round(9).tolist() == [round(1 / 3, 9), 1] and share.sum() == pytest.approx(2)


def test_where_no_slice_has_both_kinds_slices_are_compared():
    sick = np.repeat([True, False], 10)
    excess, share = pairs(sick[:, None] * 2.0, sick, sick.astype(int), np.array(["a", "b"])[sick.astype(int)])
    assert (excess == 2).all() and share.sum() == pytest.approx(1)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_weights_are_the_best_that_are_not_negative(seed):
    rng = np.random.default_rng(seed)
    excess, share, prior = rng.normal(size=(40, 3)) + rng.normal(size=3), rng.random(40) / 10, np.array([0.0, 1, 1])

    def loss(weight):
        return share @ np.log1p(np.exp(-excess @ weight)) + PRIOR_DONORS * ((weight - prior) ** 2).sum() / 2

    weight = ranking_weights(excess, share, prior)
    assert (weight >= 0).all()
    for other in weight + rng.normal(size=(200, 3)) * 0.1:
        assert loss(weight) <= loss(np.maximum(other, 0)) + 1e-7


def test_the_more_donors_the_less_the_prior_counts():
    excess = np.tile([2.0, -2.0], (10, 1))
    few, many = (ranking_weights(excess, np.full(10, n / 10), np.array([0.0, 1])) for n in (0.01, 0.1))
    assert 0 < few[0] < many[0] and 1 > few[1] > many[1]


@pytest.mark.parametrize("kind", [0, 1])
def test_one_kind_of_spots_teaches_no_weights(kind):
    labels, codes = np.full(20, kind), np.zeros(20, int)
    with pytest.raises(ValueError, match="all that are known are of one kind"):
        Stacking.fit(np.random.default_rng(0).normal(size=(20, 3)), labels, codes, codes, np.array([True, False]))
