"""Fits with labels: what is written, what is learned, and what is refused."""

from copy import deepcopy

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

import omib_spatial as omib
from omib_spatial.core.training import OMIBTraining
from omib_spatial.modalities import Genome
from omib_spatial.slides.graph import walk
from omib_spatial.tl import _crossfit, _train
from omib_spatial.detector.supervised import unlearned, untaught
from omib_spatial.stats.smooth import along_axes
from omib_spatial.stats.stacking import Verdict, network_odds, opinions

QUICK = {"max_epochs": 3, "warmup_epochs": 1, "progress_bar": False, "library_key": "library_id", "beta": 0.05}
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


def test_training_sees_labels_except_those_that_it_is_judged_by(monkeypatch):
    fits: list[list] = []
    step, learn = OMIBTraining.training_step, _train.run_training
    for module in (_train, _crossfit):
        monkeypatch.setattr(module, "run_training", lambda *a, **k: (fits.append([]), learn(*a, **k))[1])
    monkeypatch.setattr(OMIBTraining, "training_step", lambda s, b, i: (fits[-1].append(b.target), step(s, b, i))[1])
    adata = simulate()
    model = omib.tl.fit(adata, labels_key="kind", **(QUICK | {"max_epochs": 1, "warmup_epochs": 0}))
    found = [np.bincount(torch.cat(targets), minlength=4) for targets in fits]

    def sizes(rows) -> np.ndarray:
        return adata.obs["kind"][rows].value_counts().reindex(CLASSES, fill_value=0).to_numpy()

    everyone, slices = np.ones(adata.n_obs, bool), adata.obs["library_id"]
    # The model, its twin without the held-out healthy spots, and one without each slice.
    expected = [sizes(everyone), sizes(everyone) - np.array([0, 0, model.params["n_calibration"], 0])]
    expected += [sizes((slices != name).to_numpy()) for name in slices.cat.categories]
    np.testing.assert_array_equal(found, expected)


def test_the_anomaly_score_does_not_rest_on_a_code_that_learned_classes(fitted):
    adata, model = fitted
    assert {pattern: list(parts) for pattern, parts in model.distances.items()} == {
        "gene": ["gene"],
        "genome": ["genome"],
        "gene+genome": ["gene", "genome"],
    }
    other, again = deepcopy(model), simulate()
    with torch.no_grad():
        for p in other.network.parameters():
            p.normal_(std=0.05)
    omib.tl.score(again, other)
    np.testing.assert_allclose(again.obs["omib_score"], adata.obs["omib_score"], atol=1e-6)
    assert np.abs(again.obsm["omib_probability"] - adata.obsm["omib_probability"]).max() > 0.01


def test_slices_of_one_donor_are_judged_together(monkeypatch):
    seen = []
    monkeypatch.setattr(_crossfit, "untaught", lambda *a: (seen.append(a[5]), untaught(*a))[1])
    monkeypatch.setattr(_crossfit, "unlearned", lambda *a: (seen.append(a[2]), unlearned(*a))[1])
    weigh, weighed = Verdict.fit, []
    monkeypatch.setattr(Verdict, "fit", lambda *a: (weighed.append(a), weigh(*a))[1])
    adata = simulate()
    adata.obs["animal"] = np.where(adata.obs["library_id"] == "slide1", "a", "b")
    omib.tl.fit(adata, labels_key="kind", donor_key="animal", **QUICK)
    known = adata.obs["kind"].notna().to_numpy()
    own = [(adata.obs["animal"] == name).to_numpy() for name in ("a", "b")]
    healthy = (adata.obs["kind"] == "healthy").to_numpy()
    np.testing.assert_array_equal(seen, [*(known & rows for rows in own), *(healthy & ~rows for rows in own)])
    _, _, slices, donors, _ = weighed[0]
    assert len(np.unique(slices)) == 3 and np.array_equal(donors, (slices > 0).astype(int))


def test_the_genome_is_heard_along_the_axes_of_its_slice_and_all_opinions_smoothed(fitted):
    adata, model = fitted
    spots, graph = model.prepare(adata, model.layout), model.layout.graph(adata)
    codes = adata.obs["library_id"].cat.codes.to_numpy()
    tiles = [np.flatnonzero(codes == code) for code in range(3)]
    parts = model.evidence(spots, tiles)
    found = opinions(model, parts, spots, graph, codes)
    assert found.shape == (adata.n_obs, 3) and list(model.modalities) == ["gene", "genome"]
    step = walk(graph, 1)
    for column, name in ((1, "gene"), (2, "genome")):
        distance = model.distances[name][name](parts[name], spots.noise(name))
        smooth = step @ step @ np.log(step @ step @ distance)
        for rows in tiles:
            along = along_axes(smooth[rows], spots.prepared[name].features(rows), Genome.clonal_axes)
            np.testing.assert_allclose(found[rows, column], along if name == "genome" else smooth[rows], rtol=1e-4)
            assert np.abs(along - smooth[rows]).max() > 0.01
        if name == "gene":
            once = step @ step @ distance
    odds = network_odds(parts["probability"], np.isin(CLASSES, ["healthy"]))
    np.testing.assert_allclose(found[:, 0], step @ step @ odds, rtol=1e-5)
    whole = model.verdict.probability(found, parts["probability"])
    np.testing.assert_allclose(whole, adata.obsm["omib_probability"], atol=1e-5)
    # The anomaly score hears the genome in the same way, the other distances as they are.
    measured = model.measure("gene+genome", parts, spots, graph, np.arange(adata.n_obs), codes)
    columns = dict(zip(model.distances["gene+genome"], measured.T, strict=True))
    np.testing.assert_allclose(columns["genome"], np.exp(found[:, 2]), rtol=1e-5)
    np.testing.assert_allclose(columns["gene"], once, rtol=1e-4)


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
    model = omib.tl.fit(annotated, labels_key="anomaly_kind", **(QUICK | {"max_epochs": 15, "warmup_epochs": 5}))
    omib.tl.score(target, model)
    for i, kind in enumerate(model.classes):
        truth = (target.obs["anomaly_kind"] == kind).to_numpy()
        assert roc_auc_score(truth, target.obsm["omib_probability"][:, i]) > 0.8, kind
    assert model.verdict is not None and (model.verdict.healthy == [c == "healthy" for c in model.classes]).all()


def test_a_reference_key_marks_what_is_healthy_instead():
    adata = simulate()
    model = omib.tl.fit(adata, labels_key="region", reference_key="healthy", **QUICK)
    assert model.params["n_reference"] == 150 and model.params["healthy_label"] == []
    assert model.classes == list(adata.obs["region"].cat.categories)
    # No region is healthy by its name: the probabilities are the network's alone.
    assert model.verdict is None
    np.testing.assert_allclose(adata.obsm["omib_probability"].sum(1), 1, atol=1e-5)
    named = simulate()
    model = omib.tl.fit(named, labels_key="kind", reference_key="healthy", **QUICK)
    assert model.params["n_reference"] == 150 and model.verdict is not None


def one_class(a):
    a.obs["kind"] = "healthy"


def few(a):
    a.obs["kind"] = np.where(np.arange(a.n_obs) < 4, "tumour", "healthy")


def thin_reference(a):
    a.obs["kind"] = np.where(np.arange(a.n_obs) < 49, "healthy", "tumour")


def fractions(a):
    a.obs["kind"] = np.linspace(0, 1, a.n_obs)


def nothing(a):
    pass


@pytest.mark.parametrize(
    ("change", "options", "error", "says"),
    [
        (one_class, {}, ValueError, "at least two"),
        (few, {}, ValueError, "'tumour': 4"),
        (thin_reference, {}, ValueError, "49 reference spots"),
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
    monkeypatch.setattr("omib_spatial.detector.training.run_training", lambda *a, **k: pytest.fail("training was started"))
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
