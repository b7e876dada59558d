import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import anndata as ad
import numpy as np
import pytest

import omib_spatial as omib
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.slides import Tissue

WITHOUT_LABELS = [name for name, objective in omib.tl.OBJECTIVES.items() if not objective.needs_labels]
SCORE_ELSEWHERE = """
import sys, anndata as ad, omib_spatial as omib
adata = ad.read_h5ad(sys.argv[2])
omib.tl.score(adata, omib.load(sys.argv[1]), key_added="again")
adata.write_h5ad(sys.argv[2])
"""


@pytest.fixture(scope="module", params=WITHOUT_LABELS)
def fitted(request):
    adata = omib.datasets.simulate_tissue(n_slides=2, n_healthy=1, n_spots=150, n_genes=100)
    adata.obsm["X_extra"] = np.random.default_rng(0).normal(size=(adata.n_obs, 4))
    model = omib.tl.fit(
        adata,
        reference_key="healthy",
        modalities=["gene", "image", "X_extra"],
        objective=request.param,
        config=replace(omib.tl.OBJECTIVES[request.param].config, warmup_epochs=1, beta=0.05),
        max_epochs=2,
        enable_progress_bar=False,
        library_key="library_id",
    )
    return adata, model


def test_a_fresh_process_gives_the_same_scores(fitted, tmp_path):
    adata, model = fitted
    model.save(tmp_path / "model")
    adata.write_h5ad(tmp_path / "slide.h5ad")
    command = [sys.executable, "-c", SCORE_ELSEWHERE, str(tmp_path / "model"), str(tmp_path / "slide.h5ad")]
    subprocess.run(command, check=True, capture_output=True)
    again = ad.read_h5ad(tmp_path / "slide.h5ad")
    np.testing.assert_allclose(again.obs["again_score"], adata.obs["omib_score"], atol=1e-6, rtol=1e-6)
    for name in ("pvalue", "slice_pvalue"):
        np.testing.assert_allclose(again.obs[f"again_{name}"], adata.obs[f"omib_{name}"], atol=1e-6)
    np.testing.assert_allclose(again.obsm["X_again"], adata.obsm["X_omib"], atol=1e-6)
    back = omib.load(tmp_path / "model")
    assert repr(back) == repr(model)
    np.testing.assert_array_equal(back.history["task"], model.history["task"])


def test_what_was_learned_is_the_trained_networks(fitted):
    _, model = fitted
    trained = model.trained
    assert model.network is trained.network and model.modalities is trained.modalities
    assert model.summaries is trained.summaries and model.history is trained.history
    assert model.objective is trained.objective is omib.tl.OBJECTIVES[model.params["objective"]]
    assert model.classes == [] and model.stacking is None
    assert list(model.modalities) == list(model.summaries) == ["gene", "image", "X_extra"]


def test_a_model_does_not_change_and_variants_are_made_of_it(fitted):
    _, model = fitted
    with pytest.raises(FrozenInstanceError):
        model.distances = {}
    other = replace(model, distances={})
    assert isinstance(other, AnomalyModel) and other.trained is model.trained and model.distances


def test_repr_says_what_it_is(fitted):
    _, model = fitted
    assert "gene + image + X_extra" in repr(model) and model.params["objective"] in repr(model)
    assert "beta=0.05" in repr(model) and "150 reference spots" in repr(model)


def test_spots_are_judged_without_what_too_few_healthy_ones_have(caplog):
    """As one picture among the slides of a reference: its slide is judged as if it had none."""
    adata = omib.datasets.simulate_tissue(4, n_healthy=3, n_spots=100, n_genes=80, image=False)
    extra = np.full((adata.n_obs, 3), np.nan)
    rng = np.random.default_rng(0)
    extra[:14], extra[300:360] = rng.normal(size=(14, 3)), rng.normal(size=(60, 3))
    config = replace(omib.tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05)
    adata.obsm["X_extra"] = extra
    options = {"reference_key": "healthy", "modalities": ["gene", "X_extra"], "max_epochs": 2, "config": config}
    model = omib.tl.fit(adata, library_key="library_id", enable_progress_bar=False, **options)
    assert list(model.scores) == [("gene",)] and "have X_extra: spots with these are judged by fewer" in caplog.text
    bare = adata.copy()
    bare.obsm["X_extra"] = np.full_like(extra, np.nan)
    omib.tl.score(bare, model)
    assert (adata.obs["omib_modalities"] == "gene").all() and adata.obs["omib_score"].notna().all()
    for column in ("omib_score", "omib_pvalue", "omib_call"):
        np.testing.assert_array_equal(adata.obs[column].to_numpy(), bare.obs[column].to_numpy())


def test_modalities_that_too_few_healthy_slides_have_together_are_not_judged_by(caplog):
    """Or a patient's slide with a picture would be compared with the one healthy slide that has one."""
    adata = omib.datasets.simulate_tissue(6, n_healthy=5, n_spots=60, n_genes=60, image=False)
    adata.obsm["X_extra"] = np.random.default_rng(0).normal(size=(adata.n_obs, 3))
    adata.obsm["X_extra"][60:300] = np.nan
    options = {"modalities": ["gene", "X_extra"], "max_epochs": 1, "library_key": "library_id"}
    with pytest.warns(UserWarning, match="'slide1', 'slide6' judged without its 'X_extra', since too few"):
        model = omib.tl.fit(adata, reference_key="healthy", enable_progress_bar=False, **options)
    assert {name: len(score.slides) for name, score in model.scores.items()} == {
        ("gene",): 5,
        ("X_extra",): 1,
        ("gene", "X_extra"): 1,
    }
    assert (adata.obs["omib_modalities"] == "gene").all()
    assert (adata.uns["omib_slides"]["n_healthy_slides"] == 5).all()
    bare = adata.copy()
    bare.obsm["X_extra"][:] = np.nan
    with pytest.warns(UserWarning, match="without 'X_extra'. Scores of"):
        omib.tl.score(bare, model)
    np.testing.assert_array_equal(bare.obs["omib_score"], adata.obs["omib_score"])
    # Where classes are told apart, all that a spot has has a say.
    spots = model.trained.prepare(Tissue(adata, model.layout))
    taught = replace(model, trained=replace(model.trained, classes=["a", "b"]))
    assert taught.judgeable(spots) is spots and model.judgeable(spots) is not spots
    # Of spots without genes there is nothing else to say.
    spots = model.trained.prepare(Tissue(adata, model.layout)).masked(np.ones(adata.n_obs, bool), ["X_extra"])
    assert model.judgeable(spots) is spots


def test_as_many_modalities_stay_as_were_calibrated_together():
    adata = omib.datasets.simulate_tissue(3, n_healthy=3, n_spots=60, n_genes=60)
    model = omib.tl.fit(adata, all_healthy=True, library_key="library_id", max_epochs=1, enable_progress_bar=False)
    spots = model.prepare(Tissue(adata, model.layout))
    assert list(spots.prepared) == ["gene", "image", "genome"] and spots.present.all()
    assert model.judgeable(spots) is spots
    kept = {name: score for name, score in model.scores.items() if name in (("gene",), ("image", "genome"))}
    assert (replace(model, scores=kept).judgeable(spots).present == [False, True, True]).all()
    alone = spots.masked(np.ones(adata.n_obs, bool), ["image"])
    assert replace(model, scores=kept).judgeable(alone) is alone
