import os
from contextlib import nullcontext

import pytest
import torch
from threadpoolctl import threadpool_info

from omib_spatial import settings
from omib_spatial._threads import all_threads, cores, few_threads


@pytest.fixture(autouse=True)
def two(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    settings.reset()
    torch.set_num_threads(before)


def seen() -> tuple[int, set[int], int]:
    """Torch's threads, those of BLAS, and what separate pieces of work may take together."""
    return torch.get_num_threads(), {i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"}, cores()


def test_one_thread_within_and_as_before_afterwards():
    before = seen()
    inner = few_threads(lambda: (seen(), few_threads(seen)()))
    assert inner() == ((1, {1}, 2), (1, {1}, 2))
    assert seen() == before and before[0] == 2


def test_also_after_an_error():
    before = seen()

    @few_threads
    def fails() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert seen() == before


def test_large_work_gets_all_of_them():
    @few_threads
    def within() -> list[int]:
        with all_threads():
            many = torch.get_num_threads()
        return [many, torch.get_num_threads()]

    assert within() == [2, 1]


@pytest.mark.parametrize(("n", "variable", "expected"), [(3, None, 3), (None, "2", 2), (1, "2", 1), (None, None, 1)])
def test_the_user_decides(monkeypatch, n, variable, expected):
    settings.n_threads = n
    with nullcontext() if variable is None else monkeypatch.context() as patch:
        if patch is not None:
            patch.setitem(os.environ, "OMP_NUM_THREADS", variable)
        assert few_threads(torch.get_num_threads)() == expected


def test_the_environment_holds_where_scanpy_raised_the_threads_of_torch(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1,2")
    assert torch.get_num_threads() == 2
    assert few_threads(seen)() == (1, {1}, 1) and torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert few_threads(seen)() == (1, {1}, 2)


def test_one_setting_is_for_training_and_for_separate_pieces():
    settings.n_threads = 1
    assert few_threads(seen)() == (1, {1}, 1)
