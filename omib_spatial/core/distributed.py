"""What one process of several needs to know of the others; alone, there is nothing to wait for."""

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


class ProcessRank(NamedTuple):
    """One process among the ``world`` that work together: its number ``rank``."""

    rank: int
    world: int


def process_rank() -> ProcessRank:
    """Where this process stands; (0, 1) outside distributed training."""
    if distributed.is_available() and distributed.is_initialized():
        return ProcessRank(distributed.get_rank(), distributed.get_world_size())
    return ProcessRank(0, 1)


@torch.no_grad()
def summed(values: Tensor) -> Tensor:
    """Sum of each process's ``values``, the same everywhere; without gradient."""
    values = values.detach()
    if process_rank().world > 1:
        values = values.clone()
        distributed.all_reduce(values)
    return values


def gathered(value: T) -> list[T]:
    """The ``value`` of every process, in the order of ranks."""
    world = process_rank().world
    if world == 1:
        return [value]
    values: list[T | None] = [None] * world
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]
