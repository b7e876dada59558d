import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omib_bench.datasets._multimodal import pad, trim
from omib_spatial.core import Sequences, sample_loader
from omib_spatial.datasets import Multimodal


def data(n: int = 40, speakers: int = 8, seed: int = 0, part: np.ndarray | None = None) -> Multimodal:
    rng = np.random.default_rng(seed)
    steps, lengths = pad([rng.normal(3, 2, (k, 4)) for k in rng.integers(1, 6, n)])
    lengths[n // 2] = 0
    steps[n // 2] = 0
    return Multimodal(
        inputs={"vector": rng.normal(5, 3, (n, 2)).astype(np.float32), "steps": steps},
        target=rng.integers(0, 2, n),
        ids=np.arange(n).astype(str),
        groups=rng.integers(0, speakers, n).astype(str),
        lengths={"steps": lengths},
        part=part,
        words=np.array(["good film", "bad film", "so so"])[rng.integers(0, 3, n)],
    )


@given(seed=st.integers(0, 20), folds=st.integers(3, 5))
def test_every_sample_is_tested_once_and_no_group_straddles(seed, folds):
    whole = data(seed=seed)
    tested = []
    for fold in range(folds):
        split = whole.split(fold, folds, seed)
        assert sorted(np.concatenate(split)) == list(range(len(whole)))
        speakers = [set(whole.groups[rows]) for rows in split]
        assert all(speakers) and not (
            speakers[0] & speakers[1] or speakers[0] & speakers[2] or speakers[1] & speakers[2]
        )
        tested += split.test.tolist()
    assert sorted(tested) == list(range(len(whole)))


def test_another_seed_deals_other_folds_and_the_same_seed_the_same():
    first, again, other = (data().split(0, seed=seed).test.tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_split_of_the_source_comes_first():
    part = np.array(["test", "train", "valid", "train"] * 10)
    for fold in (0, 3):
        for rows, name in zip(data(part=part).split(fold), ["train", "valid", "test"], strict=True):
            assert set(part[rows]) == {name} and len(rows) == (part == name).sum()
    with pytest.raises(ValueError, match="fold is 5 of 5"):
        data().split(5)


def test_scaling_looks_at_the_steps_of_the_given_rows_alone():
    whole, rows = data(), np.arange(15)
    scaled = whole.scaled(rows)
    steps = np.concatenate([scaled.inputs["steps"][i, : whole.lengths["steps"][i]] for i in rows])
    for values in (steps, scaled.inputs["vector"][rows]):
        np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(values.std(0), 1, atol=1e-5)
    beyond = np.arange(5) >= whole.lengths["steps"][:, None]
    assert (scaled.inputs["steps"][beyond] == 0).all()
    assert all(values.dtype == np.float32 for values in scaled.inputs.values())
    longer = data()
    longer.inputs["vector"][30:] += 100
    np.testing.assert_array_equal(longer.scaled(rows).inputs["vector"][rows], scaled.inputs["vector"][rows])


def test_vectors_are_means_of_the_steps_there_are():
    whole = data()
    found = whole.vectors()
    for i, n in enumerate(whole.lengths["steps"]):
        expected = whole.inputs["steps"][i, :n].mean(0) if n else np.zeros(4)
        np.testing.assert_allclose(found["steps"][i], expected, rtol=1e-5)
    np.testing.assert_array_equal(found["vector"], whole.inputs["vector"])
    frames = Multimodal({"video": np.zeros((2, 3, 3, 4, 4))}, np.zeros(2), np.arange(2), np.arange(2))
    with pytest.raises(ValueError, match="'video' is"):
        frames.vectors()


def test_samples_carry_lengths_targets_and_what_is_missing():
    whole = data()
    rows = np.array([20, 3, 7])
    batch = next(iter(sample_loader(whole.samples(rows), 3, shuffle=False)))
    assert batch.present.tolist() == [[True, False], [True, True], [True, True]]
    assert isinstance(batch.inputs["steps"], Sequences)
    lengths = whole.lengths["steps"][[3, 7]]
    assert torch.equal(batch.inputs["steps"].lengths, torch.from_numpy(lengths))
    assert torch.equal(batch.inputs["steps"].values, torch.from_numpy(whole.inputs["steps"][[3, 7], : lengths.max()]))
    assert torch.equal(batch.target, torch.from_numpy(whole.target[rows]))
    assert len(whole.samples()) == len(whole)


def test_select_keeps_order_and_names_what_is_unknown():
    assert list(data().select(["steps", "vector"]).inputs) == ["steps", "vector"]
    assert data().select(["vector"]).lengths == {} and data().select(["vector"]).present.shape == (40, 1)
    with pytest.raises(KeyError, match="smell"):
        data().select(["smell"])


def test_word_counts_are_learned_on_the_given_rows():
    whole = data()
    known = np.flatnonzero(whole.words != "so so")
    text = whole.with_word_counts(known).inputs["text"]
    assert text.shape[1] == 5  # good, bad, film and two pairs
    assert (text[whole.words == "so so"] == 0).all() and (text[known] != 0).any(1).all()
    np.testing.assert_allclose(np.linalg.norm(text[known], axis=1), 1, rtol=1e-5)
    assert whole.with_word_counts(known, max_words=2).inputs["text"].shape[1] == 2
    silent = Multimodal({"a": np.zeros((2, 1))}, np.zeros(2), np.arange(2), np.arange(2))
    with pytest.raises(ValueError, match="not known"):
        silent.with_word_counts(known)


@given(lead=st.integers(0, 4), inner=st.integers(0, 3), tail=st.integers(0, 4))
def test_padding_moves_to_the_end_and_inner_zeros_stay(lead, inner, tail):
    own = np.concatenate([[[1.0, 2.0]], np.zeros((inner, 2)), [[0.0, 3.0]]])
    values = np.concatenate([np.zeros((lead, 2)), own, np.zeros((tail, 2))])
    moved, lengths = trim(np.stack([values, np.zeros_like(values)]))
    assert lengths.tolist() == [len(own), 0]
    np.testing.assert_array_equal(moved[0, : len(own)], own)
    assert (moved[0, len(own) :] == 0).all() and (moved[1] == 0).all()
