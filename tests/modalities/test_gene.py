import json
import tracemalloc

import anndata as ad
import dask.array as da
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn import GCNConv

from omib_spatial import tl
from omib_spatial.encoders import GCN
from omib_spatial.modalities import Gene
from omib_spatial.modalities.gene import CLIP, SOFTEN, GeneRows, column_moments, variable_genes
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides import counts as room
from omib_spatial.slides.counts import in_memory_csr
from omib_spatial.slides.gene_table import gene_table
from omib_spatial.slides.graph import spatial_graph
from omib_spatial.slides.rows import log_normalise
from omib_spatial.slides.slides import library_codes
from omib_spatial.slides.split import SpotLocations, spatial_tiles

LAYOUT = Layout(library_key="slice")
N_SPOTS, N_GENES = 64, 40


def make_tissue(seed: int = 0) -> ad.AnnData:
    """Three slices whose rows are interleaved, on 8 x 8 grids; genes differ in level and in spread."""
    rng = np.random.default_rng(seed)
    n = 3 * N_SPOTS
    level = np.exp(rng.normal(0.5, 1, N_GENES)) * np.exp(rng.normal(size=(n, N_GENES)) * rng.uniform(0, 1.2, N_GENES))
    counts = rng.poisson(level * np.exp(rng.normal(size=(n, 1)) * 0.3))
    adata = ad.AnnData(sp.csr_matrix(counts, dtype=np.float32))
    adata.var_names = [f"g{i}" for i in range(N_GENES)]
    adata.obs_names = [f"s{i}" for i in range(n)]
    code = rng.permutation(np.repeat(np.arange(3), N_SPOTS))
    adata.obs["slice"] = np.array(["a", "b", "c"])[code]
    adata.obs["reference"] = (code < 2) & (rng.random(n) < 0.8)
    adata.obsm["spatial"] = np.zeros((n, 2))
    for c in range(3):
        adata.obsm["spatial"][code == c] = np.argwhere(np.ones((8, 8))) + rng.normal(size=(64, 2)) * 0.1
    return adata


def reference(adata: ad.AnnData) -> np.ndarray:
    return adata.obs["reference"].to_numpy()


def fitted(adata: ad.AnnData, n_top_genes: int = 25, layout: Layout = LAYOUT) -> Gene:
    gene = Gene(n_top_genes, min_spots=5)
    gene.fit(Tissue(adata, layout), reference(adata))
    return gene


@pytest.fixture(autouse=True)
def threads():
    """The oracles of scanpy leave torch with another number of threads, which can slow tiny networks a hundredfold."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tissue() -> ad.AnnData:
    return make_tissue()


@pytest.fixture(scope="module")
def gene(tissue) -> Gene:
    return fitted(tissue)


@pytest.fixture(scope="module")
def rows(tissue, gene) -> GeneRows:
    return gene.prepare(Tissue(tissue, LAYOUT))


def scaled(rows: GeneRows, some: np.ndarray) -> torch.Tensor:
    """(n, genes) scaled expression of some spots."""
    return rows.batch(some).x[: len(some)]


def everything(data: GeneRows) -> np.ndarray:
    return np.arange(len(data.present))


def same_learned(one: Gene, other: Gene) -> bool:
    return (
        one.genes == other.genes
        and one.target_sum == other.target_sum
        and torch.equal(one.mean, other.mean)
        and torch.equal(one.scale, other.scale)
    )


def full_graph_codes(gcn: GCN, x: torch.Tensor, graph: sp.csr_matrix) -> torch.Tensor:
    """The network on all spots at once, normalised by torch-geometric."""
    edges = torch.from_numpy(np.stack(graph.nonzero()).astype(np.int64))
    first, second = (GCNConv(layer.in_channels, layer.out_channels) for layer in (gcn.first, gcn.second))
    first.load_state_dict(gcn.first.state_dict())
    second.load_state_dict(gcn.second.state_dict())
    return second(torch.nn.functional.gelu(first(x, edges)), edges)


# Normalisation, moments and variable genes


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
def test_log_normalise_equals_scanpy(tissue, dtype):
    counts = tissue.X.copy()
    counts.data[counts.indptr[3] : counts.indptr[4]] = 0
    adata = ad.AnnData(counts.copy())
    with pytest.warns(UserWarning, match="zero counts"):
        sc.pp.normalize_total(adata, target_sum=321.5)
    sc.pp.log1p(adata)
    given_counts = counts.astype(dtype)
    before = given_counts.copy()
    result = log_normalise(given_counts, np.asarray(counts.sum(1)).ravel(), 321.5)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.toarray(), adata.X.toarray(), rtol=1e-5)
    assert not result[3].count_nonzero()
    assert np.array_equal(given_counts.data, before.data)


def test_split_entries_are_added_before_the_logarithm_and_stored_zeros_go():
    split = sp.csr_matrix((np.array([3.0, 4, 0, 5]), np.array([1, 1, 0, 2]), np.array([0, 3, 4])), shape=(2, 3))
    result = log_normalise(split, np.array([7, 5]), 14)
    np.testing.assert_allclose(result.toarray(), np.log1p([[0, 14, 0], [0, 0, 14]]), rtol=1e-6)
    assert result.nnz == 2
    assert split.nnz == 4


@pytest.mark.parametrize("n", [7, 50_000])
def test_column_moments_are_exact_even_where_spread_is_small_against_the_mean(n):
    rng = np.random.default_rng(0)
    dense = (np.array([0.5, 6.0, 6.0]) + np.array([1.0, 0.05, 0]) * rng.normal(size=(n, 3))).astype(np.float32)
    dense[rng.random(n) < 0.5, 0] = 0
    mean, std = column_moments(sp.csr_matrix(dense))
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(mean, dense.astype(np.float64).mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, dense.astype(np.float64).std(0), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("n_slices", [1, 3])
def test_variable_genes_are_those_of_scanpy(tissue, n_slices):
    codes = np.arange(tissue.n_obs) % n_slices
    expression = log_normalise(tissue.X, np.asarray(tissue.X.sum(1)).ravel(), 100.0)
    seen = np.flatnonzero((tissue.X.toarray() > 0).sum(0) >= 40)
    assert len(seen) < N_GENES
    oracle = ad.AnnData(expression[:, seen].copy(), obs={"batch": [str(c) for c in codes]})
    sc.pp.highly_variable_genes(oracle, n_top_genes=12, batch_key="batch" if n_slices > 1 else None)
    chosen = variable_genes(expression, codes, 12, 40)
    assert np.array_equal(chosen, seen[oracle.var["highly_variable"]])
    assert len(chosen) == 12


def test_the_users_number_of_threads_is_left_alone(tissue):
    torch.set_num_threads(1)
    fitted(tissue)
    assert torch.get_num_threads() == 1


def test_few_genes_are_all_kept_and_rare_ones_never():
    expression = sp.csr_matrix(np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1]], np.float32))
    assert variable_genes(expression, np.zeros(3, int), 5, 1).tolist() == [0, 1, 2]
    assert variable_genes(expression, np.zeros(3, int), 5, 2).tolist() == [0]
    with pytest.raises(ValueError, match="No gene is seen in 4 reference spots"):
        variable_genes(expression, np.zeros(3, int), 5, 4)


# Fitting


def test_fit_is_the_documented_formula(tissue, gene):
    healthy = tissue[reference(tissue)].copy()
    depth = np.asarray(healthy.X.sum(1)).ravel()
    assert gene.target_sum == np.median(depth)
    sc.pp.normalize_total(healthy, target_sum=np.median(depth))
    sc.pp.log1p(healthy)
    sc.pp.filter_genes(healthy, min_cells=5)
    sc.pp.highly_variable_genes(healthy, n_top_genes=25, batch_key="slice")
    assert gene.genes == healthy.var_names[healthy.var["highly_variable"]].tolist()
    dense = healthy[:, gene.genes].X.toarray().astype(np.float64)
    np.testing.assert_allclose(gene.mean, dense.mean(0), rtol=1e-5)
    np.testing.assert_allclose(gene.scale, dense.std(0) + SOFTEN, rtol=1e-5)


def test_other_spots_teach_nothing(tissue, gene):
    changed = tissue.copy()
    factor = np.where(reference(tissue), 1, 9)
    factor[np.flatnonzero(factor > 1)[:20]] = 0
    changed.X = changed.X.toarray() * factor[:, None]
    assert same_learned(fitted(changed), gene)


def test_empty_reference_spots_teach_nothing(tissue):
    emptied = tissue.copy()
    emptied.X = tissue.X.toarray()
    empty = np.flatnonzero(reference(tissue))[:10]
    emptied.X[empty] = 0
    without = emptied[np.setdiff1d(np.arange(tissue.n_obs), empty)].copy()
    assert same_learned(fitted(emptied), fitted(without))


def test_reference_without_counts_is_an_error(tissue):
    empty = tissue.copy()
    empty.X = sp.csr_matrix(empty.shape, dtype=np.float32)
    with (
        pytest.raises(ValueError, match="No gene is seen"),
        pytest.warns(RuntimeWarning),
    ):
        fitted(empty)


# Kinds of matrices


def stored_zeros(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Every second absent count is stored as a zero."""
    dense = matrix.toarray()
    row, column = np.nonzero((dense > 0) | (np.arange(dense.size).reshape(dense.shape) % 2 == 0))
    pointer = np.searchsorted(row, np.arange(len(dense) + 1))
    return sp.csr_matrix((dense[row, column], column, pointer), shape=dense.shape)


IN_MEMORY = {
    "csc": lambda x: x.tocsc(),
    "csr_array": sp.csr_array,
    "dense": lambda x: x.toarray(),
    "int64": lambda x: x.astype(np.int64),
    "uint8 dense": lambda x: x.toarray().astype(np.uint8),
    "stored zeros": stored_zeros,
    "dask": lambda x: da.from_array(x.toarray(), chunks=(50, 17)),
    "dask csr": lambda x: da.from_array(x.toarray(), chunks=(50, 17)).map_blocks(sp.csr_matrix),
    "dask csc": lambda x: da.from_array(x.toarray(), chunks=(50, N_GENES)).map_blocks(sp.csc_matrix),
}


def check_same(adata: ad.AnnData, gene: Gene, rows: GeneRows, layout: Layout = LAYOUT) -> None:
    other = fitted(adata, layout=layout)
    assert same_learned(other, gene)
    result = other.prepare(Tissue(adata, layout))
    assert np.array_equal(result.present, rows.present)
    assert (result.graph != rows.graph).nnz == 0
    assert torch.equal(scaled(result, everything(rows)), scaled(rows, everything(rows)))


@pytest.mark.parametrize("kind", IN_MEMORY)
def test_any_matrix_in_memory_or_dask_gives_the_same(tissue, gene, rows, kind):
    adata = tissue.copy()
    adata.X = IN_MEMORY[kind](tissue.X)
    check_same(adata, gene, rows)
    assert type(adata.X) is type(IN_MEMORY[kind](tissue.X))
    assert adata.X.dtype == IN_MEMORY[kind](tissue.X).dtype


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
@pytest.mark.parametrize("layer", [None, "counts"])
def test_backed_files_give_the_same(tissue, gene, rows, tmp_path, monkeypatch, kind, layer):
    matrix = IN_MEMORY.get(kind, lambda x: x)(tissue.X)
    adata = ad.AnnData(matrix.copy(), obs=tissue.obs, var=tissue.var, obsm=dict(tissue.obsm))
    if layer:
        adata.layers[layer] = matrix.copy()
        adata.X = sp.csr_matrix(adata.shape, dtype=np.float32)
    adata.write_h5ad(tmp_path / "tissue.h5ad")
    monkeypatch.setattr(room, "_CHUNK_VALUES", 7 * N_GENES)
    backed = ad.read_h5ad(tmp_path / "tissue.h5ad", backed="r")
    try:
        check_same(backed, gene, rows, Layout(library_key="slice", layer=layer))
        assert backed.isbacked
    finally:
        backed.file.close()


@pytest.mark.parametrize("kind", ["csr", "dense", "dask"])
def test_a_batch_reads_its_own_rows_only(tissue, gene, tmp_path, kind):
    adata = tissue.copy()
    if kind == "dask":
        read = []
        whole = tissue.X.toarray()

        def block(piece, block_info=None):
            read.append(block_info[0]["array-location"][0])
            return piece

        adata.X = da.from_array(whole, chunks=(16, N_GENES)).map_blocks(block, dtype=whole.dtype)
        prepared = gene.prepare(Tissue(adata, LAYOUT))
        read.clear()
        prepared.expression.entries(np.array([100, 3, 5]))
        assert sorted(read) == [(0, 16), (96, 112)]
        return
    adata.X = tissue.X if kind == "csr" else tissue.X.toarray()
    adata.write_h5ad(tmp_path / "tissue.h5ad")
    backed = ad.read_h5ad(tmp_path / "tissue.h5ad", backed="r")
    try:
        prepared = gene.prepare(Tissue(backed, LAYOUT))
        counts = prepared.expression.counts
        assert not isinstance(counts.matrix, np.ndarray) and not sp.issparse(counts.matrix)
        some = np.array([100, 3, 57])
        assert (counts[some] != tissue.X[some]).nnz == 0
    finally:
        backed.file.close()


def test_dense_files_are_read_in_pieces(tissue, monkeypatch):
    asked = []

    class OnDisk:
        shape, dtype = tissue.shape, tissue.X.dtype

        def __getitem__(self, rows):
            asked.append(tissue.X[rows].shape[0])
            return tissue.X[rows].toarray()

    monkeypatch.setattr(room, "_CHUNK_VALUES", 50 * N_GENES)
    result = in_memory_csr(OnDisk())
    assert (result != tissue.X).nnz == 0
    assert asked == [50, 50, 50, 42]


def test_a_layer_is_read_in_place_of_x_and_nothing_is_written(tissue, gene, rows):
    adata = tissue.copy()
    adata.layers["counts"] = tissue.X.copy()
    adata.X = sp.csr_matrix(np.full(tissue.shape, 0.5, np.float32))
    before = adata.copy()
    check_same(adata, gene, rows, Layout(library_key="slice", layer="counts"))
    assert (adata.X != before.X).nnz == 0
    assert (adata.layers["counts"] != before.layers["counts"]).nnz == 0
    assert adata.var.equals(before.var)
    assert adata.obs.equals(before.obs)
    assert not adata.obsp
    assert adata.uns.keys() == before.uns.keys()


# Prepared rows


def test_prepared_values_are_scaled_and_clipped_log_expression(tissue, gene, rows):
    normal = tissue.copy()
    sc.pp.normalize_total(normal, target_sum=gene.target_sum)
    sc.pp.log1p(normal)
    dense = normal[:, gene.genes].X.toarray().astype(np.float64)
    expected = ((dense - gene.mean.numpy()) / gene.scale.numpy()).clip(-CLIP, CLIP)
    some = np.array([100, 3, 57])
    np.testing.assert_allclose(scaled(rows, some), expected[some], atol=1e-4)
    at_reference = scaled(rows, np.flatnonzero(reference(tissue)))
    assert at_reference.mean(0).abs().max() < 0.1
    assert rows.present.all()


def test_extreme_values_are_clipped_on_both_sides(tissue):
    odd = tissue.copy()
    odd.X = tissue.X.toarray()
    odd.X[:, 0] += 200
    odd.X[0] = 0
    odd.X[0, 1] = 1e6
    gene = fitted(odd, n_top_genes=N_GENES)
    first = scaled(gene.prepare(Tissue(odd, LAYOUT)), np.array([0]))[0]
    assert first[gene.genes.index("g1")] == CLIP
    assert first[gene.genes.index("g0")] == -CLIP


def test_genes_are_found_by_name(tissue, gene, rows):
    order = np.random.default_rng(0).permutation(N_GENES)
    extra = ad.AnnData(sp.csr_matrix((tissue.n_obs, 3), dtype=np.float32), obs=tissue.obs[[]])
    extra.var_names = ["new1", "new2", "new3"]
    shuffled = ad.concat([tissue[:, order], extra], axis=1, merge="first")
    result = gene.prepare(Tissue(shuffled, LAYOUT))
    assert torch.equal(scaled(result, everything(rows)), scaled(rows, everything(rows)))


def test_missing_genes_are_at_the_mean_and_the_others_as_without_them(tissue, gene):
    lost = gene.genes[::5]
    emptied = tissue.copy()
    emptied.X = tissue.X.toarray()
    emptied.X[:, emptied.var_names.isin(lost)] = 0
    fewer = emptied[:, ~emptied.var_names.isin(lost)].copy()
    result = scaled(gene.prepare(Tissue(fewer, LAYOUT)), np.arange(tissue.n_obs))
    at = np.isin(gene.genes, lost)
    assert result.shape == (tissue.n_obs, len(gene.genes))
    assert not result[:, at].any()
    expected = scaled(gene.prepare(Tissue(emptied, LAYOUT)), np.arange(tissue.n_obs))
    assert torch.equal(result[:, ~at], expected[:, ~at])
    assert result[:, ~at].any(0).all()


def test_foreign_genes_are_refused_and_few_shared_ones_warned_of(tissue, gene):
    with pytest.warns(UserWarning, match="of the model's 25 genes"):
        gene.prepare(Tissue(tissue[:, gene.genes[:10]].copy(), LAYOUT))
    foreign = tissue.copy()
    foreign.var_names = [f"ENSG{i:011d}" for i in range(N_GENES)]
    with pytest.raises(ValueError, match="None of the model's 25 genes"):
        gene.prepare(Tissue(foreign, LAYOUT))


def test_a_spot_without_counts_is_as_if_it_were_not_there(tissue, gene):
    empty = np.array([5, 80, 81])
    adata = tissue.copy()
    adata.X = tissue.X.toarray()
    adata.X[empty] = 0
    result = gene.prepare(Tissue(adata, LAYOUT))
    assert np.flatnonzero(~result.present).tolist() == empty.tolist()
    whole = spatial_graph(adata, library_key="slice").toarray()
    assert whole[empty].any()
    whole[empty] = whole[:, empty] = 0
    assert np.array_equal(result.graph.toarray(), whole)
    some = result.batch(np.flatnonzero(result.present))
    assert len(some.x) == result.present.sum()


def test_the_slice_alone_gives_the_same_as_among_others(tissue, gene, rows):
    here = (tissue.obs["slice"] == "b").to_numpy()
    alone = gene.prepare(Tissue(tissue[here].copy(), LAYOUT))
    assert torch.equal(scaled(alone, np.arange(here.sum())), scaled(rows, np.flatnonzero(here)))
    assert (alone.graph != rows.graph[here][:, here]).nnz == 0
    np.testing.assert_allclose(
        alone.features(np.arange(here.sum())), rows.features(np.flatnonzero(here)), rtol=1e-5, atol=1e-6
    )


# Batches


@pytest.fixture(scope="module")
def gcn(gene) -> GCN:
    torch.manual_seed(0)
    network = gene.encoder()
    assert network.first.in_channels == len(gene.genes)
    return network.eval()


@settings(max_examples=25)
@given(st.lists(st.integers(0, 3 * N_SPOTS - 1), min_size=1, max_size=40, unique=True))
def test_codes_of_any_batch_are_those_of_the_whole_graph(rows, gcn, some):
    batch = rows.batch(np.array(some))
    with torch.no_grad():
        whole = full_graph_codes(gcn, scaled(rows, everything(rows)), rows.graph)
        codes = gcn(batch)
    assert batch.targets.tolist() == some
    torch.testing.assert_close(codes, whole[some], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [3, 32, 1000])
def test_codes_do_not_depend_on_the_tiles(tissue, rows, gcn, size):
    codes, _ = library_codes(tissue, "slice")
    tiles = spatial_tiles(SpotLocations(tissue.obsm["spatial"], codes), everything(rows), size)
    with torch.no_grad():
        tiled = torch.cat([gcn(rows.batch(tile)) for tile in tiles])
        whole = full_graph_codes(gcn, scaled(rows, everything(rows)), rows.graph)
    torch.testing.assert_close(tiled, whole[np.concatenate(tiles)], atol=1e-5, rtol=1e-5)


def test_a_batch_holds_no_more_than_its_halo(rows):
    batch = rows.batch(np.array([7]))
    ring = (sp.eye_array(len(rows.present)) + rows.graph) @ (sp.eye_array(len(rows.present)) + rows.graph)
    assert len(batch.x) == ring[[7]].nnz < N_SPOTS
    assert torch.equal(batch.x[0], scaled(rows, np.array([7]))[0])


def brute_force_features(rows: GeneRows) -> np.ndarray:
    x, graph = scaled(rows, everything(rows)).numpy().astype(np.float64), rows.graph.toarray()
    return np.stack([x[np.append(np.flatnonzero(near), i)].mean(0) for i, near in enumerate(graph)])


@settings(max_examples=15)
@given(st.lists(st.integers(0, 3 * N_SPOTS - 1), min_size=1, max_size=40, unique=True))
def test_features_are_means_over_the_closed_neighbourhood(rows, some):
    result = rows.features(np.array(some))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, brute_force_features(rows)[some], atol=1e-5)


def test_projected_features_are_features_times_axes(rows):
    rng = np.random.default_rng(0)
    origin, axes = rng.normal(size=25).astype(np.float32), rng.normal(size=(25, 4)).astype(np.float32)
    some = np.array([100, 3, 57])
    result = rows.project(some, origin, axes)
    np.testing.assert_allclose(result, (rows.features(some) - origin) @ axes, atol=1e-4)


@settings(max_examples=15)
@given(st.lists(st.integers(0, 3 * N_SPOTS - 1), min_size=1, max_size=40, unique=True))
def test_a_batch_and_its_projection_are_the_same_together(rows, some):
    rng = np.random.default_rng(0)
    origin, axes = rng.normal(size=25).astype(np.float32), rng.normal(size=(25, 4)).astype(np.float32)
    batch, projected = rows.batch_with_summary(np.array(some), origin, axes)
    for one, other in zip(batch, rows.batch(np.array(some)), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    oracle = (brute_force_features(rows)[some] - origin) @ axes
    np.testing.assert_allclose(projected, oracle, atol=1e-4)


# Some spots only


def test_masked_cuts_edges_and_presence_shares_expression_and_leaves_the_original(tissue, gene, gcn):
    data = gene.prepare(Tissue(tissue, LAYOUT))
    graph = data.graph.copy()
    mask = np.random.default_rng(0).random(tissue.n_obs) < 0.6
    some = data.masked(mask)
    assert np.array_equal(some.present, mask)
    assert np.array_equal(some.graph.toarray(), graph.toarray() * mask * mask[:, None])
    assert some.graph.nnz == np.count_nonzero(some.graph.data)
    assert some.expression is data.expression
    assert data.present.all()
    assert (data.graph != graph).nnz == 0

    kept = np.flatnonzero(mask)
    with torch.no_grad():
        whole = full_graph_codes(gcn, scaled(some, kept), some.graph[kept][:, kept])
        torch.testing.assert_close(gcn(some.batch(kept[::3])), whole[::3], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(some.features(kept), brute_force_features(some)[kept], atol=1e-5)


def test_masks_can_be_repeated(rows):
    one, two = np.arange(192) % 2 == 0, np.arange(192) % 3 == 0
    twice, once = rows.masked(one).masked(two), rows.masked(one & two)
    assert np.array_equal(twice.present, once.present)
    assert (twice.graph != once.graph).nnz == 0


def test_masked_is_blind_to_spots_outside(tissue, gene, gcn):
    mask = np.random.default_rng(1).random(tissue.n_obs) < 0.6
    changed = tissue.copy()
    changed.X = tissue.X.toarray()
    changed.X[~mask] += 50
    kept = np.flatnonzero(mask)
    one, other = (gene.prepare(Tissue(a, LAYOUT)).masked(mask) for a in (tissue, changed))
    assert torch.equal(gcn(one.batch(kept)), gcn(other.batch(kept)))
    assert np.array_equal(one.features(kept), other.features(kept))


# State


def test_state_survives_json(tissue, gene, rows):
    config, tensors = gene.state()
    again = Gene.from_state(json.loads(json.dumps(config)), {k: v.clone() for k, v in tensors.items()})
    assert same_learned(again, gene)
    assert (again.n_top_genes, again.min_spots) == (25, 5)
    assert torch.equal(scaled(again.prepare(Tissue(tissue, LAYOUT)), everything(rows)), scaled(rows, everything(rows)))


# Memory


def large_tissue(n: int, n_genes: int) -> ad.AnnData:
    rng = np.random.default_rng(0)
    counts = sp.random(n, n_genes, 0.02, format="csr", dtype=np.float32, random_state=0)
    counts.data = np.ceil(counts.data * 5)
    adata = ad.AnnData(counts, obsm={"spatial": rng.random((n, 2))})
    adata.obsp["near"] = spatial_graph(adata)
    return adata


def test_nothing_dense_is_made_of_all_spots(monkeypatch):
    adata = large_tissue(6000, 1000)
    layout = Layout(neighbors_key="near")
    reference = np.arange(6000) % 2 == 0
    Gene(200).fit(Tissue(adata, layout), reference)  # imports are done before memory is traced
    tracemalloc.start()
    gene = Gene(200)
    gene.fit(Tissue(adata, layout), reference)
    rows = gene.prepare(Tissue(adata, layout))
    some = rows.masked(reference)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Bytes. Dense float32 counts take 24e6, those of the chosen genes 5e6, a boolean n x n matrix 36e6.
    assert peak < 6000 * 1000 * 4 / 2
    held = {id(a): a.nbytes for a in vars(rows).values() if isinstance(a, np.ndarray)}
    assert sum(held.values()) + rows.graph.data.nbytes + rows.graph.indices.nbytes < 6000 * 200
    assert rows.expression.counts.matrix is adata.X
    assert some.batch(np.array([0, 2, 4])).x.shape[0] < 150


# Symbols and Ensembl ids


def renamed(adata: ad.AnnData, kind: str) -> ad.AnnData:
    """The same spots under other names of the genes."""
    table = gene_table("human")
    table = table[~table["symbol"].duplicated()].set_index("symbol").loc[adata.var_names]
    ids = table["ensembl"].to_numpy(object)
    former = table["former"].str.split("|").str[0].to_numpy(object)
    other = adata.copy()
    other.var_names = {
        "symbols": adata.var_names.to_numpy(object),
        "ids": ids,
        "versions": ids + ".11",
        "former": np.where(former == "", adata.var_names, former),
        "lower case": adata.var_names.str.lower(),
        "ids in a column": np.array([f"feature{i}" for i in range(adata.n_vars)], object),
    }[kind]
    if kind == "ids in a column":
        other.var["gene_ids"] = ids
    return other


@pytest.fixture(scope="module")
def slides(planted) -> tuple[ad.AnnData, ad.AnnData]:
    """What is learned from, and a target whose genes stand in another order; neither has all genes."""
    source, target = planted(share=0.0, side=12), planted(share=0.3, side=12, seed=1)
    order = np.random.default_rng(0).permutation(target.n_vars)[:1400]
    return source[:, 50:].copy(), target[:, order].copy()


@pytest.mark.parametrize(
    ("model", "target"),
    [
        ("symbols", "ids"),
        ("symbols", "versions"),
        ("symbols", "former"),
        ("symbols", "ids in a column"),
        ("ids", "symbols"),
        ("versions", "symbols"),
        ("ids", "versions"),
        ("versions", "ids in a column"),
    ],
)
def test_names_of_model_and_target_are_translated_bit_for_bit(slides, model, target):
    everywhere = np.arange(slides[1].n_obs)
    one, other = Gene(300), Gene(300)
    one.fit(Tissue(slides[0]), np.ones(slides[0].n_obs, bool))
    other.fit(Tissue(renamed(slides[0], model)), np.ones(slides[0].n_obs, bool))
    assert torch.equal(one.mean, other.mean) and (one.genes == other.genes) == (model == "symbols")
    expected, found = one.prepare(Tissue(slides[1])), other.prepare(Tissue(renamed(slides[1], target)))
    assert torch.equal(scaled(found, everywhere), scaled(expected, everywhere))
    np.testing.assert_array_equal(found.features(everywhere), expected.features(everywhere))


@pytest.mark.parametrize(("model", "target"), [("symbols", "ids"), ("ids", "symbols")])
def test_a_model_scores_a_target_under_other_names_bit_for_bit(slides, model, target):
    quick = {"all_healthy": True, "max_epochs": 2, "enable_progress_bar": False}
    fitted_model = tl.fit(renamed(slides[0], model), **quick)
    same_names, other_names = (renamed(slides[1], kind) for kind in (model, target))
    for adata in (same_names, other_names):
        tl.score(adata, fitted_model)
    assert fitted_model.params["modalities"] == ["gene", "genome"]
    np.testing.assert_array_equal(other_names.obs["omib_score"], same_names.obs["omib_score"])
    np.testing.assert_array_equal(other_names.obsm["X_omib"], same_names.obsm["X_omib"])
