from copy import copy
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import roc_auc_score

import omib_spatial as omib
from omib_spatial.detector.distances import independent_spots, measure_distances
from omib_spatial.detector.judged import JudgedSlice
from omib_spatial.detector.ordering import clonal_modality
from omib_spatial.detector.scoring import class_probability, score_tissue, slice_groups
from omib_spatial.detector.supervised import predictors
from omib_spatial.modalities import Contrast, Gene, Genome
from omib_spatial.slides import Tissue
from omib_spatial.stats.null import SlicePrior
from omib_spatial.stats.ordering import CLONAL_LEVEL
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.stats.slide_test import cauchy_combination
from omib_spatial.stats.smooth import independent_share
from omib_spatial.stats.two_groups import TwoGroups

QUICK = {
    "config": replace(omib.tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05),
    "max_epochs": 2,
    "enable_progress_bar": False,
    "library_key": "library_id",
    "accelerator": "cpu",
}


def simulate():
    adata = omib.datasets.simulate_tissue(3, n_healthy=2, n_spots=100, n_genes=80, image=False)
    adata.obsm["X_extra"] = np.random.default_rng(0).normal(size=(adata.n_obs, 4))
    return adata


@pytest.fixture(scope="module")
def fitted():
    adata = simulate()
    model = omib.tl.fit(adata, reference_key="healthy", modalities=["gene", "X_extra"], **QUICK)
    return adata, model


@pytest.fixture(scope="module")
def labelled():
    adata = simulate()
    return adata, omib.tl.fit(adata, labels_key="anomaly", modalities=["gene", "X_extra"], **QUICK)


def found(adata, model):
    tissue = Tissue(adata, model.layout)
    spots = model.prepare(tissue)
    return score_tissue(model, tissue, spots, "cpu"), tissue, spots


def gaps():
    """A slide of which some spots lack one modality or the other, and one lacks both."""
    adata = simulate()
    adata.obsm["X_extra"][[3, 20, 21, 22]] = np.nan
    adata.X[[3, 40, 41, 250]] = 0
    adata.X.eliminate_zeros()
    return adata


def test_spots_are_scored_by_the_combination_that_they_have(fitted):
    _, model = fitted
    scores, tissue, spots = found(gaps(), model)
    np.testing.assert_array_equal(np.isnan(scores.score), np.arange(300) == 3)
    evidence = model.trained.evidence(spots, tissue, np.flatnonzero(spots.present.any(1)), "cpu")
    for combination, rows in {("gene",): [20, 21, 22], ("X_extra",): [40, 41, 250]}.items():
        rows = np.array(rows)
        distances = measure_distances(
            model.distances[combination],
            evidence,
            spots,
            tissue,
            rows,
            modalities=model.modalities,
            settings=model.calibration,
        )
        for code in np.unique(tissue.codes[rows]):
            own = tissue.codes[rows] == code
            worth = independent_share(tissue.graph, rows, 2)[own].sum()
            logs = model.scores[combination].log_distance(distances[own], model.calibration)
            prior = SlicePrior.fit(model.scores[combination].slides[:, :2], model.calibration)
            expected = TwoGroups.fit(logs, worth, prior, model.calibration).score(logs)
            np.testing.assert_array_equal(scores.score[rows[own]], expected)
            np.testing.assert_array_equal(scores.pvalue[rows[own]], model.scores[combination].pvalue(expected))
            words, name = "+".join(combination), tissue.libraries[code]
            record = next(group for group in scores.groups if (group.slice, group.modalities) == (name, words))
            assert record.n_spots == own.sum() and record.separation >= 0.5
        np.testing.assert_array_equal(scores.modalities[rows], "+".join(combination))


def as_judged(model, combination, distances) -> JudgedSlice:
    """A slice of so many spots with these distances, worth 4 independent spots."""
    calibration, settings = model.scores[combination], model.calibration
    logs, n = calibration.log_distance(distances, settings), len(distances)
    groups = TwoGroups.fit(logs, 4.0, SlicePrior.fit(calibration.slides[:, :2], settings), settings)
    parts, unit = list(model.distances[combination]), np.ones(distances.shape[1])
    measured = (distances, distances, distances, unit)
    return JudgedSlice(
        np.arange(n), combination, parts, [2] * len(parts), *measured, logs, 4.0, None, np.nan, groups
    )  # fmt: skip


def test_a_slice_is_scored_from_the_border_of_its_own_groups(fitted):
    adata, model = fitted
    combination, rng = ("gene", "X_extra"), np.random.default_rng(0)
    calibration, settings = model.scores[combination], model.calibration
    distances = rng.gamma(9, size=(60, len(model.distances[combination])))
    logs = calibration.log_distance(distances, settings)
    judged = as_judged(model, combination, distances)
    score, record = judged.score, slice_groups(model, Tissue(adata, model.layout), judged)
    groups = TwoGroups.fit(logs, 4.0, SlicePrior.fit(calibration.slides[:, :2], settings), settings)
    np.testing.assert_allclose(score, (logs - groups.border) / groups.healthy_spread)
    assert record.pvalue == pytest.approx(calibration.spread_pvalue(logs, 4.0, settings))
    assert (record.n_spots, record.n_slides) == (60, len(calibration.slides))


def test_two_tests_of_a_slide_are_combined():
    """The second one is of the clonal modality, with all healthy slides that have it."""
    model = omib.tl.fit(simulate(), reference_key="healthy", modalities=["gene", "genome"], **QUICK)
    both, alone = ("gene", "genome"), ("genome",)
    kept = model.scores[both]
    model = replace(model, scores=model.scores | {both: replace(kept, slides=kept.slides[:1])})
    parts = list(model.distances[both])
    distances = np.random.default_rng(1).gamma(9, size=(60, len(parts)))
    distances[:, parts.index("genome")] *= np.repeat([1, 2], 30)
    logs = model.scores[both].log_distance(distances, model.calibration)
    record = slice_groups(model, Tissue(simulate(), model.layout), as_judged(model, both, distances))
    of_all = model.scores[both].spread_pvalue(logs, 4.0, model.calibration)
    clonal = model.scores[alone].clonal_pvalue(distances[:, parts.index("genome")], 4.0, model.calibration)
    assert record.pvalue == pytest.approx(cauchy_combination([of_all, clonal])) and of_all != clonal
    assert record.n_slides == len(model.scores[alone].slides) == 2


@pytest.fixture(scope="module")
def with_genome():
    """The third slide has a clone, which the others have not."""
    adata = omib.datasets.simulate_tissue(3, n_healthy=2, n_spots=140, n_genes=3000, image=False)
    counts, rng = adata.X.toarray(), np.random.default_rng(0)
    for chromosome in ("chr1", "chr6", "chr11", "chr17"):
        clone = np.ix_(np.arange(300, 360), np.array(adata.var["chromosome"] == chromosome))
        counts[clone] += rng.poisson(2 * counts[clone])
    adata.X = sparse.csr_matrix(counts)
    modalities = {"gene": Gene(), "genome": Genome(window=31)}
    return adata, omib.tl.fit(adata, reference_key="healthy", modalities=modalities, **QUICK)


def test_a_slide_with_a_clone_puts_its_spots_in_order_and_every_number_that_it_has_stays(with_genome):
    adata, model = with_genome
    settings = replace(model.calibration, min_ordered=None)
    (as_it_is, tissue, _), (before, _, _) = found(adata, model), found(adata, replace(model, calibration=settings))
    for code, (one, other) in enumerate(zip(as_it_is.groups, before.groups, strict=True)):
        own = tissue.codes == code
        assert (one.clone_pvalue <= CLONAL_LEVEL) == (code == 2) and np.isnan(other.clone_pvalue)
        for name in ("score", "pvalue", "slice_pvalue"):
            values, others = getattr(as_it_is, name)[own], getattr(before, name)[own]
            # Up to spots whose distances are equal.
            np.testing.assert_allclose(np.sort(values), np.sort(others), atol=0.15)
            assert np.array_equal(values, others) == (code < 2)
        np.testing.assert_allclose(one[3:-2], other[3:-2], atol=1e-3)
    clone = np.isin(np.arange(280, 420), np.arange(300, 360))
    ranked = [roc_auc_score(clone, scores.score[280:]) for scores in (before, as_it_is)]
    assert ranked[0] < ranked[1] > 0.9


@pytest.mark.parametrize("least", [140, 141])
def test_small_slides_are_left_in_the_order_of_their_distances(least, with_genome):
    adata, model = with_genome
    at_least, never = (
        found(adata, replace(model, calibration=replace(model.calibration, min_ordered=n)))[0].score
        for n in (least, None)
    )
    assert np.array_equal(at_least, never) == (least > 140)


def test_the_order_of_a_slide_does_not_depend_on_others_or_on_that_of_its_rows(with_genome):
    adata, model = with_genome
    whole, shuffled = found(adata, model)[0].score, np.random.default_rng(0).permutation(np.flatnonzero(
        adata.obs["library_id"] == "slide2"
    ))  # fmt: skip
    alone = found(adata[shuffled].copy(), model)[0].score
    np.testing.assert_allclose(alone, whole[shuffled], atol=1e-3)


def test_evidence_from_inside_the_slide_is_not_counted_twice(with_genome):
    _, model = with_genome
    assert clonal_modality(model, ("gene", "genome")) == clonal_modality(model, ("genome",)) == "genome"
    assert clonal_modality(model, ("gene",)) is None
    trained = copy(model.trained)
    object.__setattr__(trained, "modalities", model.modalities | {"contrast": Contrast()})
    distances = model.distances | {("gene", "genome", "contrast"): model.distances["gene", "genome"]}
    other = replace(model, trained=trained, distances=distances)
    assert clonal_modality(other, ("gene", "genome", "contrast")) is None


def test_without_a_score_for_its_combination_a_spot_is_nan_and_not_called(fitted):
    _, model = fitted
    without = {c: score for c, score in model.scores.items() if c != ("gene",)}
    scores, _, _ = found(gaps(), replace(model, scores=without))
    missing = np.isin(np.arange(300), [3, 20, 21, 22])
    for values in (scores.score, scores.pvalue, scores.slice_pvalue):
        np.testing.assert_array_equal(np.isnan(values), missing)
    np.testing.assert_array_equal(scores.modalities == "", missing)
    assert np.isfinite(scores.embedding[[20, 21, 22]]).all() and np.isnan(scores.embedding[3]).all()


def test_scores_are_what_fit_wrote_and_nothing_is_written(fitted):
    adata, model = fitted
    raw = simulate()
    scores, _, _ = found(raw, model)
    for name in ("score", "pvalue", "slice_pvalue", "modalities"):
        np.testing.assert_array_equal(getattr(scores, name), adata.obs[f"omib_{name}"])
    np.testing.assert_array_equal(scores.embedding, adata.obsm["X_omib"])
    assert scores.probability is None and scores.drawn == {}
    assert not any("omib" in key for key in (*raw.obs, *raw.obsm, *raw.uns))


@pytest.mark.parametrize("change", [{"pooling_hops": 1}, {"pooled_spots": 100.0}, {"between_slice_sd": (2.0, 2.0)}])
def test_the_models_settings_say_how_spots_are_judged(fitted, change):
    adata, model = fitted
    settings = replace(model.calibration, **change)
    scores, _, _ = found(adata, replace(model, calibration=settings))
    assert (scores.slice_pvalue != adata.obs["omib_slice_pvalue"]).mean() > 0.9
    assert (scores.score != adata.obs["omib_score"]).mean() > 0.9


def test_spots_are_worth_what_the_settings_say_or_else_the_graph(fitted):
    adata, model = fitted
    tissue, rows = Tissue(adata, model.layout), np.arange(10, 90)
    parts = dict.fromkeys(model.modalities)

    def worth(**settings) -> np.ndarray:
        return independent_spots(CalibrationSettings(**settings), tissue, rows, parts, model.modalities)

    np.testing.assert_array_equal(worth(pooled_spots=8), 1 / 8)
    for hops in (1, 2):
        np.testing.assert_array_equal(worth(pooling_hops=hops), independent_share(tissue.graph, rows, hops))


def test_an_empty_slide_is_nan_in_every_width(fitted, labelled):
    for (_, model), n_classes in ((fitted, 0), (labelled, 2)):
        adata = simulate()
        adata.X, adata.obsm["X_extra"] = adata.X * 0, adata.obsm["X_extra"] * np.nan
        scores, _, _ = found(adata, model)
        for values in (scores.score, scores.pvalue, scores.slice_pvalue, scores.embedding):
            assert np.isnan(values).all() and len(values) == 300
        assert scores.groups == [] and scores.embedding.shape[1] == model.network.latent_dim
        assert (scores.probability is None) == (n_classes == 0)
        if n_classes:
            assert scores.probability.shape == (300, n_classes) and np.isnan(scores.probability).all()


def test_probabilities_are_the_networks_weighed_together_with_distances(fitted, labelled):
    adata, model = labelled
    tissue = Tissue(adata, model.layout)
    spots = model.prepare(tissue)
    evidence = model.trained.evidence(spots, tissue, np.arange(300), "cpu")
    alone = {name: model.distances[name,][name] for name in model.modalities}
    weighed = predictors(evidence, spots, tissue, alone, model.stacking.healthy, model.modalities, 2)
    probability = class_probability(model, evidence, spots, tissue)
    np.testing.assert_array_equal(probability, model.stacking.probability(weighed, evidence.probability))
    assert (probability != evidence.probability).any()
    assert class_probability(replace(model, stacking=None), evidence, spots, tissue) is evidence.probability
    _, other = fitted
    spots = other.prepare(tissue)
    evidence = other.trained.evidence(spots, tissue, np.arange(300), "cpu")
    assert class_probability(other, evidence, spots, tissue) is None
