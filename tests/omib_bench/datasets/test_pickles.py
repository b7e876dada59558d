import collections
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from omib_bench.datasets._pickles import read_arrays
from omib_spatial.datasets import mosi

SIZES = {"train": 5, "valid": 2, "test": 3}
PAYLOAD = {
    "floats": np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32),
    "strings": np.array(["ab$_$1", "c"]),
    "objects": np.array(["GOOD FILM", None, 3], dtype=object),
    "bytes": np.array([b"x", b"yz"]),
    "number": np.float64(2.5),
    "list": [1, 2.0, "three", (True, None)],
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("package", [b"numpy._core", b"numpy.core"])
def test_arrays_of_every_protocol_and_both_numpys_come_through(tmp_path, protocol, package):
    written = pickle.dumps(PAYLOAD, protocol=protocol)
    if protocol < 4:
        # Protocols before 4 write names as lines; later ones write their length before them.
        written = written.replace(b"numpy._core", package)
    (tmp_path / "x.pkl").write_bytes(written)
    found = read_arrays(tmp_path / "x.pkl")
    assert found.keys() == PAYLOAD.keys() and found["list"] == PAYLOAD["list"] and found["number"] == 2.5
    for key in ("floats", "strings", "objects", "bytes", "fortran"):
        assert found[key].dtype == PAYLOAD[key].dtype
        np.testing.assert_array_equal(found[key], PAYLOAD[key])


class Runs:
    def __reduce__(self):
        return os.mkdir, ("was_run",)


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (Runs(), r"posix.mkdir|nt.mkdir"),
        (collections.OrderedDict(a=1), r"collections.OrderedDict"),
        (np.random.default_rng, r"numpy.random._pickle|numpy.random._generator|numpy.random"),
        (np.save, r"numpy.save|numpy.lib"),
        (eval, r"builtins.eval"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_anything_but_arrays_is_refused_by_name_and_does_not_run(tmp_path, monkeypatch, thing, name, protocol):
    monkeypatch.chdir(tmp_path)
    Path("x.pkl").write_bytes(pickle.dumps({"text": np.zeros(2), "thing": thing}, protocol=protocol))
    with pytest.raises(
        pickle.UnpicklingError, match=rf"asks for ({name.replace('builtins', '(builtins|__builtin__)')})"
    ):
        read_arrays(Path("x.pkl"))
    assert not Path("was_run").exists()


def test_no_codec_but_latin1_and_no_half_file(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(b"c_codecs\nencode\n(Vx\nVzlib\ntR.")
    with pytest.raises(pickle.UnpicklingError, match="'zlib'"):
        read_arrays(path)
    path.write_bytes(pickle.dumps(PAYLOAD)[:-40])
    with pytest.raises(pickle.UnpicklingError, match="."):
        read_arrays(path)
    path.write_bytes(b"no pickle at all")
    with pytest.raises(pickle.UnpicklingError):
        read_arrays(path)


def mmsa(front: bool = True) -> dict[str, dict[str, object]]:
    """As MMSA writes them; ``front`` pads there."""
    rng, whole = np.random.default_rng(1), {}
    for part, n in SIZES.items():
        features = {}
        for name, p in {"text": 6, "audio": 3, "vision": 2}.items():
            features[name] = rng.normal(size=(n, 4, p))
            features[name][:, slice(0, 1) if front else slice(3, 4)] = 0
        whole[part] = features | {
            "regression_labels": rng.uniform(-3, 3, n),
            "classification_labels": np.zeros(n),
            "id": [f"{part}_vid{i // 2}$_${i}" for i in range(n)],
            "raw_text": np.array([f"word {i}" for i in range(n)]),
        }
    return whole


def save(folder: Path, whole: object) -> Path:
    (folder / "mosi.pkl").write_bytes(pickle.dumps(whole))
    return folder / "mosi.pkl"


@pytest.mark.parametrize("front", [True, False])
def test_a_dictionary_of_arrays(tmp_path, front):
    whole = mmsa(front)
    data = mosi(save(tmp_path, whole))
    assert list(data.inputs) == ["text", "audio", "video"]
    for part, rows in data.split()._asdict().items():
        np.testing.assert_allclose(data.target[rows], whole[part]["regression_labels"], rtol=1e-6)
        for name, key in {"text": "text", "audio": "audio", "video": "vision"}.items():
            own = whole[part][key][:, 1:] if front else whole[part][key][:, :3]
            np.testing.assert_allclose(data.inputs[name][rows, :3], own, rtol=1e-6)
            assert (data.lengths[name][rows] == 3).all() and data.inputs[name].dtype == np.float32
        assert data.words[rows].tolist() == whole[part]["raw_text"].tolist()
        assert data.groups[rows].tolist() == [f"{part}_vid{i // 2}" for i in range(len(rows))]


def test_other_names_other_ids_and_stated_lengths(tmp_path):
    whole = mmsa()
    for i, (part, content) in enumerate(whole.items()):
        content["labels"] = content.pop("regression_labels")[:, None, None]
        del content["raw_text"]
        # MulT: video, start and end, as bytes or strings.
        content["id"] = np.array([[f"film_{i}", "1.5", "2.5"]] * SIZES[part], dtype="S9" if i else "U9")
        content["audio"][:, 0] = 7.0
        content["audio_lengths"] = [2] * SIZES[part]
    whole["dev"] = whole.pop("valid")
    data = mosi(save(tmp_path, whole))
    assert [len(rows) for rows in data.split()] == [5, 2, 3] and data.words is None
    assert sorted(set(data.groups)) == ["film_0", "film_1", "film_2"] and data.ids[0] == "film_0 1.5 2.5"
    assert (data.lengths["audio"] == 2).all() and (data.inputs["audio"][:, 0] == 7).all()
    np.testing.assert_allclose(data.target[:5], whole["train"]["labels"].ravel(), rtol=1e-6)


def test_a_list_of_tuples(tmp_path):
    rng = np.random.default_rng(2)
    whole = {
        part: [
            ((["so", "good"], rng.normal(size=(2, 4)), rng.normal(size=(2, 3))), np.array([[1.5]]), f"{part}[{i}]")
            for i in range(n)
        ]
        for part, n in {"train": 3, "dev": 2, "test": 2}.items()
    }
    data = mosi(save(tmp_path, whole))
    assert list(data.inputs) == ["audio", "video"] and data.inputs["audio"].shape == (7, 2, 3)
    np.testing.assert_allclose(data.inputs["video"][3], whole["dev"][0][0][1], rtol=1e-6)
    assert data.words.tolist() == ["so good"] * 7 and data.target.tolist() == [1.5] * 7
    assert sorted(set(data.groups)) == ["dev", "test", "train"]


def test_values_that_are_not_finite_become_zero_and_are_counted(tmp_path, caplog):
    whole = mmsa()
    whole["test"]["audio"][0, 2, :2] = [-np.inf, np.nan]
    data = mosi(save(tmp_path, whole))
    assert "2 features of 'audio' are not finite" in caplog.text
    assert data.inputs["audio"][data.split().test[0], 1, :2].tolist() == [0, 0]


def test_a_speaker_on_both_sides_is_refused_unless_the_split_is_ours(tmp_path):
    whole = mmsa()
    whole["test"]["id"][0] = "train_vid1$_$9"
    path = save(tmp_path, whole)
    with pytest.raises(ValueError, match=r"\['train_vid1'\] on both sides: pass own_split=False"):
        mosi(path)
    data = mosi(path, own_split=False)
    split = data.split(0, folds=3)
    assert not set(data.groups[split.train]) & set(data.groups[split.test])


def test_what_is_missing_is_named(tmp_path):
    whole = mmsa()
    del whole["test"]["regression_labels"]
    with pytest.raises(KeyError, match=r"test has none of \['regression_labels', 'labels', 'label'\]"):
        mosi(save(tmp_path, whole))
    with pytest.raises(KeyError, match=r"none of \['valid', 'dev', 'val'\]"):
        mosi(save(tmp_path, {"train": mmsa()["train"]}))
    with pytest.raises(KeyError, match="holds a list"):
        mosi(save(tmp_path, [1]))
    with pytest.raises(KeyError, match="neither a dictionary nor a list of"):
        mosi(save(tmp_path, {"train": [1, 2], "dev": [], "test": []}))
    whole = mmsa()
    whole["train"]["text"] = whole["train"]["text"][1:]
    with pytest.raises(ValueError, match="differ in number: {'text': 4, 'audio': 5"):
        mosi(save(tmp_path, whole))
