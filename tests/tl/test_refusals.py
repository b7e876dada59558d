"""What cannot work is refused in words, before anything is computed, and the AnnData stays as it was."""

from dataclasses import replace
from functools import cache

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from torch import nn

import omib_spatial as omib
from omib_spatial.core import loop
from omib_spatial.detector.objective import OBJECTIVES
from omib_spatial.encoders import MLP
from omib_spatial.modalities import Gene, Genome, ObsmFeatures
from omib_spatial.stats.settings import CalibrationSettings

CONFIG = replace(OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05)
QUICK = {
    "all_healthy": True,
    "modalities": ["gene"],
    "config": CONFIG,
    "max_epochs": 2,
    "enable_progress_bar": False,
    "library_key": "library_id",
    "accelerator": "cpu",
}


@cache
def simulated() -> ad.AnnData:
    adata = omib.datasets.simulate_tissue(n_slides=2, n_healthy=2, n_spots=60, n_genes=60, image=False)
    rng = np.random.default_rng(0)
    adata.obsm["X_extra"] = rng.normal(size=(adata.n_obs, 3)).astype(np.float32)
    adata.obs["column"] = adata.obs["library_id"].astype(str)
    return adata


@pytest.fixture
def adata() -> ad.AnnData:
    return simulated().copy()


@pytest.fixture(autouse=True)
def no_training(monkeypatch, request):
    if "trains" not in request.keywords:
        monkeypatch.setattr(loop, "train", lambda *args, **options: pytest.fail("trained"))


def with_config(**changes):
    return {"config": replace(CONFIG, **changes), "max_epochs": None}


class Wide(nn.Module):
    out_features = 2.5


class Short(nn.Linear):
    """Codes with a column less than it says."""

    def forward(self, x):
        return super().forward(x)[:, :-1]


ARGUMENTS = [
    ({"fdr": 2}, ValueError, "fdr is 2: it is a share"),
    ({"fdr": -1}, ValueError, "fdr is -1"),
    ({"fdr": float("nan")}, ValueError, "fdr is nan"),
    ({"fdr": "0.1"}, TypeError, "fdr is '0.1'"),
    ({"seed": -1}, ValueError, "seed is -1: it is an integer from 0 to"),
    ({"seed": 2**32}, ValueError, "seed is 4294967296"),
    ({"seed": 1.5}, TypeError, "seed is 1.5"),
    ({"max_epochs": -1}, ValueError, "max_epochs is -1"),
    ({"max_epochs": 0}, ValueError, "max_epochs is 0"),
    ({"max_epochs": 1}, ValueError, "max_epochs=1 leaves nothing after the warm-up of 1 epochs.*at least max_epochs=2"),
    ({"max_epochs": 10**20}, ValueError, "max_epochs is 100000000000000000000: it is an integer from 1 to 100000"),
    ({"max_epochs": 2.0}, TypeError, "max_epochs is 2.0"),
    (with_config(beta=-1.0), ValueError, "beta is -1.0: it is a number of at least 0 or None"),
    (with_config(beta=float("inf")), ValueError, "beta is inf"),
    (with_config(batch_size=-1), ValueError, "batch_size is -1"),
    (with_config(batch_size=2.5), TypeError, "batch_size is 2.5"),
    (with_config(learning_rate=0), ValueError, "learning_rate is 0"),
    (with_config(latent_dim=10**9), ValueError, "latent_dim is 1000000000"),
    (with_config(latent_dim=10), ValueError, "latent_dim=10 cannot be divided among n_heads=4"),
    (with_config(optimizer="adamw"), ValueError, "optimizer is 'adamw': it is 'adam' or 'sgd'"),
    (with_config(warmup_epochs=-1), ValueError, "warmup_epochs is -1"),
    ({"config": {"beta": 1}}, TypeError, "Config is needed"),
    ({"calibration": 0.2}, TypeError, "CalibrationSettings is needed"),
    ({"calibration": CalibrationSettings(held_out_fraction=0)}, ValueError, "held_out_fraction is 0"),
    ({"calibration": CalibrationSettings(held_out_fraction=-0.2)}, ValueError, "held_out_fraction is -0.2"),
    (
        {"calibration": CalibrationSettings(between_slice_sd=(0.3,))},
        TypeError,
        r"between_slice_sd is \(0.3,\): it is two numbers",
    ),
    (
        {"calibration": CalibrationSettings(min_spots=400)},
        ValueError,
        "held out.*400 are needed",
    ),
    ({"devices": 9999}, ValueError, "devices is 9999"),
    ({"devices": 0}, ValueError, "devices is 0"),
    ({"devices": []}, ValueError, "at least one"),
    ({"accelerator": "gpus"}, ValueError, "accelerator is 'gpus': it is 'auto', 'cpu'"),
    ({"precision": "bf16-true"}, ValueError, "precision is 'bf16-true'"),
    ({"precision": [32]}, ValueError, r"precision is \[32\]"),
    ({"callbacks": [1]}, TypeError, r"callbacks is \[1\]: it is a lightning.Callback"),
    ({"strategy": 1}, ValueError, "lightning.Trainer does not take strategy=1: "),
    ({"gradient_clip_val": "a"}, ValueError, "lightning.Trainer does not take gradient_clip_val='a': "),
    ({"gradient_clip_val": float("nan")}, ValueError, "gradient_clip_val is nan: it is a number"),
    ({"calibration": CalibrationSettings(min_log_spread=1e300)}, ValueError, r"min_log_spread is 1e\+300"),
    ({"enable_progress_bar": [1]}, TypeError, r"enable_progress_bar is \[1\]: it is True or False"),
    ({"num_workers": -1}, ValueError, "num_workers is -1"),
    ({"num_nodes": 0}, ValueError, "num_nodes is 0"),
    ({"compile": "yes"}, TypeError, "compile is 'yes'"),
    ({"resume": 5}, TypeError, "resume is 5"),
    ({"resume": __file__}, ValueError, "is a file"),
    ({"n_neighbors": 0}, ValueError, "n_neighbors is 0"),
    ({"n_neighbors": 60}, ValueError, "n_neighbors=60, and slice 'slide1' has 60 spots"),
    ({"n_neighbors": 6.0}, TypeError, "n_neighbors is 6.0"),
    ({"library_key": 5}, TypeError, "library_key is 5"),
    ({"library_key": ""}, ValueError, "library_key is ''"),
    ({"key_added": None}, TypeError, "key_added is None"),
    ({"key_added": 5}, TypeError, "key_added is 5"),
    ({"key_added": "a/b"}, ValueError, "key_added is 'a/b'"),
    ({"key_added": "spatial"}, ValueError, "key_added='spatial'"),
    ({"key_added": "image"}, ValueError, "key_added='image'"),
    ({"key_added": "extra", "modalities": ["X_extra"]}, ValueError, "would write over 'X_extra'"),
    ({"donor_key": "spot"}, ValueError, "several donors on slice 'slide1'"),
    ({"modalities": {}}, ValueError, "modalities is empty"),
    ({"modalities": []}, ValueError, "modalities is empty"),
    ({"modalities": 5}, TypeError, "modalities is 5"),
    ({"modalities": [5]}, TypeError, "modalities has 5"),
    ({"modalities": ["gene", "gene"]}, ValueError, "twice"),
    ({"modalities": {"gene": "gene"}}, TypeError, r"modalities\['gene'\] is 'gene'"),
    ({"modalities": {"gene": Gene}}, TypeError, "pass an instance of Modality"),
    ({"modalities": ["half"]}, ValueError, "cannot have the name 'half'"),
    ({"modalities": ["a.b"]}, ValueError, r"cannot have the name 'a\.b'.*ObsmFeatures\('a\.b'\)"),
    ({"modalities": {"params": Genome()}}, ValueError, "keeps its record"),
    ({"modalities": ["same"]}, ValueError, r"obsm\['same'\] is the same in all reference rows"),
    ({"encoders": {"gene": "mlp"}}, TypeError, "encoder of 'gene' is str"),
    ({"encoders": {"gene": Wide()}}, TypeError, "out_features of the encoder of 'gene' is 2.5"),
    ({"encoders": [MLP(3)]}, TypeError, "encoders is list"),
    ({"encoders": {"gene": nn.Linear(3, 3)}}, TypeError, "encoder of 'gene', Linear, fails on.* a GraphInput: "),
    (
        {"encoders": {"X_extra": Short(3, 3)}, "modalities": ["X_extra"]},
        ValueError,
        r"encoder of 'X_extra', Short, returns \(8, 2\) for 8 spots in place of \(8, 3\)",
    ),
    ({"objective": 3}, TypeError, "objective is 3: it is one of"),
    ({"modalities": {"gene", "X_extra"}}, TypeError, "pass a list of names"),
    ({"library_key": "spot"}, ValueError, r"obs\['spot'\] puts 120 of 120 spots on a slice of their own"),
    ({"spatial_key": "complex"}, TypeError, r"obsm\['complex'\] must be .* real numbers.*complex128"),
    ({"modalities": ["complex"]}, TypeError, r"obsm\['complex'\] must be .* real numbers.*complex128"),
    ({"neighbors_key": "lonely"}, ValueError, r"obsp\['lonely'\] joins no spots"),
    ({"neighbors_key": "dense"}, ValueError, r"joins each spot with 59 others on average"),
    ({"neighbors_key": "odd"}, ValueError, "NaN, infinite or negative weights"),
]


@pytest.mark.parametrize(("options", "error", "match"), ARGUMENTS)
def test_arguments_of_fit(adata, content, options, error, match):
    adata.obs["spot"] = adata.obs_names
    adata.obsm["same"] = np.ones((adata.n_obs, 2), np.float32)
    own = (adata.obs["library_id"].to_numpy()[:, None] == adata.obs["library_id"].to_numpy()).astype(float)
    adata.obsp["dense"], adata.obsp["odd"] = own, sp.csr_matrix(np.where(np.eye(adata.n_obs) > 0, np.nan, 0))
    adata.obsp["lonely"], adata.obsm["complex"] = (
        sp.csr_matrix((adata.n_obs, adata.n_obs)),
        np.ones((adata.n_obs, 2)) * 1j,
    )
    before = content(adata)
    with pytest.raises(error, match=match):
        omib.tl.fit(adata, **(QUICK | options))
    assert content(adata) == before


def no_counts(adata):
    adata.X = sp.csr_matrix(adata.shape, dtype=np.float32)


def equal_counts(adata):
    adata.X = np.ones(adata.shape, np.float32)


def same_genes(adata):
    adata.var_names = ["a", "a", *adata.var_names[2:]]


def negative(adata):
    adata.X.data[0] = -1


def nothing_there(adata):
    adata._inplace_subset_obs(np.zeros(adata.n_obs, bool))


def few_spots(adata):
    adata._inplace_subset_obs(np.arange(adata.n_obs) < 39)


def no_coordinates(adata):
    del adata.obsm["spatial"]


INPUT = [
    (no_counts, ValueError, "X has no counts in any spot"),
    (same_genes, ValueError, r"var_names are not unique \('a'\)"),
    (negative, ValueError, "negative values"),
    (nothing_there, ValueError, "0 spots"),
    (few_spots, ValueError, "39 reference spots, at least 40 are needed"),
    (no_coordinates, KeyError, "spatial"),
]


@pytest.mark.parametrize(("spoil", "error", "match"), INPUT)
def test_check_refuses_what_fit_refuses(adata, spoil, error, match):
    spoil(adata)
    with pytest.raises(error, match=match):
        omib.tl.fit(adata, **QUICK)
    with pytest.raises(error, match=match):
        omib.pp.check(adata, library_key="library_id", modalities=["gene"])


def test_equal_counts_teach_nothing(adata):
    equal_counts(adata)
    with pytest.raises(ValueError, match="Expression is the same in all reference spots"):
        omib.tl.fit(adata, **QUICK)


def test_check_knows_reference_donors_labels_and_graph(adata):
    adata.obs["few"] = np.arange(adata.n_obs) < 10
    adata.obs["spot"] = adata.obs_names
    options = {"library_key": "library_id", "modalities": ["gene"]}
    for wrong, error in (
        ({"reference_key": "few"}, ValueError),
        ({"reference_key": "none"}, KeyError),
        ({"donor_key": "spot"}, ValueError),
        ({"labels_key": "library_id"}, ValueError),
        ({"n_neighbors": 100}, ValueError),
        ({"neighbors_key": "none"}, KeyError),
    ):
        with pytest.raises(error):
            omib.pp.check(adata, **options, **wrong)
    assert len(omib.pp.check(adata, **options)) == 2


@pytest.mark.parametrize("n", [50, 51])
def test_too_few_spots_to_calibrate_are_told_before_training(adata, n):
    adata.obs["reference"] = np.arange(adata.n_obs) < n
    options = QUICK | {
        "reference_key": "reference",
        "all_healthy": False,
        "calibration": CalibrationSettings(min_spots=40),
    }
    with pytest.raises(ValueError, match=f"of {n} reference spots would be held out.*mark more healthy spots"):
        omib.tl.fit(adata, **options)


@pytest.mark.trains
def test_a_training_that_diverged_is_an_error_and_nothing_is_written(adata, content):
    before = content(adata)
    with pytest.raises(ValueError, match=r"diverged in .*epoch.*Lower the learning rate \(now 1e\+30\)"):
        omib.tl.fit(adata, **(QUICK | with_config(learning_rate=1e30, max_epochs=3)))
    assert content(adata) == before


@pytest.mark.trains
def test_a_modality_and_an_encoder_that_are_given_stay_as_they_were(adata):
    modality, encoder = ObsmFeatures("X_extra"), MLP(3, 8)
    weights = {name: value.clone() for name, value in encoder.state_dict().items()}
    options = QUICK | {"modalities": {"extra": modality}, "encoders": {"extra": encoder}}
    model = omib.tl.fit(adata, **options)
    assert modality.mean.numel() == 0 and model.modalities["extra"] is not modality
    assert all((encoder.state_dict()[name] == value).all() for name, value in weights.items())
    first = omib.tl.score(adata, model, copy=True).obs["omib_score"]
    adata.obsm["X_extra"] *= 5
    omib.tl.fit(adata, **options)
    adata.obsm["X_extra"] /= 5
    np.testing.assert_allclose(omib.tl.score(adata, model, copy=True).obs["omib_score"], first, rtol=1e-4, atol=1e-4)


@pytest.mark.trains
@pytest.mark.parametrize("name", ["code", "xi", "probability", "a+b", "labels"])
def test_names_that_results_or_networks_use_inside_are_names_like_any_other(adata, name):
    adata.obsm[name] = adata.obsm["X_extra"]
    model = omib.tl.fit(adata, **(QUICK | {"modalities": [name]}))
    assert list(model.modalities) == [name] and adata.obs["omib_score"].notna().all()
    assert set(adata.obs["omib_modalities"]) == {"[a+b]" if name == "a+b" else name}


@pytest.mark.trains
def test_few_epochs_alone_shorten_the_usual_warmup_and_it_is_said(adata):
    options = QUICK | {"config": None, "max_epochs": 3, "modalities": ["X_extra", "gene"]}
    with pytest.warns(UserWarning, match="max_epochs=3 leaves nothing.*it is shortened to 0"):
        model = omib.tl.fit(adata, **options)
    assert (model.params["warmup_epochs"], model.params["max_epochs"]) == (0, 3)
    assert model.history["phase"] == [1.0, 1.0, 1.0]


@pytest.mark.trains
def test_a_fresh_seed_is_recorded_and_gives_the_same_again(adata):
    options = QUICK | {"modalities": ["X_extra"]}
    omib.tl.fit(adata, seed=None, **options)
    seed = adata.uns["omib"]["params"]["seed"]
    again = simulated().copy()
    omib.tl.fit(again, seed=np.int64(seed), **options)
    np.testing.assert_array_equal(again.obs["omib_score"], adata.obs["omib_score"])


@pytest.mark.trains
def test_the_largest_seed_works(adata):
    omib.tl.fit(adata, seed=2**32 - 1, **(QUICK | {"modalities": ["X_extra"]}))
    assert adata.obs["omib_score"].notna().all()


def test_score_names_what_is_wrong_with_its_arguments(adata):
    with pytest.raises(TypeError, match="model is str.*omib_spatial.load"):
        omib.tl.score(adata, "model/")
    with pytest.raises(ValueError, match="accelerator is 'tpu'"):
        omib.tl.score(adata, None, accelerator="tpu")
    with pytest.raises(TypeError, match="copy is 1"):
        omib.tl.score(adata, None, copy=1)
