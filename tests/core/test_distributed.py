import torch
from torch import distributed, multiprocessing

from omib_spatial.core.distributed import ProcessRank, gathered, process_rank, summed


def test_alone_nothing_is_shared():
    values = torch.arange(3.0, requires_grad=True)
    assert process_rank() == ProcessRank(0, 1)
    assert torch.equal(summed(values), values) and not summed(values).requires_grad
    assert gathered("x") == ["x"]


def work(rank: int, address: str) -> None:
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    values = torch.tensor([1.0 + rank, 10.0])
    assert process_rank() == ProcessRank(rank, 2)
    assert summed(values).tolist() == [3.0, 20.0]
    assert values.tolist() == [1.0 + rank, 10.0]  # the caller's tensor stays
    assert gathered({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    distributed.destroy_process_group()


def test_two_processes_share(tmp_path):
    # Forked, for a spawned process would import everything again.
    multiprocessing.start_processes(work, (f"file://{tmp_path / 'meet'}",), nprocs=2, start_method="fork")
