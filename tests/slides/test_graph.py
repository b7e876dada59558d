import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import squidpy as sq
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch_geometric.nn import GCNConv
from torch_geometric.utils import k_hop_subgraph

from omib_spatial.slides.graph import TIE, halo, spatial_graph

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[2] / "../shared/data"))


def spots(xy: np.ndarray, library: np.ndarray | None = None) -> ad.AnnData:
    obs = pd.DataFrame(index=[f"s{i}" for i in range(len(xy))])
    if library is not None:
        obs["slice"] = np.asarray(library).astype(str)
    return ad.AnnData(obs=obs, obsm={"spatial": np.asarray(xy, dtype=float)})


def brute_force(xy: np.ndarray, k: int, library: np.ndarray) -> np.ndarray:
    """Spot by spot: join it with all of its slice that are no further away than the k-th, by full sorting."""
    result = np.zeros((len(xy), len(xy)))
    for i in range(len(xy)):
        others = [j for j in range(len(xy)) if j != i and library[j] == library[i]]
        distance = [np.linalg.norm(xy[i] - xy[j]) for j in others]
        for j, d in zip(others, distance, strict=True):
            if d <= sorted(distance)[:k][-1] * (1 + TIE):
                result[i, j] = result[j, i] = 1
    return result


def lattice(kind: str, rows: int, columns: int) -> np.ndarray:
    """Spots 1 apart on a square or a hexagonal grid, or anywhere."""
    x, y = (part.ravel().astype(float) for part in np.meshgrid(np.arange(columns), np.arange(rows)))
    if kind == "hexagonal":
        return np.stack([x + (y % 2) / 2, y * np.sqrt(3) / 2], 1)
    if kind == "square":
        return np.stack([x, y], 1)
    return np.random.default_rng(rows).random((rows * columns, 2)) * columns


def turned(xy: np.ndarray, angle: float, mirrored: bool) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return xy @ np.array([[c, -s], [s, c]]).T * ([-1, 1] if mirrored else 1)


sections = st.lists(st.integers(1, 12), min_size=1, max_size=4)


@settings(max_examples=25)
@given(sizes=sections, k=st.integers(1, 7), seed=st.integers(0, 2**32 - 1))
def test_equals_brute_force_with_interleaved_slices_of_any_size(sizes, k, seed):
    rng = np.random.default_rng(seed)
    library = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    xy = rng.normal(size=(len(library), 2))
    graph = spatial_graph(spots(xy, library), library_key="slice", n_neighbors=k)
    assert graph.dtype == np.float32
    assert graph.has_sorted_indices
    assert np.array_equal(graph.toarray(), brute_force(xy, k, library))
    assert (graph != graph.T).nnz == 0
    assert not graph.diagonal().any()


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["square", "hexagonal", "anywhere"]),
    k=st.integers(1, 9),
    angle=st.one_of(st.floats(0, 7), st.sampled_from(np.radians([30, 45, 60, 90, 180]).tolist())),
    mirrored=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_turned_mirrored_moved_scaled_or_shuffled_slices_have_the_same_edges(kind, k, angle, mirrored, seed):
    rng = np.random.default_rng(seed)
    xy = lattice(kind, 6, 9)
    # A ragged rim has spots whose last neighbours tie.
    xy = xy[rng.random(len(xy)) < 0.8]
    order = rng.permutation(len(xy))
    expected = spatial_graph(spots(xy), n_neighbors=k).toarray()[np.ix_(order, order)]
    moved = turned(xy[order], angle, mirrored) * rng.uniform(1, 500) + rng.uniform(-3e4, 3e4, 2)
    assert np.array_equal(spatial_graph(spots(moved), n_neighbors=k).toarray(), expected)


@pytest.mark.parametrize("kind", ["square", "hexagonal"])
def test_a_grid_is_known_in_single_precision_too(kind):
    xy = lattice(kind, 20, 20) * 100 + 3e4
    expected = spatial_graph(spots(xy)).toarray()
    for angle in np.linspace(0.1, 3, 7):
        rounded = turned(xy, angle, True).astype(np.float32)
        assert np.array_equal(spatial_graph(spots(rounded)).toarray(), expected)


@pytest.mark.parametrize(("kind", "k", "degree"), [("hexagonal", 6, 6), ("square", 6, 8), ("square", 4, 4)])
def test_within_a_grid_all_neighbours_of_a_ring_are_taken(kind, k, degree):
    xy = lattice(kind, 12, 12)
    inner = ((xy > xy.max(0) * 0.25) & (xy < xy.max(0) * 0.75)).all(1)
    found = np.asarray(spatial_graph(spots(xy), n_neighbors=k).sum(1)).ravel()[inner]
    assert inner.sum() >= 20 and (found == degree).all()


def test_however_many_tie_all_are_taken():
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    graph = spatial_graph(spots(np.concatenate([np.zeros((1, 2)), ring])), n_neighbors=2).toarray()
    assert graph[0, 1:].all() and graph.sum() == 2 * (60 + 60)


def test_spots_in_one_place_are_joined():
    assert spatial_graph(spots(np.zeros((5, 2))), n_neighbors=2).sum() == 5 * 4


def test_a_slice_does_not_depend_on_the_others():
    rng = np.random.default_rng(0)
    library = rng.permutation(np.repeat([0, 1, 2], [30, 4, 1]))
    adata = spots(rng.integers(0, 6, size=(35, 2)) + rng.normal(scale=1e-3, size=(35, 2)), library)
    together = spatial_graph(adata, library_key="slice").toarray()
    for name in "012":
        rows = np.flatnonzero(adata.obs["slice"] == name)
        alone = spatial_graph(adata[rows].copy(), library_key="slice").toarray()
        assert np.array_equal(together[np.ix_(rows, rows)], alone)
        assert together[rows].sum() == alone.sum()


def test_writes_nothing_and_accepts_no_spots():
    adata = spots(np.random.default_rng(0).normal(size=(9, 2)), np.zeros(9))
    spatial_graph(adata, library_key="slice")
    assert adata.obs["slice"].dtype == spots(np.zeros((9, 2)), np.zeros(9)).obs["slice"].dtype
    assert not adata.obsp.keys()
    assert not adata.uns
    assert spatial_graph(adata[:0].copy()).shape == (0, 0)


@pytest.mark.parametrize("key", ["spatial_connectivities", "spatial", "spatial_neighbors"])
def test_reuses_a_given_graph_symmetrised(key):
    adata = spots(np.random.default_rng(0).normal(size=(40, 2)))
    sq.gr.spatial_neighbors(adata, coord_type="generic", n_neighs=3)
    directed = adata.obsp["spatial_connectivities"].copy()
    assert (directed != directed.T).nnz > 0
    graph = spatial_graph(adata, neighbors_key=key)
    assert np.array_equal(graph.toarray(), ((directed + directed.T) > 0).toarray())
    assert (adata.obsp["spatial_connectivities"] != directed).nnz == 0


def test_given_graph_loses_weights_loops_and_stored_zeros():
    adata = spots(np.zeros((3, 2)))
    weights = sparse.coo_matrix(([0.3, 0.0, 5.0], ([0, 1, 2], [1, 2, 2])), shape=(3, 3))
    adata.obsp["mine"] = weights.tocsr()
    assert spatial_graph(adata, neighbors_key="mine").toarray().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_given_graph_between_slices_is_refused():
    adata = spots(np.random.default_rng(0).normal(size=(10, 2)), np.arange(10) % 2)
    sq.gr.spatial_neighbors(adata, coord_type="generic", n_neighs=4)
    with pytest.raises(ValueError, match=r"edges between slices, such as 's\d' of '[01]' and 's\d' of '[01]'"):
        spatial_graph(adata, library_key="slice", neighbors_key="spatial")
    adata.obs["slice"] = adata.obs["slice"].astype("category")
    sq.gr.spatial_neighbors(adata, coord_type="generic", n_neighs=3, library_key="slice")
    assert spatial_graph(adata, library_key="slice", neighbors_key="spatial").nnz > 0


def test_errors():
    adata = spots(np.zeros((3, 2)))
    with pytest.raises(KeyError, match="neighbors_key="):
        spatial_graph(adata, neighbors_key="absent")
    with pytest.raises(ValueError, match="n_neighbors is 0"):
        spatial_graph(adata, n_neighbors=0)
    adata.obsm["spatial"][1] = np.nan
    with pytest.raises(ValueError, match="'s1'"):
        spatial_graph(adata)


def random_graph(n: int, seed: int) -> sparse.csr_matrix:
    half = sparse.random(n, n, density=min(1, 1.2 / n), random_state=np.random.default_rng(seed), format="csr")
    graph = ((half + half.T) > 0).astype(np.float32).tolil()
    graph.setdiag(0)
    return graph.tocsr()


@settings(max_examples=60)
@given(n=st.integers(1, 60), hops=st.integers(0, 4), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_halo_equals_brute_force_and_pyg(n, hops, seed, data):
    graph = random_graph(n, seed)
    rows = np.array(data.draw(st.lists(st.integers(0, n - 1), unique=True, max_size=8)), dtype=np.int64)
    nodes, edges = halo(graph, rows, hops)
    assert nodes.dtype == edges.dtype == np.int64

    reached = set(rows.tolist())
    for _ in range(hops):
        reached |= {j for i in reached for j in graph[i].indices.tolist()}
    assert nodes.tolist() == rows.tolist() + sorted(reached - set(rows.tolist()))
    found = set(zip(nodes[edges[0]].tolist(), nodes[edges[1]].tolist(), strict=True))
    assert found == {(i, j) for i in reached for j in graph[i].indices.tolist() if j in reached}
    assert len(found) == edges.shape[1]

    whole = torch.from_numpy(np.stack(graph.nonzero()).astype(np.int64))
    if rows.size:
        subset, pyg_edges, _, _ = k_hop_subgraph(torch.from_numpy(rows), hops, whole, num_nodes=n)
        assert set(subset.tolist()) == reached
        assert found == set(map(tuple, pyg_edges.T.tolist()))


def test_graph_network_on_the_halo_equals_the_whole_graph():
    torch.manual_seed(0)
    graph = spatial_graph(spots(np.random.default_rng(0).normal(size=(400, 2))))
    first, second, features = GCNConv(5, 7), GCNConv(7, 3), torch.randn(400, 5)

    def network(x, edges):
        return second(first(x, edges).relu(), edges)

    rows = np.array([399, 7, 100])
    nodes, edges = halo(graph, rows, 3)
    assert len(nodes) < 200
    whole = network(features, torch.from_numpy(np.stack(graph.nonzero()).astype(np.int64)))[rows]
    part = network(features[nodes], torch.from_numpy(edges))[: len(rows)]
    torch.testing.assert_close(part, whole)


@pytest.mark.parametrize(("rows", "hops"), [([1, 1], 1), ([-1], 1), ([5], 1), ([0], -1)])
def test_halo_refuses_what_it_cannot_do(rows, hops):
    with pytest.raises(ValueError, match="rows distinct nodes below 5"):
        halo(random_graph(5, 0), np.array(rows), hops)


@pytest.mark.skipif(not (DATA / "her2st").is_dir(), reason=f"no her2st sections in {DATA}; set OMIB_DATA")
def test_real_sections_have_short_edges_only():
    sections = [ad.read_h5ad(DATA / "her2st" / f"{name}.h5ad") for name in ("B4", "C2")]
    adata = ad.concat(sections, join="outer", index_unique="-")
    adata = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    graph = spatial_graph(adata, library_key="section", n_neighbors=4).tocoo()
    assert (adata.obs["section"].to_numpy()[graph.row] == adata.obs["section"].to_numpy()[graph.col]).all()
    grid = adata.obs[["array_row", "array_col"]].to_numpy(dtype=float)
    steps = np.abs(grid[graph.row] - grid[graph.col]).sum(axis=1)
    assert np.median(steps) == 1
    assert (steps <= 2).mean() > 0.95
