"""Evidence is smoothed over neighbours, and along the axes that a slice's own profiles have."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from omib_spatial.stats.smooth import RANK, average_around, counting_noise, independent_share, project_on_axes, walk


def chain(n: int) -> sp.csr_matrix:
    """A row of spots, each the neighbour of the next."""
    return sp.csr_matrix(sp.diags_array([np.ones(n - 1), np.ones(n - 1)], offsets=[-1, 1]), dtype=np.float32)


def random_graph(n: int, seed: int) -> sp.csr_matrix:
    upper = np.triu(np.random.default_rng(seed).random((n, n)) < 0.2, 1)
    return sp.csr_matrix(upper | upper.T, dtype=np.float32)


def steps(graph: np.ndarray, hops: int) -> np.ndarray:
    """The same as `walk`, dense."""
    loops = graph + np.eye(len(graph))
    return np.linalg.matrix_power(loops / loops.sum(1, keepdims=True), hops)


def test_what_follows_the_leading_axes_is_kept_and_the_rest_is_not():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(300, 2))
    features = (hidden * [9, 5]) @ rng.normal(size=(2, 40)) + 0.01 * rng.normal(size=(300, 40))
    smooth, noise = hidden @ [1.0, -2.0] + 7, rng.normal(size=300)
    np.testing.assert_allclose(project_on_axes(smooth, features, 2), smooth, atol=0.05)
    left = project_on_axes(smooth + noise, features, 2) - smooth
    assert left.std() < 0.15 * noise.std()
    # A projection: done twice it changes nothing, and the units of the features do not matter.
    once = project_on_axes(smooth + noise, features, 2)
    np.testing.assert_allclose(project_on_axes(once, features, 2), once, atol=1e-6)
    np.testing.assert_allclose(project_on_axes(smooth + noise, 3 * features + 1, 2), once, atol=1e-6)
    few = np.arange(5.0)
    assert project_on_axes(few, features[:5], 8) is few


@settings(max_examples=40)
@given(rank=st.integers(0, 6), n_axes=st.integers(1, 8), seed=st.integers(0, 999))
def test_the_order_of_rows_decides_nothing_where_there_are_fewer_axes_than_asked_for(rank, n_axes, seed):
    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(60, rank)) @ rng.normal(size=(rank, 5))).astype(np.float32) + np.float32(3)
    values, order = rng.normal(size=60), rng.permutation(60)
    exact = features.astype(float) - features.mean(0)
    left, scale, _ = np.linalg.svd(exact, full_matrices=False)
    share = np.square(scale[: min(rank, 5)] / max(scale[0], 1e-12))
    # An axis at the edge of rounding may be taken for either.
    assume(not ((share > 0.1 * RANK) & (share < 10 * RANK)).any())
    rank = int((share > RANK).sum())
    kept = project_on_axes(values, features, n_axes)
    np.testing.assert_allclose(project_on_axes(values[order], features[order], n_axes), kept[order], atol=1e-3)
    # Against the exact projection: nothing beyond the rank takes part.
    if rank <= n_axes:
        basis = left[:, :rank]
        centred = values - values.mean()
        np.testing.assert_allclose(kept, values.mean() + basis @ (basis.T @ centred), atol=1e-3)


@settings(max_examples=30)
@given(n=st.integers(1, 30), hops=st.integers(0, 4), seed=st.integers(0, 99))
def test_a_walk_averages_a_spot_and_its_neighbours_hop_by_hop(n, hops, seed):
    graph = random_graph(n, seed)
    found = walk(graph, hops)
    assert found.dtype == np.float32 and sp.issparse(found)
    np.testing.assert_allclose(found.toarray(), steps(graph.toarray(), hops), atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("columns", [(), (3,)])
@pytest.mark.parametrize("n_rows", [25, 14])
def test_averages_are_over_neighbours_that_are_among_the_rows(n_rows, columns):
    graph = random_graph(25, 1)
    rows = np.sort(np.random.default_rng(2).permutation(25)[:n_rows])
    values = np.random.default_rng(3).normal(size=(n_rows, *columns))
    dense = graph.toarray()[np.ix_(rows, rows)]
    for hops in range(4):
        expected = steps(dense, hops) @ values
        np.testing.assert_allclose(average_around(values, graph, rows, hops), expected, atol=1e-5)


@pytest.mark.parametrize("n_rows", [40, 23])
@pytest.mark.parametrize("hops", [0, 1, 2])
def test_an_average_is_worth_as_many_independent_spots_as_its_variance_says(n_rows, hops):
    graph, rows = random_graph(40, 4), np.sort(np.random.default_rng(5).permutation(40)[:n_rows])
    share = independent_share(graph, rows, hops)
    drawn = average_around(np.random.default_rng(6).normal(size=(n_rows, 20_000)), graph, rows, hops)
    np.testing.assert_allclose(share, drawn.var(1), rtol=0.06)
    if hops == 0:
        np.testing.assert_array_equal(share, 1)


def test_spots_without_neighbours_are_worth_one_each():
    np.testing.assert_array_equal(independent_share(sp.csr_matrix((6, 6), dtype=np.float32), np.arange(6), 2), 1)


def hexagonal(side: int) -> sp.csr_matrix:
    y, x = (part.ravel() for part in np.indices((side, side)))
    xy = np.stack([x + y / 2, y * np.sqrt(3) / 2], 1)
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    return sp.csr_matrix((distance > 0) & (distance < 1.1), dtype=np.float32)


def square(side: int) -> sp.csr_matrix:
    y, x = (part.ravel() for part in np.indices((side, side)))
    distance = np.maximum(abs(x[:, None] - x), abs(y[:, None] - y))
    return sp.csr_matrix(distance == 1, dtype=np.float32)


@pytest.mark.parametrize(("grid", "pooled"), [(hexagonal, 13.7), (square, 18.2)])
def test_inside_a_grid_as_many_spots_count_as_one_as_the_settings_say(grid, pooled):
    inside = 11 * 5 + 5
    assert 1 / independent_share(grid(11), np.arange(121), 2)[inside] == pytest.approx(pooled, abs=0.05)


def test_counting_noise_is_the_variance_of_an_average_of_rates():
    graph, depth = random_graph(30, 7), np.random.default_rng(8).uniform(200, 2000, 30)
    weights, typical = walk(graph, 2), 700.0
    counts = np.random.default_rng(9).poisson(depth[:, None] * 0.5, size=(30, 20_000))
    rates = weights @ (counts / depth[:, None])
    # One spot of typical depth has a rate of variance 0.5 / typical.
    np.testing.assert_allclose(counting_noise(weights, typical / depth), rates.var(1) / (0.5 / typical), rtol=0.06)
