"""What models without a donor's labels say of that donor, and how it is weighed."""

from copy import deepcopy
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import torch

import omib_spatial as omib
from omib_spatial.core.training import OMIBTraining
from omib_spatial.detector import supervised, training
from omib_spatial.detector.distances import measure_distances
from omib_spatial.detector.supervised import (
    left_out_log_distances,
    log_distances,
    network_log_odds,
    predicted_log_odds,
    predictors,
    retrain_without,
)
from omib_spatial.modalities import Genome
from omib_spatial.slides import Tissue
from omib_spatial.stats.smooth import project_on_axes, walk
from omib_spatial.stats.stacking import Stacking, class_log_odds

CONFIG = replace(omib.tl.OBJECTIVES["classification"].config, warmup_epochs=1, beta=0.05)
QUICK = {"config": CONFIG, "max_epochs": 3, "enable_progress_bar": False, "library_key": "library_id"}
CLASSES = ["both", "expression", "healthy", "morphology"]
HEALTHY = np.isin(CLASSES, ["healthy"])


def simulate() -> ad.AnnData:
    """Slices whose ``kind`` is the planted anomaly, not known of every fifth spot."""
    adata = omib.datasets.simulate_tissue(n_slides=3, n_healthy=1, n_spots=150, n_genes=100, image=False)
    adata.obs["kind"] = adata.obs["anomaly_kind"].astype(object)
    adata.obs.loc[adata.obs_names[::5], "kind"] = np.nan
    return adata


@pytest.fixture(scope="module")
def fitted():
    adata = simulate()
    return adata, omib.tl.fit(adata, labels_key="kind", **QUICK)


@pytest.fixture(scope="module")
def judged(fitted):
    adata, model = fitted
    tissue = Tissue(adata, model.layout)
    spots = model.prepare(tissue)
    return tissue, spots, model.trained.evidence(spots, tissue, np.arange(adata.n_obs), "cpu")


def test_training_sees_labels_except_those_that_it_is_judged_by(monkeypatch):
    fits: list[list] = []
    step, learn = OMIBTraining.training_step, training.train_network
    for module in (training, supervised):
        monkeypatch.setattr(module, "train_network", lambda *a, **k: (fits.append([]), learn(*a, **k))[1])
    monkeypatch.setattr(OMIBTraining, "training_step", lambda s, b, i: (fits[-1].append(b.target), step(s, b, i))[1])
    adata = simulate()
    config = replace(CONFIG, warmup_epochs=0)
    omib.tl.fit(adata, labels_key="kind", **(QUICK | {"max_epochs": 1, "config": config}))
    found = [np.bincount(torch.cat(targets), minlength=4) for targets in fits]

    def sizes(rows) -> np.ndarray:
        return adata.obs["kind"][rows].value_counts().reindex(CLASSES, fill_value=0).to_numpy()

    everyone, slices = np.ones(adata.n_obs, bool), adata.obs["library_id"]
    # The model, and one without each slice.
    expected = [sizes(everyone)]
    expected += [sizes((slices != name).to_numpy()) for name in slices.cat.categories]
    np.testing.assert_array_equal(found, expected)


def test_the_anomaly_score_does_not_rest_on_a_code_that_learned_classes(fitted):
    adata, model = fitted
    assert {combination: list(parts) for combination, parts in model.distances.items()} == {
        ("gene",): ["gene"],
        ("genome",): ["genome"],
        ("gene", "genome"): ["gene", "genome"],
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
    monkeypatch.setattr(supervised, "retrain_without", lambda *a: (seen.append(a[0]), retrain_without(*a))[1])
    weigh, weighed = Stacking.fit, []
    monkeypatch.setattr(Stacking, "fit", lambda *a: (weighed.append(a), weigh(*a))[1])
    adata = simulate()
    adata.obs["animal"] = np.where(adata.obs["library_id"] == "slide1", "a", "b")
    omib.tl.fit(adata, labels_key="kind", donor_key="animal", **QUICK)
    known = adata.obs["kind"].notna().to_numpy()
    own = [(adata.obs["animal"] == name).to_numpy() for name in ("a", "b")]
    np.testing.assert_array_equal(seen, [known & rows for rows in own])
    _, _, slices, donors, _ = weighed[0]
    assert len(np.unique(slices)) == 3 and np.array_equal(donors, (slices > 0).astype(int))


def test_the_genome_is_heard_along_the_axes_of_its_slice_and_all_predictors_smoothed(fitted, judged):
    adata, model = fitted
    tissue, spots, evidence = judged
    codes = adata.obs["library_id"].cat.codes.to_numpy()
    slices = [np.flatnonzero(codes == code) for code in range(3)]
    alone = {name: model.distances[name,][name] for name in model.modalities}
    found = predictors(evidence, spots, tissue, alone, HEALTHY, model.modalities, 2)
    assert found.shape == (adata.n_obs, 3) and list(model.modalities) == ["gene", "genome"]
    step = walk(tissue.graph, 1)
    for column, name in ((1, "gene"), (2, "genome")):
        distance = alone[name](evidence.parts[name], spots.noise(name))
        smooth = step @ step @ np.log(step @ step @ distance)
        for rows in slices:
            along = project_on_axes(smooth[rows], spots.prepared[name].features(rows), Genome.clonal_axes)
            np.testing.assert_allclose(found[rows, column], along if name == "genome" else smooth[rows], rtol=1e-4)
            assert np.abs(along - smooth[rows]).max() > 0.01
        if name == "gene":
            once = step @ step @ distance
    odds = class_log_odds(evidence.probability, HEALTHY)
    np.testing.assert_allclose(found[:, 0], step @ step @ odds, rtol=1e-5)
    np.testing.assert_array_equal(model.stacking.healthy, HEALTHY)
    whole = model.stacking.probability(found, evidence.probability)
    np.testing.assert_allclose(whole, adata.obsm["omib_probability"], atol=1e-5)
    # The anomaly score hears the genome in the same way, the other distances as they are.
    measured = measured_distances(model, evidence, spots, tissue)
    np.testing.assert_allclose(measured["genome"], np.exp(found[:, 2]), rtol=1e-5)
    np.testing.assert_allclose(measured["gene"], once, rtol=1e-4)


def measured_distances(model, evidence, spots, tissue) -> dict[str, np.ndarray]:
    """Distances of all spots by both modalities, as the anomaly score takes them."""
    distances, rows = model.distances["gene", "genome"], np.arange(tissue.n_obs)
    found = measure_distances(
        distances, evidence, spots, tissue, rows, modalities=model.modalities, settings=model.calibration
    )
    return dict(zip(distances, found.T, strict=True))


def test_predictors_are_missing_where_the_evidence_is(fitted, judged):
    _, model = fitted
    tissue, spots, evidence = judged
    alone = {name: model.distances[name,][name] for name in model.modalities}
    unasked = evidence.unknown(tissue.n_obs)
    rows = np.arange(150, 300)
    unasked.put(rows, evidence.take(rows))
    odds = network_log_odds(unasked, tissue, HEALTHY, 2)
    np.testing.assert_array_equal(np.isfinite(odds), np.isin(np.arange(tissue.n_obs), rows))
    np.testing.assert_allclose(odds[rows], network_log_odds(evidence, tissue, HEALTHY, 2)[rows], rtol=1e-5)
    one = log_distances(evidence, spots, tissue, {"gene": alone["gene"]}, model.modalities, 2)
    assert np.isfinite(one[:, 0]).all() and np.isnan(one[:, 1]).all()
    with pytest.raises(ValueError, match="trained without labels"):
        network_log_odds(replace(evidence, probability=None), tissue, HEALTHY, 2)


@pytest.mark.parametrize("animals", [["a", "b", "c"], ["a", "b", "b"]])
def test_a_donors_distances_are_learned_from_the_other_donors(fitted, judged, animals):
    adata, model = fitted
    _, spots, evidence = judged
    tissue = of_animals(adata, model, animals)
    known, reference = labelled(adata)
    found = left_out_log_distances(model.trained, evidence, spots, tissue, reference, known, model.calibration)
    visible = spots.masked(known)  # the neighbours that a summary averages over
    for donor in set(tissue.donors):
        own, rows = tissue.donors == donor, np.flatnonzero(reference & (tissue.donors != donor))
        for column, name in enumerate(model.modalities):
            values = model.summaries[name].of(visible.prepared[name], rows).numpy()
            distance = model.objective.distance(name, values, visible.prepared[name].noise[rows])
            expected = log_distances(evidence, spots, tissue, {name: distance}, model.modalities, 2)
            np.testing.assert_allclose(found[own, column], expected[own, column])


def test_a_single_donors_distances_are_learned_from_its_other_pieces(fitted, judged):
    adata, model = fitted
    _, spots, evidence = judged
    tissue = of_animals(adata, model, ["a", "a", "a"])
    known, reference = labelled(adata)
    found = left_out_log_distances(model.trained, evidence, spots, tissue, reference, known, model.calibration)
    alone = {name: model.distances[name,][name] for name in model.modalities}
    seen = log_distances(evidence, spots, tissue, alone, model.modalities, 2)
    assert np.isfinite(found[known]).all()
    # What was learned without a healthy spot puts it farther away than what was learned from it.
    assert (found - seen)[reference].mean() > 0.02


def test_a_modality_that_nothing_is_left_to_learn_from_has_no_say(fitted, judged):
    adata, model = fitted
    _, spots, evidence = judged
    tissue, (known, _) = of_animals(adata, model, ["a", "b", "c"]), labelled(adata)
    nobody = np.zeros(adata.n_obs, bool)
    found = left_out_log_distances(model.trained, evidence, spots, tissue, nobody, known, model.calibration)
    assert np.isnan(found).all()
    labels = adata.obs["kind"].astype("category").cat.codes.to_numpy()
    odds = np.random.default_rng(0).normal(size=adata.n_obs)
    weighed = Stacking.fit(np.column_stack([odds, found]), labels, tissue.codes, tissue.donors, HEALTHY)
    with_distances = weighed.log_odds(np.column_stack([odds, np.ones_like(found)]))
    np.testing.assert_array_equal(weighed.log_odds(np.column_stack([odds, found])), with_distances)


def of_animals(adata, model, animals) -> Tissue:
    """The tissue of ``fitted``, whose three slices are of these animals."""
    marked = adata.copy()
    marked.obs["animal"] = np.array(animals)[adata.obs["library_id"].cat.codes]
    return Tissue(marked, model.layout, "animal")


def labelled(adata) -> tuple[np.ndarray, np.ndarray]:
    """Spots with a label, and healthy ones."""
    return adata.obs["kind"].notna().to_numpy(), (adata.obs["kind"] == "healthy").to_numpy()


def test_a_network_without_some_labels_keeps_the_preprocessing_and_is_asked_of_whole_slices(fitted, judged):
    adata, model = fitted
    tissue, spots, _ = judged
    labels = adata.obs["kind"].astype("category").cat.codes.to_numpy().astype(np.int64)
    held_out = (tissue.codes == 2) & (labels >= 0)
    settings = training.TrainingSettings(model.objective, CONFIG, 0, CLASSES, [1.0] * 4)
    options = training.RunOptions({"enable_progress_bar": False, "accelerator": "cpu"})
    other = retrain_without(held_out, model.trained, spots, tissue, labels, {}, settings, options)
    assert other.modalities is model.modalities and other.summaries is model.summaries
    assert other.network is not model.network
    odds = predicted_log_odds(other, spots, tissue, held_out, HEALTHY, 2, "cpu")
    np.testing.assert_array_equal(np.isfinite(odds), tissue.codes == 2)
