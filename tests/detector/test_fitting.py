import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

import omib_spatial as omib
from omib_spatial.detector import fitting
from omib_spatial.detector.fitting import fit_model
from omib_spatial.detector.objective import FUSED, OBJECTIVES
from omib_spatial.detector.reference import Reference
from omib_spatial.detector.settings import RunOptions, TrainingSettings
from omib_spatial.encoders import MLP
from omib_spatial.modalities import Gene, ObsmFeatures
from omib_spatial.slides import Layout, Tissue
from omib_spatial.stats.settings import CalibrationSettings

SETTINGS = TrainingSettings(
    OBJECTIVES["reconstruction"],
    replace(OBJECTIVES["reconstruction"].config, max_epochs=2, warmup_epochs=1, beta=0.05),
)
OPTIONS = RunOptions({"enable_progress_bar": False, "accelerator": "cpu"})
CALIBRATION = CalibrationSettings(held_out_fraction=0.3)


@pytest.fixture
def tissue() -> Tissue:
    adata = omib.datasets.simulate_tissue(2, n_healthy=1, n_spots=150, n_genes=60, image=False)
    adata.obsm["X_extra"] = np.random.default_rng(0).normal(size=(adata.n_obs, 4))
    return Tissue(adata, Layout(library_key="library_id"))


def fit(tissue: Tissue, **changes):
    options = {"encoders": {}, "settings": SETTINGS, "calibration": CALIBRATION, "options": OPTIONS} | changes
    classes = {name: options.pop(name) for name in ("labels", "healthy_classes") if name in options}
    reference = Reference(tissue.adata.obs["healthy"].to_numpy(), **classes)
    return fit_model(tissue, {"gene": Gene(), "X_extra": ObsmFeatures("X_extra")}, reference, **options)


def test_a_twin_learns_without_the_held_out_spots_and_the_model_from_all(tissue, monkeypatch):
    seen, learn = [], fitting.train_on

    def watched(tissue, modalities, reference, **options):
        trained = learn(tissue, modalities, reference, **options)
        seen.append(
            (reference.spots, modalities, options["settings"].config.beta, options["options"].resume, trained[0])
        )
        return trained

    monkeypatch.setattr(fitting, "train_on", watched)
    settings = replace(SETTINGS, config=replace(SETTINGS.config, beta=None))
    model, spots = fit(tissue, settings=settings, options=replace(OPTIONS, resume=None))
    (reference, modalities, beta, _, own), (training, twins, twin_beta, _, twin) = seen
    np.testing.assert_array_equal(reference, tissue.adata.obs["healthy"])
    assert model.trained is own and twin.network is not own.network
    assert (reference & ~training).sum() == model.params["n_calibration"] and not (training & ~reference).any()
    assert 0.2 < 1 - training.sum() / reference.sum() < 0.4
    # The twin is another model in all but beta, which is estimated once.
    assert all(twins[name] is not modality for name, modality in modalities.items())
    assert beta is None and twin_beta == model.params["beta"] == model.params["M_u"]
    assert spots.present.shape == (300, 2)


def test_with_several_donors_nothing_is_trained_a_second_time(monkeypatch):
    """Their distances are learned without each of them."""
    tissue = Tissue(
        omib.datasets.simulate_tissue(2, n_spots=150, n_genes=60, image=False), Layout(library_key="library_id")
    )
    tissue.adata.obsm["X_extra"] = np.random.default_rng(0).normal(size=(tissue.n_obs, 4))
    seen, learn = [], fitting.train_on
    monkeypatch.setattr(fitting, "train_on", lambda *a, **k: seen.append(a[2]) or learn(*a, **k))
    model, _ = fit(tissue)
    assert len(seen) == 1 and model.params["n_calibration"] == model.params["n_reference"] == 300
    assert all(len(calibrated.calibration) == 300 for calibrated in model.scores.values())


def test_spots_that_calibrate_are_those_of_donors_with_enough_of_them(tissue):
    tissue = Tissue(
        omib.datasets.simulate_tissue(3, n_spots=150, n_genes=60, image=False), Layout(library_key="library_id")
    )
    number = np.arange(450) % 150
    kept = number < np.array([100, 20, 8])[tissue.codes]
    options = {"encoders": {}, "settings": SETTINGS, "calibration": CALIBRATION, "options": OPTIONS}
    model, _ = fit_model(tissue, {"gene": Gene()}, Reference(kept), **options)
    assert model.params["n_reference"] == 128 and model.params["n_calibration"] == 120
    assert "128 reference spots, calibrated by 120" in repr(model)


@pytest.mark.parametrize("n", [32, 40, 55])
def test_a_small_reference_holds_out_enough_to_calibrate_by(tissue, n):
    rows = np.flatnonzero(tissue.adata.obs["healthy"])
    reference = np.isin(np.arange(tissue.n_obs), rows[:n])
    settings = replace(SETTINGS, config=replace(SETTINGS.config, beta=0.05))
    options = {"encoders": {}, "settings": settings, "calibration": CalibrationSettings(), "options": OPTIONS}
    model, _ = fit_model(tissue, {"gene": Gene()}, Reference(reference), **options)
    assert 10 <= model.params["n_calibration"] <= n / 2


def test_the_rest_of_the_healthy_side_says_how_far_healthy_spots_lie(tissue):
    healthy = tissue.adata.obs["healthy"].to_numpy()
    reference = healthy & (np.cumsum(healthy) <= 60)
    modalities = {"gene": Gene(), "X_extra": ObsmFeatures("X_extra")}
    given = {"encoders": {}, "settings": SETTINGS, "calibration": CALIBRATION, "options": OPTIONS}
    alone, _ = fit_model(tissue, copy.deepcopy(modalities), Reference(reference), **given)
    whole, _ = fit_model(tissue, copy.deepcopy(modalities), Reference(reference, healthy_side=healthy), **given)
    for combination, calibrated in whole.scores.items():
        assert len(calibrated.calibration) == len(alone.scores[combination].calibration) + (healthy & ~reference).sum()
        # Independent spots that the slide is worth.
        assert calibrated.slides[0, 4] > alone.scores[combination].slides[0, 4]
    assert whole.params["n_reference"] == alone.params["n_reference"] == 60


def test_the_twin_keeps_its_state_beside_the_models(tissue, tmp_path):
    fit(tissue, options=replace(OPTIONS, resume=tmp_path))
    assert any(tmp_path.iterdir()) and any((tmp_path / "calibration").iterdir())


def test_encoders_of_the_twin_start_as_the_users_did(tissue):
    mine = MLP(4, 16)
    before = [p.clone() for p in mine.parameters()]
    model, _ = fit(tissue, encoders={"X_extra": mine})
    assert model.network.encoders["X_extra"] is mine and model.params["own_encoders"] == ["X_extra"]
    assert not all(torch.equal(a, b) for a, b in zip(before, mine.parameters(), strict=True))


def test_the_model_holds_what_scoring_needs(tissue):
    model, _ = fit(tissue, record={"fdr": 0.2, "note": "mine"})
    assert model.layout is tissue.layout and model.calibration is CALIBRATION and model.stacking is None
    combinations = [("gene",), ("X_extra",), ("gene", "X_extra")]
    assert list(model.distances) == list(model.scores) == combinations
    assert all(list(parts) == [FUSED, *combination] for combination, parts in model.distances.items())
    assert model.params.items() >= {"fdr": 0.2, "note": "mine", "n_reference": 150, "seed": 0}.items()
    assert model.params["modalities"] == ["gene", "X_extra"] and model.params["max_epochs"] == 2


@pytest.mark.parametrize("healthy", [[True, False], [False, False]])
def test_labels_are_weighed_where_some_class_is_healthy(tissue, healthy):
    labels = tissue.adata.obs["anomaly"].to_numpy().astype(np.int64)
    labels[::4] = -1
    settings = replace(
        SETTINGS, objective=OBJECTIVES["classification"], classes=["no", "yes"], class_weights=[1.0, 1.0]
    )
    model, _ = fit(tissue, settings=settings, labels=labels, healthy_classes=np.array(healthy))
    assert model.classes == ["no", "yes"] and (model.stacking is None) == (not any(healthy))
    if any(healthy):
        np.testing.assert_array_equal(model.stacking.healthy, [True, False])


def test_summaries_stay_where_the_reference_was_found_on_the_slides(tissue, monkeypatch):
    """These slides are judged themselves: what stands for a new donor is none."""
    healthy = tissue.adata.obs["healthy"].to_numpy()
    given = {"encoders": {}, "settings": SETTINGS, "calibration": CALIBRATION, "options": OPTIONS}
    asked = []
    monkeypatch.setattr(
        "omib_spatial.detector.calibration.summaries_without",
        lambda trained, spots, training: asked.append(int(training.sum())) or trained.summaries,
    )
    fit_model(tissue, {"gene": Gene()}, Reference(healthy, healthy_side=healthy), **given)
    assert not asked
    fit_model(tissue, {"gene": Gene()}, Reference(healthy), **given)
    assert asked == [0]  # without the only donor


def test_genes_of_the_reference_are_kept_where_counts_are_read(tissue):
    model, _ = fit(tissue)
    reference = tissue.adata.obs["healthy"].to_numpy()
    expected = np.asarray(tissue.adata.X[reference].sum(0)).ravel()
    assert list(model.genes.names) == list(tissue.adata.var_names)
    np.testing.assert_allclose(model.genes.share, expected / expected.sum())
    # Who reads no counts may have something else in X, or nothing.
    tissue.adata.X = None
    options = {"encoders": {}, "settings": SETTINGS, "calibration": CALIBRATION, "options": OPTIONS}
    alone, _ = fit_model(tissue, {"X_extra": ObsmFeatures("X_extra")}, Reference(reference), **options)
    assert alone.genes is None
