"""Tiles are the cells of regular grids; outlines have their exact areas and keep holes."""

import numpy as np
import pandas as pd
import pytest
import shapely
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st

from omib_spatial.slides.graph import spatial_graph
from omib_spatial.slides.outlines import empty_places, outline, reach, side_by_side, tiles


def square(rows: int, columns: int, pitch: float = 200.0) -> np.ndarray:
    return np.argwhere(np.ones((rows, columns))) * pitch + 500


def hexagonal(rows: int, columns: int, pitch: float = 100.0) -> np.ndarray:
    y, x = np.divmod(np.arange(rows * columns), columns)
    return np.stack([x + y % 2 / 2, y * np.sqrt(3) / 2], 1) * pitch


def turned(xy: np.ndarray, angle: float) -> np.ndarray:
    return xy @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


GRIDS = {"square": (square(9, 8), 200.0**2, 200 * np.sqrt(2)), "hexagonal": (hexagonal(9, 8), 5000 * np.sqrt(3), 100.0)}


@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=20)
@given(angle=st.floats(0, 6), factor=st.sampled_from([0.01, 1, 7]), seed=st.integers(0, 99), lost=st.integers(0, 3))
def test_every_tile_of_a_grid_is_its_cell_at_the_border_and_at_gaps_too(name, angle, factor, seed, lost):
    xy, area, step = GRIDS[name]
    rng = np.random.default_rng(seed)
    inside = rng.choice(np.flatnonzero(~empty_places(xy)[1]), lost, replace=False)
    some = turned(np.delete(xy, inside, axis=0), angle) * factor
    some = some[rng.permutation(len(some))]
    assert reach(some) == pytest.approx(step * factor)
    found = tiles(some, np.arange(len(some)))
    np.testing.assert_allclose(shapely.area(found), area * factor**2, rtol=1e-6)
    assert shapely.contains(found, shapely.points(some)).all()


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_a_block_has_its_exact_area_perimeter_and_four_corners(k):
    xy = square(9, 9)
    inside = (xy < 500 + 200 * k).all(1)
    shape = outline(tiles(xy, np.flatnonzero(inside)), reach(xy))
    assert shape.area == pytest.approx((200 * k) ** 2) and shape.length == pytest.approx(800 * k)
    assert len(shape.exterior.coords) == 5
    np.testing.assert_allclose(shape.bounds, [400, 400, 400 + 200 * k, 400 + 200 * k], atol=1e-3)


def test_a_hole_stays_a_hole_and_pieces_that_touch_at_a_corner_stay_pieces():
    xy = square(9, 9)
    block = ((xy >= 700) & (xy <= 1500)).all(1)
    hole = (xy == 1100).all(1)
    shape = outline(tiles(xy, np.flatnonzero(block & ~hole)), reach(xy))
    assert shape.geom_type == "Polygon" and len(shape.interiors) == 1 and shape.is_valid
    assert shape.area == pytest.approx(24 * 200**2) and shape.length == pytest.approx(20 * 200 + 4 * 200)
    assert not shape.contains(shapely.Point(1100, 1100))
    corner = outline(tiles(xy, np.array([0, 10])), reach(xy))
    assert corner.geom_type == "MultiPolygon" and corner.area == pytest.approx(2 * 200**2)


def test_a_hexagon_has_the_perimeter_of_a_hexagon():
    xy = hexagonal(9, 9)
    shape = outline(tiles(xy, np.array([40])), reach(xy))
    assert shape.length == pytest.approx(6 * 100 / np.sqrt(3), rel=1e-4)


@settings(max_examples=20)
@given(seed=st.integers(0, 999), hexagons=st.booleans())
def test_tiles_of_displaced_spots_neither_overlap_nor_leave_gaps(seed, hexagons):
    rng = np.random.default_rng(seed)
    xy = hexagonal(8, 8) if hexagons else square(8, 8, 100.0)
    xy = xy + rng.normal(scale=4, size=xy.shape)
    found = tiles(xy, np.arange(64))
    whole = outline(found, reach(xy))
    assert whole.geom_type == "Polygon" and not whole.interiors and whole.is_valid
    assert whole.area == pytest.approx(shapely.area(found).sum(), rel=1e-3)


def test_the_border_of_the_tissue_and_of_gaps_is_found():
    for xy, columns in ((square(9, 9), 9), (hexagonal(9, 9), 9)):
        row, column = np.divmod(np.arange(81), columns)
        outer = (row % 8 == 0) | (column % 8 == 0)
        np.testing.assert_array_equal(empty_places(xy)[1], outer)
        gap = np.hypot(*(xy - xy[40]).T) < 1.01 * np.hypot(*(xy[41] - xy[40]))
        places, border = empty_places(np.delete(xy, 40, axis=0))
        assert border[np.delete(gap, 40)].all() and border.sum() >= outer.sum() + gap.sum() - 1
        assert (np.hypot(*(places - xy[40]).T) < 1e-6).any()


@pytest.mark.parametrize("name", GRIDS)
def test_neighbours_that_skip_a_place_are_none(name):
    xy, step = GRIDS[name][0], GRIDS[name][2]
    both = np.concatenate([xy, 3 * xy])
    obs = pd.DataFrame({"slice": ["a"] * 72 + ["b"] * 72}, index=[f"s{i}" for i in range(144)])
    graph = spatial_graph(AnnData(obs=obs, obsm={"spatial": both}), library_key="slice")
    found = side_by_side(graph, both, np.repeat([0, 1], 72)).tocoo()
    apart = np.hypot(*(both[found.row] - both[found.col]).T)
    assert set(np.round(apart / step / np.where(found.row < 72, 1, 3), 3)) <= {1, 0.707}
    expected = [1.01 * step, 3.03 * step]
    for code, own in enumerate((xy, 3 * xy)):
        near = np.hypot(*(own[:, None] - own).transpose(2, 0, 1)) < expected[code]
        assert (found.row // 72 == code).sum() == near.sum() - 72
    assert graph.nnz > found.nnz, "the graph joins spots at the border over a place"


def test_few_spots_lone_spots_and_spots_at_one_place():
    pair = np.array([[0.0, 0.0], [10.0, 0.0]])
    found = tiles(pair, np.arange(2))
    # Half a disc of 7.5, and what of the other half lies within 5 of its middle.
    other = 2 * (7.5**2 / 2 * np.arcsin(5 / 7.5) + 5 / 2 * np.sqrt(7.5**2 - 25))
    np.testing.assert_allclose(shapely.area(found), np.pi * 7.5**2 / 2 + other, rtol=0.01)
    twice = tiles(np.concatenate([square(5, 5), square(5, 5)]), np.array([12, 37]))
    np.testing.assert_allclose(shapely.area(twice), 200**2)
    assert twice[0].equals(twice[1])
    with pytest.raises(ValueError, match="at one place has no spacing"):
        tiles(np.zeros((3, 2)), np.arange(3))
    alone = np.append(square(9, 9), [[9000, 9000]], axis=0)
    assert tiles(alone, np.array([81]))[0].area == pytest.approx(200**2)
