from dataclasses import fields, replace

import pytest
import torch

from omib_spatial.core import ABLATIONS, Classification, Concatenation, Config, Samples, sample_loader, train
from omib_spatial.core.fusion import CrossAttention, Flatten
from omib_spatial.encoders import MLP

SMALL = Config(latent_dim=8, n_heads=2, max_epochs=3, warmup_epochs=1, batch_size=16, learning_rate=1e-2, beta=0.03)


def network(config: Config, seed: int = 0):
    torch.manual_seed(seed)
    return config.network({"a": MLP(4, 6), "b": MLP(3, 5)}, Classification(2, (8,)))


def test_defaults_are_the_papers_where_it_states_them():
    config = Config()
    assert (config.optimizer, config.learning_rate, config.max_epochs, config.weight_decay) == ("adam", 1e-4, 100, 0)
    assert config.beta is None and config.cross_attention and config.bottleneck and config.adaptive
    assert config.training(network(SMALL), beta=0.1).encoder_decay == 0


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_is_a_change_of_the_config_that_trains(name):
    config = replace(SMALL, **ABLATIONS[name])
    assert config != SMALL or set(ABLATIONS[name]) <= {field.name for field in fields(Config)}
    module = config.training(network(config), beta=0.05, seed=0)
    inputs = {"a": torch.randn(32, 4), "b": torch.randn(32, 3)}
    samples = Samples(inputs, torch.randint(2, (32,)))
    train(module, sample_loader(samples, config.batch_size, shuffle=True), max_epochs=3, progress_bar=False)
    assert torch.tensor(module.history["loss"]).isfinite().all()
    assert module.history["phase"] == ([1, 1, 1] if name == "no warm-up" else [0, 1, 1])


def test_each_switch_changes_the_one_thing_that_it_names():
    assert isinstance(network(SMALL).fusion.mix, CrossAttention)
    assert isinstance(network(replace(SMALL, **ABLATIONS["no cross-attention"])).fusion.mix, Flatten)
    assert isinstance(network(replace(SMALL, **ABLATIONS["no OMF"])).fusion, Concatenation)
    assert not replace(SMALL, **ABLATIONS["no r"]).training(network(SMALL)).adaptive
    assert replace(SMALL, **ABLATIONS["no compression"]).training(network(SMALL), beta=0.5).beta == 0
    assert replace(SMALL, **ABLATIONS["beta = M_u"]).training(network(SMALL), beta=0.5).beta == 0.5


def test_beta_of_the_config_wins_and_one_is_needed():
    assert SMALL.training(network(SMALL), beta=0.5).beta == 0.03
    with pytest.raises(ValueError, match="pass beta=Mine"):
        replace(SMALL, beta=None).training(network(SMALL))


def test_warm_up_must_leave_an_epoch_to_the_main_phase():
    with pytest.raises(ValueError, match="warmup_epochs=3 leaves nothing of max_epochs=3"):
        replace(SMALL, warmup_epochs=3).training(network(SMALL))
