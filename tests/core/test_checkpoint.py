import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from omib_spatial.core import checkpoint

TENSORS = {"a.weight": torch.randn(3, 2), "steps": torch.tensor(7), "mask": torch.tensor([True, False])}
CONFIG = {"seed": 3, "names": ["x", "ä"], "nested": {"beta": 0.1, "none": None}}


def same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return got.keys() == expected.keys() and all(
        torch.equal(got[name], value) and got[name].dtype == value.dtype for name, value in expected.items()
    )


def test_round_trip(tmp_path):
    folder = tmp_path / "new" / "model"
    checkpoint.write(folder, TENSORS, CONFIG)
    tensors, config = checkpoint.read(str(folder))
    assert same(tensors, TENSORS)
    assert config == CONFIG


def test_folder_holds_two_plain_files_and_nothing_pickled(tmp_path):
    checkpoint.write(tmp_path, TENSORS, CONFIG)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "weights.safetensors"]
    raw = (tmp_path / "weights.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert header.keys() - {"__metadata__"} == TENSORS.keys()
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        assert set(file.keys()) == TENSORS.keys()


def test_views_and_tensors_that_share_memory_are_stored_each_by_itself(tmp_path):
    base = torch.arange(6.0).reshape(2, 3).requires_grad_()
    tensors = {"one": base, "same": base, "column": base[:, 1], "transposed": base.T}
    checkpoint.write(tmp_path, tensors, {})
    assert same(checkpoint.read(tmp_path)[0], tensors)


def test_later_model_replaces_the_earlier_one(tmp_path):
    checkpoint.write(tmp_path, TENSORS, CONFIG)
    checkpoint.write(tmp_path, {"b": torch.ones(1)}, {"seed": 4})
    tensors, config = checkpoint.read(tmp_path)
    assert (list(tensors), config) == (["b"], {"seed": 4})


def half_a_file(tensors: dict[str, Tensor], path: Path) -> None:
    path.write_bytes(b"half")
    raise OSError("disk full")


@pytest.mark.parametrize("failure", ["weights", "config"])
def test_interrupted_write_leaves_the_older_model_as_it_was(tmp_path, monkeypatch, failure):
    checkpoint.write(tmp_path, TENSORS, CONFIG)
    config: dict[str, Any] = {"seed": 4}
    if failure == "weights":
        monkeypatch.setattr(checkpoint, "save_file", half_a_file)
    else:
        config["bad"] = object()
    with pytest.raises((OSError, TypeError)):
        checkpoint.write(tmp_path, {"b": torch.ones(1)}, config)
    tensors, older = checkpoint.read(tmp_path)
    assert same(tensors, TENSORS)
    assert older == CONFIG
    assert sorted(os.listdir(tmp_path)) == ["config.json", "weights.safetensors"]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no saved model: weights.safetensors, config.json is"):
        checkpoint.read(tmp_path / "nowhere")
    checkpoint.write(tmp_path, TENSORS, CONFIG)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no saved model: config.json is missing"):
        checkpoint.read(tmp_path)
