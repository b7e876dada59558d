"""Through what an encoder's code is followed back to the features of a modality."""

from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities import move_data_to_device
from torch import Tensor, nn
from torch.nn import functional as F

from omib_spatial.encoders.graph import GCN, GraphInput
from omib_spatial.modalities.base import Prepared
from omib_spatial.modalities.genome_rows import GenomeRows
from omib_spatial.modalities.summary import Summary


class Around(NamedTuple):
    """Neighbours of each of n spots, filled up to the same number.

    Attributes
    ----------
    node
        Row of each neighbour, (n, most).
    weight
        Of the second convolution, (n, most), 0 where there is none.
    averaged
        Features that the first convolution averages, (nodes, genes).
    """

    node: np.ndarray
    weight: np.ndarray
    averaged: Tensor


class Source(NamedTuple):
    """What gradients are taken with respect to, of some spots and one modality.

    A graph convolution's first layer is linear, so a straight line of its input is one of its output: gradients are
    taken before the first activation, of each spot with neighbours of its own, and followed back to genes afterwards.
    That is far less work, and gives the terms of every single spot.

    Attributes
    ----------
    values, origin
        Input of `code`, and what it is at the reference's mean; first axis n, or 1 of the origin.
    beside
        What else `code` needs, first axis n.
    encoder
        Of the modality.
    around
        Neighbours, where the encoder is a graph convolution.
    columns
        Whether the values are the columns of the modality's features, scaled or not.
    """

    values: Tensor
    origin: Tensor
    beside: tuple[Tensor, ...]
    encoder: nn.Module
    around: Around | None = None
    columns: bool = False

    def code(self, values: Tensor, *beside: Tensor) -> Tensor:
        """(N, d) codes of the modality."""
        if self.columns:
            return self.encoder(values)
        if isinstance(self.encoder, GCN) and self.around is not None:
            (weight,) = beside
            mean = (F.gelu(values) * weight.unsqueeze(-1)).sum(1)
            return self.encoder.second.lin(mean) + self.encoder.second.bias
        return values

    def repeated(self, n: int) -> "Source":
        """One spot's, ``n`` times."""
        values, *beside = (part.expand(n, *part.shape[1:]) for part in (self.values, *self.beside))
        return self._replace(values=values, beside=tuple(beside))

    @property
    def change(self) -> Tensor:
        """What the values have beyond the origin, (n, ...)."""
        return self.values - self.origin

    def terms(self, gradient: Tensor) -> np.ndarray | None:
        """What each feature makes up, (n, p), by the mean ``gradient`` (n, ...); None where features are not known."""
        if self.columns:
            return (gradient * self.change).detach().cpu().numpy()
        if self.around is None or not isinstance(self.encoder, GCN):
            return None
        weight, total = self.encoder.first.lin.weight.detach().cpu(), torch.zeros(1)
        for i in range(gradient.shape[1]):
            node = torch.from_numpy(self.around.node[:, i])
            total = total + (gradient[:, i].detach().cpu() @ weight) * self.around.averaged[node]
        return total.numpy()


def follows_features(encoder: nn.Module, batch: object) -> bool:
    """Whether `source_of` knows what the code of a ``batch`` has to do with its features."""
    return (isinstance(encoder, GCN) and isinstance(batch, GraphInput)) or (
        isinstance(batch, Tensor) and batch.ndim == 2
    )


@torch.no_grad()
def source_of(
    encoder: nn.Module, data: Prepared, summary: Summary, rows: np.ndarray, device: str, origin: Tensor | None = None
) -> Source:
    """What to follow back of some ``rows`` (n,).

    Parameters
    ----------
    encoder, data, summary
        Of the modality.
    rows
        That have it.
    device
        Where the encoder is.
    origin
        Code (1, d) that spots are compared with, where the encoder reads neither a graph nor a table.
    """
    batch = data.batch(rows)
    if isinstance(encoder, GCN) and isinstance(batch, GraphInput):
        around, first = neighbours(batch), encoder.first
        before = around.averaged.to(device) @ first.lin.weight.T + first.bias
        values = before[torch.from_numpy(around.node).to(device)]
        weight = torch.from_numpy(around.weight).to(device)
        return Source(values, first.bias.detach().expand(1, *values.shape[1:]), (weight,), encoder, around)
    if isinstance(batch, Tensor) and batch.ndim == 2:
        # Others are scaled by the reference, whose mean is 0.
        mean = summary.mean[None] if isinstance(data, GenomeRows) else torch.zeros_like(batch[:1])
        return Source(batch.to(device), mean.to(device), (), encoder, columns=True)
    code = code_of(encoder, batch, device)
    return Source(code, torch.zeros_like(code[:1]) if origin is None else origin.to(device), (), encoder)


@torch.no_grad()
def code_of(encoder: nn.Module, batch: object, device: str) -> Tensor:
    """(n, d) codes of a batch."""
    return encoder(move_data_to_device(batch, torch.device(device)))


def neighbours(batch: GraphInput) -> Around:
    """Lay a batch's last convolution out as neighbours of each spot."""
    n, (source, target), x = len(batch.targets), batch.edge_index, batch.x
    averaged = torch.zeros(x.shape).index_add_(0, target, x[source] * batch.edge_weight[:, None])
    inner_from, inner_to = source[: batch.inner].numpy(), target[: batch.inner].numpy()
    number = np.bincount(inner_to, minlength=n)
    place = np.arange(batch.inner) - np.repeat(np.cumsum(number) - number, number)
    node, weight = np.zeros((n, number.max()), np.int64), np.zeros((n, number.max()), np.float32)
    node[inner_to, place], weight[inner_to, place] = inner_from, batch.edge_weight[: batch.inner].numpy()
    return Around(node, weight, averaged)
