from dataclasses import replace

import numpy as np
import pytest
import torch

import omib_spatial as omib
from omib_spatial.detector.beta import BOUND_ROWS, MINIMUM, bounds_on_beta
from omib_spatial.detector.objective import OBJECTIVES
from omib_spatial.detector.reference import Reference
from omib_spatial.detector.settings import RunOptions, TrainingSettings
from omib_spatial.detector.training import build_network, fit_summaries, train_on
from omib_spatial.encoders import MLP
from omib_spatial.modalities import ObsmFeatures, Spots
from omib_spatial.slides import Layout, Tissue

RECONSTRUCTION = OBJECTIVES["reconstruction"]
SHORT = replace(RECONSTRUCTION.config, max_epochs=2, warmup_epochs=1, beta=0.05)
QUIET = RunOptions({"enable_progress_bar": False, "accelerator": "cpu"})


@pytest.fixture
def tissue() -> Tissue:
    adata = omib.datasets.simulate_tissue(2, n_healthy=1, n_spots=120, n_genes=50, image=False)
    rng = np.random.default_rng(0)
    adata.obsm["one"], adata.obsm["two"] = rng.normal(size=(adata.n_obs, 4)), rng.normal(size=(adata.n_obs, 3))
    adata.obsm["two"][:, 0] += adata.obsm["one"][:, 0]
    adata.obsm["two"][7] = np.nan
    return Tissue(adata, Layout(library_key="library_id"))


def features() -> dict[str, ObsmFeatures]:
    return {name: ObsmFeatures(name) for name in ("one", "two")}


def reference(tissue: Tissue) -> np.ndarray:
    return tissue.adata.obs["healthy"].to_numpy()


def prepared(tissue: Tissue):
    modalities = features()
    for modality in modalities.values():
        modality.fit(tissue, reference(tissue))
    return modalities, Spots({name: modality.prepare(tissue) for name, modality in modalities.items()})


def test_summaries_are_learned_from_the_training_spots_that_have_the_modality(tissue):
    modalities, spots = prepared(tissue)
    training = reference(tissue)
    summaries = fit_summaries(modalities, spots, training, seed=0)
    assert {name: summary.width for name, summary in summaries.items()} == {"one": 4, "two": 3}
    spoiled = tissue.adata.copy()
    spoiled.obsm["one"][~training] *= 9
    again = fit_summaries(modalities, prepared(Tissue(spoiled, tissue.layout))[1], training, seed=0)
    for name in summaries:
        for key, value in summaries[name].state().items():
            torch.testing.assert_close(again[name].state()[key], value)


def test_bounds_have_what_they_follow_from(tissue):
    modalities, spots = prepared(tissue)
    training = reference(tissue)
    summaries = fit_summaries(modalities, spots, training, seed=0)
    found = bounds_on_beta(spots, summaries, training, seed=0)
    assert found["M_u"] >= found["M_l"] > 0 and found["mine_seed"] == 0
    assert {"H_one", "H_two"} <= set(found) and {"I_one_two", "I_two_one"} & set(found)
    assert bounds_on_beta(spots, summaries, training, seed=0) == found
    assert training.sum() < BOUND_ROWS


def test_too_few_spots_with_every_modality_give_no_bound(tissue):
    modalities, spots = prepared(tissue)
    training = np.arange(tissue.n_obs) < MINIMUM  # one of them lacks the second modality
    summaries = fit_summaries(modalities, spots, training, seed=0)
    says = rf"Only {MINIMUM - 1} reference spots have all of \['one', 'two'\].*needs {MINIMUM}"
    with pytest.raises(ValueError, match=says):
        bounds_on_beta(spots, summaries, training, seed=0)


def test_own_encoders_take_the_place_of_the_default_ones(tissue):
    modalities, spots = prepared(tissue)
    summaries = fit_summaries(modalities, spots, reference(tissue), seed=0)
    own = MLP(4, 24)
    network = build_network(modalities, summaries, {"one": own}, TrainingSettings(RECONSTRUCTION, SHORT))
    assert network.encoders["one"] is own
    assert network.encoders["two"].out_features == modalities["two"].encoder().out_features
    assert network.latent_dim == SHORT.latent_dim


@pytest.mark.parametrize("beta", [0.05, None])
def test_a_training_tells_beta_and_where_it_is_from(tissue, beta):
    settings = TrainingSettings(RECONSTRUCTION, replace(SHORT, beta=beta))
    trained, spots, estimates = train_on(
        tissue, features(), Reference(reference(tissue)), encoders={}, settings=settings, options=QUIET
    )
    assert estimates["beta"] == (beta if beta else estimates["M_u"])
    assert ("M_l" in estimates) == (beta is None)
    assert trained.objective is RECONSTRUCTION and list(trained.modalities) == ["one", "two"]
    assert spots.present.sum() == 2 * tissue.n_obs - 1 and len(trained.history["loss"]) == 2


def test_the_same_seed_gives_the_same_network_whatever_came_before(tissue):
    def weights(seed: int) -> list[torch.Tensor]:
        torch.rand(1)
        settings = TrainingSettings(RECONSTRUCTION, SHORT, seed)
        trained, _, _ = train_on(
            tissue, features(), Reference(reference(tissue)), encoders={}, settings=settings, options=QUIET
        )
        return list(trained.network.parameters())

    one, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("whole_slides", [False, True])
def test_summaries_take_axes_from_the_training_spots_or_from_whole_slides(tissue, whole_slides):
    settings = TrainingSettings(RECONSTRUCTION, SHORT)
    training, modalities = reference(tissue), features()
    learned = Reference(training, healthy_side=training if whole_slides else None)
    trained, spots, _ = train_on(tissue, modalities, learned, encoders={}, settings=settings, options=QUIET)
    own, every = (fit_summaries(modalities, spots, rows, 0) for rows in (training, np.ones_like(training)))
    expected, other = (every, own) if whole_slides else (own, every)
    for name, summary in trained.summaries.items():
        assert torch.equal(summary.axes, expected[name].axes) and torch.equal(summary.mean, expected[name].mean)
        assert not torch.allclose(summary.mean, other[name].mean)
