"""Batches of ready tensors, for data that fit into memory."""

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from omib_spatial.core.network import Batch


class Sequences(NamedTuple):
    """N sequences of unequal length, padded at their ends to a common one.

    Attributes
    ----------
    values
        (N, T, p) features, or (N, T) int64 tokens; what lies beyond a sequence's length is never looked at.
    lengths
        (N,) int64, steps of each sequence, at least 1.

    Examples
    --------
    >>> from omib_spatial.core import Sequences
    >>> words = Sequences(torch.randn(2, 5, 3), torch.tensor([2, 4]))
    >>> tuple(words.trimmed().values.shape), words.mask.sum(1)
    ((2, 4, 3), tensor([2, 4]))
    """

    values: Tensor
    lengths: Tensor

    @property
    def mask(self) -> Tensor:
        """(N, T) bool, True within the sequence."""
        return torch.arange(self.values.shape[1], device=self.values.device) < self.lengths[:, None]

    def trimmed(self) -> "Sequences":
        """Without the steps that are padding in all of them."""
        longest = int(self.lengths.max()) if len(self.lengths) else 0
        return Sequences(self.values[:, :longest], self.lengths)


class Samples(Dataset[Batch]):
    """N samples of several modalities as tensors; indexed with a list of rows, they become a `Batch`.

    `Sequences` are cut to the longest of the batch here, where no GPU has to be waited for.

    Parameters
    ----------
    inputs
        By modality, in the network's order, a tensor whose first axis is N, or a named tuple of such tensors
        (`Sequences`). Rows of missing samples are not read.
    target
        What the task needs, first axis N.
    present
        (N, M) bool, which modalities each sample has; None if all have all.

    Raises
    ------
    TypeError
        If ``present`` is not bool, or a single sample is asked for.
    ValueError
        If there is no modality, lengths differ, or a sample has no modality.

    Examples
    --------
    >>> from omib_spatial.core import Samples
    >>> have = torch.tensor([[True, True], [True, False], [False, True]])
    >>> samples = Samples({"a": torch.randn(3, 4), "b": torch.randn(3, 6)}, torch.tensor([0, 1, 1]), have)
    >>> batch = samples[[0, 1]]
    >>> tuple(batch.inputs["a"].shape), tuple(batch.inputs["b"].shape), batch.target
    ((2, 4), (1, 6), tensor([0, 1]))
    """

    def __init__(self, inputs: Mapping[str, Any], target: Tensor | None = None, present: Tensor | None = None) -> None:
        if not inputs:
            raise ValueError("Samples need one modality at least: inputs is empty.")
        lengths = {label: len(part) for name, x in inputs.items() for label, part in _parts(name, x)}
        lengths |= {} if target is None else {"target": len(target)}
        n = next(iter(lengths.values()))
        present = torch.ones(n, len(inputs), dtype=torch.bool) if present is None else present
        if set(lengths.values()) != {n} or present.shape != (n, len(inputs)):
            wanted = (n, len(inputs))
            raise ValueError(f"First axes: {lengths}; present is {tuple(present.shape)} where {wanted} is needed.")
        if present.dtype != torch.bool:
            raise TypeError(f"present is {present.dtype}: it is bool, as by present.bool().")
        if not present.any(1).all():
            rows = (~present.any(1)).nonzero().flatten()[:5].tolist()
            raise ValueError(f"Every sample needs at least one modality; none in rows {rows}: leave these out.")
        self.inputs, self.target, self.present = dict(inputs), target, present

    def __len__(self) -> int:
        return len(self.present)

    def __getitem__(self, rows: Any) -> Batch:
        if isinstance(rows, int):
            raise TypeError(
                "Samples are taken in batches: samples[[0, 1]], or sample_loader(samples, batch_size, ...)."
            )
        present = self.present[rows]
        inputs = {name: _take(x, rows) for name, x in self.inputs.items()}
        here = dict(zip(inputs, present.T, strict=True))
        inputs = {name: x if here[name].all() else _take(x, here[name]) for name, x in inputs.items()}
        inputs = {name: x.trimmed() if isinstance(x, Sequences) else x for name, x in inputs.items()}
        counts = {name: int(mask.sum()) for name, mask in here.items()}
        return Batch(inputs, present, None if self.target is None else self.target[rows], counts)


def _parts(name: str, x: Any) -> list[tuple[str, Tensor]]:
    """The tensors of a modality, and what to call them."""
    return [(f"{name}.{field}", part) for field, part in x._asdict().items()] if hasattr(x, "_asdict") else [(name, x)]


def _take(x: Any, rows: Any) -> Any:
    """``rows`` of a tensor, or of every tensor in a named tuple."""
    return type(x)(*(part[rows] for part in x)) if isinstance(x, tuple) else x[rows]


def sample_loader(
    samples: Samples, batch_size: int, *, shuffle: bool, seed: int = 0, drop_last: bool = False
) -> DataLoader[Batch]:
    """Batches of ``samples``, cut out in one piece each; the order of a shuffle follows from ``seed``.

    Parameters
    ----------
    samples
        What batches are cut from.
    batch_size
        Samples of a batch.
    shuffle
        Whether samples come in a new order every epoch.
    seed
        Of that order.
    drop_last
        Whether the last batch is left out where it is smaller.

    Examples
    --------
    >>> from omib_spatial.core import Samples, sample_loader
    >>> samples = Samples({"a": torch.arange(5.0)[:, None]}, torch.arange(5))
    >>> [batch.target.tolist() for batch in sample_loader(samples, 2, shuffle=False)]
    [[0, 1], [2, 3], [4]]
    """
    return DataLoader(samples, sampler=_Batches(samples, batch_size, shuffle, seed, drop_last), batch_size=None)


class _Batches(BatchSampler):
    """Rows of one batch after the other; the order of an epoch follows from the seed, whatever was done before."""

    def __init__(self, samples: Samples, batch_size: int, shuffle: bool, seed: int, drop_last: bool) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self._seed, self._epoch = seed, 0
        order = RandomSampler(samples, generator=self._random) if shuffle else SequentialSampler(samples)
        super().__init__(order, batch_size, drop_last)

    def set_epoch(self, epoch: int) -> None:
        """Lightning tells which epoch comes next, after a training is resumed as well."""
        if epoch == self._epoch:
            return
        self._random.manual_seed(self._seed)
        for _ in range(epoch):
            # As many as a training takes: to end the last pass would draw once more.
            deque(islice(super().__iter__(), len(self)), maxlen=0)
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        self._epoch += 1
        yield from super().__iter__()
