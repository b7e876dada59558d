import math
from unittest.mock import patch

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf
from torch import Tensor
from torch_geometric.nn import GCNConv

from omib_spatial.encoders import GCN, GraphInput, SparseRows
from omib_spatial.modalities.gene import GeneRows
from omib_spatial.slides.graph import halo
from omib_spatial.slides.rows import CountRows, LogRows

GENES, WIDTH = 6, 5


def random_graph(n: int, seed: int, density: float = 0.08) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n, n)) < density, 1)
    return sp.csr_matrix((upper | upper.T).astype(np.float32))


def gene_rows(graph: sp.csr_matrix, seed: int, filled: float = 0.5) -> GeneRows:
    """Random sparse expression on a graph; absent counts are not at zero."""
    counts = sp.random(graph.shape[0], GENES, filled, format="csr", dtype=np.float32, random_state=seed)
    expression = LogRows(CountRows(counts), np.ones(graph.shape[0]), 1.0, np.arange(GENES))
    return GeneRows(expression, graph, torch.linspace(-1, 1, GENES), torch.ones(GENES))


def encoder(seed: int = 0) -> GCN:
    torch.manual_seed(seed)
    gcn = GCN(GENES, WIDTH)
    for layer in (gcn.first, gcn.second):
        torch.nn.init.normal_(layer.bias)
    return gcn


def dense_twin(gcn: GCN, graph: sp.csr_matrix, x: np.ndarray) -> np.ndarray:
    """``A_hat gelu(A_hat X W1 + b1) W2 + b2`` with ``A_hat = D^-1/2 (A + I) D^-1/2``, on all nodes."""
    loops = graph.toarray().astype(np.float64) + np.eye(graph.shape[0])
    root = 1 / np.sqrt(loops.sum(1))
    a_hat = root[:, None] * loops * root
    w = {name: p.detach().numpy().astype(np.float64) for name, p in gcn.named_parameters()}
    hidden = a_hat @ x @ w["first.lin.weight"].T + w["first.bias"]
    hidden = hidden * (1 + erf(hidden / math.sqrt(2))) / 2
    return a_hat @ hidden @ w["second.lin.weight"].T + w["second.bias"]


@settings(max_examples=15)
@given(
    n=st.integers(1, 40), seed=st.integers(0, 10_000), density=st.floats(0, 0.3), filled=st.sampled_from([0, 0.05, 0.5])
)
def test_whole_graph_equals_the_dense_twin(n, seed, density, filled):
    graph = random_graph(n, seed, density)
    rows, gcn = gene_rows(graph, seed, filled), encoder(seed)
    batch = rows.batch(np.arange(n))
    np.testing.assert_allclose(
        gcn(batch).detach().numpy(), dense_twin(gcn, graph, batch.x.numpy()), rtol=1e-4, atol=1e-5
    )


def test_few_stored_counts_stay_sparse_and_train_the_same_weights():
    graph = random_graph(40, 1)
    batch, gcn = gene_rows(graph, 1, 0.05).batch(np.arange(40)), encoder()
    fuller = gene_rows(graph, 1).batch(np.arange(40))
    assert isinstance(batch.features, SparseRows) and isinstance(fuller.features, Tensor)
    found = []
    for some in (batch, batch._replace(features=batch.x)):
        gcn.zero_grad()
        gcn(some).square().sum().backward()
        found.append([p.grad.clone() for p in gcn.parameters()])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_sparse_rows_have_any_precision(dtype):
    rows = gene_rows(random_graph(10, 0), 0, 0.05).batch(np.arange(10)).features
    other = SparseRows(*(part.to(dtype) if part.is_floating_point() else part for part in rows))
    weight = torch.randn(WIDTH, GENES, dtype=dtype)
    torch.testing.assert_close(other.linear(weight), other.dense() @ weight.T)


def test_what_is_no_cpu_multiplies_dense_rows():
    rows = gene_rows(random_graph(10, 0), 0, 0.05).batch(np.arange(10)).features
    weight = torch.empty(WIDTH, GENES, device="meta")
    elsewhere = SparseRows(*(part.to("meta") for part in rows))
    with patch.object(SparseRows, "dense", return_value=torch.empty(10, GENES, device="meta")) as dense:
        assert elsewhere.linear(weight).shape == (10, WIDTH)
    dense.assert_called_once()


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 60))
def test_halo_batches_give_the_codes_of_the_whole_graph(seed, size):
    n = 60
    graph = random_graph(n, seed, 0.04)
    rows, gcn = gene_rows(graph, seed), encoder(seed)
    whole = gcn(rows.batch(np.arange(n)))
    order = np.random.default_rng(seed).permutation(n)
    for part in np.split(order, range(size, n, size)):
        torch.testing.assert_close(gcn(rows.batch(part)), whole[part], rtol=0, atol=1e-5)


def test_batch_is_only_its_halo_and_codes_come_in_the_order_asked_for():
    line = sp.diags_array([np.ones(19), np.ones(19)], offsets=[-1, 1], format="csr").astype(np.float32)
    rows, gcn = gene_rows(sp.csr_matrix(line), 0), encoder()
    batch = rows.batch(np.array([12, 3]))
    nodes, _ = halo(rows.graph, np.array([12, 3]), GCN.hops)
    assert sorted(nodes) == [1, 2, 3, 4, 5, 10, 11, 12, 13, 14]
    assert len(batch.x) == 10
    assert gcn(batch).shape == (2, WIDTH)
    torch.testing.assert_close(gcn(batch), gcn(rows.batch(np.array([3, 12]))).flip(0))


def test_code_depends_on_two_rings_of_neighbours_and_no_more():
    line = sp.csr_matrix(sp.diags_array([np.ones(19), np.ones(19)], offsets=[-1, 1], format="csr").astype(np.float32))
    rows, gcn = gene_rows(line, 0), encoder()
    whole = rows.batch(np.arange(20))
    x = whole.x.clone().requires_grad_()
    gcn(whole._replace(features=x))[8].sum().backward()
    assert x.grad.any(1).nonzero().squeeze(1).tolist() == [6, 7, 8, 9, 10]


def test_cut_edges_do_not_reach_a_spot_that_is_not_there():
    graph = random_graph(30, 3, 0.2)
    mask = np.arange(30) % 3 != 0
    rows, gcn = gene_rows(graph, 3), encoder()
    some = rows.masked(mask)
    left = np.flatnonzero(mask)
    expression = rows.batch(np.arange(30)).x[left].numpy()
    twin = dense_twin(gcn, graph[left][:, left], expression)
    np.testing.assert_allclose(gcn(some.batch(left)).detach().numpy(), twin, rtol=1e-4, atol=1e-5)


def test_agrees_with_the_normalisation_of_torch_geometric():
    graph = random_graph(25, 5, 0.2)
    rows, gcn = gene_rows(graph, 5), encoder()
    batch = rows.batch(np.arange(25))
    first, second = GCNConv(GENES, WIDTH), GCNConv(WIDTH, WIDTH)
    first.load_state_dict(gcn.first.state_dict())
    second.load_state_dict(gcn.second.state_dict())
    edges = torch.from_numpy(np.stack(graph.nonzero()))
    hidden = torch.nn.functional.gelu(first(batch.x, edges))
    torch.testing.assert_close(gcn(batch), second(hidden, edges), rtol=1e-4, atol=1e-5)


def test_lonely_spot_is_coded_from_itself():
    gcn = encoder()
    x = torch.randn(1, GENES)
    alone = GraphInput(x, torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), torch.zeros(1, dtype=torch.int64), 1)
    assert gcn(alone).detach().numpy() == pytest.approx(
        dense_twin(gcn, sp.csr_matrix((1, 1)), x.numpy()), rel=1e-4, abs=1e-5
    )


def test_default_width():
    assert GCN(GENES).out_features == 256
