import json

import pytest
import torch
from safetensors import safe_open

from omib_spatial.core.resume import SafeIO

STATE = {
    "epoch": 3,
    "name": "omib",
    "nothing": None,
    "rate": 1e-3,
    "on": True,
    "weights": {"a.b": torch.arange(6.0).reshape(2, 3).T, "half": torch.ones(2, dtype=torch.bfloat16)},
    "optimizer_states": [{"state": {0: {"step": torch.tensor(4.0)}, 1: {}}, "param_groups": [{"betas": (0.9, 0.999)}]}],
    "empty": {},
}


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def test_nested_state_comes_back(tmp_path):
    SafeIO().save_checkpoint(STATE, tmp_path / "deep" / "state.safetensors")
    assert same(STATE, SafeIO().load_checkpoint(tmp_path / "deep" / "state.safetensors"))


def test_the_header_is_strict_json(tmp_path):
    path = tmp_path / "state.safetensors"
    SafeIO().save_checkpoint(STATE, path)
    with safe_open(path, "pt") as file:
        json.loads(file.metadata()["state"], parse_constant=lambda name: pytest.fail(name))


@pytest.mark.parametrize(
    ("bad", "error"), [({"x": object()}, TypeError), ({"x": float("nan")}, ValueError), ({"x": {1, 2}}, TypeError)]
)
def test_what_cannot_be_stored_leaves_the_last_state(tmp_path, bad, error):
    path = tmp_path / "state.safetensors"
    SafeIO().save_checkpoint({"epoch": 1}, path)
    with pytest.raises(error):
        SafeIO().save_checkpoint(bad, path)
    assert SafeIO().load_checkpoint(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    SafeIO().remove_checkpoint(path)
    assert not path.exists()


def test_a_write_that_fails_half_way_leaves_the_last_state(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    SafeIO().save_checkpoint({"epoch": 1}, path)

    def broken(tensors, target, header):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("omib_spatial.core.resume.save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        SafeIO().save_checkpoint({"epoch": 2}, path)
    assert SafeIO().load_checkpoint(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
