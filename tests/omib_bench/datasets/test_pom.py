import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from omib_spatial.datasets import pom

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[3] / "../shared/data")) / "pom"
REAL = pytest.mark.skipif(not DATA.is_dir(), reason=f"no POM reviews at {DATA}: set OMIB_DATA")


def write(folder: Path, part: str, n: int, **changes: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(part))
    arrays = {key: rng.normal(size=(n, 6, p)).astype(np.float32) for key, p in {"audio": 3, "video": 2}.items()}
    arrays["audio"][:, :2] = 0
    arrays["video"][0] = 0
    arrays = arrays | {"label": rng.uniform(1, 7, (n, 17)).astype(np.float32)} | changes
    np.savez(folder / f"pom_{part}.npz", **arrays)
    return arrays


def test_parts_are_joined_in_order_with_padding_at_the_end(tmp_path):
    files = {part: write(tmp_path, part, n) for part, n in {"train": 5, "valid": 2, "test": 3}.items()}
    data = pom(tmp_path)
    for part, rows in data.split()._asdict().items():
        np.testing.assert_array_equal(data.target[rows], files[part]["label"])
        np.testing.assert_array_equal(data.inputs["audio"][rows, :4], files[part]["audio"][:, 2:])
        assert data.present[rows].tolist() == [[True, False]] + [[True, True]] * (len(rows) - 1)
    assert (data.lengths["audio"] == 4).all() and (data.inputs["audio"][:, 4:] == 0).all()
    assert len(set(data.groups)) == len(data) == 10


def test_what_is_missing_is_named(tmp_path):
    write(tmp_path, "train", 5)
    with pytest.raises(FileNotFoundError, match=r"\['pom_valid.npz', 'pom_test.npz'\]"):
        pom(tmp_path)
    write(tmp_path, "valid", 2)
    write(tmp_path, "test", 2, label=np.zeros((3, 17)))
    with pytest.raises(ValueError, match="'label': 3"):
        pom(tmp_path)
    np.savez(tmp_path / "pom_test.npz", audio=np.zeros((1, 6, 3)))
    with pytest.raises(KeyError, match=r"lacks \['video', 'label'\]"):
        pom(tmp_path)


def test_the_files_that_are_fetched_say_the_same(tmp_path):
    (tmp_path / "fetched").mkdir()
    for part, n in {"train": 5, "valid": 2, "test": 3}.items():
        arrays = write(tmp_path, part, n)
        for key, name in {"audio": "audio", "video": "video", "label": "y"}.items():
            with h5py.File(tmp_path / "fetched" / f"{name}_{part}.h5", "w") as file:
                file["data"] = arrays[key]
    fetched, own = pom(tmp_path / "fetched"), pom(tmp_path)
    np.testing.assert_array_equal(fetched.target, own.target)
    for name in own.inputs:
        np.testing.assert_array_equal(fetched.inputs[name], own.inputs[name])
    with h5py.File(tmp_path / "fetched" / "y_test.h5", "a") as file:
        file["more"] = 1
    with pytest.raises(ValueError, match=r"y_test.*one array"):
        pom(tmp_path / "fetched")


@REAL
def test_the_real_reviews():
    data = pom(DATA)
    assert [len(rows) for rows in data.split()] == [600, 100, 203]
    assert data.inputs["audio"].shape == (903, 20, 43) and data.inputs["video"].shape == (903, 20, 41)
    assert data.target.shape == (903, 17) and data.target.max() <= 7
    assert data.present[:, 0].all() and (~data.present[:, 1]).sum() == 486
