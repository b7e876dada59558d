"""Encoder of features on a spatial graph."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GCNConv


class GraphInput(NamedTuple):
    """Some spots and the neighbourhood that their codes depend on.

    Attributes
    ----------
    x
        Features (n_nodes, p); the first ``len(targets)`` rows are the spots that get a code.
    edge_index
        (2, E) int64, local indices from and to, self-loops included, sorted by the node they lead to.
    edge_weight
        (E,) symmetric normalisation ``1 / sqrt(deg_i deg_j)`` with the degrees of the **whole** graph, so that a cut
        halo changes nothing.
    targets
        (n,) row numbers of the coded spots in the whole data.
    inner
        How many edges lead to target spots; they come first.
    """

    x: Tensor
    edge_index: Tensor
    edge_weight: Tensor
    targets: Tensor
    inner: int


class GCN(nn.Module):
    """Two graph convolutions (Kipf & Welling 2017), the paper's encoder for genes.

    Parameters
    ----------
    in_features
        Genes per spot.
    out_features
        d, the width of the code; the hidden layer has the same width.
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
        hidden = F.gelu(self.first(graph.x, graph.edge_index, graph.edge_weight))
        # Only targets get a second layer: averaging before multiplying, where GCNConv multiplies the whole halo first.
        edges, weight = graph.edge_index[:, : graph.inner], graph.edge_weight[: graph.inner]
        size = (len(hidden), len(graph.targets))
        return self.second.lin(self.second.propagate(edges, x=hidden, edge_weight=weight, size=size)) + self.second.bias
