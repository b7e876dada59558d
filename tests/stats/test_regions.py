"""Regions against a brute-force twin and scipy's labels of images; p-values under their own null."""

from functools import partial

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from omib_spatial.stats import regions
from omib_spatial.stats.regions import (
    CORE,
    EDGE,
    MIN_SPOTS,
    RING,
    cluster_masses,
    components,
    connected_regions,
    region_pvalues,
    zones,
)
from omib_spatial.stats.smooth import average_around

CROSS, SQUARE = ndimage.generate_binary_structure(2, 1), ndimage.generate_binary_structure(2, 2)
PICTURES = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def grid(shape: tuple[int, int], structure: np.ndarray) -> sp.csr_matrix:
    """Neighbours on an image, by the four sides or corners too."""
    place = np.argwhere(np.ones(shape))
    apart = np.abs(place[:, None] - place)
    near = (apart.max(2) == 1) & ((apart.sum(2) == 1) | (structure is SQUARE))
    return sp.csr_matrix(near, dtype=np.float32)


def random_graph(n: int, rng: np.random.Generator, share: float) -> sp.csr_matrix:
    upper = np.triu(rng.random((n, n)) < share, 1)
    return sp.csr_matrix(upper | upper.T, dtype=np.float32)


def twin(graph, called, closed, min_spots, min_hole_spots) -> set[frozenset[int]]:
    """The same as `connected_regions`, by sets of spots."""
    whole = nx.from_scipy_sparse_array(graph)
    found = [set(c) for c in nx.connected_components(whole.subgraph(np.flatnonzero(called))) if len(c) >= min_spots]
    outside = set(range(len(called))).difference(*found)
    grown = [set(c) for c in found]
    for hole in nx.connected_components(whole.subgraph(outside)):
        around = {i for i, region in enumerate(found) for spot in hole if region & set(whole[spot])}
        if len(hole) < min_hole_spots and all(closed[list(hole)]) and len(around) == 1:
            grown[around.pop()] |= hole
    return {frozenset(c) for c in grown}


def partition(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == i).tolist()) for i in range(labels.max(initial=-1) + 1)}


@settings(max_examples=100)
@given(
    n=st.integers(1, 30),
    seed=st.integers(0, 9999),
    share=st.sampled_from([0.05, 0.1, 0.2]),
    min_spots=st.integers(1, 5),
    min_hole=st.integers(0, 6),
)
def test_regions_are_those_of_the_brute_force_twin(n, seed, share, min_spots, min_hole):
    rng = np.random.default_rng(seed)
    graph, called, closed = random_graph(n, rng, share), rng.random(n) < 0.6, rng.random(n) < 0.9
    labels = connected_regions(graph, called, closed, min_spots, min_hole)
    assert partition(labels) == twin(graph, called, closed, min_spots, min_hole)
    sizes = np.bincount(labels[labels >= 0]) if (labels >= 0).any() else np.array([], int)
    assert (np.diff(sizes) <= 0).all()
    first = [np.flatnonzero(labels == i)[0] for i in range(len(sizes))]
    assert all(sizes[i] > sizes[i + 1] or first[i] < first[i + 1] for i in range(len(sizes) - 1))
    order = rng.permutation(n)
    again = connected_regions(graph[order][:, order], called[order], closed[order], min_spots, min_hole)
    back = np.empty(n, int)
    back[order] = again
    assert partition(back) == partition(labels)


@settings(max_examples=60)
@given(picture=PICTURES, corners=st.booleans())
def test_components_are_scipys_labels_of_an_image(picture, corners):
    structure = SQUARE if corners else CROSS
    expected = ndimage.label(picture, structure)[0].ravel() - 1
    found = components(grid(picture.shape, structure), picture.ravel())
    assert partition(found) == partition(expected)
    np.testing.assert_array_equal(found < 0, ~picture.ravel())


@settings(max_examples=100)
@given(picture=PICTURES)
def test_holes_are_those_that_scipy_fills(picture):
    labels, n = ndimage.label(picture, CROSS)
    assume(n)
    one = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    closed = np.zeros(one.shape, bool)
    closed[1:-1, 1:-1] = True
    found = connected_regions(grid(one.shape, CROSS), one.ravel(), closed.ravel(), 1, 1000)
    np.testing.assert_array_equal(found.reshape(one.shape) == 0, ndimage.binary_fill_holes(one, CROSS))


def test_small_holes_are_filled_large_ones_and_unknown_spots_are_not():
    called = np.zeros((9, 9), bool)
    called[1:8, 1:8] = True
    called[2, 2] = called[2:4, 5] = False
    graph, everywhere = grid(called.shape, SQUARE), np.ones(81, bool)

    def filled(min_hole_spots, closed=everywhere):
        found = connected_regions(graph, called.ravel(), closed, MIN_SPOTS, min_hole_spots).reshape(9, 9) == 0
        return np.argwhere(found & ~called).tolist()

    assert filled(1) == []
    assert filled(2) == [[2, 2]]
    assert filled(3) == filled(None) == [[2, 2], [2, 5], [3, 5]]
    unknown = everywhere.copy()
    unknown[np.ravel_multi_index((3, 5), (9, 9))] = False
    assert filled(9, unknown) == [[2, 2]]
    assert len(filled(81)) == 3 + 32, "the tissue around is enclosed by nothing but the end of the slide"


def test_a_speck_in_a_hole_is_filled_with_it():
    called = np.ones((7, 7), bool)
    called[1:6, 1:6] = False
    called[3, 3] = True
    found = connected_regions(grid((7, 7), SQUARE), called.ravel(), np.ones(49, bool), 2, 26)
    assert (found == 0).all()
    found = connected_regions(grid((7, 7), SQUARE), called.ravel(), np.ones(49, bool), 2, 25)
    assert (found == 0).sum() == 24


@settings(max_examples=60)
@given(n=st.integers(1, 25), seed=st.integers(0, 9999))
def test_zones_are_what_their_definition_says(n, seed):
    rng = np.random.default_rng(seed)
    graph, labels, border = random_graph(n, rng, 0.15), rng.integers(-1, 2, n), rng.random(n) < 0.2
    not_called = (labels < 0) & (rng.random(n) < 0.7)
    found, near = zones(graph, labels, not_called, border), graph.toarray() > 0
    for i in range(n):
        beside = labels[near[i]]
        if labels[i] >= 0:
            assert found[i] == (EDGE if border[i] or (beside != labels[i]).any() else CORE)
        else:
            assert found[i] == (RING if not_called[i] and (beside >= 0).any() else -1)


def test_the_mass_of_a_region_counts_each_of_its_edges_once():
    chain = sp.coo_matrix(np.eye(6, k=1))
    excess, labels = np.array([0, 1.0, 3.0, 0.0, 2.0, 4.0]), np.array([-1, 0, 0, -1, 1, 1])
    np.testing.assert_allclose(cluster_masses(chain, excess, labels, 3), [2, 3, 0])


SHAPE = (12, 12)
GRAPH = grid(SHAPE, SQUARE)
SMOOTH = partial(average_around, graph=GRAPH, rows=np.arange(144), hops=2)


def judged(score: np.ndarray, n_called: int, **options) -> np.ndarray:
    called = score >= np.sort(score)[-n_called]
    labels = connected_regions(GRAPH, called, np.zeros(144, bool), 1)
    return region_pvalues(score, labels, called, GRAPH, SMOOTH, **options)


@pytest.mark.parametrize("n_called", [8, 80])
def test_pvalues_are_uniform_where_there_is_only_smoothed_noise(n_called):
    noise = np.random.default_rng(1).standard_normal((200, 144))
    # The heaviest region of a slide is the one that is most improbable.
    found = np.sort([judged(SMOOTH(one), n_called, n_fields=49, seed=i).min() for i, one in enumerate(noise)])
    # Kolmogorov's bound at a level of 1 %, for p-values in steps of .02.
    assert np.abs(found - np.arange(1, 201) / 200).max() < 1.63 / np.sqrt(200) + 0.02


def test_the_pvalue_is_that_of_its_definition():
    rng = np.random.default_rng(4)
    score, n_called = SMOOTH(rng.standard_normal(144)), 30
    called = score >= np.sort(score)[-n_called]

    def heaviest(values: np.ndarray) -> list[float]:
        level = np.sort(values)[-n_called - 1]
        spread = np.concatenate(
            [part - part.mean() for part in (values[values > level], values[values <= level])]
        ).std()
        graph = nx.from_scipy_sparse_array(GRAPH).subgraph(np.flatnonzero(values > level))
        parts = [graph.subgraph(part) for part in nx.connected_components(graph)]
        return [sum((values[a] + values[b]) / 2 - level for a, b in part.edges) / spread for part in parts]

    null = [max(heaviest(SMOOTH(field))) for field in np.random.default_rng(7).standard_normal((50, 144))]
    expected = [(1 + sum(other >= mass - 1e-12 for other in null)) / 51 for mass in heaviest(score)]
    labels = connected_regions(GRAPH, called, np.zeros(144, bool), 1)
    found = region_pvalues(score, labels, called, GRAPH, SMOOTH, 50, 7)
    np.testing.assert_allclose(np.sort(found), np.sort(expected))


def test_a_block_in_the_noise_has_a_small_pvalue_even_where_most_is_called():
    for side, n_called in ((4, 16), (10, 100)):
        block = np.zeros(SHAPE)
        block[1 : 1 + side, 1 : 1 + side] = 1
        score = SMOOTH(block.ravel() + 0.3 * np.random.default_rng(0).standard_normal(144))
        assert judged(score, n_called, n_fields=199).min() <= 0.02


def test_pvalues_do_not_depend_on_units_or_on_how_fields_are_held(monkeypatch):
    score = SMOOTH(np.random.default_rng(2).standard_normal(144))
    expected = judged(score, 30, n_fields=59, seed=3)
    np.testing.assert_array_equal(judged(4 * score - 7, 30, n_fields=59, seed=3), expected)
    assert (judged(score, 30, n_fields=59, seed=4) != expected).any()
    monkeypatch.setattr(regions, "_BLOCK", 1000)
    np.testing.assert_array_equal(judged(score, 30, n_fields=59, seed=3), expected)


def test_each_of_several_high_blocks_has_a_small_pvalue():
    blocks = np.zeros(SHAPE)
    for x, y in ((1, 1), (1, 7), (7, 1), (7, 7)):
        blocks[x : x + 4, y : y + 4] = 1
    score = SMOOTH(np.random.default_rng(0).standard_normal(144)) + 3 * blocks.ravel()
    found = judged(score, 64, n_fields=199)
    assert len(found) == 4 and found.max() < 0.05


def test_what_cannot_be_judged_has_no_pvalue():
    score, everywhere = np.arange(144.0), np.ones(144, bool)
    assert np.isnan(region_pvalues(score, np.zeros(144, int), everywhere, GRAPH, SMOOTH)).all()
    nowhere = np.full(144, -1)
    assert region_pvalues(score, nowhere, ~everywhere, GRAPH, SMOOTH).shape == (0,)
    called = np.arange(144) < 12
    assert np.isnan(region_pvalues(1.0 * called, np.where(called, 0, -1), called, GRAPH, SMOOTH, 9)).all()
