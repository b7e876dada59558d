"""From prepared modalities to batches of spatially compact tiles."""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from omib_spatial.core.distributed import ProcessRank, process_rank
from omib_spatial.core.network import Batch
from omib_spatial.modalities.base import Prepared

T = TypeVar("T")
R = TypeVar("R")

WORKERS = 8
"""Batches that are worked on at a time at most: each takes memory, and Python runs in one thread."""


class Target(NamedTuple):
    """What a task asks of one modality.

    Attributes
    ----------
    width
        Columns.
    of
        Gives (n, width) for rows that have the modality.
    with_batch
        Gives the encoder's input of the rows too, where it shares work with the target.

    Examples
    --------
    >>> from omib_spatial.modalities import Target
    >>> squares = Target(1, lambda rows: torch.from_numpy(rows[:, None] ** 2))
    >>> squares.of(np.array([2, 3])).tolist()
    [[4], [9]]
    """

    width: int
    of: Callable[[np.ndarray], Tensor]
    with_batch: Callable[[np.ndarray], tuple[Any, Tensor]] | None = None

    def stored(self, present: np.ndarray) -> "Target":
        """The same target, made once for the spots that are ``present`` (n_obs,)."""
        values = torch.zeros(len(present), self.width)
        if present.any():
            values[torch.from_numpy(present)] = self.of(np.flatnonzero(present))
        return Target(self.width, partial(_pick, values))


def _pick(values: Tensor, rows: np.ndarray) -> Tensor:
    return values[torch.from_numpy(rows)]


class Spots(Dataset[Batch]):
    """All spots of an AnnData; an item is the batch of a whole array of rows.

    Parameters
    ----------
    prepared
        Modality by name, in the order of the network.
    targets
        By modality, its share of what the task asks for; empty for tasks without a target.
    labels
        Class of each spot (n_obs,) int64, negative where it is not known, if that is what the task asks for.

    Examples
    --------
    >>> from omib_spatial.slides import Layout, Tissue
    >>> tissue = Tissue(adata, Layout(library_key="library_id"))
    >>> spots = model.prepare(tissue)
    >>> batch = spots[np.arange(10)]
    >>> list(batch.inputs), tuple(batch.present.shape)
    (['gene', 'image', 'genome'], (10, 3))
    """

    def __init__(
        self,
        prepared: Mapping[str, Prepared],
        targets: Mapping[str, Target] | None = None,
        labels: np.ndarray | None = None,
    ) -> None:
        self.prepared, self.targets, self.labels = dict(prepared), dict(targets or {}), labels
        self.present = np.stack([p.present for p in self.prepared.values()], 1)

    def __getitem__(self, rows: np.ndarray) -> Batch:
        present = self.present[rows]
        here = dict(zip(self.prepared, present.T, strict=True))
        counts = {name: int(mask.sum()) for name, mask in here.items()}
        found = {name: self._read(name, rows[here[name]]) for name, count in counts.items() if count}
        inputs = {name: value for name, (value, _) in found.items()}
        target = self._target(rows, here, {name: value for name, (_, value) in found.items()})
        return Batch(inputs, torch.from_numpy(present), target, counts)

    def _read(self, name: str, rows: np.ndarray) -> tuple[Any, Tensor | None]:
        """One modality's input of rows that have it, and its share of the target if there is one."""
        target = self.targets.get(name) if self.labels is None else None
        if target is not None and target.with_batch is not None:
            return target.with_batch(rows)
        return self.prepared[name].batch(rows), None if target is None else target.of(rows)

    def _target(
        self, rows: np.ndarray, here: Mapping[str, np.ndarray], found: Mapping[str, Tensor | None]
    ) -> Tensor | None:
        """Labels (n,), or values (n, q), NaN in the columns of a modality that a spot lacks."""
        if self.labels is not None:
            return torch.from_numpy(self.labels[rows])
        if not self.targets:
            return None
        parts = []
        for name, target in self.targets.items():
            values = torch.full((len(rows), target.width), torch.nan)
            if (known := found.get(name)) is not None:
                values[torch.from_numpy(here[name])] = known
            parts.append(values)
        return torch.cat(parts, 1)

    def noise(self, modality: str | None = None) -> np.ndarray:
        """Counting noise (n_obs,) of one modality; None is the mean of all of them."""
        if modality is not None:
            return self.prepared[modality].noise
        return np.mean([p.noise for p in self.prepared.values()], 0)

    def restricted(self, there: np.ndarray) -> "Spots":
        """The same spots as if each had only the modalities that ``there`` (n_obs, modalities) says."""
        some = {name: data.masked(mask) for (name, data), mask in zip(self.prepared.items(), there.T, strict=True)}
        # Inputs are no longer those that targets are made with.
        targets = {n: t._replace(with_batch=None) for n, t in self.targets.items()}
        return Spots(some, targets, self.labels)

    def masked(self, visible: np.ndarray, modalities: Collection[str] | None = None) -> "Spots":
        """The same spots as if only those ``visible`` (n_obs,), and only the named ``modalities``, were there."""
        kept = [modalities is None or name in modalities for name in self.prepared]
        return self.restricted(visible[:, None] & np.array(kept))


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items; while one is used the next is made, in a thread, since arrays and networks leave Python free."""
    made, end = iter(items), object()
    # One thread is enough there: two of torch's pools would fight for the cores.
    with _pool(1, 1) as pool:
        coming = pool.submit(next, made, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, made, end)
            yield cast(T, item)


def spread(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R, None, None]:
    """``work(item)`` for each item, in order; several at a time, while the next items are made here.

    The ``threads`` that torch may use work on an item each, instead of all on one: small operations gain little from
    a second thread. One works where it is called, and only makes items ahead. Close it where it may end early.

    Parameters
    ----------
    work
        Called in other threads, where gradients are on whatever they are here.
    items
        Made one by one in the thread that asks, so they need know nothing of threads.
    threads
        That all workers together may use.

    Examples
    --------
    >>> from omib_spatial.modalities import spread
    >>> list(spread(lambda x: x**2, range(4), threads=2))
    [0, 1, 4, 9]
    """
    if threads == 1:
        for item in ahead(items):
            yield work(item)
        return
    workers, waiting = min(threads, WORKERS), deque[Future[R]]()
    with _pool(workers, threads // workers, here=1) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            # One waits, so that no worker does.
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def _pool(workers: int, threads: int, *, here: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """Workers with so many of torch's ``threads`` each, and so many for who asks; afterwards all is as before."""
    before = torch.get_num_threads()
    if here is not None:
        torch.set_num_threads(here)
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
            yield pool
    finally:
        # A worker's setting is the whole process's in MKL, and that of threads that are still to start.
        torch.set_num_threads(before)


class TileSampler(Sampler[np.ndarray]):
    """Yields the rows of several tiles at a time; with ``shuffle`` in an order that follows from seed and epoch.

    With ``share`` each of several processes gets its own tiles of every batch: together they see what one process
    alone would see.
    """

    def __init__(
        self, tiles: Sequence[np.ndarray], batch_size: int, *, shuffle: bool, seed: int = 0, share: bool = False
    ) -> None:
        self.tiles, self.batch_size = list(tiles), batch_size
        self.shuffle, self.seed, self.share = shuffle, seed, share
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning tells which epoch comes next; otherwise every pass is the next one."""
        self.epoch = epoch

    def __len__(self) -> int:
        world = self._process().world
        if len(self.tiles) < world:
            raise ValueError(f"{len(self.tiles)} tiles cannot be shared by {world} processes: use fewer devices.")
        spots = sum(map(len, self.tiles))
        return min(max(round(spots / self.batch_size), 1), len(self.tiles) // world)

    def __iter__(self) -> Iterator[np.ndarray]:
        order = np.arange(len(self.tiles))
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        self.epoch += 1
        rank, world = self._process()
        for part in np.array_split(order, len(self)):
            yield np.concatenate([self.tiles[i] for i in part[rank::world]])

    def _process(self) -> ProcessRank:
        return process_rank() if self.share else ProcessRank(0, 1)


def tile_loader(
    spots: Spots,
    tiles: Sequence[np.ndarray],
    *,
    batch_size: int,
    shuffle: bool,
    seed: int = 0,
    num_workers: int = 0,
    share: bool = False,
) -> DataLoader[Batch]:
    """Loader of batches that are several compact tiles each.

    Parameters
    ----------
    spots
        What batches are cut from.
    tiles
        Rows of each tile.
    batch_size
        About so many spots make a batch, over all processes if they ``share``.
    shuffle
        Whether tiles come in a new order every epoch.
    seed
        Of that order.
    num_workers
        Processes that make batches.
    share
        Whether each of several processes gets its own tiles of every batch.

    Examples
    --------
    >>> from omib_spatial.slides import Layout, Tissue
    >>> tissue = Tissue(adata, Layout(library_key="library_id"))
    >>> from omib_spatial.modalities import tile_loader
    >>> tiles = np.array_split(np.arange(adata.n_obs), 6)
    >>> len(list(tile_loader(model.prepare(tissue), tiles, batch_size=200, shuffle=False)))
    3
    """
    return DataLoader(
        spots,
        sampler=TileSampler(tiles, batch_size, shuffle=shuffle, seed=seed, share=share),
        batch_size=None,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        # A generator of its own, or the loader draws from the caller's global one.
        generator=torch.Generator().manual_seed(seed),
    )
