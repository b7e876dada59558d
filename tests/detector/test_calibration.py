import logging
from dataclasses import replace

import numpy as np
import pytest

import omib_spatial as omib
from omib_spatial.detector.calibration import (
    ReferenceStatistics,
    donors_left_out,
    fit_scores,
    reference_statistics,
    summaries_without,
)
from omib_spatial.detector.distances import measure_distances
from omib_spatial.modalities import Summary
from omib_spatial.slides import Tissue
from omib_spatial.stats.score import LeftOutSpots, PartStatistics, ScoreCalibration
from omib_spatial.stats.settings import CalibrationSettings

SETTINGS = CalibrationSettings()
LAST = [f"slide{i}" for i in range(5, 9)]
QUICK = {
    "all_healthy": True,
    "config": replace(omib.tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05),
    "max_epochs": 2,
    "enable_progress_bar": False,
    "library_key": "library_id",
}


def simulate(n_slides: int = 4, n_spots: int = 80, n_genes: int = 80):
    return omib.datasets.simulate_tissue(n_slides, n_healthy=n_slides, n_spots=n_spots, n_genes=n_genes, image=False)


@pytest.fixture(scope="module")
def fitted():
    adata = simulate()
    adata.obs["animal"] = adata.obs["library_id"].astype(str).isin(["slide1", "slide2"]).map({True: "a", False: "b"})
    return adata, omib.tl.fit(adata, donor_key="animal", **QUICK)


def statistics(adata, model, training, held_out, settings=SETTINGS, trained=None, **options):
    tissue = Tissue(adata, model.layout, "animal")
    spots = model.prepare(tissue)
    return reference_statistics(
        trained or model.trained, spots, tissue, training, held_out, settings=settings, device="cpu", **options
    )


@pytest.mark.parametrize("refit", [False, True])
def test_left_out_donors_are_what_distances_and_summaries_of_the_other_donors_say(fitted, refit):
    adata, model = fitted
    spots = model.prepare(Tissue(adata, model.layout))
    everyone, donors = np.ones(adata.n_obs, bool), (adata.obs["animal"] == "b").to_numpy().astype(int)
    codes = Tissue(adata, model.layout).codes
    found = statistics(adata, model, everyone, ~everyone, leave_out_donors=True, refit_summaries=refit)
    assert set(found) == {("gene",), ("genome",), ("gene", "genome")}
    for donor in (0, 1):
        own = donors == donor
        trained = model.trained
        if refit:
            trained = replace(trained, summaries=summaries_without(trained, spots, ~own))
        alone = statistics(adata, model, ~own, own, trained=trained)
        for combination, seen in found.items():
            assert len(alone[combination].left_out.codes) == 0
            np.testing.assert_array_equal(seen.left_out.codes, codes)
            left_out = seen.left_out.distances[own]
            np.testing.assert_allclose(left_out[:, 1:], alone[combination].held_out.distances[:, 1:], rtol=1e-4)
            # The network has seen the donor: of the code there is only what was learned from all.
            whole = statistics(adata, model, everyone, own)[combination]
            assert list(seen.distances)[0] is None
            np.testing.assert_allclose(left_out[:, 0], whole.held_out.distances[:, 0], rtol=1e-4)


def test_donors_are_left_out_in_as_many_folds_as_the_settings_say(fitted):
    adata, model = fitted
    everyone = np.ones(adata.n_obs, bool)
    once = statistics(adata, model, everyone, ~everyone, replace(SETTINGS, donor_folds=1), leave_out_donors=True)
    # All donors are in the only fold, so that nobody is left to learn from.
    assert all(len(seen.left_out.codes) == 0 for seen in once.values())


def test_spots_beside_the_reference_are_measured_and_teach_nothing(fitted):
    adata, model = fitted
    training = np.arange(adata.n_obs) % 80 < 50
    tissue = Tissue(adata, model.layout)
    plain = statistics(adata, model, training, ~training, leave_out_donors=True)
    found = statistics(adata, model, training, ~training, leave_out_donors=True, beside=~training)
    for combination, seen in found.items():
        assert len(seen.left_out.codes) == adata.n_obs > len(plain[combination].left_out.codes)
        np.testing.assert_array_equal(seen.left_out.codes, tissue.codes)
        # The same distances were learned; only neighbours that are measured as well are averaged with.
        for part, distance in seen.distances.items():
            np.testing.assert_array_equal(distance.mean, plain[combination].distances[part].mean)
        np.testing.assert_array_equal(seen.usual.location, plain[combination].usual.location)


def test_a_combination_with_too_few_spots_is_left_out(fitted):
    adata, model = fitted
    training = np.arange(adata.n_obs) < 60
    assert set(statistics(adata, model, training, ~training, replace(SETTINGS, min_spots=60))) == {
        ("gene",),
        ("genome",),
        ("gene", "genome"),
    }
    assert statistics(adata, model, training, ~training, replace(SETTINGS, min_spots=61)) == {}


def test_what_is_usual_of_a_modality_is_learned_with_it_alone(fitted):
    adata, model = fitted
    everyone = np.ones(adata.n_obs, bool)
    found = statistics(adata, model, everyone, ~everyone)
    both = found["gene", "genome"]
    for name in ("gene", "genome"):
        alone = found[name,]
        assert both.distances[name] is alone.distances[name] and list(alone.distances) == [None, name]
        here, there = list(both.distances).index(name), list(alone.distances).index(name)
        assert both.usual.location[here] == alone.usual.location[there]
        assert both.usual.spread[here] == alone.usual.spread[there]


def test_slides_of_a_donor_are_left_out_together_and_each_counts(fitted):
    adata, model = fitted
    for calibrated in model.scores.values():
        assert calibrated.slides.shape == (4, 5) and (calibrated.slides[:, 1] > 0).all()
    by_slice = omib.tl.fit(simulate(), **QUICK)
    for combination, calibrated in by_slice.scores.items():
        assert (calibrated.slides[:, 0] != model.scores[combination].slides[:, 0]).all()
        np.testing.assert_allclose(calibrated.location, model.scores[combination].location)


def test_left_out_slides_lie_as_far_as_slides_that_nothing_has_seen():
    """Or the verdict, and the border between healthy and abnormal, would rest on slides that no new slide is like."""
    new, known = (
        (adata := simulate(8, 300, 300))[adata.obs["library_id"].isin(LAST)].copy(),
        ~adata.obs["library_id"].isin(LAST),
    )
    model = omib.tl.fit(adata[known].copy(), **QUICK | {"max_epochs": 20})
    spots = model.prepare(tissue := Tissue(new, model.layout))
    for combination, calibrated in model.scores.items():
        visible = spots.masked(np.ones(new.n_obs, bool), combination)
        evidence = model.trained.evidence(visible, tissue, np.arange(new.n_obs), "cpu")
        seen = measure_distances(
            model.distances[combination],
            evidence,
            visible,
            tissue,
            np.arange(new.n_obs),
            modalities=model.modalities,
            settings=model.calibration,
        )
        logs = calibrated.log_distance(seen, model.calibration)
        each = [(logs[tissue.codes == code].mean(), logs[tissue.codes == code].std()) for code in range(4)]
        (location, sd), left_out = np.mean(each, 0), calibrated.slides[:, :2].mean(0)
        assert left_out[0] == pytest.approx(location, abs=0.2), combination
        assert np.log(left_out[1] / sd) == pytest.approx(0, abs=0.35), combination


def test_a_modality_that_others_lack_keeps_the_summary_of_all(fitted):
    adata, model = fitted
    spots = model.prepare(Tissue(adata, model.layout))
    nobody, some = np.zeros(adata.n_obs, bool), np.arange(adata.n_obs) < 100
    assert summaries_without(model.trained, spots, nobody) == model.trained.summaries
    found = summaries_without(model.trained, spots, some)
    for name, summary in found.items():
        again = Summary(model.modalities[name].components)
        again.fit(spots.prepared[name].features(np.flatnonzero(some)), 0)
        np.testing.assert_array_equal(summary.mean, again.mean)
        assert not np.array_equal(summary.mean, model.trained.summaries[name].mean)


def test_one_slide_is_judged_by_blocks_of_it():
    adata = simulate(1)
    model = omib.tl.fit(adata, **QUICK)
    assert all(calibrated.slides.shape == (1, 5) for calibrated in model.scores.values())
    assert adata.obs["omib_slice_pvalue"].between(0, 1).all() and adata.obs["omib_anomaly"].mean() < 0.2


def reference(n_held_out: int) -> ReferenceStatistics:
    distances = np.random.default_rng(0).gamma(3, size=(50, 2))
    nobody = LeftOutSpots(np.empty((0, 2)), np.empty(0, int), np.empty(0))
    held_out = LeftOutSpots(distances[:n_held_out], np.zeros(n_held_out, int), np.full(n_held_out, 0.1))
    return ReferenceStatistics({}, PartStatistics.fit(distances), held_out, nobody, None)


def test_without_left_out_donors_a_combination_is_scored_where_both_models_had_enough_spots_of_it(caplog):
    own = {("a",): reference(0), ("b",): reference(0), ("a", "b"): reference(0)}
    twin = {("a",): reference(10), ("b",): reference(9)}
    with caplog.at_level(logging.WARNING, "omib_spatial"):
        scores = fit_scores(own, twin, ["a", "b"], SETTINGS)
    assert list(scores) == [("a",)]
    assert [record.args for record in caplog.records] == [("b",), ("a and b",)]
    mine, slide = own["a",], [np.arange(10)]
    expected = ScoreCalibration.fit(mine.usual, mine.usual, twin["a",].held_out, slide, SETTINGS)
    np.testing.assert_array_equal(scores["a",].calibration, expected.calibration)
    assert list(fit_scores(own, twin, ["a", "b"], replace(SETTINGS, min_spots=9))) == [("a",), ("b",)]


def test_left_out_donors_need_no_second_model():
    mine = reference(0)
    left_out = LeftOutSpots(np.ones((30, 2)) * np.arange(1, 31)[:, None], np.repeat([3, 8], 15), np.full(30, 0.1))
    several = replace(mine, left_out=left_out)
    assert donors_left_out({("a",): several}, SETTINGS)
    assert not donors_left_out({("a",): several}, replace(SETTINGS, min_spots=16))
    assert not donors_left_out({("a",): several, ("b",): mine}, SETTINGS)
    scores = fit_scores({("a",): several, ("b",): mine}, {}, ["a", "b"], SETTINGS)
    assert list(scores) == [("a",)] and scores["a",].slides.shape == (2, 5)
