from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from omib_spatial.slides.split import SpotLocations, donor_folds, hold_out, slices_near, spatial_tiles

FOLDS, BLOCKS = 3, 12


def slices(seed: int, n: int, n_slices: int, *, grid: bool = False) -> SpotLocations:
    rng = np.random.default_rng(seed)
    xy = rng.integers(0, 6, (n, 2)).astype(float) if grid else rng.normal(size=(n, 2)) * [5, 1]
    return SpotLocations(xy, rng.integers(0, n_slices, n))


# Tiles


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 150),
    n_slices=st.integers(1, 4),
    size=st.integers(1, 40),
    share=st.floats(0, 1),
    grid=st.booleans(),
)
def test_tiles_divide_the_rows_within_slices(seed, n, n_slices, size, share, grid):
    locations = slices(seed, n, n_slices, grid=grid)
    codes = locations.codes
    rng = np.random.default_rng(seed)
    rows = rng.permutation(n)[: int(share * n)]
    tiles = spatial_tiles(locations, rows, size)
    assert sorted(np.concatenate([*tiles, np.empty(0, int)]).tolist()) == sorted(rows.tolist())
    assert all(0 < len(tile) <= size for tile in tiles)
    assert all(len(set(codes[tile])) == 1 for tile in tiles)
    parts = Counter(codes[rows].tolist())
    assert all(2 * len(tile) >= min(size, parts[codes[tile[0]]]) for tile in tiles)
    again = spatial_tiles(SpotLocations(locations.xy.copy(), codes.copy()), rows.copy(), size)
    assert [tile.tolist() for tile in tiles] == [tile.tolist() for tile in again]


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_tiles_depend_on_places_not_on_the_order_of_rows_nor_on_other_slices(seed):
    locations = slices(seed, 120, 3)
    order = np.random.default_rng(seed).permutation(120)
    sets = {frozenset(tile.tolist()) for tile in spatial_tiles(locations, np.arange(120), 20)}
    assert sets == {frozenset(tile.tolist()) for tile in spatial_tiles(locations, order, 20)}
    for code in range(3):
        alone = spatial_tiles(locations, np.flatnonzero(locations.codes == code), 20)
        assert {frozenset(tile.tolist()) for tile in alone} <= sets


def radius(xy: np.ndarray, tiles: list[np.ndarray]) -> float:
    """Mean distance of spots from the centre of their tile."""
    return float(np.mean([np.linalg.norm(xy[tile] - xy[tile].mean(0), axis=1).mean() for tile in tiles]))


def test_tiles_are_compact():
    locations = slices(0, 2048, 1)
    tiles = spatial_tiles(locations, np.arange(2048), 32)
    chance = np.array_split(np.random.default_rng(0).permutation(2048), len(tiles))
    assert {len(tile) for tile in tiles} == {32}
    assert radius(locations.xy, tiles) < 0.25 * radius(locations.xy, chance)


def test_a_regular_grid_is_cut_into_rectangles():
    xy = np.argwhere(np.ones((64, 32))).astype(float)
    tiles = spatial_tiles(SpotLocations(xy, np.zeros(2048, int)), np.arange(2048), 32)
    assert {tuple(sorted(np.ptp(xy[tile], axis=0))) for tile in tiles} == {(3, 7)}


# Held out


@pytest.mark.parametrize("n_slices", [1, 2, 3, 5, 8])
def test_training_and_calibration_divide_the_reference(n_slices):
    rng = np.random.default_rng(n_slices)
    codes = np.repeat(np.arange(n_slices), 100)
    xy, reference = rng.uniform(size=(len(codes), 2)), rng.uniform(size=len(codes)) < 0.8
    training, held_out = hold_out(SpotLocations(xy, codes), reference, 0.2, seed=0)
    assert not (training & held_out).any()
    np.testing.assert_array_equal(training | held_out, reference)
    assert 0.1 < held_out.sum() / reference.sum() < 0.45


def test_whole_slices_are_held_out_where_there_are_enough():
    codes = np.repeat(np.arange(6), 50)
    xy = np.random.default_rng(0).uniform(size=(300, 2))
    training, held_out = hold_out(SpotLocations(xy, codes), np.ones(300, bool), 0.2, seed=0)
    assert not set(codes[training]) & set(codes[held_out])


@pytest.mark.parametrize("sizes", [(1000, 10, 10, 10), (300, 300, 250, 60, 40), (500, 400, 100, 90, 80, 70)])
@pytest.mark.parametrize("seed", range(8))
def test_slices_of_unlike_sizes_leave_enough_to_learn_from(sizes, seed):
    codes = np.repeat(np.arange(len(sizes)), sizes)
    locations = SpotLocations(np.random.default_rng(seed).uniform(size=(len(codes), 2)), codes)
    _, held_out = hold_out(locations, np.ones(len(codes), bool), 0.2, seed=seed)
    assert 0.1 <= held_out.mean() < 0.4
    # Ten spots of small slices say nothing, and the large one is all that there is: it is cut.
    whole = set(codes[held_out]).isdisjoint(codes[~held_out])
    assert whole == (sizes[0] < 1000)


@given(sizes=st.lists(st.integers(1, 500), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_a_slice_is_taken_if_that_comes_closer_to_the_number_wanted(sizes, seed):
    sizes = np.array(sizes)
    target, rng = 0.2 * sizes.sum(), np.random.default_rng(seed)
    chosen = slices_near(sizes, target, rng)
    assert len(set(chosen)) == len(chosen) and sizes[chosen].sum() < 2 * target
    left = np.setdiff1d(np.arange(len(sizes)), chosen)
    assert len(left) > 0
    closeness = abs(sizes[chosen].sum() - target)
    assert len(left) == 1 or all(abs(sizes[chosen].sum() + sizes[i] - target) >= closeness for i in left)


@pytest.mark.parametrize("seed", range(30))
def test_something_is_left_to_learn_from_however_much_is_held_out(seed):
    codes = np.repeat(np.arange(4), [50, 50, 50, 850])
    locations = SpotLocations(np.random.default_rng(seed).uniform(size=(1000, 2)), codes)
    training, held_out = hold_out(locations, np.ones(1000, bool), 0.6, seed=seed)
    assert training.sum() >= 50 and held_out.sum() >= 50


def test_blocks_are_compact_where_there_are_few_slices():
    xy = np.random.default_rng(0).uniform(size=(1000, 2))
    _, held_out = hold_out(SpotLocations(xy, np.zeros(1000, int)), np.ones(1000, bool), 0.2, seed=0)
    neighbours = NearestNeighbors(n_neighbors=5).fit(xy).kneighbors(xy[held_out], return_distance=False)[:, 1:]
    assert held_out[neighbours].mean() > 0.6  # 0.2 if spots were held out singly


@pytest.mark.parametrize(("n_slices", "whole"), [(3, True), (4, False)])
def test_how_many_slices_are_enough_can_be_said(n_slices, whole):
    codes = np.repeat(np.arange(n_slices), 60)
    locations = SpotLocations(np.random.default_rng(0).uniform(size=(len(codes), 2)), codes)
    training, held_out = hold_out(
        locations, np.ones(len(codes), bool), 0.2, seed=0, min_slices=3 if whole else 5, n_blocks=6
    )
    assert set(codes[training]).isdisjoint(codes[held_out]) == whole
    if not whole:
        assert {int(held_out[codes == code].sum()) for code in range(n_slices)} <= {14, 15, 16}  # two blocks of eight


# Folds


@pytest.mark.parametrize("n_donors", [1, 2, 3, 7])
def test_folds_keep_donors_together_and_have_every_labelled_spot(n_donors):
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(7), 60)
    donors, labels, xy = codes % n_donors, rng.integers(-1, 3, len(codes)), rng.uniform(size=(len(codes), 2))
    parts = donor_folds(SpotLocations(xy, codes), labels >= 0, donors, FOLDS, BLOCKS)
    np.testing.assert_array_equal(parts >= 0, labels >= 0)
    assert set(parts[labels >= 0]) == set(range(FOLDS if n_donors != 2 else 2))
    if n_donors > 1:
        assert all(len(set(parts[(donors == donor) & (labels >= 0)])) == 1 for donor in range(n_donors))


def test_a_single_donors_folds_are_compact():
    xy = np.random.default_rng(0).uniform(size=(1200, 2))
    known = np.random.default_rng(1).random(1200) < 0.8
    fold = donor_folds(SpotLocations(xy, np.zeros(1200, int)), known, np.zeros(1200, int), FOLDS, BLOCKS)
    rows = np.flatnonzero(known)
    near = NearestNeighbors(n_neighbors=5).fit(xy[rows]).kneighbors(xy[rows], return_distance=False)[:, 1:]
    assert (fold[rows[near]] == fold[rows][:, None]).mean() > 0.7  # a third if spots were dealt singly
