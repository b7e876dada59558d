import numpy as np
import pytest
from scipy.stats import kstest

from omib_spatial.stats import arms
from omib_spatial.stats.arms import arm_effects, gene_blocks, weighted_median

ARMS = np.repeat(["1p", "1q", "2p", "2q", "3q", "4q"], [200, 300, 150, 250, 100, 20])


def simulate(rng, ratios=({},), biology=0.3, depth=40.0, trend=0.0):
    """Molecules of groups whose genes differ from healthy tissue one by one, and of whole arms where ``ratios`` say."""
    rate = np.exp(rng.normal(size=len(ARMS))) * depth
    covariates = rng.normal(size=(1, len(ARMS)))
    own = rng.normal(scale=biology, size=len(ARMS)) + trend * covariates[0]
    factor = np.stack([[given.get(arm, 1.0) for arm in ARMS] for given in ratios])
    healthy = rng.poisson(rate * 3)
    observed = rng.poisson(rate * factor * np.exp(own))
    expected = np.tile(healthy / 3, (len(ratios), 1))
    noise = np.tile(1 / np.maximum(healthy, 1), (len(ratios), 1))
    return observed, expected, noise, ARMS, covariates


def test_gains_and_losses_are_estimated_within_their_errors():
    truth = np.log([1, 1.5, 1, 0.6, 1])
    off = []
    for seed in range(20):
        found = arm_effects(*simulate(np.random.default_rng(seed), [{"1q": 1.5, "2q": 0.6}]))
        assert found.arms.tolist() == ["1p", "1q", "2p", "2q", "3q"]
        # The median gene lies between arms here: what is known is known up to one number.
        known = found.log_ratio[0] - truth
        off.append(known - np.median(known))
    assert np.abs(np.mean(off, 0)).max() < 0.03


def test_pvalues_are_uniform_where_arms_share_nothing(monkeypatch):
    monkeypatch.setattr(arms, "SHARED", 0.0)
    rng = np.random.default_rng(0)
    pvalues = [arm_effects(*simulate(rng)).pvalue[0] for _ in range(120)]
    assert kstest(np.concatenate(pvalues), "uniform").pvalue > 0.01


def test_what_genes_of_an_arm_share_is_added():
    given = simulate(np.random.default_rng(0), [{}, {}])
    with_shared = arm_effects(*given).covariance
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arms, "SHARED", 0.0)
        without = arm_effects(*given).covariance
    np.testing.assert_allclose(with_shared - without, np.tile([[0.0025, 0.00125], [0.00125, 0.0025]], (5, 1, 1)))


def test_what_a_covariate_explains_is_no_gain():
    rng = np.random.default_rng(1)
    observed, expected, noise, arm, covariates = simulate(rng, trend=0.3)
    dense = covariates.copy()
    dense[:, arm == "1q"] += 1.5
    observed = rng.poisson(expected * np.exp(0.3 * dense))
    blind = arm_effects(observed, expected, noise, arm, np.zeros_like(dense))
    sighted = arm_effects(observed, expected, noise, arm, dense)
    assert blind.pvalue[0, 1] < 1e-4
    assert sighted.pvalue[0, 1] > 0.05


def test_neighbouring_genes_that_move_together_do_not_count_as_many():
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(40):
        observed, expected, noise, arm, covariates = simulate(rng, biology=0.0)
        families = np.repeat(rng.normal(scale=0.4, size=len(arm) // 10), 10)
        observed = rng.poisson(expected * np.exp(families))
        wrong += (arm_effects(observed, expected, noise, arm, covariates).pvalue < 0.01).sum()
    assert wrong <= 0.03 * 40 * 5


def test_a_few_genes_that_soar_are_no_gain():
    observed, expected, noise, arm, covariates = simulate(np.random.default_rng(3))
    before = arm_effects(observed, expected, noise, arm, covariates)
    observed[:, np.flatnonzero(arm == "2p")[::20]] *= 50
    after = arm_effects(observed, expected, noise, arm, covariates)
    assert np.abs(after.log_ratio - before.log_ratio).max() < 0.1 < np.log(50) * 0.05


def test_adjusted_pvalues_are_those_of_all_groups_and_arms():
    found = arm_effects(*simulate(np.random.default_rng(4), [{"1q": 1.5}, {"2q": 0.6}]))
    order = np.sort(found.pvalue.ravel())
    brute = [min(1, min(order[j] * len(order) / (j + 1) for j in range(i, len(order)))) for i in range(len(order))]
    np.testing.assert_allclose(np.sort(found.adjusted_pvalue.ravel()), brute)
    assert found.adjusted_pvalue.shape == (2, 5)


def test_without_molecules_nothing_is_said():
    observed, expected, noise, arm, covariates = simulate(np.random.default_rng(0))
    found = arm_effects(observed * 0, expected * 0, noise, arm, covariates)
    assert found.log_ratio.shape == found.pvalue.shape == found.adjusted_pvalue.shape == (1, 0)
    assert len(arm_effects(observed, expected, noise, np.full(len(arm), ""), covariates).arms) == 0


def test_blocks_are_neighbours_of_one_arm():
    arm = np.repeat([0, 1, 2], [45, 7, 20])
    block = gene_blocks(arm)
    assert block.tolist() == sorted(block)
    assert np.bincount(block).tolist() == [23, 22, 7, 20]


def test_weighted_median_is_that_of_repeated_values():
    rng = np.random.default_rng(0)
    values, times = rng.normal(size=15), rng.integers(1, 5, 15) * 2 + 1
    times[-1] += times.sum() % 2 == 0
    assert weighted_median(values, times.astype(float)) == np.median(np.repeat(values, times))
