"""The tissue that spots stand for: a tile around each, and the outline of a region of tiles."""

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.spatial import Voronoi, cKDTree

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_ADJACENT = 1.3
"""Spots this many reaches apart lie side by side. On a square grid, whose reach is the diagonal, the next but one is
1.41 reaches away, on a hexagonal one 1.73."""
_EMPTY = 0.6
"""A place without a spot within so many reaches is empty. On a square grid the next spot of an empty place is .71
reaches away, on a hexagonal one 1."""
_FARTHEST = 0.75
"""Reaches that a tile extends from its spot at most: tiles of square and hexagonal grids extend .5 and .58."""


def reach(xy: np.ndarray) -> float:
    """Distance within which a spot inside the tissue has its six nearest neighbours, in the unit of ``xy`` (n, 2).

    The pitch of a hexagonal grid, the diagonal of a square one. Spots at a border look farther, so the lower quartile
    of all spots is taken.

    Raises
    ------
    ValueError
        There are no two places.
    """
    places = np.unique(xy, axis=0)
    if len(places) < 2:
        raise ValueError("A slice whose spots lie at one place has no spacing, so that spots have no area: drop it.")
    k = min(6, len(places) - 1)
    return float(np.quantile(cKDTree(places).query(places, k + 1)[0][:, -1], 0.25))


def side_by_side(graph: sparse.csr_matrix, xy: np.ndarray, codes: np.ndarray) -> sparse.csr_matrix:
    """Return ``graph`` (n, n) without edges that skip a place.

    Spots at a border of the tissue find their nearest neighbours farther away than others do. Scores may be averaged
    over these; a region must not jump over the tissue between.

    Parameters
    ----------
    graph
        Neighbours, symmetric.
    xy
        Coordinates, (n, 2).
    codes
        Slice of each spot, (n,).
    """
    farthest = np.zeros(len(xy))
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        if len(np.unique(xy[rows], axis=0)) > 1:
            farthest[rows] = _ADJACENT * reach(xy[rows])
    edges = graph.tocoo()
    near = np.hypot(*(xy[edges.row] - xy[edges.col]).T) <= farthest[edges.row]
    return sparse.csr_matrix((edges.data[near], (edges.row[near], edges.col[near])), shape=graph.shape)


def empty_places(xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places beside a spot where the grid goes on without a spot.

    How it goes on is seen at the nearest spot that has all neighbours, as many as the best twentieth of spots.

    Parameters
    ----------
    xy
        Coordinates of the spots of one slice, (n, 2).

    Returns
    -------
    places
        (m, 2), some of them several times.
    border
        Spots that have an empty place beside them, (n,) bool.
    """
    step, tree = reach(xy), cKDTree(xy)
    distance, near = tree.query(xy, min(9, len(xy)))
    beside = (distance > 0) & (distance <= _ADJACENT * step)
    n_beside = beside.sum(1)
    whole = np.flatnonzero(n_beside >= np.quantile(n_beside, 0.95))
    pattern = whole[cKDTree(xy[whole]).query(xy)[1]]
    spot, which = np.nonzero(beside[pattern])
    places = xy[spot] + xy[near[pattern[spot], which]] - xy[pattern[spot]]
    empty = tree.query(places)[0] > _EMPTY * step
    border = np.zeros(len(xy), bool)
    border[spot[empty]] = True
    return places[empty], border


def tiles(xy: np.ndarray, rows: np.ndarray) -> Any:
    """Tile of each of some spots: what is nearer to it than to any other spot or empty place (its Voronoi cell).

    On a regular grid tiles are the squares or hexagons of the grid, at the border of the tissue and at gaps, too.
    Elsewhere they end at `_FARTHEST` reaches from the spot. Where spots are scattered, as single cells are, much
    between them counts as empty, and areas are too small.

    Parameters
    ----------
    xy
        Coordinates of all spots of one slice, (n, 2).
    rows
        Spots that are asked for, (m,).

    Returns
    -------
    (m,) array of shapely polygons in the unit of ``xy``. Spots at one place share a tile.
    """
    import shapely

    places, place_of = np.unique(xy, axis=0, return_inverse=True)
    step, centre = reach(xy), places.mean(0)
    # Four places far away give every cell an end.
    away = centre + 10 * (np.abs(places - centre).max() + step) * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    diagram = Voronoi(np.concatenate([places, empty_places(places)[0], away]))
    own = place_of.ravel()[rows]
    cells = [diagram.regions[region] for region in diagram.point_region[own]]
    lengths = [len(cell) for cell in cells]
    corners = diagram.vertices[np.concatenate(cells).astype(int)] if cells else np.empty((0, 2))
    cell_of = np.repeat(np.arange(len(cells)), lengths)
    polygons = shapely.polygons(shapely.linearrings(corners, indices=cell_of))
    far = np.hypot(*(corners - places[own][cell_of]).T) > _FARTHEST * step
    large = np.unique(cell_of[far])
    discs = shapely.buffer(shapely.points(places[own[large]]), _FARTHEST * step)
    polygons[large] = shapely.intersection(polygons[large], discs)
    return polygons


def outline(polygons: Any, step: float) -> "BaseGeometry":
    """Polygon, or several, with holes, that tiles of one region cover together.

    Parameters
    ----------
    polygons
        From `tiles`.
    step
        `reach` of the slice: corners closer than a billionth of it are one, and points on a straight line are left out.
    """
    import shapely

    return shapely.simplify(shapely.union_all(polygons, grid_size=1e-9 * step), 1e-3 * step)
