"""Whether expression hangs together along the genome, against chance by genes in another order."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import kstest

from omib_spatial.stats import contiguity as module
from omib_spatial.stats.contiguity import (
    BLOCK,
    ORDERS,
    PERMUTATIONS,
    WINDOW,
    agreement_pvalue,
    block_permutation,
    contiguity,
    largest_ratio,
    paired_blocks,
    profiles,
    window_means,
    windows,
)


def tissue(n: int = 200, per_chromosome: int = 150, n_chromosomes: int = 10, seed: int = 0):
    """Eight programmes whose genes lie anywhere, a little noise, and the genes' chromosomes."""
    rng = np.random.default_rng(seed)
    chromosome = np.repeat(np.arange(n_chromosomes), per_chromosome)
    programmes = 0.3 * rng.normal(size=(n, 8)) @ rng.normal(size=(8, len(chromosome)))
    return programmes + 0.1 * rng.normal(size=programmes.shape), chromosome


def gained(genes: np.ndarray, which: np.ndarray, by: float = 0.6) -> np.ndarray:
    """The first third of the spots has more of some genes."""
    more = genes.copy()
    more[np.ix_(np.arange(len(genes)) < len(genes) // 3, which)] += by
    return more


def dense_profiles(genes: np.ndarray, chromosome: np.ndarray) -> np.ndarray:
    """Brute-force twin: loops over chromosomes and windows."""
    columns = []
    for name in dict.fromkeys(chromosome.tolist()):
        mine = genes[:, chromosome == name]
        width = min(WINDOW, mine.shape[1])
        columns += [mine[:, i : i + width].mean(1) for i in range(0, mine.shape[1] - width + 1, max(width // 5, 1))]
    found = np.stack(columns, 1)
    found -= found.mean(1, keepdims=True)
    return found - found.mean(0)


@pytest.mark.parametrize("per_chromosome", [3, 100, 101, 240])
def test_profiles_equal_their_brute_force_twin(per_chromosome):
    genes, chromosome = tissue(30, per_chromosome, 4)
    np.testing.assert_allclose(profiles(genes, chromosome), dense_profiles(genes, chromosome), atol=1e-6)


def test_profiles_are_blind_to_what_moves_a_whole_spot_or_the_whole_slide():
    genes, chromosome = tissue(30)
    rng = np.random.default_rng(1)
    moved = genes + rng.normal(size=(30, 1)) + rng.normal(size=chromosome.size)
    found, other = profiles(genes, chromosome), profiles(moved, chromosome)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(other, found, atol=1e-6)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 50), st.none() | st.integers(1, 9))
@settings(max_examples=50)
def test_windows_are_runs_of_one_chromosome_from_its_first_gene(sizes, window, step):
    chromosome = np.repeat(np.arange(len(sizes)), sizes)
    members = windows(chromosome, window, step).toarray()
    assert members.shape[0] == sum(sizes) and set(np.unique(members)) <= {0, 1}
    firsts = {}
    for column in members.T:
        genes = np.flatnonzero(column)
        (name,) = set(chromosome[genes].tolist())
        assert len(genes) == min(window, sizes[name]) and (np.diff(genes) == 1).all()
        firsts.setdefault(name, []).append(int(genes[0] - np.flatnonzero(chromosome == name)[0]))
    stride = {name: step or max(min(window, size) // 5, 1) for name, size in enumerate(sizes)}
    assert firsts == {i: list(range(0, size - min(window, size) + 1, stride[i])) for i, size in enumerate(sizes)}


def test_a_contiguous_arm_is_told_from_the_same_genes_anywhere():
    genes, chromosome = tissue()
    arm = np.arange(300, 400)
    scattered = np.random.default_rng(2).permutation(len(chromosome))[:100]
    clone, programme, none = (
        contiguity(gained(genes, which), chromosome, np.random.default_rng(0)) for which in (arm, scattered, [])
    )
    assert clone[0] > 2 * clone[1]
    assert programme[0] < programme[1] and none[0] < none[1]
    assert programme[0] < 1.3 * none[0] < 0.5 * clone[0]


def test_an_arm_whose_genes_are_in_another_order_is_none():
    genes, chromosome = tissue()
    mixed = gained(genes, np.arange(300, 400))[:, np.random.default_rng(3).permutation(len(chromosome))]
    ratio, chance = contiguity(mixed, chromosome, np.random.default_rng(0))
    assert ratio < chance


@pytest.mark.parametrize("seed", range(3))
def test_a_family_that_lies_side_by_side_is_no_clone(seed):
    """Blocks of genes keep their neighbours when order is permuted, so that a family moves as one by chance too."""
    genes, chromosome = tissue(seed=seed)
    family = BLOCK * np.random.default_rng(seed).integers(len(chromosome) // BLOCK) + np.arange(BLOCK)
    ratio, chance = contiguity(gained(genes, family, 3.0), chromosome, np.random.default_rng(0))
    assert ratio < chance


def test_a_stronger_clone_is_more_contiguous():
    genes, chromosome = tissue()
    found = [
        contiguity(gained(genes, np.arange(300, 400), by), chromosome, np.random.default_rng(0))[0]
        for by in (0.0, 0.3, 0.6, 1.0)
    ]
    assert (np.diff(found) > 0).all()


def test_programmes_alone_are_rarely_contiguous_beyond_chance():
    found = [contiguity(*tissue(seed=seed), np.random.default_rng(seed)) for seed in range(8)]
    # Of 21 orders of genes one is the true one.
    assert sum(ratio > chance for ratio, chance in found) <= 1


def test_order_of_spots_does_not_matter_and_the_generator_decides_alone():
    genes, chromosome = tissue(150)
    genes = gained(genes, np.arange(100))
    found = contiguity(genes, chromosome, np.random.default_rng(5))
    assert contiguity(genes, chromosome, np.random.default_rng(5)) == found
    again = contiguity(genes[np.random.default_rng(0).permutation(150)], chromosome, np.random.default_rng(5))
    np.testing.assert_allclose(again, found, rtol=1e-3)
    assert contiguity(genes, chromosome, np.random.default_rng(6))[1] != found[1]


def test_the_ratio_is_that_of_contrasts_between_profiles():
    """Written down again with the profiles of all spots."""
    genes, chromosome = tissue(100)
    axes = np.linalg.svd(profiles(genes, chromosome), full_matrices=False)[0][:, :20]
    rng = np.random.default_rng(0)
    orders = [np.arange(len(chromosome)), *(block_permutation(len(chromosome), rng) for _ in range(PERMUTATIONS))]
    true, *permuted = [np.cov(axes.T @ profiles(genes[:, order], chromosome), bias=True) for order in orders]
    found = contiguity(genes, chromosome, np.random.default_rng(0))
    assert found[0] == pytest.approx(largest_ratio(true, np.mean(permuted, axis=0)))


def test_each_window_has_the_chromosome_of_its_genes():
    chromosome = np.repeat([4, 1, 9], [300, 20, 150])
    means, place = window_means(np.broadcast_to(chromosome.astype(float), (2, 470)), chromosome)
    np.testing.assert_allclose(means[0], place)
    assert means.shape == (2, len(place)) and set(place) == {4, 1, 9}


def test_the_number_of_contrasts_follows_the_spots(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "largest_ratio", lambda one, other: asked.append(len(one)) or 1.0)
    for n in (150, 149, 60):
        contiguity(*tissue(n), np.random.default_rng(0))
    assert asked == [30] * 21 + [29] * 21 + [12] * 21


@settings(max_examples=50)
@given(n=st.integers(1, 200), seed=st.integers(0, 99))
def test_a_permutation_moves_blocks_as_they_are(n, seed):
    order = block_permutation(n, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    runs = np.split(order, np.flatnonzero(np.diff(order) != 1) + 1)
    # A run may be of several blocks that met again; none is torn.
    assert len(runs) <= -(-n // BLOCK)
    assert all(len(run) >= n // -(-n // BLOCK) for run in runs)


@settings(max_examples=50)
@given(p=st.integers(1, 8), seed=st.integers(0, 99), scale=st.floats(0.1, 10))
def test_the_largest_ratio_is_that_of_the_best_direction(p, seed, scale):
    rng = np.random.default_rng(seed)
    one, other = (a @ a.T for a in rng.normal(size=(2, p, p + 3)))
    found = largest_ratio(one, other)
    ridged = other + np.trace(other) / p * np.eye(p)
    assert found == pytest.approx(np.linalg.eigvals(np.linalg.solve(ridged, one)).real.max())
    directions = rng.normal(size=(200, p))
    ratios = np.einsum("ij,jk,ik->i", directions, one, directions) / np.einsum(
        "ij,jk,ik->i", directions, ridged, directions
    )
    assert (ratios <= found * (1 + 1e-9)).all()
    assert largest_ratio(scale * one, scale * other) == pytest.approx(found)
    assert largest_ratio(scale * other, other) < scale


def test_a_direction_that_chance_lacks_does_not_blow_up():
    one, other = np.diag([1.0, 1.0]), np.diag([1.0, 0.0])
    with pytest.raises(np.linalg.LinAlgError):
        scipy.linalg.eigh(one, other)
    assert largest_ratio(one, other) == pytest.approx(2.0)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=5))
@settings(max_examples=50)
def test_blocks_of_both_halves_take_turns_on_every_chromosome(sizes):
    chromosome = np.repeat(np.arange(len(sizes)), sizes)
    one, other, of_pairs = paired_blocks(chromosome)
    blocks = [[np.flatnonzero(column) for column in half.toarray().T] for half in (one, other)]
    assert list(of_pairs) == [name for name, size in enumerate(sizes) for _ in range(size // (2 * BLOCK))]
    turns = [genes for pair in zip(*blocks, strict=True) for genes in pair]
    kept = np.flatnonzero(np.isin(chromosome, of_pairs))
    np.testing.assert_array_equal(np.concatenate([*turns, np.empty(0, int)]), kept)
    assert all(len(genes) >= BLOCK for genes in turns)
    assert all(len(set(chromosome[np.r_[a, b]])) == 1 for a, b in zip(*blocks, strict=True))
    for half in (one, other):
        np.testing.assert_allclose(half.sum(0), 1, rtol=1e-5)


def contrasts(seed: int, n: int = 120):
    """Two contrasts of blocks that have nothing to do with each other, but that neighbours of one are alike."""
    members = windows(np.repeat(np.arange(6), n // 6), 5)
    values = np.random.default_rng(seed).normal(size=(2, n + 2))
    return [np.convolve(x, np.ones(3), "valid") for x in values], sparse.csr_matrix(members / 5)


def test_the_p_value_of_agreement_is_its_brute_force_twin():
    (one, other), members = contrasts(4)
    rng, averages = np.random.default_rng(1), members.toarray()
    orders = [np.arange(120), *(rng.permutation(120) for _ in range(ORDERS))]
    agree = np.array([np.cov(averages.T @ one, averages.T @ other[order])[0, 1] for order in orders])
    expected = np.mean(agree >= agree[0] - 1e-12)
    assert 0.01 < expected < 1
    assert agreement_pvalue(one, other, members, np.random.default_rng(1)) == expected
    assert agreement_pvalue(3 * one + 5, 7 * other - 1, members, np.random.default_rng(1)) == expected


def test_blocks_that_lie_anywhere_have_uniform_p_values():
    members = contrasts(0)[1]
    pairs = np.random.default_rng(0).normal(size=(200, 2, 120))
    found = [agreement_pvalue(*pair, members, np.random.default_rng(1)) for pair in pairs]
    assert kstest(found, "uniform").pvalue > 0.01


def test_halves_that_rise_at_the_same_places_have_the_smallest_p_value():
    (one, other), members = contrasts(0)
    rng = np.random.default_rng(0)
    assert agreement_pvalue(one, one + 0.5 * other, members, rng) == 1 / (1 + ORDERS)
    assert agreement_pvalue(one, -one, members, rng) > 0.9
    assert agreement_pvalue(np.ones(120), other, members, rng) == 1
