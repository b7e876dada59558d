"""Batches of ready tensors, for data that fit into memory."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from omib_spatial.core.model import Batch


class Samples(Dataset[Batch]):
    """N samples of several modalities as tensors; indexed with a list of rows, they become a `Batch`.

    Parameters
    ----------
    inputs
        By modality, in the model's order, a tensor whose first axis is N. Rows of missing samples are not read.
    target
        What the task needs, first axis N.
    present
        (N, M) bool, which modalities each sample has; None if all have all.

    Raises
    ------
    ValueError
        If lengths differ, or a sample has no modality.
    """

    def __init__(
        self, inputs: Mapping[str, Tensor], target: Tensor | None = None, present: Tensor | None = None
    ) -> None:
        lengths = {name: len(x) for name, x in inputs.items()} | ({} if target is None else {"target": len(target)})
        n = next(iter(lengths.values()))
        present = torch.ones(n, len(inputs), dtype=torch.bool) if present is None else present
        if set(lengths.values()) != {n} or present.shape != (n, len(inputs)):
            wanted = (n, len(inputs))
            raise ValueError(f"First axes: {lengths}; present is {tuple(present.shape)} where {wanted} is needed.")
        if not present.any(1).all():
            rows = (~present.any(1)).nonzero().flatten()[:5].tolist()
            raise ValueError(f"Every sample needs at least one modality; none in rows {rows}: leave these out.")
        self.inputs, self.target, self.present = dict(inputs), target, present

    def __len__(self) -> int:
        return len(self.present)

    def __getitem__(self, rows: Any) -> Batch:
        present = self.present[rows]
        inputs = {name: x[rows] for name, x in self.inputs.items()}
        here = dict(zip(inputs, present.T, strict=True))
        inputs = {name: x if here[name].all() else x[here[name]] for name, x in inputs.items()}
        counts = {name: int(mask.sum()) for name, mask in here.items()}
        return Batch(inputs, present, None if self.target is None else self.target[rows], counts)


def sample_loader(
    samples: Samples, batch_size: int, *, shuffle: bool, seed: int = 0, drop_last: bool = False
) -> DataLoader[Batch]:
    """Batches of ``samples``, cut out in one piece each; the order of a shuffle follows from ``seed``."""
    order = (
        RandomSampler(samples, generator=torch.Generator().manual_seed(seed)) if shuffle else SequentialSampler(samples)
    )
    return DataLoader(samples, sampler=BatchSampler(order, batch_size, drop_last), batch_size=None)
