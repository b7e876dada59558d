"""Which of the two kinds of tissue on its own slide a spot belongs to, where a slide tells."""

import logging
import reprlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor, nn

from omib_spatial._checked import Flag, checked
from omib_spatial.encoders.tabular import MLP
from omib_spatial.modalities.base import DenseRows, Modality, State
from omib_spatial.slides import Tissue
from omib_spatial.slides.digests import counts_digest, digest
from omib_spatial.slides.gene_table import translate
from omib_spatial.slides.rows import CountRows, size_factors
from omib_spatial.stats.contrast import SlideContrast, SlideViews, silent, slide_contrast
from omib_spatial.stats.smooth import walk

logger = logging.getLogger("omib_spatial")

Signatures = Mapping[str, tuple[float, Sequence[str]]]
"""By name, a weight and genes: a positive weight says that they are higher in abnormal tissue."""
PROLIFERATION = (
    *("MKI67", "TOP2A", "PCNA", "TYMS", "STMN1", "TUBA1B", "TUBB", "TUBB5", "H2AFZ", "H2AZ1", "HMGB1", "HMGB2"),
    *("UBE2C", "CDK1", "CCNB1"),
)
"""Genes of dividing cells, of which carcinomas of any organ have more than the tissue around them."""
EPITHELIUM = ("EPCAM", "KRT8", "KRT18", "KRT19", "CDH1", "CLDN4", "CLDN3", "KRT7", "KRT20")
"""Genes of epithelial cells, which carcinomas descend from."""
DIVIDING: Signatures = {"proliferation": (1.0, PROLIFERATION)}
CARCINOMA: Sequence[Signatures] = (DIVIDING, {**DIVIDING, "epithelium": (1.0, EPITHELIUM)})
"""What is taken for abnormal unless the user says otherwise, in human and mouse: dividing cells, or where halves of the
evidence do not agree on these, dividing cells of an epithelium."""
HOPS = 2
"""Rings of neighbours that expression is averaged over."""
VARIABLE = 2000
"""Most variable genes in the view of expression."""
MAX_SPOTS = 20_000
"""Spots of a slide at most: all of their genes are held at once."""
MIN_MEMBERS = 5
"""Genes of a signature that must be there: with fewer, replicas may draw the same ones, and agree for that reason."""
OFTEN, PLACED_OFTEN = 0.05, 0.03
"""Share of spots that a gene must be seen in, for the view of expression and for that of the genome."""
_KEPT = 200
"""Slides whose answers are kept, a few numbers per spot."""
_answers: OrderedDict[str, SlideContrast] = OrderedDict()


class Contrast(Modality):
    """Evidence from inside each slide that a spot is of the abnormal one of two kinds of tissue.

    Slides of which this cannot be told lack the modality: their spots are scored on the others.

    Parameters
    ----------
    signatures
        What is taken for abnormal. They give the two kinds their names, and are no part of the evidence. Of several
        sets the first one is taken on which halves of the evidence agree. None does without.
    mostly_healthy
        Declares that most of each slide is healthy, which says which kind is which where there are no signatures.

    Raises
    ------
    TypeError, ValueError
        Signatures that are no mapping from a name to a weight and genes.

    Examples
    --------
    >>> from omib_spatial.modalities import Contrast
    >>> from omib_spatial.slides import Layout, Tissue
    >>> found = Contrast(mostly_healthy=True).found(Tissue(adata, Layout(library_key="library_id")))
    >>> list(found)
    ['slide1', 'slide2', 'slide3']
    """

    @checked
    def __init__(
        self, signatures: Signatures | Sequence[Signatures] | None = CARCINOMA, *, mostly_healthy: Flag = False
    ) -> None:
        if not isinstance(signatures, Mapping | list | tuple | None):
            kind = reprlib.repr(signatures)
            raise TypeError(f"signatures is {kind}: pass a mapping from name to (weight, genes), or a list of them.")
        given = [signatures] if isinstance(signatures, Mapping) else signatures or [{}]
        self.signatures: list[Signatures] = [checked_signatures(each) for each in given]
        self.mostly_healthy = mostly_healthy
        self.mean = self.scale = torch.empty(0)
        self._known: tuple[str, dict[str, SlideContrast]] = ("", {})

    def found(self, tissue: Tissue) -> dict[str, SlideContrast]:
        """What each slide of ``tissue`` tells, by name; the tissue that was asked last is remembered."""
        if self._known[0] != tissue.identity:
            self._known = tissue.identity, slide_contrasts(tissue, self.signatures, mostly_healthy=self.mostly_healthy)
        return self._known[1]

    def check(self, tissue: Tissue, *, required: bool) -> None:
        """Raise what is wrong with the counts; with ``required`` also where no slide tells."""
        tissue.check_counts()
        if required and not any(contrast.answered for contrast in self.found(tissue).values()):
            reasons = " ".join(f"Slide {name!r}: {c.reason}" for name, c in self.found(tissue).items())
            raise ValueError(f"No slide tells two kinds of tissue apart: leave out the modality 'contrast'. {reasons}")

    def slices(self, tissue: Tissue) -> np.ndarray:
        """Which slices tell two kinds of tissue apart, (n_slices,)."""
        return np.array([self.found(tissue)[name].answered for name in tissue.libraries])

    def fit(self, tissue: Tissue, reference: np.ndarray, visible: np.ndarray | None = None) -> None:
        """Mean and spread in the reference."""
        values = self._values(tissue)[reference]
        values = values[np.isfinite(values).all(1)]
        if len(values) == 0:
            raise ValueError("No reference spot lies on a slide that tells two kinds apart: leave out 'contrast'.")
        self.mean = torch.from_numpy(values.mean(0)).float()
        self.scale = torch.from_numpy(values.std(0) + 1e-3).float()

    def prepare(self, tissue: Tissue) -> DenseRows:
        """The evidence of all spots, NaN where a slide does not tell."""
        return DenseRows(self._values(tissue), self.mean, self.scale)

    def encoder(self) -> nn.Module:
        """A two-layer perceptron."""
        return MLP(1)

    def state(self) -> State:
        """Signatures, mean and spread."""
        signatures = [{name: [weight, genes] for name, (weight, genes) in each.items()} for each in self.signatures]
        return {"signatures": signatures, "mostly_healthy": self.mostly_healthy}, {
            "mean": self.mean,
            "scale": self.scale,
        }

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """A fitted modality from its state."""
        new = cls(config["signatures"], mostly_healthy=config["mostly_healthy"])
        new.mean, new.scale = tensors["mean"], tensors["scale"]
        return new

    def _values(self, tissue: Tissue) -> np.ndarray:
        values = np.full((tissue.n_obs, 1), np.nan, np.float32)
        for code, name in enumerate(tissue.libraries):
            if (contrast := self.found(tissue)[name]).answered:
                values[tissue.codes == code, 0] = contrast.score
        return values


def checked_signatures(signatures: Signatures) -> Signatures:
    """The same with plain numbers and lists; TypeError or ValueError where they are no signatures."""
    if not isinstance(signatures, Mapping):
        raise TypeError(
            f"signatures= maps a name to a weight and genes, as {{'mine': (1.0, [...])}}; got {signatures!r}."
        )
    found: dict[str, tuple[float, list[str]]] = {}
    for name, value in signatures.items():
        pair = value if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2 else (None, None)
        weight, genes = pair
        if not isinstance(weight, int | float | np.number) or isinstance(genes, str) or not isinstance(genes, Sequence):
            raise TypeError(f"signatures[{name!r}] is a weight and a list of genes, as (1.0, [...]); got {value!r}.")
        if not np.isfinite(weight) or weight == 0:
            raise ValueError(
                f"signatures[{name!r}] has the weight {weight}: positive for abnormal, negative for healthy."
            )
        found[name] = float(weight), [str(gene) for gene in genes]
    return found


def slide_contrasts(
    tissue: Tissue, signatures: Sequence[Signatures], *, mostly_healthy: bool = False
) -> dict[str, SlideContrast]:
    """What each slide tells by itself, by name; one line of the log for each.

    Parameters
    ----------
    tissue
        All slides.
    signatures
        What is taken for abnormal: sets that are tried in this order.
    mostly_healthy
        Declares that most of each slide is healthy.
    """
    found = {}
    for code, name in enumerate(tissue.libraries):
        found[name] = _ask(tissue, np.flatnonzero(tissue.codes == code), signatures, mostly_healthy)
        logger.info("Slide %r: %s", name, found[name].reason)
    return found


def _ask(tissue: Tissue, rows: np.ndarray, signatures: Sequence[Signatures], mostly_healthy: bool) -> SlideContrast:
    """One slide's answer by the first signatures that give one; else that of the last that could be tried.

    The answer is of the slide alone, and takes seconds. So it is kept for whoever asks the same slide again: a score
    after a fit, or fits on other choices of slides.
    """
    if len(rows) > MAX_SPOTS:
        return silent(len(rows), f"{len(rows):,} spots are more than the {MAX_SPOTS:,} that can be held at once")
    key = _slide_digest(tissue, rows, signatures, mostly_healthy)
    if key not in _answers:
        tried = []
        for given in signatures:
            tried.append(slide_contrast(slide_views(tissue, rows, given), mostly_healthy=mostly_healthy))
            if tried[-1].answered:
                break
        told = tried[-1] if tried[-1].answered else None
        _answers[key] = told or next((c for c in reversed(tried) if np.isfinite(c.agreement)), tried[0])
    _answers.move_to_end(key)
    while len(_answers) > _KEPT:
        _answers.popitem(last=False)
    return _answers[key]


def _slide_digest(tissue: Tissue, rows: np.ndarray, signatures: Sequence[Signatures], mostly_healthy: bool) -> str:
    """Text that is equal for equal counts, genes, neighbours and questions."""
    graph = sparse.csr_matrix(tissue.graph[rows][:, rows])
    genes = pd.util.hash_pandas_object(tissue.adata.var.astype(str)).to_numpy().view(np.int64)
    asked = repr(([sorted(each.items()) for each in signatures], mostly_healthy, tissue.layout.counts))
    parts = (genes, tissue.depth[rows], graph.indptr, graph.indices, graph.data, asked)
    return f"{counts_digest(CountRows(tissue.counts[rows]))} {digest(parts)}"


def slide_views(tissue: Tissue, rows: np.ndarray, signatures: Signatures) -> SlideViews:
    """One slide for `omib_spatial.stats.contrast.slide_contrast`.

    Counts are normalised for depth and averaged over neighbours before the logarithm is taken: the mean of logarithms
    depends on depth.

    Parameters
    ----------
    tissue
        That the slide is of.
    rows
        Its spots, (n,).
    signatures
        What is taken for abnormal.
    """
    counts, depth = tissue.counts[rows], tissue.depth[rows]
    typical = float(np.median(depth[depth > 0])) if depth.any() else 1.0
    rates = sparse.csr_matrix(sparse.diags_array(size_factors(depth, typical)) @ counts)
    around = walk(sparse.csr_matrix(tissue.graph[rows][:, rows]), HOPS)
    often = counts.getnnz(0) / len(rows)

    def logs(columns: np.ndarray) -> np.ndarray:
        return np.log1p((around @ rates[:, columns]).toarray()).astype(np.float64)

    placed, chromosome = autosomal_genes(tissue, often > PLACED_OFTEN)
    genes = logs(placed)
    genes = np.clip((genes - np.median(genes, 0)) / (genes.std(0) + 0.1), -3, 3)
    expression = logs(np.flatnonzero(often > OFTEN))
    expression = expression[:, np.argsort(-expression.var(0), kind="stable")[:VARIABLE]]
    members = [(weight, _find(tissue, names)) for weight, names in signatures.values()]
    scaled = [(weight, _scaled(logs(columns), 0.1)) for weight, columns in members if len(columns) >= MIN_MEMBERS]
    return SlideViews(genes, chromosome, _scaled(expression, 0.05), scaled)


def autosomal_genes(tissue: Tissue, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the autosomal genes that are ``kept`` (n_vars,), in genome order, and their chromosomes."""
    if tissue.gene_positions is None:
        return np.empty(0, int), np.empty(0, int)
    table = tissue.gene_positions.table
    names = table["chromosome"].astype(str)
    number = np.where(names.str.isdigit(), names.where(names.str.isdigit(), "0").astype(int), 0)
    start = table["start"].to_numpy(float)
    genes = np.flatnonzero((number > 0) & np.isfinite(start) & kept)
    genes = genes[np.lexsort((start[genes], number[genes]))]
    return genes, number[genes]


def _find(tissue: Tissue, genes: Sequence[str]) -> np.ndarray:
    """Columns of the genes that are there, by symbol in the writing of human or mouse, or by Ensembl id."""
    position = np.concatenate(
        [translate(written, tissue.adata.var) for written in (genes, [gene.capitalize() for gene in genes])]
    )
    return np.unique(position[position >= 0])


def _scaled(values: np.ndarray, soften: float) -> np.ndarray:
    """Columns with mean 0 and about unit spread; those that hardly vary are not blown up."""
    return (values - values.mean(0)) / (values.std(0) + soften)
