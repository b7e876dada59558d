import json
import math
import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
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


def weights_of(folder: Path) -> Path:
    """The weights; there is a config beside them and nothing else, not even hidden."""
    config, weights = sorted(folder.iterdir())
    assert config.name == "config.json" and weights.suffix == ".safetensors"
    return weights


def test_round_trip(tmp_path):
    folder = tmp_path / "new" / "model"
    checkpoint.write(folder, TENSORS, CONFIG)
    tensors, config = checkpoint.read(str(folder))
    assert same(tensors, TENSORS)
    assert config == CONFIG


def test_numbers_that_json_has_no_word_for_come_back_and_the_file_is_strict_json(tmp_path):
    checkpoint.write(tmp_path, TENSORS, {"a": [float("inf"), {"b": -float("inf")}], "c": (float("nan"), 1.5)})
    config = checkpoint.read(tmp_path)[1]
    assert config["a"] == [float("inf"), {"b": -float("inf")}]
    assert math.isnan(config["c"][0]) and config["c"][1] == 1.5
    json.loads((tmp_path / "config.json").read_text(), parse_constant=pytest.fail)


def test_folder_holds_two_plain_files_and_nothing_pickled(tmp_path):
    checkpoint.write(tmp_path, TENSORS, CONFIG)
    raw = weights_of(tmp_path).read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert header.keys() - {"__metadata__"} == TENSORS.keys()
    config = json.loads((tmp_path / "config.json").read_text())
    stored = config.pop("weights")
    assert stored == {"file": weights_of(tmp_path).name, "sha256": sha256(raw).hexdigest(), "bytes": len(raw)}
    assert len(config.pop("sha256")) == 64 and config == CONFIG
    with safe_open(weights_of(tmp_path), "pt") as file:
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
    weights_of(tmp_path)


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
    weights_of(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no saved model: config.json is missing"):
        checkpoint.read(tmp_path / "nowhere")
    checkpoint.write(tmp_path, TENSORS, CONFIG)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no saved model: config.json is missing"):
        checkpoint.read(tmp_path)


def test_a_folder_of_another_program_is_refused(tmp_path):
    foreign = {"architectures": ["BertModel"], "hidden_size": 3}
    for text in (json.dumps(foreign), "[]", "no JSON", ""):
        (tmp_path / "config.json").write_text(text)
        (tmp_path / "weights.safetensors").write_text("mine")
        with pytest.raises(FileExistsError, match="not of a model of omib_spatial"):
            checkpoint.write(tmp_path, TENSORS, CONFIG)
        assert (tmp_path / "config.json").read_text() == text
        assert (tmp_path / "weights.safetensors").read_text() == "mine" and len(list(tmp_path.iterdir())) == 2


def test_foreign_weights_beside_a_model_stay(tmp_path):
    (tmp_path / "weights.safetensors").write_text("mine")
    for _ in range(2):
        checkpoint.write(tmp_path, TENSORS, CONFIG)
    assert (tmp_path / "weights.safetensors").read_text() == "mine" and len(list(tmp_path.iterdir())) == 3


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(OSError, match="is a file where a folder is needed"):
        checkpoint.write(tmp_path / "model", TENSORS, CONFIG)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.999])
@pytest.mark.parametrize("kind", ["cut", "changed", "gone"])
@pytest.mark.parametrize("file", ["config", "weights"])
def test_every_change_to_a_file_is_damage(tmp_path, file, kind, place):
    checkpoint.write(tmp_path, TENSORS, CONFIG)
    path = tmp_path / "config.json" if file == "config" else weights_of(tmp_path)
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    if kind == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:at] if kind == "cut" else content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    error = FileNotFoundError if (file, kind) == ("config", "gone") else ValueError
    with pytest.raises(
        error, match=r"holds no saved model|^The model in .* is damaged: .*\. Save it again, or fit again\.$"
    ):
        checkpoint.read(tmp_path)


def test_modes_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        checkpoint.write(tmp_path, TENSORS, CONFIG)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


SAVES = """
import sys, torch
from omib_spatial.core import checkpoint
seed = int(sys.argv[2])
while True:
    for seed in (seed, seed + 1):
        checkpoint.write(sys.argv[1], {"a": torch.full((20_000,), float(seed))}, {"seed": seed})
"""


def one_model(folder: Path) -> bool:
    tensors, config = checkpoint.read(folder)
    return bool((tensors["a"] == config["seed"]).all())


def test_readers_and_kills_between_two_savers_never_meet_a_mixture(tmp_path):
    """Two processes save into one folder without end and are killed at odd moments; what is read is always whole."""
    checkpoint.write(tmp_path, {"a": torch.zeros(20_000)}, {"seed": 0})
    savers = [
        subprocess.Popen([sys.executable, "-c", SAVES, tmp_path, str(seed)], stderr=subprocess.PIPE) for seed in (1, 3)
    ]
    while checkpoint.read(tmp_path)[1]["seed"] == 0:
        time.sleep(0.01)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert one_model(tmp_path)
    for saver in savers:
        assert saver.poll() is None, saver.stderr.read()
        saver.send_signal(signal.SIGKILL)
        saver.wait()
        saver.stderr.close()
        assert one_model(tmp_path)
    checkpoint.write(tmp_path, TENSORS, CONFIG)
    weights_of(tmp_path)
    assert same(checkpoint.read(tmp_path)[0], TENSORS)
