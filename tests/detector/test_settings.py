from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omib_spatial.core import Config
from omib_spatial.detector.objective import OBJECTIVES
from omib_spatial.detector.settings import (
    CALIBRATION_KINDS,
    CONFIG_KINDS,
    RunOptions,
    TrainingSettings,
    check_run,
    device_for,
)
from omib_spatial.stats.settings import CalibrationSettings

RECONSTRUCTION = OBJECTIVES["reconstruction"]
SHORT = replace(RECONSTRUCTION.config, max_epochs=2, warmup_epochs=1, beta=0.05)


@pytest.mark.parametrize("many", [{"devices": 2}, {"num_nodes": 3}, {"devices": [0, 1]}, {"devices": "auto"}])
@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_several_devices_train_with_ddp_that_looks_for_resting_parameters(many, strategy):
    options = RunOptions({**many, "strategy": strategy}).for_lightning()
    assert options["strategy"] == "ddp_find_unused_parameters_true"
    assert {k: options[k] for k in many} == many


@pytest.mark.parametrize("one", [{}, {"devices": "1"}, {"devices": [3]}])
def test_one_device_and_other_strategies_are_passed_through(one):
    assert RunOptions(one).for_lightning()["strategy"] == "auto"
    options = RunOptions({"devices": 2, "strategy": "fsdp", "precision": "bf16-mixed"})
    assert options.for_lightning()["strategy"] == "fsdp"
    assert RunOptions({"precision": "bf16-mixed"}).for_lightning()["precision"] == "bf16-mixed"


def test_one_device_unless_asked_for_more():
    assert RunOptions().for_lightning()["devices"] == 1
    assert RunOptions({"devices": "auto", "sync_batchnorm": False}).for_lightning()["sync_batchnorm"] is False


def test_a_training_within_another_has_a_folder_of_its_own():
    assert RunOptions().below("fold0").resume is None
    options = RunOptions({"devices": 2}, num_workers=3, resume="run")
    assert options.below("fold0") == replace(options, resume=Path("run/fold0"), step="fold0")


def test_scoring_runs_where_training_does():
    best = "cuda" if torch.cuda.is_available() else "cpu"
    assert RunOptions().device == device_for("auto") == best
    assert RunOptions({"accelerator": "gpu"}).device == "cuda"
    assert [device_for(name) for name in ("cpu", "gpu", "mps")] == ["cpu", "cuda", "mps"]


def test_the_record_has_every_setting_and_classes_only_with_labels():
    record = TrainingSettings(RECONSTRUCTION, SHORT, seed=3).record()
    assert set(record) == {"objective", "seed", *Config.__dataclass_fields__}
    assert (record["objective"], record["seed"], record["beta"]) == ("reconstruction", 3, 0.05)
    labelled = TrainingSettings(OBJECTIVES["classification"], SHORT, 3, ("a", "b"), (0.5, 2.0)).record()
    assert labelled == record | {
        "objective": "classification",
        "classes": ["a", "b"],
        "class_weights": [0.5, 2.0],
    }


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(accelerator, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(ValueError, match=f"accelerator='{accelerator}', and torch sees no such device here"):
        check_run(RunOptions({"accelerator": accelerator}))
    assert check_run(RunOptions({"accelerator": "auto"})) == RunOptions({"accelerator": "auto"})


@pytest.mark.parametrize("devices", [1, "1", -1, "auto", [0], [0, 1], "0,1", np.int64(1), 2])
def test_devices_are_taken_in_the_ways_of_lightning(devices):
    assert check_run(RunOptions({"accelerator": "cpu", "devices": devices})).trainer["devices"] == devices


@pytest.mark.parametrize(
    ("devices", "error"),
    [
        (0, ValueError),
        (99_999, ValueError),
        ([], ValueError),
        ([0, 0], ValueError),
        ("many", TypeError),
        (1.5, TypeError),
    ],
)
def test_devices_that_cannot_be_are_refused(devices, error):
    with pytest.raises(error, match="devices"):
        check_run(RunOptions({"accelerator": "cpu", "devices": devices}))


@pytest.mark.parametrize("name", [field.name for field in fields(Config)])
def test_every_setting_of_a_network_has_a_range(name):
    assert name in CONFIG_KINDS


@pytest.mark.parametrize("name", [field.name for field in fields(CalibrationSettings)])
def test_every_setting_of_the_calibration_has_a_range(name):
    assert name in CALIBRATION_KINDS or name == "between_slice_sd"
