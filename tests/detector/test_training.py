import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from omib_spatial.detector.training import Loop, hold_out


@pytest.mark.parametrize("n_slices", [1, 2, 3, 5, 8])
def test_training_and_calibration_divide_the_reference(n_slices):
    rng = np.random.default_rng(n_slices)
    codes = np.repeat(np.arange(n_slices), 100)
    xy, reference = rng.uniform(size=(len(codes), 2)), rng.uniform(size=len(codes)) < 0.8
    training, held_out = hold_out(xy, codes, reference, 0.2, seed=0)
    assert not (training & held_out).any()
    np.testing.assert_array_equal(training | held_out, reference)
    assert 0.1 < held_out.sum() / reference.sum() < 0.45


def test_whole_slices_are_held_out_where_there_are_enough():
    codes = np.repeat(np.arange(6), 50)
    xy = np.random.default_rng(0).uniform(size=(300, 2))
    training, held_out = hold_out(xy, codes, np.ones(300, bool), 0.2, seed=0)
    assert not set(codes[training]) & set(codes[held_out])


def test_blocks_are_compact_where_there_are_few_slices():
    xy = np.random.default_rng(0).uniform(size=(1000, 2))
    _, held_out = hold_out(xy, np.zeros(1000, int), np.ones(1000, bool), 0.2, seed=0)
    neighbours = NearestNeighbors(n_neighbors=5).fit(xy).kneighbors(xy[held_out], return_distance=False)[:, 1:]
    assert held_out[neighbours].mean() > 0.6  # 0.2 if spots were held out singly


@pytest.mark.parametrize("many", [{"devices": 2}, {"num_nodes": 3}, {"devices": [0, 1]}, {"devices": "auto"}])
@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_several_devices_train_with_ddp_that_looks_for_resting_parameters(many, strategy):
    options = Loop(**many, strategy=strategy).trainer()
    assert options["strategy"] == "ddp_find_unused_parameters_true"
    assert {k: options[k] for k in many} == many


@pytest.mark.parametrize("one", [{}, {"devices": "1"}, {"devices": [3]}])
def test_one_device_and_other_strategies_are_passed_through(one):
    assert Loop(**one).trainer()["strategy"] == "auto"
    assert Loop(devices=2, strategy="fsdp", precision="bf16-mixed").trainer()["strategy"] == "fsdp"
    assert Loop(precision="bf16-mixed").trainer()["precision"] == "bf16-mixed"
