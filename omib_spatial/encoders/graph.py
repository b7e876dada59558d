"""Encoder of features on a spatial graph."""

import warnings
from functools import cache
from typing import Any, NamedTuple

import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GCNConv


class SparseRows(NamedTuple):
    """Rows (n, p) in which most values are their column's usual one, as scaled expression is where nothing was counted.

    Attributes
    ----------
    usual
        The usual value of each column (p,).
    start, columns, excess
        What values have beyond it, as the three arrays of a CSR matrix: (n + 1,) and (e,) int32, (e,) float32.

    Examples
    --------
    >>> from omib_spatial.encoders import SparseRows
    >>> start, columns = torch.tensor([0, 1, 1], dtype=torch.int32), torch.tensor([2], dtype=torch.int32)
    >>> SparseRows(torch.tensor([0.0, 1.0, 2.0]), start, columns, torch.tensor([5.0])).dense()
    tensor([[0., 1., 7.],
            [0., 1., 2.]])
    """

    usual: Tensor
    start: Tensor
    columns: Tensor
    excess: Tensor

    def dense(self) -> Tensor:
        """(n, p)."""
        n, columns = len(self.start) - 1, self.columns.long()
        # The size is told, or the host would wait for a GPU to count.
        rows = torch.arange(n, device=columns.device).repeat_interleave(self.start.diff(), output_size=len(columns))
        return self.usual.repeat(n, 1).index_put_((rows, columns), self.excess + self.usual[columns])

    def linear(self, weight: Tensor) -> Tensor:
        """(n, q) rows times ``weight`` (q, p), transposed; on a CPU nothing as large as (n, p) is made."""
        # scipy, which sorts the transpose, has no half precision.
        if weight.device.type != "cpu" or weight.dtype.itemsize < 4:
            return F.linear(self.dense(), weight)
        excess = (self.excess.numpy(), self.columns.numpy(), self.start.numpy())
        matrix = sp.csr_matrix(excess, (len(self.start) - 1, len(self.usual)))
        return _SparseProduct.apply(weight, matrix) + weight @ self.usual


class _SparseProduct(torch.autograd.Function):
    """``matrix @ weight.T``; with torch's own gradient, both ways together take 1.2 to 1.6 times as long."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, matrix: sp.csr_matrix) -> Tensor:
        ctx.matrix = matrix
        return torch.sparse.mm(_layout(matrix), weight.T)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return torch.sparse.mm(_layout(ctx.matrix.T.tocsr()), grad).T, None


def _layout(matrix: sp.csr_matrix) -> Tensor:
    start, columns, values = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    _hear_of_beta()
    return torch.sparse_csr_tensor(start, columns, values, matrix.shape, check_invariants=False)


@cache
def _hear_of_beta() -> None:
    """Let torch say, once and unheard, that sparse CSR is in beta: its layout is all that is used of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.zeros(1, 1, device="cpu").to_sparse_csr()


class GraphInput(NamedTuple):
    """Some spots and the neighbourhood that their codes depend on.

    Attributes
    ----------
    features
        Of all nodes, (n_nodes, p); the first ``len(targets)`` rows are the spots that get a code. Sparse where few
        counts are stored; ``x`` is dense whatever they are.
    edge_index
        (2, E) int64, local indices from and to, self-loops included, sorted by the node they lead to.
    edge_weight
        (E,) symmetric normalisation ``1 / sqrt(deg_i deg_j)`` with the degrees of the **whole** graph, so that a cut
        halo changes nothing.
    targets
        (n,) row numbers of the coded spots in the whole data.
    inner
        How many edges lead to target spots; they come first.

    Examples
    --------
    >>> from omib_spatial.encoders import GCN, GraphInput
    >>> edges = torch.tensor([[0, 1, 1], [0, 0, 1]])  # from, to: spot 0 sees itself and its neighbour 1
    >>> weight = torch.tensor([0.5, 0.5, 1.0])
    >>> graph = GraphInput(torch.randn(2, 30), edges, weight, targets=torch.tensor([0]), inner=2)
    >>> tuple(graph.x.shape), len(graph.targets)
    ((2, 30), 1)
    """

    features: Tensor | SparseRows
    edge_index: Tensor
    edge_weight: Tensor
    targets: Tensor
    inner: int

    @property
    def x(self) -> Tensor:
        """Features (n_nodes, p), dense."""
        return self.features.dense() if isinstance(self.features, SparseRows) else self.features

    def linear(self, weight: Tensor) -> Tensor:
        """(n_nodes, q) features times ``weight`` (q, p), transposed."""
        if isinstance(self.features, SparseRows):
            return self.features.linear(weight)
        return F.linear(self.features, weight)


class GCN(nn.Module):
    """Two graph convolutions (Kipf & Welling 2017), the paper's encoder for genes.

    Parameters
    ----------
    in_features
        Genes per spot.
    out_features
        d, the width of the code; the hidden layer has the same width.

    Examples
    --------
    >>> from omib_spatial.encoders import GCN, GraphInput
    >>> edges = torch.tensor([[0, 1, 1], [0, 0, 1]])  # from, to: spot 0 sees itself and its neighbour 1
    >>> weight = torch.tensor([0.5, 0.5, 1.0])
    >>> graph = GraphInput(torch.randn(2, 30), edges, weight, targets=torch.tensor([0]), inner=2)
    >>> tuple(GCN(30, 64)(graph).shape)
    (1, 64)
    """

    hops = 2
    """How many rings of neighbours a code depends on."""

    def __init__(self, in_features: int, out_features: int = 256) -> None:
        super().__init__()
        self.out_features = out_features
        self.first = GCNConv(in_features, out_features, normalize=False)
        self.second = GCNConv(out_features, out_features, normalize=False)

    def forward(self, graph: GraphInput) -> Tensor:
        """Codes (n, out_features) of the target spots."""
        # GCNConv takes dense features alone: its product and its average are called one by one.
        product = graph.linear(self.first.lin.weight)
        hidden = self.first.propagate(graph.edge_index, x=product, edge_weight=graph.edge_weight) + self.first.bias
        hidden = F.gelu(hidden)
        # Only targets get a second layer: averaging before multiplying, where GCNConv multiplies the whole halo first.
        edges, weight = graph.edge_index[:, : graph.inner], graph.edge_weight[: graph.inner]
        size = (len(hidden), len(graph.targets))
        return self.second.lin(self.second.propagate(edges, x=hidden, edge_weight=weight, size=size)) + self.second.bias
