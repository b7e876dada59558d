"""How many threads numeric libraries take while the package works."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar

from omib_spatial._settings import settings

F = TypeVar("F", bound=Callable[..., Any])
_cores: ContextVar[int | None] = ContextVar("cores", default=None)


def cores() -> int:
    """Threads that work on separate pieces may take together.

    The user's: ``settings.n_threads``, else of the environment; else torch's number from before `few_threads` lowered
    it. The environment goes before torch, whose number scanpy's compiled functions raise to all cores.
    """
    return settings.n_threads or _cores.get() or _of_environment() or _of_torch() or os.cpu_count() or 1


def few_threads(function: F) -> F:
    """Let a function run with as many threads of BLAS and OpenMP as it gains from, afterwards with those from before.

    Matrices are small here: most operations take less than a millisecond, of which a second thread saves little.
    Threads of these libraries spin while they wait for each other, and on cores that are busy with other work each
    waits for the neighbours in turn: a fit with two threads was seen to take five times as long as with one. So one
    is taken, unless ``settings.n_threads`` or the environment variable ``OMP_NUM_THREADS`` says otherwise.
    """

    @wraps(function)
    def calm(*args: Any, **kwargs: Any) -> Any:
        with _limited(settings.n_threads or _of_environment() or 1):
            return function(*args, **kwargs)

    return calm  # type: ignore[return-value]


@contextmanager
def all_threads() -> Iterator[None]:
    """Within `few_threads`, for large operations such as convolutions over patches: all that were there before."""
    with _limited(cores()):
        yield


@contextmanager
def _limited(n: int) -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    before, token = _of_torch(), _cores.set(cores())
    try:
        with threadpool_limits(n):
            _to_torch(n)
            yield
    finally:
        _cores.reset(token)
        _to_torch(before)


def _of_environment() -> int | None:
    """The first number of ``OMP_NUM_THREADS``, which has one for every level of nesting; None where there is none."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def _of_torch() -> int | None:
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())


def _to_torch(n: int | None) -> None:
    torch = sys.modules.get("torch")
    if torch is not None and n is not None and torch.get_num_threads() != n:
        torch.set_num_threads(n)
