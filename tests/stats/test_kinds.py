import numpy as np
import pytest
from scipy import sparse

from omib_spatial.stats.kinds import find_kinds, smoothness


def grid(side: int) -> sparse.csr_matrix:
    ones = np.ones(side - 1)
    line, same = sparse.diags_array([ones, ones], offsets=[-1, 1]), sparse.eye_array(side)
    return sparse.csr_matrix(sparse.kron(line, same) + sparse.kron(same, line))


def field(graph: sparse.csr_matrix, hops: int, p: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(graph.shape[0], p))
    step = sparse.csr_matrix(graph + sparse.eye_array(graph.shape[0]))
    step = sparse.diags_array(1 / np.asarray(step.sum(1)).ravel()) @ step
    for _ in range(hops):
        values = step @ values
    return values / values.std(0)


OPTIONS = {"max_kinds": 4, "level": 0.1, "n_null": 19, "seed": 0}


def test_two_directions_are_two_kinds_however_far_out_their_spots_lie():
    graph, rng = grid(10), np.random.default_rng(0)
    truth = np.repeat([0, 1], [60, 40])
    far = rng.gamma(4, size=(100, 1)) + 3
    values = far * (np.eye(6)[2 * truth] + 0.05 * field(graph, 1, 6, 1))
    found = find_kinds(values, graph, **OPTIONS)
    np.testing.assert_array_equal(found.label, truth)
    assert found.pvalue == 1 / 20 and found.n_kinds.tolist() == [2, 3, 4]


def test_one_kind_is_rarely_divided_however_smooth_it_is():
    graph = grid(10)
    divided = [
        find_kinds(np.eye(5)[0] * 3 + field(graph, 3, 5, seed), graph, **OPTIONS).label.any() for seed in range(12)
    ]
    # With a level of .1, five or more of twelve have a probability of .004.
    assert sum(divided) < 5


@pytest.mark.parametrize("hops", [0, 2, 5])
def test_noise_is_made_as_smooth_as_the_spots(hops):
    graph = grid(30)
    assert smoothness(field(graph, hops, 20, 0), graph)[1] == hops


def test_few_spots_equal_spots_and_spots_without_neighbours():
    empty = sparse.csr_matrix((30, 30))
    few = find_kinds(np.random.default_rng(0).normal(size=(9, 3)), empty[:9, :9], **OPTIONS)
    assert not few.label.any() and np.isnan(few.pvalue) and len(few.n_kinds) == 0
    assert not find_kinds(np.ones((30, 3)), empty, **OPTIONS).label.any()
    values = np.repeat(np.eye(3)[:2] * 9, 15, 0) + 0.1 * np.random.default_rng(0).normal(size=(30, 3))
    assert find_kinds(values, empty, **OPTIONS).label.tolist() == [0] * 15 + [1] * 15
