"""Fits with labels: what is written, what is learned, and what is refused."""

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

import omib_spatial as omib

CONFIG = replace(omib.tl.OBJECTIVES["classification"].config, warmup_epochs=1, beta=0.05)
QUICK = {"config": CONFIG, "max_epochs": 3, "enable_progress_bar": False, "library_key": "library_id"}
CLASSES = ["both", "expression", "healthy", "morphology"]


def simulate(**options) -> ad.AnnData:
    """Slices whose ``kind`` is the planted anomaly, not known of every fifth spot."""
    size = {"n_slides": 3, "n_healthy": 1, "n_spots": 150, "n_genes": 100, "image": False}
    adata = omib.datasets.simulate_tissue(**(size | options))
    adata.obs["kind"] = adata.obs["anomaly_kind"].astype(object)
    adata.obs.loc[adata.obs_names[::5], "kind"] = np.nan
    return adata


@pytest.fixture(scope="module")
def fitted():
    adata = simulate()
    return adata, omib.tl.fit(adata, labels_key="kind", **QUICK)


def test_probabilities_are_written_beside_the_score(fitted):
    adata, model = fitted
    raw = simulate()
    assert set(adata.obs) - set(raw.obs) == {
        "omib_score",
        "omib_pvalue",
        "omib_slice_pvalue",
        "omib_modalities",
        "omib_call",
        "omib_anomaly",
        "omib_label",
    }
    assert set(adata.obsm) - set(raw.obsm) == {"X_omib", "X_omib_genome", "omib_probability"}
    probability, classes = adata.obsm["omib_probability"], adata.uns["omib"]["classes"]
    assert classes.tolist() == CLASSES == model.classes
    assert probability.shape == (adata.n_obs, 4) and probability.dtype == np.float32
    np.testing.assert_allclose(probability.sum(1), 1, atol=1e-5)
    assert len(np.unique(probability[:, 0])) > 0.95 * adata.n_obs
    assert list(adata.obs["omib_label"].cat.categories) == CLASSES
    assert (adata.obs["omib_label"] == classes[probability.argmax(1)]).all()
    assert adata.obs["omib_score"].notna().all() and "classification" in repr(model)


def test_the_reference_is_what_is_labelled_healthy_and_classes_weigh_the_same(fitted):
    adata, model = fitted
    healthy = adata.obs["kind"] == "healthy"
    assert model.params["n_reference"] == healthy.sum() and model.params["healthy_label"] == ["healthy"]
    sizes = adata.obs["kind"].value_counts()[CLASSES].to_numpy()
    np.testing.assert_allclose(adata.uns["omib"]["params"]["class_weights"], sizes.sum() / (4 * sizes))
    np.testing.assert_allclose(model.network.task.weight, sizes.sum() / (4 * sizes), rtol=1e-6)


def test_the_label_of_a_spot_without_one_does_not_matter():
    one, other = simulate(), simulate()
    other.obs["kind"] = other.obs["kind"].fillna("unlabelled").astype("category")
    models = [omib.tl.fit(a, labels_key="kind", **QUICK) for a in (one, other)]
    assert all(torch.equal(a, b) for a, b in zip(*(m.network.parameters() for m in models), strict=True))
    np.testing.assert_array_equal(one.obsm["omib_probability"], other.obsm["omib_probability"])


def test_a_slice_gets_the_same_alone_and_after_saving(fitted, tmp_path):
    adata, model = fitted
    model.save(tmp_path / "model")
    adata.write_h5ad(tmp_path / "scored.h5ad")
    back, loaded = ad.read_h5ad(tmp_path / "scored.h5ad"), omib.load(tmp_path / "model")
    assert loaded.classes == CLASSES and repr(loaded) == repr(model)
    np.testing.assert_array_equal(back.obsm["omib_probability"], adata.obsm["omib_probability"])
    assert back.uns["omib"]["classes"].tolist() == CLASSES
    assert back.obs["omib_label"].equals(adata.obs["omib_label"])
    alone = simulate()[(adata.obs["library_id"] == "slide2").to_numpy()].copy()
    omib.tl.score(alone, loaded)
    rows = adata.obs_names.get_indexer(alone.obs_names)
    np.testing.assert_allclose(alone.obsm["omib_probability"], adata.obsm["omib_probability"][rows], atol=1e-5)
    np.testing.assert_allclose(alone.obs["omib_score"], adata.obs["omib_score"].iloc[rows], atol=1e-4)


def test_a_spot_without_any_modality_has_no_probability(fitted):
    _, model = fitted
    adata = simulate()
    adata.X[7] = 0
    adata.X.eliminate_zeros()
    omib.tl.score(adata, model)
    nan = np.isnan(adata.obsm["omib_probability"])
    assert nan[7].all() and nan.sum() == 4
    assert np.flatnonzero(adata.obs["omib_label"].isna()).tolist() == [7]
    adata.X = adata.X * 0
    omib.tl.score(adata, model)
    assert np.isnan(adata.obsm["omib_probability"]).all() and adata.obs["omib_label"].isna().all()


def test_annotated_classes_are_found_on_a_new_slice():
    adata = omib.datasets.simulate_tissue(4, n_healthy=1, n_spots=200, n_genes=150, effect=1.5)
    new = (adata.obs["library_id"] == "slide4").to_numpy()
    annotated, target = adata[~new].copy(), adata[new].copy()
    config = replace(CONFIG, warmup_epochs=5)
    model = omib.tl.fit(annotated, labels_key="anomaly_kind", **(QUICK | {"max_epochs": 15, "config": config}))
    omib.tl.score(target, model)
    for i, kind in enumerate(model.classes):
        truth = (target.obs["anomaly_kind"] == kind).to_numpy()
        assert roc_auc_score(truth, target.obsm["omib_probability"][:, i]) > 0.8, kind
    assert model.stacking is not None and (model.stacking.healthy == [c == "healthy" for c in model.classes]).all()


def test_a_reference_key_marks_what_is_healthy_instead():
    adata = simulate()
    model = omib.tl.fit(adata, labels_key="region", reference_key="healthy", **QUICK)
    assert model.params["n_reference"] == 150 and model.params["healthy_label"] == []
    assert model.classes == list(adata.obs["region"].cat.categories)
    # No region is healthy by its name: the probabilities are the network's alone.
    assert model.stacking is None
    np.testing.assert_allclose(adata.obsm["omib_probability"].sum(1), 1, atol=1e-5)
    named = simulate()
    model = omib.tl.fit(named, labels_key="kind", reference_key="healthy", **QUICK)
    assert model.params["n_reference"] == 150 and model.stacking is not None


def one_class(a):
    a.obs["kind"] = "healthy"


def few(a):
    a.obs["kind"] = np.where(np.arange(a.n_obs) < 4, "tumour", "healthy")


def thin_reference(a):
    a.obs["kind"] = np.where(np.arange(a.n_obs) < 39, "healthy", "tumour")


def fractions(a):
    a.obs["kind"] = np.linspace(0, 1, a.n_obs)


def nothing(a):
    pass


@pytest.mark.parametrize(
    ("change", "options", "error", "says"),
    [
        (one_class, {}, ValueError, "at least two"),
        (few, {}, ValueError, "'tumour': 4"),
        (thin_reference, {}, ValueError, "39 reference spots"),
        (fractions, {}, TypeError, "no classes"),
        (nothing, {"labels_key": "nowhere"}, KeyError, "nowhere"),
        (nothing, {"labels_key": "region"}, ValueError, "pass healthy_label="),
        (nothing, {"donor_key": "sane"}, KeyError, "donor_key="),
        (nothing, {"healthy_label": "sane"}, ValueError, "'sane'"),
        (nothing, {"healthy_label": "healthy", "labels_key": None}, ValueError, "pass that too"),
        (nothing, {"objective": "svdd"}, ValueError, "leave out"),
        (nothing, {"objective": "classification", "labels_key": None}, ValueError, "labels_key="),
    ],
)
def test_labels_that_cannot_be_learned_are_refused_and_nothing_is_written(change, options, error, says, monkeypatch):
    started = "omib_spatial.detector.training.train_network"
    monkeypatch.setattr(started, lambda *a, **k: pytest.fail("training was started"))
    adata = simulate()
    change(adata)
    before = adata.copy()
    with pytest.raises(error, match=says):
        omib.tl.fit(adata, **({"labels_key": "kind"} | QUICK | options))
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert list(adata.obsm) == list(before.obsm) and list(adata.uns) == list(before.uns)


def test_a_view_is_refused():
    with pytest.raises(ValueError, match="copy"):
        omib.tl.fit(simulate()[10:], labels_key="kind", **QUICK)
