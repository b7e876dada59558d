from pathlib import Path

import h5py
import numpy as np
import pytest

from omib_spatial.datasets import mosi

NAMES = {
    "words": "CMU_MOSI_TimestampedWords",
    "text": "CMU_MOSI_TimestampedWordVectors",
    "audio": "CMU_MOSI_COVAREP",
    "video": "CMU_MOSI_Visual_Facet_41",
    "labels": "CMU_MOSI_Opinion_Labels",
}
VIDEOS = {
    # Three words of a second each from 0, a pause in between; sentiment of [0, 2.5) and [2.5, 4).
    "_dI--eQ6qVU": (["VERY", "sp", "GOOD", "FILM"], [[0.0, 2.5], [2.5, 4.0]], [2.4, -1.0]),
    "6_0THN4chvY": (["BAD"], [[0.0, 1.0]], [-3.0]),
}


def content(role: str, video: str) -> tuple[np.ndarray, np.ndarray]:
    words, bounds, labels = VIDEOS[video]
    starts = np.arange(len(words), dtype=float)
    seconds = np.stack([starts, starts + 1], 1)
    if role == "words":
        return np.array(words, dtype="S10")[:, None], seconds
    if role == "labels":
        return np.array(labels)[:, None], np.array(bounds)
    if role == "text":
        return starts[:, None] * [1.0, 10.0] + 1, seconds
    # Ten measurements a second: their number, its square.
    i = np.arange(10 * len(words), dtype=float)
    return np.stack([i + 1, (i + 1) ** 2, 0 * i + 1], 1), np.stack([i / 10, (i + 1) / 10], 1)


def write(folder: Path, *, one_file: bool = False, without: str = "", names: dict[str, str] = NAMES) -> Path:
    for role, name in names.items():
        with h5py.File(folder / ("mosi.hdf5" if one_file else f"{name}.csd"), "a") as file:
            for video in VIDEOS:
                if without != f"{role} {video}":
                    features, intervals = content(role, video)
                    file[f"{name if one_file else 'root'}/data/{video}/features"] = features
                    file[f"{name if one_file else 'root'}/data/{video}/intervals"] = intervals
            file[f"{name if one_file else 'root'}/metadata/alignments"] = "x"
    return folder / "mosi.hdf5" if one_file else folder


@pytest.mark.parametrize("one_file", [True, False])
def test_utterances_are_cut_at_the_labels_and_averaged_over_words(tmp_path, one_file):
    data = mosi(write(tmp_path, one_file=one_file))
    assert data.ids.tolist() == ["6_0THN4chvY_0", "_dI--eQ6qVU_0", "_dI--eQ6qVU_1"]
    assert data.groups.tolist() == ["6_0THN4chvY", "_dI--eQ6qVU", "_dI--eQ6qVU"]
    np.testing.assert_allclose(data.target, [-3, 2.4, -1], rtol=1e-6)
    # The middle of GOOD lies at 2.5, where the second utterance starts.
    assert data.words.tolist() == ["BAD", "VERY", "GOOD FILM"]
    assert [data.lengths[name].tolist() for name in data.inputs] == [[1, 1, 2]] * 3
    np.testing.assert_allclose(data.inputs["text"][2], [[3, 21], [4, 31]])
    i = np.arange(20, 40).reshape(2, 10) + 1.0
    np.testing.assert_allclose(data.inputs["audio"][2, :, :2], np.stack([i.mean(1), (i**2).mean(1)], 1))
    assert data.part is None


def test_a_video_without_pictures_lacks_them_and_one_without_words_is_left_out(tmp_path):
    (tmp_path / "a").mkdir()
    data = mosi(write(tmp_path / "a", without="video 6_0THN4chvY"))
    assert data.present.tolist() == [[True, True, False], [True, True, True], [True, True, True]]
    (tmp_path / "b").mkdir()
    assert len(mosi(write(tmp_path / "b", without="words 6_0THN4chvY"))) == 2


def test_infinities_of_covarep_become_zero_and_are_counted(tmp_path, caplog):
    write(tmp_path)
    with h5py.File(tmp_path / "CMU_MOSI_COVAREP.csd", "a") as file:
        file["root/data/6_0THN4chvY/features"][:, 2] = -np.inf
    data = mosi(tmp_path)
    assert "10 features of 'audio'" in caplog.text
    assert data.inputs["audio"][0, 0, 2] == 0 and data.inputs["audio"][1, 0, 2] == 1


def test_names_that_say_nothing_can_be_given(tmp_path):
    others = {role: f"sequence_{i}" for i, role in enumerate(NAMES)}
    write(tmp_path, names=others)
    with pytest.raises(KeyError, match=r"sequences=\{'words': NAME\}"):
        mosi(tmp_path)
    assert len(mosi(tmp_path, sequences=others)) == 3
    with pytest.raises(KeyError, match="of which \\[\\] may be the audio"):
        mosi(tmp_path, sequences=others | {"audio": "sequence_9"})


def test_labels_of_other_videos_are_an_error(tmp_path):
    write(tmp_path)
    with h5py.File(tmp_path / f"{NAMES['labels']}.csd", "a") as file:
        for video in VIDEOS:
            file.move(f"root/data/{video}", f"root/data/other_{video}")
    with pytest.raises(ValueError, match="No labelled interval"):
        mosi(tmp_path)
