import csv
import os
from pathlib import Path

import numpy as np
import pytest

from omib_spatial.datasets import mosi

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[3] / "../shared/data")) / "mosi"
REAL = pytest.mark.skipif(not DATA.is_dir(), reason=f"no MOSI arrays at {DATA}: set OMIB_DATA")


def write_arrays(
    folder: Path,
    labels: list[int],
    speakers: list[int],
    *,
    transcripts: bool = True,
    first: int = 2,
    test: bool = False,
) -> None:
    """Utterances in the transcripts' order; arrays as the real ones, positive first: the ``first`` speakers train."""
    if transcripts:
        with (folder / "transcripts.csv").open("w", newline="") as file:
            for i, (label, speaker) in enumerate(zip(labels, speakers, strict=True)):
                csv.writer(file, quoting=csv.QUOTE_ALL).writerow([f"v_{speaker}_{i}", f"WORD {i}", speaker, label])
    for part in ("train", "test") if test else ("train",):
        order = [i for i, speaker in enumerate(speakers) if (speaker > first) == (part == "test")]
        order.sort(key=lambda i: -labels[i])
        vectors = {name: np.array(order, dtype=np.float64)[:, None] * np.ones(width) for name, width in SIZES.items()}
        np.savez(folder / f"mosi_{part}.npz", label=np.array(labels)[order], **vectors)


SIZES = {"text": 3, "audio": 2, "video": 4}
LABELS = [1, 0, 1, 1, 0, 0, 1, 0, 1]
SPEAKERS = [2, 2, 3, 1, 1, 1, 2, 3, 1]


def test_rows_find_their_utterance(tmp_path):
    write_arrays(tmp_path, LABELS, SPEAKERS)
    data = mosi(tmp_path)
    utterance = data.inputs["text"][:, 0].astype(int)
    assert data.ids.tolist() == [f"v_{SPEAKERS[i]}_{i}" for i in utterance]
    assert data.groups.tolist() == [f"v_{SPEAKERS[i]}" for i in utterance]
    assert data.words.tolist() == [f"WORD {i}" for i in utterance]
    assert data.target.tolist() == [LABELS[i] for i in utterance] == [1, 1, 1, 1, 0, 0, 0]
    assert list(data.inputs) == ["text", "audio", "video"] and data.present.all()


def test_new_speakers_are_the_test_and_a_fifth_of_the_others_validates(tmp_path):
    speakers, labels = [i % 12 + 1 for i in range(120)], [int(i % 7 < 3) for i in range(120)]
    write_arrays(tmp_path, labels, speakers, first=10, test=True)
    data = mosi(tmp_path)
    split, utterance = data.split(), data.inputs["audio"][:, 0].astype(int)
    assert data.words.tolist() == [f"WORD {i}" for i in utterance]
    assert data.target.tolist() == [labels[i] for i in utterance]
    assert sorted(np.concatenate(split)) == list(range(120))
    train, valid, test = ({speakers[i] for i in utterance[rows]} for rows in split)
    assert test == {11, 12} and len(valid) == 2 and len(train) == 8 and not valid & train


@pytest.mark.parametrize("why", ["no transcripts", "other labels", "other number"])
def test_rows_that_cannot_be_aligned_are_grouped_by_blocks(tmp_path, caplog, why):
    write_arrays(tmp_path, LABELS * 40, SPEAKERS * 40, transcripts=why != "no transcripts")
    if why != "no transcripts":
        lines = (tmp_path / "transcripts.csv").read_text().splitlines()
        flipped = lines[0][:-2] + '0"'
        (tmp_path / "transcripts.csv").write_text(
            "\n".join([flipped, *lines[1:]] if why == "other labels" else lines[1:])
        )
    data = mosi(tmp_path)
    assert "split by blocks" in caplog.text
    assert data.words is None and len(set(data.groups)) == 60
    # Neighbours of either label share a block: 4 positive and 3 negative rows of each repetition.
    positive, negative = data.groups[:160], data.groups[160:]
    assert positive[0] == negative[0] == "train_block_0" and positive[-1] == negative[-1] == "train_block_59"
    assert positive.tolist() == sorted(positive, key=lambda name: int(name.rsplit("_", 1)[1]))
    split = data.split(0)
    assert not set(data.groups[split.train]) & set(data.groups[split.test])


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="mosi_train.npz"):
        mosi(tmp_path)
    np.savez(tmp_path / "mosi_train.npz", text=np.zeros((2, 3)), label=np.zeros(2))
    with pytest.raises(KeyError, match=r"lacks \['audio', 'video'\]"):
        mosi(tmp_path)


@REAL
def test_the_real_rows_are_aligned_with_the_transcripts():
    data = mosi(DATA)
    assert len(data) == 1447 and len(set(data.groups)) == 62
    # Not used for the alignment: the same words have the same text features, and nothing else has.
    _, by_words = np.unique(data.words, return_inverse=True)
    _, by_features = np.unique(data.inputs["text"], axis=0, return_inverse=True)
    pairs = len(set(zip(by_words.tolist(), by_features.ravel().tolist(), strict=True)))
    assert pairs == by_words.max() + 1 == by_features.max() + 1 == 1445
    # A voice is recognised from positive to negative utterances, which lie in different halves of the file.
    pitch = data.inputs["audio"][:, 0]
    means = [[pitch[(data.groups == s) & (data.target == y)].mean() for y in (0, 1)] for s in sorted(set(data.groups))
             if len(set(data.target[data.groups == s])) == 2]  # fmt: skip
    assert np.corrcoef(np.array(means).T)[0, 1] > 0.8
