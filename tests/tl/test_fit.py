from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import torch
from scipy.stats import rankdata

import omib_spatial as omib
from omib_spatial.core.model import OMIB
from omib_spatial.core.training import OMIBTraining
from omib_spatial.encoders import MLP
from omib_spatial.modalities import Gene
from omib_spatial.slides.graph import spatial_graph

WITHOUT_LABELS = [name for name, objective in omib.tl.OBJECTIVES.items() if not objective.needs_labels]
QUICK = {"max_epochs": 3, "enable_progress_bar": False, "library_key": "library_id"}
WRITTEN = {
    "obs": [
        "omib_score",
        "omib_pvalue",
        "omib_slice_pvalue",
        "omib_modalities",
        "omib_call",
        "omib_anomaly",
    ],
    "obsm": ["X_omib", "X_omib_genome", "X_image"],
    "uns": ["omib", "X_image", "omib_slides", "omib_call_colors"],
}


def quick(objective: str = "reconstruction", **changes):
    """Arguments of a short fit."""
    config = omib.tl.OBJECTIVES[objective].config
    return QUICK | {"config": replace(config, **({"warmup_epochs": 1, "beta": 0.05} | changes))}


def simulate(**options):
    return omib.datasets.simulate_tissue(**({"n_slides": 3, "n_healthy": 2, "n_spots": 150, "n_genes": 120} | options))


@pytest.fixture(scope="module")
def fitted():
    adata = simulate()
    model = omib.tl.fit(adata, reference_key="healthy", **quick())
    return adata, model


def same(one: ad.AnnData, other: ad.AnnData) -> bool:
    return (
        one.obs.equals(other.obs)
        and one.var.equals(other.var)
        and (one.X != other.X).nnz == 0
        and sorted(one.obsm) == sorted(other.obsm)
        and sorted(one.uns) == sorted(other.uns)
        and sorted(one.obsp) == sorted(other.obsp)
    )


def test_writes_the_documented_keys_and_nothing_else(fitted):
    adata, model = fitted
    raw = simulate()
    assert set(adata.obs) - set(raw.obs) == set(WRITTEN["obs"])
    assert set(adata.obsm) - set(raw.obsm) == set(WRITTEN["obsm"])
    assert set(adata.uns) - set(raw.uns) == set(WRITTEN["uns"])
    assert not adata.obsp and not adata.layers and (adata.X != raw.X).nnz == 0
    assert adata.obsm["X_omib"].shape == (adata.n_obs, model.params["latent_dim"])
    assert adata.obsm["X_omib"].dtype == np.float32
    assert adata.obs["omib_anomaly"].dtype == bool
    assert adata.obs[["omib_pvalue", "omib_slice_pvalue"]].stack().between(0, 1).all()
    assert adata.uns["omib"]["params"]["beta"] == 0.05
    assert len(adata.uns["omib"]["history"]["loss"]) == 3


def test_one_score_per_spot_and_higher_means_smaller_pvalues(fitted):
    adata, _ = fitted
    # Spots that have the same neighbours, themselves included, are averaged to the same score.
    assert adata.obs["omib_score"].nunique() > 0.98 * adata.n_obs
    ordered = adata.obs.sort_values("omib_score")
    assert (np.diff(ordered["omib_pvalue"]) <= 0).all()
    for _, own in ordered.groupby("library_id", observed=True):
        assert (np.diff(own["omib_slice_pvalue"]) <= 1e-12).all()


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_results_survive_a_file(fitted, tmp_path, suffix):
    adata, _ = fitted
    path = tmp_path / f"scored.{suffix}"
    getattr(adata, f"write_{suffix}")(path)
    back = getattr(ad, f"read_{suffix}")(path)
    np.testing.assert_array_equal(back.obs["omib_score"], adata.obs["omib_score"])
    assert back.uns["omib"]["params"]["objective"] == "reconstruction"
    np.testing.assert_array_equal(back.uns["omib"]["history"]["loss"], adata.uns["omib"]["history"]["loss"])


def opened(path, how: str) -> ad.AnnData:
    return ad.experimental.read_lazy(path) if how == "lazy" else ad.read_h5ad(path, backed="r")


@pytest.mark.parametrize("how", ["backed", "lazy"])
def test_counts_on_disk_give_the_scores_of_counts_in_memory(fitted, tmp_path, how):
    adata, model = fitted
    path = tmp_path / "raw.h5ad"
    simulate().write_h5ad(path)
    one, other = opened(path, how), opened(path, how)
    omib.tl.fit(one, reference_key="healthy", **quick())
    omib.tl.score(other, model)
    for result in (one, other):
        np.testing.assert_array_equal(result.obs["omib_score"], adata.obs["omib_score"])
        assert not isinstance(result.X, np.ndarray) and not hasattr(result.X, "indptr")


@pytest.mark.parametrize("objective", WITHOUT_LABELS)
def test_a_fit_that_was_stopped_goes_on_to_the_same_scores(tmp_path, monkeypatch, objective):
    def fit(**options):
        adata = simulate(image=False)
        omib.tl.fit(adata, reference_key="healthy", **(quick(objective) | {"objective": objective} | options))
        return adata

    whole = fit()
    step = OMIBTraining.training_step

    def interrupted(module, batch, index):
        if module.current_epoch == 2 and index == 1:
            raise KeyboardInterrupt
        return step(module, batch, index)

    monkeypatch.setattr(OMIBTraining, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt, match="state after the last complete epoch"):
        fit(resume=tmp_path / "run")
    monkeypatch.undo()
    again = fit(resume=tmp_path / "run")
    np.testing.assert_array_equal(again.obs["omib_score"], whole.obs["omib_score"])
    with pytest.raises(ValueError, match="batch_size .128 then, 64 now."):
        fit(resume=tmp_path / "run", **quick(objective, batch_size=64))


def test_mixed_precision_learns_nearly_the_same(fitted):
    plain, model = fitted
    adata = simulate()
    mixed = omib.tl.fit(adata, reference_key="healthy", precision="bf16-mixed", **quick())
    assert next(mixed.network.parameters()).dtype == torch.float32
    assert any((mixed.network.state_dict()[k] != v).any() for k, v in model.network.state_dict().items())
    assert np.corrcoef(rankdata(adata.obs["omib_score"]), rankdata(plain.obs["omib_score"]))[0, 1] > 0.95


def test_compiling_is_asked_of_the_whole_network(monkeypatch):
    asked = []
    monkeypatch.setattr(OMIB, "compile", lambda self, **options: asked.append(options))
    omib.tl.fit(simulate(image=False), reference_key="healthy", compile=True, **quick())
    assert asked == [{"dynamic": True}]


def test_same_seed_same_scores_other_seed_others():
    one, again, other = simulate(image=False), simulate(image=False), simulate(image=False)
    for adata, seed in ((one, 0), (again, 0), (other, 1)):
        torch.rand(1)  # the caller's random state must not matter
        omib.tl.fit(adata, reference_key="healthy", seed=seed, **quick())
    np.testing.assert_array_equal(one.obs["omib_score"], again.obs["omib_score"])
    assert (one.obs["omib_score"] != other.obs["omib_score"]).mean() > 0.99


def test_fit_leaves_the_callers_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    omib.tl.fit(simulate(image=False), reference_key="healthy", **quick())
    assert torch.rand(1) == expected


def test_training_never_sees_what_is_not_reference():
    healthy, spoiled = simulate(image=False), simulate(image=False)
    rest = np.flatnonzero(~spoiled.obs["healthy"])
    spoiled.X[rest] = spoiled.X[rest][:, ::-1] * 3
    models = [omib.tl.fit(a, reference_key="healthy", **quick()) for a in (healthy, spoiled)]
    for name, value in models[0].network.state_dict().items():
        assert torch.equal(value, models[1].network.state_dict()[name])
    reference = healthy.obs["healthy"]
    np.testing.assert_allclose(healthy.obs["omib_score"][reference], spoiled.obs["omib_score"][reference], atol=1e-5)


def test_planted_anomalies_score_higher_whatever_the_modality():
    adata = omib.datasets.simulate_tissue(n_slides=3, n_healthy=2, n_spots=400, n_genes=300, effect=1.5, seed=1)
    omib.tl.fit(adata, reference_key="healthy", enable_progress_bar=False, library_key="library_id", max_epochs=10)
    rest = ~adata.obs["healthy"]
    rank = rankdata(adata.obs["omib_score"][rest]) / rest.sum()
    kinds = adata.obs["anomaly_kind"][rest]
    for kind in ("expression", "morphology", "both"):
        assert rank[kinds == kind].mean() > 0.65, kind
    assert rank[kinds == "healthy"].mean() < 0.5


@pytest.mark.parametrize("objective", WITHOUT_LABELS)
@pytest.mark.parametrize("modalities", [["gene"], ["image"], ["gene", "image"]])
def test_every_objective_runs_on_every_modality(objective, modalities):
    adata = simulate(n_spots=100)
    model = omib.tl.fit(adata, reference_key="healthy", modalities=modalities, objective=objective, **quick(objective))
    assert adata.obs["omib_score"].notna().all()
    assert list(model.modalities) == modalities
    assert objective in repr(model) and modalities[-1] in repr(model)


def test_beta_is_the_upper_bound_unless_given():
    adata = simulate(image=False)
    model = omib.tl.fit(adata, reference_key="healthy", **quick(beta=None))
    assert model.params["beta"] == model.params["M_u"] >= model.params["M_l"] > 0


def test_a_third_modality_needs_no_second_path():
    adata = simulate()
    adata.obsm["X_extra"] = np.random.default_rng(0).normal(size=(adata.n_obs, 7))
    adata.obsm["X_extra"][3] = np.nan
    model = omib.tl.fit(adata, reference_key="healthy", modalities=["gene", "image", "X_extra"], **quick())
    assert set(model.scores) == {
        ("gene",), ("image",), ("X_extra",),
        ("gene", "image"), ("gene", "X_extra"), ("image", "X_extra"),
        ("gene", "image", "X_extra"),
    }  # fmt: skip
    assert adata.obs["omib_score"].notna().all()


def test_own_modality_and_own_encoder_are_used():
    class First(MLP):
        """Reads the spot's own expression from the graph input."""

        def forward(self, graph):
            return super().forward(graph.x[: len(graph.targets)])

    adata = simulate(image=False)
    model = omib.tl.fit(
        adata,
        reference_key="healthy",
        modalities={"expression": Gene(n_top_genes=50)},
        encoders={"expression": First(50, 32)},
        **quick(),
    )
    assert model.network.encoders["expression"].out_features == 32
    assert len(model.modalities["expression"].genes) == 50


def test_layer_key_added_and_ready_graph():
    adata = simulate(image=False)
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X.multiply(0.5).tocsr()
    adata.obsp["mine"] = spatial_graph(adata, library_key="library_id") * 0.3
    before = adata.copy()
    options = {"layer": "counts", "key_added": "mine", "neighbors_key": "mine", "n_neighbors": 1}
    omib.tl.fit(adata, reference_key="healthy", **options, **quick())
    assert "mine_score" in adata.obs and "X_mine" in adata.obsm and "mine" in adata.uns
    assert (adata.X != before.X).nnz == 0
    plain = simulate(image=False)
    omib.tl.fit(plain, reference_key="healthy", **quick())
    np.testing.assert_allclose(adata.obs["mine_score"], plain.obs["omib_score"], atol=1e-5)


def spoil(change):
    """An AnnData with one fault, by a function that plants it."""
    adata = simulate(image=True)
    return change(adata) or adata


def negative(a):
    a.X.data[0] = -1


def normalised(a):
    a.X = a.X.multiply(0.37).tocsr()


def nan_count(a):
    a.X.data[7] = np.nan


def nan_place(a):
    a.obsm["spatial"][3, 0] = np.nan


def twice(a):
    a.obsm["spatial"][4] = a.obsm["spatial"][3]


def no_place(a):
    del a.obsm["spatial"]


def no_scale(a):
    del next(iter(a.uns["spatial"].values()))["scalefactors"]["tissue_hires_scalef"]


def off_image(a):
    a.obsm["spatial"][0] = 1e6


def few(a):
    a.obs["healthy"] = np.arange(a.n_obs) < 39


def as_text(a):
    a.obs["healthy"] = a.obs["healthy"].astype(str)


def view(a):
    return a[10:]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (negative, ValueError, "negative"),
        (normalised, ValueError, "layer"),
        (nan_count, ValueError, "NaN"),
        (nan_place, ValueError, "spot"),
        (twice, ValueError, "spot"),
        (no_place, KeyError, "spatial"),
        (no_scale, KeyError, "tissue_hires_scalef"),
        (off_image, ValueError, "spot"),
        (few, ValueError, "at least 40"),
        (as_text, TypeError, "healthy"),
        (view, ValueError, "copy"),
    ],
)
def test_bad_input_is_refused_before_training_and_nothing_is_written(change, error, says, monkeypatch):
    started = "omib_spatial.detector.training.train_network"
    monkeypatch.setattr(started, lambda *a, **k: pytest.fail("training was started"))
    adata = spoil(change)
    before = adata.copy()
    with pytest.raises(error, match=says):
        omib.tl.fit(adata, reference_key="healthy", **quick())
    if change is not nan_count:  # NaN differs from itself
        assert same(adata, before)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"library_key": None}, ValueError, "library_key"),
        ({"reference_key": "nowhere"}, KeyError, "nowhere"),
        ({"modalities": ["X_absent"]}, KeyError, "X_absent"),
        ({"modalities": []}, ValueError, "modalities"),
        ({"modalities": "gene"}, TypeError, "list"),
        ({"objective": "magic"}, ValueError, "svdd"),
        ({"encoders": {"sound": MLP(3)}}, KeyError, "sound"),
        ({"layer": "absent"}, KeyError, "absent"),
    ],
)
def test_bad_options_are_refused(options, error, says):
    adata = simulate()
    before = adata.copy()
    with pytest.raises(error, match=says):
        omib.tl.fit(adata, **({"reference_key": "healthy"} | quick() | options))
    assert same(adata, before)


def test_a_second_fit_takes_up_the_features_of_the_image(fitted, monkeypatch):
    adata, _ = fitted
    kept = adata.obsm["X_image"].copy()
    monkeypatch.setattr("omib_spatial.modalities.texture._laplacian", None)  # would fail if it were called
    again = adata.copy()
    omib.tl.fit(again, reference_key="healthy", **quick())
    np.testing.assert_array_equal(again.obsm["X_image"], kept)
    np.testing.assert_allclose(again.obs["omib_score"], adata.obs["omib_score"], atol=1e-6)
