import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from omib_spatial.core import Samples, Sequences, sample_loader

N = 23


def samples(missing: bool) -> Samples:
    present = torch.ones(N, 2, dtype=torch.bool)
    if missing:
        present[::3, 0] = False
        present[1::3, 1] = False
    rows = torch.arange(N, dtype=torch.float32)
    return Samples({"a": torch.stack([rows, rows], 1), "b": rows.unsqueeze(1)}, torch.arange(N), present)


@given(size=st.integers(1, 30), shuffle=st.booleans(), missing=st.booleans(), seed=st.integers(0, 5))
def test_every_sample_once_with_its_own_rows_target_and_presence(size, shuffle, missing, seed):
    whole, seen = samples(missing), []
    for batch in sample_loader(whole, size, shuffle=shuffle, seed=seed):
        rows = batch.target
        assert torch.equal(batch.present, whole.present[rows])
        for (name, x), here in zip(batch.inputs.items(), batch.present.T, strict=True):
            assert torch.equal(x[:, 0], rows[here].float()), name
        seen += rows.tolist()
    assert sorted(seen) == list(range(N))
    assert shuffle or seen == list(range(N))


def test_order_follows_from_the_seed_and_is_a_new_one_each_epoch():
    def epochs(seed: int) -> list[list[int]]:
        loader = sample_loader(samples(False), 5, shuffle=True, seed=seed)
        return [[row for batch in loader for row in batch.target.tolist()] for _ in range(2)]

    first, second = epochs(1)
    assert first != second
    assert epochs(1) == [first, second] != epochs(2)


def test_last_incomplete_batch_may_be_left_out():
    sizes = [len(batch.target) for batch in sample_loader(samples(False), 5, shuffle=False, drop_last=True)]
    assert sizes == [5, 5, 5, 5]


def test_errors_name_what_differs():
    with pytest.raises(ValueError, match=r"'a': 3, 'b': 2"):
        Samples({"a": torch.zeros(3, 1), "b": torch.zeros(2, 1)})
    with pytest.raises(ValueError, match=r"present is \(3, 2\) where \(3, 1\) is needed"):
        Samples({"a": torch.zeros(3, 1)}, present=torch.ones(3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"none in rows \[1\]"):
        Samples({"a": torch.zeros(3, 1)}, present=torch.tensor([[True], [False], [True]]))


def test_sequences_are_cut_with_their_lengths():
    values, lengths = torch.arange(24.0).reshape(4, 3, 2), torch.tensor([3, 1, 2, 1])
    present = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    whole = Samples({"x": torch.arange(4), "speech": Sequences(values, lengths)}, present=present)
    batch = whole[[3, 1, 0]]
    assert isinstance(batch.inputs["speech"], Sequences)
    assert torch.equal(batch.inputs["speech"].values, values[[3, 0]])
    assert batch.inputs["speech"].lengths.tolist() == [1, 3]
    assert batch.inputs["x"].tolist() == [3, 1, 0]
    # Only as long as the longest of the batch; where nobody speaks, nothing.
    assert torch.equal(whole[[3, 2]].inputs["speech"].values, values[[3, 2], :2])
    assert whole[[1]].inputs["speech"].values.shape == (0, 0, 2)


def test_mask_and_trimming_follow_the_lengths():
    sequences = Sequences(torch.randn(3, 5, 2), torch.tensor([1, 3, 2]))
    assert sequences.mask.sum(1).tolist() == [1, 3, 2]
    assert sequences.mask[1].tolist() == [True, True, True, False, False]
    trimmed = sequences.trimmed()
    assert trimmed.values.shape == (3, 3, 2)
    assert torch.equal(trimmed.values, sequences.values[:, :3]) and torch.equal(trimmed.lengths, sequences.lengths)


def test_parts_of_a_sequence_that_differ_are_named():
    with pytest.raises(ValueError, match=r"'speech.values': 3, 'speech.lengths': 2"):
        Samples({"speech": Sequences(torch.zeros(3, 4, 1), torch.ones(2))})


def test_what_is_no_batch_of_samples_is_refused():
    a, b = torch.zeros(4, 2), torch.zeros(4, 3)
    with pytest.raises(ValueError, match="inputs is empty"):
        Samples({})
    with pytest.raises(TypeError, match="present is torch.int64: it is bool"):
        Samples({"a": a, "b": b}, present=torch.ones(4, 2, dtype=torch.int64))
    # As torch's own loader asks without a sampler of batches.
    with pytest.raises(TypeError, match="sample_loader"):
        next(iter(DataLoader(Samples({"a": a}), batch_size=2)))


def test_an_epoch_has_its_order_whatever_was_read_before():
    samples = Samples({"a": torch.arange(10.0)[:, None]}, torch.arange(10))
    loader = sample_loader(samples, 5, shuffle=True, seed=1)

    def order():
        return [batch.target.tolist() for _, batch in zip(range(2), loader, strict=False)]

    found = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        found.append(order())
    assert found[0] != found[1] != found[2]
    for epoch in (0, 2, 1):
        loader.sampler.set_epoch(epoch)
        assert order() == found[epoch]
