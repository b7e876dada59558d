import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial

import numpy as np
import pytest
import torch

from omib_spatial.core.distributed import ProcessRank
from omib_spatial.modalities import Spots, Target, spread, tile_loader
from omib_spatial.modalities.base import DenseRows
from omib_spatial.modalities.batches import WORKERS, TileSampler, ahead
from omib_spatial.slides.split import SpotLocations, spatial_tiles

# Epochs


def made_tiles() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    xy, codes = rng.normal(size=(1000, 2)) * [5, 1], rng.integers(0, 4, 1000)
    return spatial_tiles(SpotLocations(xy, codes), np.arange(1000), 32)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 40, 128, 10_000])
def test_every_epoch_has_every_row_once(shuffle, batch_size):
    tiles = made_tiles()
    sampler = TileSampler(tiles, batch_size, shuffle=shuffle)
    for _ in range(3):
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(1000))
        whole = {frozenset(tile.tolist()) for tile in tiles}
        assert all(set().union(*(t for t in whole if t <= set(b.tolist()))) == set(b.tolist()) for b in batches)


@pytest.mark.parametrize("batch_size", [64, 128, 300])
def test_batches_are_about_as_large_as_asked(batch_size):
    sizes = [len(batch) for batch in TileSampler(made_tiles(), batch_size, shuffle=True)]
    assert abs(np.mean(sizes) / batch_size - 1) < 0.2
    assert max(sizes) <= 1.5 * batch_size
    assert min(sizes) >= 0.5 * batch_size


def test_a_batch_is_at_least_a_tile_and_at_most_everything():
    tiles = made_tiles()
    assert len(TileSampler(tiles, 1, shuffle=False)) == len(tiles)
    assert len(TileSampler(tiles, 10**6, shuffle=False)) == 1


def sequence(seed: int, *, shuffle: bool, epochs: int = 3) -> list[list[list[int]]]:
    sampler = TileSampler(made_tiles(), 128, shuffle=shuffle, seed=seed)
    return [[batch.tolist() for batch in sampler] for _ in range(epochs)]


def test_order_is_new_every_epoch_and_the_same_for_the_same_seed():
    one = sequence(5, shuffle=True)
    assert one[0] != one[1] != one[2] != one[0]
    assert one == sequence(5, shuffle=True)
    assert one[0] != sequence(6, shuffle=True)[0]
    composition = [{frozenset(batch) for batch in epoch} for epoch in one]
    assert composition[0].isdisjoint(composition[1])


def test_without_shuffling_the_order_stays():
    one = sequence(5, shuffle=False)
    assert one[0] == one[1] == sequence(6, shuffle=False)[0]
    assert np.array_equal(np.concatenate(one[0]), np.concatenate(made_tiles()))


def test_order_follows_from_seed_and_epoch_alone():
    third = sequence(5, shuffle=True)[2]
    sampler = TileSampler(made_tiles(), 128, shuffle=True, seed=5)
    sampler.set_epoch(2)
    assert [batch.tolist() for batch in sampler] == third


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("batch_size", [33, 128, 10_000])
def test_processes_share_every_batch_without_overlap_or_loss(monkeypatch, world, batch_size):
    def batches(rank: int, world: int) -> list[np.ndarray]:
        monkeypatch.setattr("omib_spatial.modalities.batches.process_rank", lambda: ProcessRank(rank, world))
        return list(TileSampler(made_tiles(), batch_size, shuffle=True, seed=5, share=True))

    shares = [batches(rank, world) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    assert all(len(batch) for share in shares for batch in share)
    together = [np.sort(np.concatenate(parts)) for parts in zip(*shares, strict=True)]
    assert np.array_equal(np.sort(np.concatenate(together)), np.arange(1000))
    alone = batches(0, 1)
    if len(alone) == len(together):
        assert all(np.array_equal(np.sort(one), all_) for one, all_ in zip(alone, together, strict=True))
    else:
        assert batch_size == 33  # single tiles cannot be shared


def test_too_few_tiles_for_the_processes_is_an_error(monkeypatch):
    monkeypatch.setattr("omib_spatial.modalities.batches.process_rank", lambda: ProcessRank(0, 1000))
    with pytest.raises(ValueError, match="fewer devices"):
        len(TileSampler(made_tiles(), 128, shuffle=True, share=True))


# Spots


def made_spots(n: int = 60) -> Spots:
    """Three dense modalities that lack some spots, and a target for the last and the first."""
    rng = np.random.default_rng(0)
    prepared = {}
    for width, name in enumerate(("gene", "image", "extra"), 2):
        values = rng.normal(size=(n, width)).astype(np.float32)
        values[rng.random(n) < 0.4] = np.nan
        values[0] = 1
        prepared[name] = DenseRows(values, torch.zeros(width), torch.ones(width))
    values = {"extra": torch.randn(n, 1), "gene": torch.randn(n, 3)}
    return Spots(prepared, {name: Target(x.shape[1], x.__getitem__) for name, x in values.items()})


ROWS = np.array([7, 4, 12, 0, 9, 5])


def test_presence_is_by_modality_in_order():
    spots = made_spots()
    expected = np.stack([spots.prepared[name].present for name in ("gene", "image", "extra")], 1)
    assert np.array_equal(spots.present, expected)
    assert 0 < expected.mean() < 1
    batch = spots[ROWS]
    assert batch.present.dtype == torch.bool
    assert np.array_equal(batch.present, expected[ROWS])


def test_inputs_hold_the_spots_that_have_the_modality_in_order():
    spots = made_spots()
    batch = spots[ROWS]
    assert list(batch.inputs) == ["gene", "image", "extra"]
    for name, data in spots.prepared.items():
        here = ROWS[data.present[ROWS]]
        assert 0 < len(here) < len(ROWS)
        assert torch.equal(batch.inputs[name], torch.from_numpy(data.values[here]))


def test_a_modality_that_no_spot_has_is_left_out():
    spots = made_spots()
    alone = np.flatnonzero((spots.present == [True, False, False]).all(1))
    assert len(alone)
    assert list(spots[alone].inputs) == ["gene"]


def test_target_is_nan_exactly_where_its_modality_is_missing():
    spots = made_spots()
    target = spots[ROWS].target
    assert target.shape == (6, 4)
    for columns, name in ((slice(0, 1), "extra"), (slice(1, 4), "gene")):
        here = torch.from_numpy(spots.prepared[name].present[ROWS])
        assert torch.equal(target[here, columns], spots.targets[name].of(ROWS[here]))
        assert target[~here, columns].isnan().all()
    assert Spots(spots.prepared)[ROWS].target is None


def test_masked_hides_spots_and_modalities():
    spots = made_spots()
    mask = np.arange(60) % 2 == 0
    some = spots.masked(mask)
    assert np.array_equal(some.present, spots.present & mask[:, None])
    two = spots.masked(mask, ["extra", "gene"])
    assert list(two.prepared) == ["gene", "image", "extra"]
    assert np.array_equal(two.present, spots.present & mask[:, None] & [True, False, True])
    assert not spots.masked(mask, []).present.any()
    assert np.array_equal(spots.present, made_spots().present)

    rows = ROWS[two.present[ROWS].any(1)]
    batch = two[rows]
    assert set(batch.inputs) == {"extra", "gene"}
    there = torch.from_numpy(two.present[rows][:, [2, 0, 0, 0]])
    assert torch.equal(~batch.target.isnan(), there)
    assert torch.equal(spots.masked(mask, ["image"])[rows].target.isnan(), torch.ones(len(rows), 4, dtype=bool))


def test_input_and_target_that_share_work_come_from_one_call_unless_spots_are_hidden():
    spots, calls = made_spots(), []

    def with_batch(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(rows)
        return spots.prepared["gene"].batch(rows) + 1, spots.targets["gene"].of(rows) + 2

    both = Spots(spots.prepared, spots.targets | {"gene": spots.targets["gene"]._replace(with_batch=with_batch)})
    apart, together = spots[ROWS], both[ROWS]
    assert len(calls) == 1 and np.array_equal(calls[0], ROWS[spots.prepared["gene"].present[ROWS]])
    assert torch.equal(together.inputs["gene"], apart.inputs["gene"] + 1)
    torch.testing.assert_close(together.target, apart.target + torch.tensor([0, 2, 2, 2]), equal_nan=True)
    assert torch.equal(together.inputs["image"], apart.inputs["image"])
    hidden = both.masked(np.ones(60, bool))[ROWS]
    labelled = Spots(both.prepared, both.targets, np.zeros(60, int))[ROWS]
    assert len(calls) == 1
    assert torch.equal(hidden.inputs["gene"], apart.inputs["gene"])
    assert torch.equal(labelled.inputs["gene"], apart.inputs["gene"])


# Loader


def test_loader_gives_the_batches_of_the_sampler_with_and_without_workers():
    spots, tiles = made_spots(), [np.arange(i, i + 12) for i in range(0, 60, 12)]
    sampler = TileSampler(tiles, 24, shuffle=True, seed=3)
    loaders = [
        tile_loader(spots, tiles, batch_size=24, shuffle=True, seed=3, num_workers=workers) for workers in (0, 1)
    ]
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches = [list(loader) for loader in loaders]
        expected = [spots[rows] for rows in sampler]
        assert len(expected) == len(loaders[0]) == len(batches[0]) == len(batches[1]) == 2
        for want, *got in zip(expected, *batches, strict=True):
            for batch in got:
                assert torch.equal(batch.present, want.present)
                torch.testing.assert_close(batch.target, want.target, equal_nan=True, rtol=0, atol=0)
                assert batch.inputs.keys() == want.inputs.keys()
                assert all(torch.equal(batch.inputs[name], want.inputs[name]) for name in want.inputs)


# Ahead


@pytest.mark.parametrize("n", [0, 1, 5])
def test_ahead_gives_the_same_items_in_order(n):
    assert list(ahead(iter(range(n)))) == list(range(n))


def test_ahead_makes_the_next_item_while_one_is_used():
    made = [threading.Event() for _ in range(3)]

    def items():
        for i, event in enumerate(made):
            event.set()
            yield i

    for item in ahead(items()):
        if item < 2:
            assert made[item + 1].wait(10)


def test_ahead_passes_errors_on():
    def items():
        yield 1
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        list(ahead(items()))


# Spread


@contextmanager
def threads(n: int):
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def later() -> int:
    """Torch's threads in a thread that starts now."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_ahead_leaves_the_number_of_threads():
    with threads(3):
        for _ in ahead(iter([1, 2])):
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == later() == 3


@pytest.mark.parametrize("n_threads", [1, 2, 3, 20])
@pytest.mark.parametrize("n", [0, 1, 7, 40])
def test_spread_gives_results_in_the_order_of_items(n_threads, n):
    with threads(n_threads):
        assert list(spread(lambda i: i * i, iter(range(n)), n_threads)) == [i * i for i in range(n)]


@pytest.mark.parametrize("n_threads", [2, 3])
def test_as_many_items_are_worked_on_at_a_time_as_there_are_threads(n_threads):
    together = threading.Barrier(n_threads)
    with threads(n_threads):
        assert list(spread(lambda i: together.wait(10) >= 0, range(2 * n_threads), n_threads)) == [True] * 2 * n_threads


def test_items_are_made_where_they_are_asked_for_and_few_in_advance():
    made, used = [], []

    def items():
        for i in range(20):
            made.append(threading.get_ident())
            yield i

    for i in spread(lambda i: i, items(), 2):
        used.append(i)
        assert len(made) - len(used) <= 3
    assert set(made) == {threading.get_ident()}


@pytest.mark.parametrize(("n_threads", "each"), [(2, 1), (WORKERS, 1), (2 * WORKERS + 1, 2)])
def test_workers_share_the_threads_and_leave_them_as_they_were(n_threads, each):
    with threads(n_threads):
        assert set(spread(lambda _: torch.get_num_threads(), range(5), n_threads)) == {each}
        assert torch.get_num_threads() == later() == n_threads


@pytest.mark.parametrize("where", ["work", "items", "use"])
@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_errors_surface_and_the_threads_are_as_before(where, error, n_threads):
    def fail(place: str, i: int) -> int:
        if place == where and i == 2:
            raise error("broken")
        return i

    before = threading.active_count()
    with threads(n_threads):
        with (
            pytest.raises(error, match="broken"),
            closing(spread(partial(fail, "work"), (fail("items", i) for i in range(9)), n_threads)) as results,
        ):
            for i in results:
                fail("use", i)
        assert torch.get_num_threads() == later() == n_threads
    assert threading.active_count() == before
