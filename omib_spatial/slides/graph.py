"""Who is next to whom: the spatial graph of each slice, and the part of it that a mini-batch needs."""

from collections.abc import Iterator, Mapping

import numpy as np
from anndata import AnnData
from scipy import sparse
from scipy.spatial import cKDTree

from omib_spatial._keys import SPATIAL
from omib_spatial.slides.rows import row_entries
from omib_spatial.slides.slides import coordinates, library_codes

TIE = 1e-3
"""Distances that differ by at most this share are equal: coordinates in pixels are not more exact, at best rounded to
single precision, and a turned slide rounds otherwise."""
_USUAL = 6
DENSE = 0.5
"""Share of a slice's spots that are neighbours of the average spot, from which on a graph says nothing of places."""
PIECE = 2**14
"""Spots whose ties are looked up at a time."""


def spatial_graph(
    adata: AnnData,
    *,
    spatial_key: str = SPATIAL,
    library_key: str | None = None,
    n_neighbors: int = 6,
    neighbors_key: str | None = None,
) -> sparse.csr_matrix:
    """Undirected spatial neighbour graph without self-loops and without edges between slices. Writes nothing.

    Two spots of a slice are joined if either is among the ``n_neighbors`` nearest of the other, or as near
    as the last of these. The result depends on distances only: not on how the slice is turned, mirrored or moved, nor
    on the order of rows or on which other slices are there. A slice with no more than ``n_neighbors`` spots becomes a
    complete graph, a lone spot stays isolated.

    Parameters
    ----------
    adata
        Spots by genes.
    spatial_key
        ``obsm`` key of the coordinates, any unit.
    library_key
        ``obs`` column that separates slices.
    n_neighbors
        Neighbours that each spot looks for, at least 1; all those as far away as the last one are taken too. With 6, a
        spot of a hexagonal grid (Visium) has 6, and one of an exactly square grid (ST) 8: the 4 beside it and all 4
        across the corners.
    neighbors_key
        Reuse a graph in ``obsp`` instead: its key there, squidpy's ``key_added``, or the ``uns`` key by which scanpy
        and squidpy describe it. Weights are dropped, directions too.

    Returns
    -------
    (n_obs, n_obs) symmetric CSR matrix of float32 ones with sorted indices.

    Raises
    ------
    KeyError
        Coordinates, ``library_key`` or the graph to reuse do not exist.
    ValueError
        ``n_neighbors`` below 1, coordinates that are no finite (n_obs, >= 2) array, or a given graph that joins slices,
        joins most spots with each other, or has weights that are no finite numbers from 0.
    """
    codes, names = library_codes(adata, library_key)
    if neighbors_key is not None:
        return _given_graph(adata, neighbors_key, codes, names)
    if n_neighbors < 1:
        raise ValueError(f"n_neighbors is {n_neighbors}: each spot needs at least 1 neighbour.")
    xy = coordinates(adata, spatial_key)
    edges = [np.empty((2, 0), dtype=np.int64)]
    for code in range(len(names)):
        spots = np.flatnonzero(codes == code)
        if len(spots) > 1:
            edges.append(spots[_nearest(xy[spots], n_neighbors)])
    row, col = np.concatenate(edges, axis=1)
    return _undirected(row, col, adata.n_obs)


def refuse_too_many_neighbors(codes: np.ndarray, names: list[str], n_neighbors: int) -> None:
    """Raise ValueError where more neighbours are asked for than a slice has other spots.

    A few spots by themselves are all neighbours with the usual number, too, and that is fine.

    Parameters
    ----------
    codes, names
        Slice of every spot (n_obs,), and their names.
    n_neighbors
        That each spot looks for.
    """
    sizes = np.bincount(codes, minlength=len(names))
    if n_neighbors > _USUAL and (few := sizes <= n_neighbors).any():
        raise ValueError(
            f"n_neighbors={n_neighbors}, and slice {names[np.argmax(few)]!r} has {sizes[few][0]} spots: every spot "
            "would be every other's neighbour. Pass a smaller one, 6 for a hexagonal or square grid."
        )


def _nearest(xy: np.ndarray, k: int) -> np.ndarray:
    """Directed edges (2, m) from each spot to its k nearest, and to all others that are as near as the last of them."""
    # As squidpy's KNNBuilder does it, which takes seconds to load and warns of its own matters then.
    from sklearn.neighbors import NearestNeighbors

    # One more than wanted shows where distances tie.
    asked = min(k + 1, len(xy) - 1)
    near = np.sort(NearestNeighbors(n_neighbors=asked).fit(xy).kneighbors(return_distance=False), axis=1)
    # Axis by axis, which is ten times as fast as the norm of an (n, k, 2) array.
    distance = np.sqrt(sum(np.square(x[near] - x[:, None]) for x in xy.T))
    reach = np.sort(distance)[:, min(k, asked) - 1] * (1 + TIE)
    within = distance <= reach[:, None]
    tied = within.all(1) & (asked > k)
    within[tied] = False
    edges = [_edges(np.arange(len(xy)), near, within)]
    if tied.any():
        edges += _all_within(cKDTree(xy), np.flatnonzero(tied), reach, 2 * asked)
    return np.concatenate(edges, axis=1)


def _all_within(tree: cKDTree, rows: np.ndarray, reach: np.ndarray, asked: int) -> Iterator[np.ndarray]:
    """Edges (2, m) from each of ``rows`` to all spots in its ``reach`` (n,), itself too; ``asked`` is a first guess."""
    asked = min(asked, tree.n)
    for some in np.array_split(rows, len(rows) // PIECE + 1):
        distance, near = tree.query(tree.data[some], asked)
        within = distance <= reach[some, None]
        more = within.all(1) & (asked < tree.n)
        within[more] = False
        yield _edges(some, near, within)
        if more.any():
            yield from _all_within(tree, some[more], reach, 2 * asked)


def _edges(rows: np.ndarray, near: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(2, m) from ``rows`` (n,) to those of ``near`` (n, k) that are ``chosen`` (n, k)."""
    return np.stack([np.repeat(rows, chosen.sum(1)), near[chosen]])


def _undirected(row: np.ndarray, col: np.ndarray, n: int) -> sparse.csr_matrix:
    row, col = row[row != col], col[row != col]
    both = (np.concatenate([row, col]), np.concatenate([col, row]))
    result = sparse.csr_matrix((np.ones(2 * len(row), dtype=np.float32), both), shape=(n, n))
    result.data[:] = 1
    return result


def _given_graph(adata: AnnData, neighbors_key: str, codes: np.ndarray, names: list[str]) -> sparse.csr_matrix:
    described = adata.uns.get(neighbors_key, {})
    by_uns = described.get("connectivities_key") if isinstance(described, Mapping) else None
    found = [key for key in (neighbors_key, f"{neighbors_key}_connectivities", by_uns) if key in adata.obsp]
    if not found:
        raise KeyError(
            f"obsp[{neighbors_key!r}] and obsp['{neighbors_key}_connectivities'] do not exist: pass neighbors_key= one "
            f"of {list(adata.obsp)}, or None to build the graph."
        )
    given = sparse.csr_matrix(adata.obsp[found[0]])
    if not (np.isfinite(given.data).all() and (given.data >= 0).all()):
        raise ValueError(
            f"obsp[{found[0]!r}] holds NaN, infinite or negative weights: correct it, or pass neighbors_key=None."
        )
    row, col = given.nonzero()
    graph = _undirected(row, col, adata.n_obs)
    if graph.nnz == 0 and adata.n_obs > 1:
        raise ValueError(
            f"obsp[{found[0]!r}] joins no spots: pass a graph of near neighbours, or neighbors_key=None to build one."
        )
    sizes = np.bincount(codes, minlength=len(names))
    if graph.nnz > DENSE * (sizes * (sizes - 1)).sum() and sizes.max() > 2 * _USUAL:
        raise ValueError(
            f"obsp[{found[0]!r}] joins each spot with {graph.nnz / adata.n_obs:.0f} others on average, so it says "
            "nothing of who is next to whom: pass a graph of near neighbours, or neighbors_key=None to build one."
        )
    edges = graph.tocoo()
    crossing = codes[edges.row] != codes[edges.col]
    if crossing.any():
        first = np.argmax(crossing)
        pair = [f"{adata.obs_names[i]!r} of {names[codes[i]]!r}" for i in (edges.row[first], edges.col[first])]
        raise ValueError(
            f"obsp[{found[0]!r}] has {int(crossing.sum()) // 2} edges between slices, such as {' and '.join(pair)}: "
            "build it with library_key=, or pass neighbors_key=None."
        )
    return graph


def cut(graph: sparse.csr_matrix, mask: np.ndarray) -> sparse.csr_matrix:
    """Return ``graph`` without any edge to a spot outside ``mask`` (n_obs,)."""
    keep = sparse.diags_array(mask.astype(np.float32), format="csr")
    some = sparse.csr_matrix(keep @ graph @ keep)
    some.eliminate_zeros()
    return some


def halo(
    adjacency: sparse.csr_matrix, rows: np.ndarray, hops: int, scratch: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes within ``hops`` steps of a mini-batch, and all edges among them; cost grows with these, not with n.

    At the rim of the halo nodes lack neighbours. A network of L layers that normalises by degree is exact on ``rows``
    with ``hops = L + 1``, or with ``hops = L`` if it is given the degrees in the whole graph.

    Parameters
    ----------
    adjacency
        (n, n) symmetric, as :func:`spatial_graph` returns it.
    rows
        (m,) distinct nodes of the mini-batch.
    hops
        Steps, at least 0.
    scratch
        (n,) int64 of -1, room to work in that is left as it was; saves making it for every batch of a large graph.

    Returns
    -------
    nodes
        (h,) int64: ``rows`` in their order, then the others sorted.
    edge_index
        (2, e) int64: both directions of each edge, as positions in ``nodes``.

    Raises
    ------
    ValueError
        ``rows`` repeats a node or has one that is not in the graph, or ``hops`` is negative.
    """
    rows, n = np.asarray(rows, dtype=np.int64), adjacency.shape[0]
    scratch = np.full(n, -1, dtype=np.int64) if scratch is None else scratch
    if hops < 0 or (rows.size and (rows.min() < 0 or rows.max() >= n)) or _first(rows, scratch).size != rows.size:
        raise ValueError(f"hops must be at least 0 and rows distinct nodes below {n}; hops is {hops}.")
    scratch[rows] = np.arange(len(rows))
    rings = [rows]
    for _ in range(hops):
        near = adjacency.indices[row_entries(adjacency.indptr, rings[-1])[0]]
        rings.append(_first(near[scratch[near] < 0], scratch))
        scratch[rings[-1]] = len(rows)
    nodes = np.concatenate([rows, np.sort(np.concatenate([rows[:0], *rings[1:]]))])
    scratch[nodes] = np.arange(len(nodes))
    entries, counts = row_entries(adjacency.indptr, nodes)
    edges = np.stack([np.repeat(np.arange(len(nodes)), counts), scratch[adjacency.indices[entries]]])
    scratch[nodes] = -1
    return nodes, edges[:, edges[1] >= 0]


def _first(nodes: np.ndarray, scratch: np.ndarray) -> np.ndarray:
    """Each of ``nodes`` once; by marks in ``scratch``, which are removed again: sorting takes ten times as long."""
    before, order = scratch[nodes], np.arange(len(nodes))
    scratch[nodes] = order
    once = nodes[scratch[nodes] == order]
    scratch[nodes] = before
    return once
