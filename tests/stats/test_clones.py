from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from omib_spatial.stats.arms import ArmEffects
from omib_spatial.stats.clones import (
    FOLDS,
    MIN_SPOTS,
    CalledSpots,
    cluster,
    effects_across_folds,
    find_clones,
    matched,
    mixture_pvalue,
)

ARMS = np.repeat(["1p", "1q", "2p", "2q", "3p", "3q", "4q", "5q"], 120)
FIRST = {"1q": 1.5, "2p": 0.6}
SECOND = {"1q": 1.5, "3q": 0.6, "4q": 1.5}


def simulate(seed, clones, n=40, programme=0.0, depth=2500, slices=1):
    """Called spots, ``n`` of each clone, with shares of tumour cells from .5 to 1, and a programme of single genes."""
    rng = np.random.default_rng(seed)
    n_genes, truth = len(ARMS), np.repeat(np.arange(len(clones)), n)
    rate = np.exp(rng.normal(size=(slices, 1)) * rng.normal(scale=0.2, size=n_genes) + rng.normal(size=n_genes))
    rate /= rate.sum(1, keepdims=True)
    slices_of, tumour = rng.integers(0, slices, len(truth)), rng.uniform(0.5, 1, len(truth))
    ratio = np.stack([[given.get(arm, 1.0) for arm in ARMS] for given in clones])[truth]
    loads = rng.normal(size=len(truth))[:, None] * rng.normal(scale=programme, size=n_genes)
    mean = depth * rate[slices_of] * (1 + tumour[:, None] * (ratio - 1)) * np.exp(loads)
    counts = rng.poisson(mean)
    healthy = rng.poisson(200 * depth * rate)
    fold = np.arange(n_genes) // 20 % FOLDS
    arm = (ARMS[:, None] == np.unique(ARMS)).astype(float)
    expected = healthy[slices_of] / healthy.sum(1)[slices_of, None] * counts.sum(1, keepdims=True)

    def profile(kept):
        values = np.log((counts @ (arm * kept[:, None]) + 1) / (expected @ (arm * kept[:, None]) + 1))
        return values - values.mean(1, keepdims=True)

    spots = CalledSpots(
        profile=profile(fold >= 0),
        without=np.stack([profile(fold != f) for f in range(FOLDS)]),
        precision=counts.sum(1).astype(float),
        counts=sparse.csr_matrix(counts),
        depth=counts.sum(1).astype(float),
        reference=slices_of,
        healthy=healthy.astype(float),
        healthy_depth=healthy.sum(1).astype(float),
        fold=fold,
        arm=ARMS,
        covariates=rng.normal(size=(2, n_genes)),
    )
    return spots, truth


def number(found):
    return found.clone.max() + 1


def called(found, clone):
    effects = found.effects
    hits = effects.adjusted_pvalue[clone] <= 0.05
    return {a: np.sign(r) for a, r, hit in zip(effects.arms, effects.log_ratio[clone], hits, strict=True) if hit}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_clones_are_two_with_their_arms(seed):
    spots, truth = simulate(seed, [FIRST, SECOND], programme=0.3, slices=2)
    found = find_clones(spots)
    assert number(found) == 2
    assert max((found.clone == truth).mean(), (found.clone != truth).mean()) > 0.95
    for clone in (0, 1):
        given = (FIRST, SECOND)[int(truth[found.clone == clone].mean() > 0.5)]
        assert called(found, clone) == {arm: np.sign(ratio - 1) for arm, ratio in given.items()}


@pytest.mark.parametrize("clones", [[FIRST], [{}]])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_clone_is_one_whatever_programme_its_cells_run(clones, seed):
    spots, _ = simulate(seed, clones, n=80, programme=0.3)
    found = find_clones(spots)
    assert number(found) == 1
    assert called(found, 0) == {arm: np.sign(ratio - 1) for arm, ratio in clones[0].items()}


def test_three_clones_are_three():
    spots, truth = simulate(0, [FIRST, SECOND, {"5q": 1.6, "1p": 0.6}])
    found = find_clones(spots)
    assert number(found) == 3
    shared = np.zeros((3, 3))
    np.add.at(shared, (found.clone, truth), 1)
    assert shared.max(1).sum() / len(truth) > 0.95


def test_the_largest_clone_is_the_first_and_order_of_spots_does_not_matter():
    spots, truth = simulate(0, [FIRST, SECOND], n=60)
    kept = np.flatnonzero((truth == 1) | (np.arange(len(truth)) < 25))
    order = np.random.default_rng(0).permutation(kept)

    def of(rows):
        fields = ("profile", "precision", "counts", "depth", "reference")
        return replace(spots, without=spots.without[:, rows], **{name: getattr(spots, name)[rows] for name in fields})

    some, other = find_clones(of(kept)), find_clones(of(order))
    assert np.bincount(some.clone).tolist() == [60, 25]
    np.testing.assert_array_equal(other.clone, some.clone[np.searchsorted(kept, order)])
    np.testing.assert_allclose(other.effects.log_ratio, some.effects.log_ratio)


def test_no_more_clones_than_asked_or_than_spots_allow():
    spots, _ = simulate(0, [FIRST, SECOND])
    assert number(find_clones(spots, max_clones=1)) == 1
    few, _ = simulate(0, [FIRST, SECOND], n=MIN_SPOTS - 1)
    assert number(find_clones(few)) == 1


def test_length_does_not_count_in_clusters():
    rng = np.random.default_rng(0)
    directions = np.eye(6)[:2]
    truth = np.repeat([0, 1], 50)
    profile = rng.uniform(0.2, 5, 100)[:, None] * directions[truth] + rng.normal(scale=0.01, size=(100, 6))
    labels = cluster(profile, np.ones(100), 2, 0)
    assert len(set(zip(labels, truth, strict=True))) == 2


def test_matched_takes_the_names_of_most_shared_spots():
    assert matched(np.array([2, 2, 0, 0, 1]), np.array([0, 0, 1, 1, 2]), 3).tolist() == [0, 0, 1, 1, 2]


def test_genes_are_compared_in_clones_that_were_formed_without_them():
    """By brute force: only the molecules of one fold change, so only its labels may matter."""
    spots, truth = simulate(0, [FIRST, SECOND])
    across = np.tile(truth, (FOLDS, 1))
    before = effects_across_folds(spots, across, 2)
    counts = spots.counts.toarray()
    brute = np.log(
        np.stack([counts[truth == c].sum(0) + 0.5 for c in (0, 1)])
        / (np.stack([spots.depth[truth == c].sum() * spots.healthy[0] / spots.healthy_depth[0] for c in (0, 1)]) + 0.5)
    )
    for i, arm in enumerate(before.arms):
        np.testing.assert_allclose(
            before.log_ratio[0, i] - before.log_ratio[1, i],
            (brute[0] - brute[1])[arm == spots.arm].mean() - np.subtract(*np.median(brute, axis=1)),
            atol=0.05,
        )
    across[0] = 1 - truth
    mixed = effects_across_folds(spots, across, 2)
    i = before.arms.tolist().index("2p")
    # A quarter of the genes says the contrary.
    assert np.abs(mixed.log_ratio[0, i]) < np.abs(before.log_ratio[0, i])


def effects(ratios, error=0.02):
    ratio = np.asarray(ratios)
    covariance = np.tile(error**2 * np.eye(len(ratio)), (ratio.shape[1], 1, 1))
    return ArmEffects(np.arange(ratio.shape[1]).astype(str), np.log(ratio), covariance, 200)


def test_a_share_of_a_clone_and_a_mixture_of_clones_are_none_of_their_own():
    a, b = np.array([1.5, 0.5, 1.0, 1.0, 1.0]), np.array([1.5, 1.0, 1.0, 0.6, 1.4])
    share = 1 + 0.4 * (a - 1)
    assert mixture_pvalue(effects([a, share]), 0) > 0.9 and mixture_pvalue(effects([a, share]), 1) > 0.9
    between = 1 + 0.5 * (a - 1) + 0.3 * (b - 1)
    assert mixture_pvalue(effects([a, b, between]), 2) > 0.9
    for clone in (0, 1):
        assert mixture_pvalue(effects([a, b]), clone) < 1e-6
    more = np.array([1.5, 0.5, 1.0, 1.0, 1.4])
    assert mixture_pvalue(effects([a, more]), 1) < 1e-6
    assert mixture_pvalue(effects(np.ones((2, 0))), 0) == 1
