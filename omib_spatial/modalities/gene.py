"""Expression on the spatial graph."""

from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import scipy.sparse as sp
import torch
from anndata import AnnData
from sklearn.utils.sparsefuncs import mean_variance_axis
from torch import Tensor, nn

from omib_spatial._checked import Count, Whole, checked
from omib_spatial.encoders.graph import GCN, GraphInput, SparseRows
from omib_spatial.modalities.base import Modality, Prepared, State
from omib_spatial.modalities.slide_statistics import EXPRESSION, SlideDescription, describe_expression
from omib_spatial.slides import Tissue
from omib_spatial.slides.graph import cut, halo
from omib_spatial.slides.rows import LogRows, log_normalise
from omib_spatial.slides.shared_genes import check_shared_genes
from omib_spatial.stats.smooth import counting_noise, walk

CLIP = 5.0
"""Scaled expression is held within this many standard deviations of the reference, so that no single gene decides."""
FIT_ROWS = 50_000
"""Reference spots that genes, means and scales are learned from at most."""
FILLED = 0.1
"""Share of counts that are stored above which a dense product is faster than a sparse one (one CPU core, training)."""
LEAST = 1e-5
"""Standard deviation of log expression up to which a gene is the same everywhere, but for rounding."""
PIECE = 8192
"""Spots that are projected at a time."""
SOFTEN = 0.1
"""Added to every gene's standard deviation: a gene that hardly varies in the reference must not blow up."""


class Gene(Modality):
    """Raw counts to scaled log expression of the reference's most variable genes.

    Parameters
    ----------
    n_top_genes
        Genes kept, the most variable within the reference slices (all where there are fewer).
    min_spots
        A gene must be seen in at least this many reference spots.

    Examples
    --------
    >>> from omib_spatial.modalities import Gene
    >>> options = {"reference_key": "healthy", "library_key": "library_id", "max_epochs": 6}
    >>> fitted = omib.tl.fit(adata, modalities={"gene": Gene(n_top_genes=50)}, **options)
    >>> len(fitted.modalities["gene"].genes)
    50
    """

    statistics = EXPRESSION

    @checked
    def __init__(self, n_top_genes: Count = 3000, min_spots: Whole = 10) -> None:
        self.n_top_genes, self.min_spots = n_top_genes, min_spots
        self.genes: list[str] = []
        self.target_sum = 1e4
        self.mean = self.scale = torch.empty(0)

    @classmethod
    def offered(cls, tissue: Tissue) -> bool:
        """Always: counts are what an AnnData is for."""
        return True

    def check(self, tissue: Tissue, *, required: bool) -> None:
        """Raise what is wrong with the counts."""
        tissue.check_counts()
        if required:
            refuse_no_counts(tissue)

    def fit(self, tissue: Tissue, reference: np.ndarray, visible: np.ndarray | None = None) -> None:
        """Choose genes, depth, means and scales on the reference, on a sample of it where it is large."""
        counts, depth, names = tissue.counts, tissue.depth, tissue.adata.var_names
        rows = np.flatnonzero(reference & (depth > 0))
        self.target_sum = float(np.median(depth[rows]))
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:FIT_ROWS])
        expression = log_normalise(counts[rows], depth[rows], self.target_sum)
        chosen = variable_genes(expression, tissue.codes[rows], self.n_top_genes, self.min_spots)
        self.genes = [str(g) for g in names[chosen]]
        mean, std = column_moments(expression[:, chosen])
        if not (std > LEAST).any():
            raise ValueError(
                "Expression is the same in all reference spots, so nothing can be learned of it: look at the counts, "
                "or leave 'gene' out of modalities."
            )
        self.mean, self.scale = torch.from_numpy(mean), torch.from_numpy(std + SOFTEN)

    def prepare(self, tissue: Tissue) -> "GeneRows":
        """Log expression of the model's genes, made when a batch asks for it, and the spatial graph."""
        position = check_shared_genes(self.genes, tissue.adata.var)
        known = np.flatnonzero(position >= 0)
        genes = np.full(tissue.adata.n_vars, -1, np.int32)
        genes[position[known]] = known
        expression = LogRows(tissue.counts, tissue.depth, self.target_sum, genes, tissue.noise_ratio)
        return GeneRows(expression, tissue.graph, self.mean, self.scale).masked(tissue.depth > 0)

    def describe_slides(self, tissue: Tissue, visible: np.ndarray) -> dict[int, SlideDescription]:
        """Depth, genes and expression of each slide."""
        return describe_expression(tissue, visible, self.genes)

    def feature_names(self, tissue: Tissue, width: int) -> list[str]:
        """The genes."""
        return self.genes

    def encoder(self) -> nn.Module:
        """The two-layer graph convolution."""
        return GCN(len(self.genes))

    def state(self) -> State:
        """Genes, depth, means, scales."""
        config = {"n_top_genes": self.n_top_genes, "min_spots": self.min_spots}
        return config | {"genes": self.genes, "target_sum": self.target_sum}, {"mean": self.mean, "scale": self.scale}

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """A fitted modality from its state."""
        new = cls(config["n_top_genes"], config["min_spots"])
        new.genes, new.target_sum = config["genes"], config["target_sum"]
        new.mean, new.scale = tensors["mean"], tensors["scale"]
        return new


class Neighbourhood(NamedTuple):
    """Some spots and those around them.

    Attributes
    ----------
    rows, nodes
        The spots (m,), and they with their halo (h,), as `omib_spatial.slides.graph.halo` orders it.
    edges
        (2, e) from and to, as positions in ``nodes``, self-loops included, sorted by the node they lead to.
    inner
        How many edges lead to ``rows``; they come first.
    excess
        (h, genes) what scaled expression has beyond that of absent counts.
    """

    rows: np.ndarray
    nodes: np.ndarray
    edges: np.ndarray
    inner: int
    excess: sp.csr_matrix


class GeneRows(Prepared):
    """Expression of all spots; a batch is some spots with the halo that the graph encoder sees."""

    def __init__(
        self,
        expression: LogRows,
        graph: sp.csr_matrix,
        mean: Tensor,
        scale: Tensor,
        present: np.ndarray | None = None,
    ) -> None:
        self.expression, self.graph, self._moments = expression, graph, (mean, scale)
        self.mean, self.scale = mean.numpy(), scale.numpy()
        self.present = np.ones(expression.shape[0], bool) if present is None else present
        self._scratch = np.full(expression.shape[0], -1)
        # What absent counts become; a gene that the data lacks is at the mean, 0.
        known = expression.genes[expression.genes >= 0]
        self.zero = np.zeros(len(mean), np.float32)
        self.zero[known] = (-self.mean[known] / self.scale[known]).clip(-CLIP, CLIP)

    def masked(self, visible: np.ndarray) -> Self:
        """Also cut every edge to a spot that is not visible."""
        if visible[self.present].all():
            return self
        present = self.present & visible
        return type(self)(self.expression, cut(self.graph, present), *self._moments, present)

    @cached_property
    def noise(self) -> np.ndarray:
        """(n_obs,) variance that counting adds to the average over a spot and its neighbours."""
        return counting_noise(walk(self.graph, 1), self.expression.noise)

    def batch(self, rows: np.ndarray) -> GraphInput:
        """The rows, their two-hop halo, and the whole graph's normalised edges among them."""
        return self._input(self._around(rows, GCN.hops))

    def features(self, rows: np.ndarray) -> np.ndarray:
        """(n, genes) scaled expression, averaged over each spot and its neighbours."""
        around = self._around(rows, 1)
        return _mean(around) @ self._scaled(around.excess).numpy()

    def project(self, rows: np.ndarray, origin: np.ndarray, axes: np.ndarray) -> np.ndarray:
        """``(features(rows) - origin) @ axes``, and nothing as wide as the genes is made."""
        pieces = np.array_split(rows, len(rows) // PIECE + 1)
        return np.concatenate([self._projected(self._around(some, 1), origin, axes) for some in pieces])

    def batch_with_summary(
        self, rows: np.ndarray, origin: np.ndarray, axes: np.ndarray
    ) -> tuple[GraphInput, np.ndarray]:
        """`batch` and `project`, from counts that are read and scaled once."""
        around = self._around(rows, GCN.hops)
        return self._input(around), self._projected(around, origin, axes)

    def _around(self, rows: np.ndarray, hops: int) -> Neighbourhood:
        nodes, edges = halo(self.graph, rows, hops, self._scratch)
        edges = np.concatenate([edges, np.tile(np.arange(len(nodes)), (2, 1))], 1)
        edges = edges[::-1, np.argsort(edges[0], kind="stable")]
        return Neighbourhood(rows, nodes, edges, int(np.searchsorted(edges[1], len(rows))), self._excess(nodes))

    def _input(self, around: Neighbourhood) -> GraphInput:
        rows, nodes, edges, inner, excess = around
        root = 1.0 / np.sqrt(self.graph.indptr[nodes + 1] - self.graph.indptr[nodes] + 1.0)
        weight = torch.from_numpy((root[edges[0]] * root[edges[1]]).astype(np.float32))
        local = torch.from_numpy(np.ascontiguousarray(edges))
        return GraphInput(self._features(excess), local, weight, torch.from_numpy(rows), inner)

    def _projected(self, around: Neighbourhood, origin: np.ndarray, axes: np.ndarray) -> np.ndarray:
        return _mean(around) @ (around.excess @ axes) + (self.zero - origin) @ axes

    def _features(self, excess: sp.csr_matrix) -> Tensor | SparseRows:
        """Scaled expression in the form that a product takes less time with."""
        if excess.nnz > FILLED * np.prod(excess.shape):
            return self._scaled(excess)
        return SparseRows(*map(torch.from_numpy, (self.zero, excess.indptr, excess.indices, excess.data)))

    def _scaled(self, excess: sp.csr_matrix) -> Tensor:
        """(n, genes) scaled expression from what it has beyond ``zero``."""
        return torch.from_numpy(excess.toarray()).add_(torch.from_numpy(self.zero))

    def _excess(self, rows: np.ndarray) -> sp.csr_matrix:
        """What scaled expression has beyond ``zero``, as sparse as the counts are."""
        lengths, genes, values = self.expression.entries(rows)
        scaled = ((values - self.mean.take(genes)) / self.scale.take(genes)).clip(-CLIP, CLIP)
        start = np.concatenate([[0], np.cumsum(lengths)])
        return sp.csr_matrix((scaled - self.zero.take(genes), genes, start), shape=(len(rows), len(self.zero)))


def refuse_no_counts(tissue: Tissue) -> None:
    """Raise ValueError where no spot of ``tissue`` has counts."""
    if not tissue.depth.any():
        where = "X" if tissue.layout.layer is None else f"layers[{tissue.layout.layer!r}]"
        raise ValueError(f"{where} has no counts in any spot: name the layer that holds them with layer=.")


def _mean(around: Neighbourhood) -> sp.csr_matrix:
    """(rows, nodes) matrix that averages over each row and its neighbours."""
    owner = around.edges[1, : around.inner]
    counts = np.bincount(owner, minlength=len(around.rows))
    weight = (1 / counts).astype(np.float32)[owner]
    start = np.concatenate([[0], np.cumsum(counts)])
    return sp.csr_matrix((weight, around.edges[0, : around.inner], start), shape=(len(around.rows), len(around.nodes)))


def column_moments(matrix: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every column, each (n_columns,) float32."""
    mean, variance = mean_variance_axis(matrix, axis=0)
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def variable_genes(expression: sp.csr_matrix, codes: np.ndarray, n_top: int, min_spots: int) -> np.ndarray:
    """Positions of the ``n_top`` most variable genes within slices (scanpy's dispersion, "seurat").

    Parameters
    ----------
    expression
        Log expression, (n, n_genes).
    codes
        Slice of each spot, (n,).
    n_top
        Genes to choose.
    min_spots
        A gene must be seen in at least this many spots.

    Returns
    -------
    Ascending, (m,); all genes that are seen often enough, if these are no more than ``n_top``.
    """
    import scanpy as sc

    measured = np.flatnonzero(expression.getnnz(0) >= min_spots)
    if len(measured) == 0:
        raise ValueError(f"No gene is seen in {min_spots} reference spots. Are there counts in these spots?")
    if len(measured) <= n_top:
        return measured
    small = AnnData(expression[:, measured])
    small.obs["slice"] = codes.astype(str)
    batches = "slice" if np.unique(codes).size > 1 else None
    # scanpy's compiled loops raise the thread count of the OpenMP pool that torch shares: give the user's back.
    threads = torch.get_num_threads()
    sc.pp.highly_variable_genes(small, n_top_genes=n_top, batch_key=batches)
    torch.set_num_threads(threads)
    return measured[small.var["highly_variable"].to_numpy()]
