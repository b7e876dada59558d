import inspect
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import omib_spatial as omib
from omib_spatial.core import Config
from omib_spatial.detector.objective import OBJECTIVES
from omib_spatial.detector.settings import RunOptions
from omib_spatial.encoders import MLP
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.tl import fit
from omib_spatial.tl._arguments import chosen_settings, own_encoders

CONFIG = OBJECTIVES["reconstruction"].config


def chosen(config=None, calibration=None, max_epochs=None, resume=None, **given):
    return chosen_settings(fit, OBJECTIVES["reconstruction"], config, calibration, max_epochs, resume, given)


def test_without_arguments_settings_are_the_objectives_and_the_packages():
    assert chosen() == (CONFIG, CalibrationSettings(), RunOptions())
    svdd = chosen_settings(fit, OBJECTIVES["svdd"], None, None, None, None, {})
    assert svdd[0] == OBJECTIVES["svdd"].config


def test_settings_are_taken_as_they_are_and_epochs_beside_them():
    config, calibration = Config(latent_dim=8, n_heads=2), CalibrationSettings(pooling_hops=1)
    assert chosen(config, calibration) == (config, calibration, RunOptions())
    assert chosen(config, max_epochs=33)[0] == replace(config, max_epochs=33)
    assert chosen(max_epochs=np.int64(33))[0] == replace(CONFIG, max_epochs=33)


def test_what_lightning_takes_is_passed_on_and_loader_and_compiler_have_their_own():
    _, _, options = chosen(devices=2, precision="bf16-mixed", callbacks=[], num_workers=3, compile=True, resume="run")
    assert options.trainer == {"devices": 2, "precision": "bf16-mixed", "callbacks": []}
    assert (options.num_workers, options.compile, options.resume) == (3, True, "run")


@pytest.mark.parametrize(
    ("given", "close"),
    [
        ({"referenc_key": "healthy"}, "reference_key"),
        ({"labels": "kind"}, "labels_key"),
        ({"max_epoch": 3}, "max_epochs"),
        ({"acelerator": "cpu"}, "accelerator"),
        ({"enable_progress_bars": False}, "enable_progress_bar"),
        ({"num_worker": 2}, "num_workers"),
    ],
)
def test_an_argument_that_nobody_takes_is_refused_with_the_closest_one(given, close):
    (name,) = given
    with pytest.raises(TypeError, match=rf"fit\(\) has no argument {name}=.* Did you mean {close}=\?"):
        chosen(**given)
    with pytest.raises(TypeError, match=f"Did you mean {close}="):
        fit(None, **given)


def test_an_argument_that_is_like_no_other_is_refused_too():
    with pytest.raises(TypeError, match=r"fit\(\) has no argument zzz=, and neither has lightning.Trainer.$"):
        chosen(zzz=1)


@pytest.mark.parametrize("name", ["logger", "enable_checkpointing", "use_distributed_sampler"])
def test_what_a_training_sets_itself_is_refused_before_any_work(name):
    with pytest.raises(TypeError, match=rf"fit\(\) sets {name}= of lightning.Trainer itself"):
        chosen(**{name: False})


OLD = {
    "latent_dim": 16,
    "warmup_epochs": 1,
    "batch_size": 64,
    "learning_rate": 2e-3,
    "weight_decay": 0.02,
    "beta": 0.03,
    "calibration_fraction": 0.3,
    "progress_bar": False,
}
NEW = {
    "calibration_fraction": "calibration=CalibrationSettings(held_out_fraction=",
    "progress_bar": "enable_progress_bar=",
}


@pytest.mark.parametrize("name", OLD)
def test_an_old_name_works_with_a_warning_that_names_the_new_one(name):
    with pytest.warns(FutureWarning) as caught:
        config, calibration, options = chosen(**{name: OLD[name]})
    (message,) = [str(warning.message) for warning in caught]
    assert f"fit({name}=)" in message
    assert NEW.get(name, f"config=replace(tl.OBJECTIVES['reconstruction'].config, {name}=") in message
    if name == "calibration_fraction":
        assert calibration == CalibrationSettings(held_out_fraction=0.3)
    elif name == "progress_bar":
        assert options.trainer == {"enable_progress_bar": False}
    else:
        assert config == replace(CONFIG, **{name: OLD[name]})


def test_an_old_name_without_a_value_changes_nothing():
    with pytest.warns(FutureWarning):
        assert chosen(latent_dim=None, warmup_epochs=None)[0] == CONFIG


def test_new_names_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen(CONFIG, CalibrationSettings(), 6, enable_progress_bar=False, num_workers=1, accelerator="cpu")


def test_old_names_give_the_same_model_and_the_warning_is_the_callers():
    def simulate():
        return omib.datasets.simulate_tissue(2, n_healthy=1, n_spots=100, n_genes=60, image=False)

    one, other = simulate(), simulate()
    same = {"reference_key": "healthy", "library_key": "library_id", "max_epochs": 2, "accelerator": "cpu"}
    with pytest.warns(FutureWarning, match="goes with the next version") as caught:
        old = omib.tl.fit(one, **same, **OLD)
    ours = [warning for warning in caught if "is now fit(" in str(warning.message)]
    assert len(ours) == len(OLD) and {warning.filename for warning in ours} == {__file__}
    config = {name: value for name, value in OLD.items() if name not in NEW}
    new = omib.tl.fit(
        other,
        **same,
        config=replace(CONFIG, **config),
        calibration=CalibrationSettings(held_out_fraction=0.3),
        enable_progress_bar=False,
    )
    assert old.params == new.params and old.calibration == new.calibration
    for name, value in old.network.state_dict().items():
        assert torch.equal(value, new.network.state_dict()[name])
    np.testing.assert_array_equal(one.obs["omib_score"], other.obs["omib_score"])


def test_encoders_belong_to_modalities():
    encoder = MLP(3)
    assert own_encoders(None, {"gene": None}) == {}
    own = own_encoders({"gene": encoder}, {"gene": None, "image": None})
    assert own.keys() == {"gene"} and type(own["gene"]) is MLP and own["gene"] is not encoder
    with pytest.raises(KeyError, match=r"\['sound'\].*\['gene'\]"):
        own_encoders({"sound": encoder}, {"gene": None})


def test_fit_has_no_more_arguments_than_one_can_read():
    assert len(inspect.signature(fit).parameters) <= 24
