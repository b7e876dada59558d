import numpy as np
import pytest

from omib_spatial.stats.score import LeftOutDonors, PartStatistics, ScoreCalibration
from omib_spatial.stats.settings import CalibrationSettings

SETTINGS = CalibrationSettings()
LEAST = SETTINGS.min_relative_distance
NOBODY = LeftOutDonors(np.empty((0, 2)), np.empty(0, int))


def fit(reference: np.ndarray, learned: np.ndarray, held_out: np.ndarray, donors=NOBODY) -> ScoreCalibration:
    return ScoreCalibration.fit(PartStatistics.fit(reference), PartStatistics.fit(learned), held_out, donors, SETTINGS)


def test_score_is_standardised_by_the_held_out_spots():
    rng = np.random.default_rng(2)
    parts = rng.gamma(3, size=(3, 500, 2)) * [1, 50] + [0, 7]
    calibrated = fit(*parts)
    assert calibrated.calibration.mean() == pytest.approx(0, abs=1e-9)
    assert calibrated.calibration.std() == pytest.approx(1, abs=1e-9)
    scores = fit(parts[1], *parts[1:]).score(parts[2])
    assert scores.mean() == pytest.approx(0, abs=1e-9) and scores.std() == pytest.approx(1, abs=1e-9)
    assert calibrated.pvalue(calibrated.calibration).min() == pytest.approx(2 / 501)  # the highest spot itself counts
    assert calibrated.pvalue(calibrated.calibration.max(keepdims=True) + 1) == pytest.approx(1 / 501)


@pytest.mark.parametrize("part", [0, 1])
def test_a_greater_distance_in_any_part_scores_higher(part):
    held_out = np.random.default_rng(3).gamma(3, size=(100, 2))
    calibrated, step = fit(held_out, held_out, held_out), np.eye(2)[part]
    assert (calibrated.score(held_out + step) > calibrated.score(held_out)).all()


def test_parts_of_very_different_scale_count_alike():
    held_out = np.random.default_rng(4).normal(size=(400, 2)) * [1, 1000]
    calibrated = fit(held_out, held_out, held_out)
    origin = calibrated.score(np.zeros((1, 2)))
    one, other = (calibrated.score(held_out.std(0) * e[None]) - origin for e in np.eye(2))
    np.testing.assert_allclose(one, other)


def test_log_distance_is_that_of_the_sum_in_units_of_what_is_usual():
    """Each distance counts by its spread in the reference."""
    rng = np.random.default_rng(5)
    reference, held_out, new = rng.gamma(3, size=(3, 300, 2)) * [1, 9]
    location, spread = reference.mean(0), reference.std(0)
    expected = np.log((new / spread).sum(1) / (location / spread).sum())
    calibrated = fit(reference, rng.gamma(4, size=(300, 2)), held_out)
    np.testing.assert_allclose(calibrated.log_distance(calibrated.score(new), LEAST), expected)


def test_slides_are_those_of_left_out_donors_that_have_enough_spots():
    rng = np.random.default_rng(6)
    reference, held_out, left_out = rng.gamma(3, size=(3, 120, 2))
    codes = np.repeat([4, 7, 9], [60, 55, 5])
    calibrated = fit(reference, reference, held_out, LeftOutDonors(left_out, codes))
    logs = calibrated.log_distance(calibrated.score(left_out), LEAST)
    expected = [(logs[codes == code].mean(), logs[codes == code].std()) for code in (4, 7)]
    np.testing.assert_allclose(calibrated.slides, expected)


def test_without_left_out_donors_held_out_spots_stand_for_one_slide_as_their_own_model_sees_them():
    rng = np.random.default_rng(7)
    reference, learned, held_out = rng.gamma(3, size=(3, 200, 2))
    alone = fit(learned, learned, held_out)
    logs = alone.log_distance(alone.score(held_out), LEAST)
    np.testing.assert_allclose(fit(reference, learned, held_out).slides, [[logs.mean(), logs.std()]])


def test_pvalues_are_small_on_spots_far_beyond_their_own_slice():
    rng = np.random.default_rng(8)
    reference = rng.gamma(30, size=(200, 2))
    calibrated = fit(reference, reference, rng.gamma(30, size=(200, 2)))
    distances, codes = rng.gamma(30, size=(400, 2)) * np.repeat([1, 1.3], 200)[:, None], np.repeat([0, 1], 200)
    distances[:10] *= 3
    pvalues = calibrated.slice_pvalue(calibrated.score(distances), codes, np.full(400, 1 / 19), SETTINGS)
    assert (pvalues[:10] < 1e-3).all() and np.median(pvalues[200:]) == pytest.approx(0.5, abs=0.1)


def test_nothing_is_closer_than_nothing():
    reference = np.random.default_rng(9).gamma(3, size=(100, 2))
    calibrated = fit(reference, reference, reference)
    assert np.isfinite(calibrated.log_distance(calibrated.score(-np.ones((1, 2))), LEAST)).all()


def test_statistics_are_mean_and_spread_of_each_part_and_a_part_that_never_varies_counts_nothing():
    distances = np.random.default_rng(10).gamma(3, size=(50, 3)) * [1, 7, 0] + [0, 0, 2]
    parts = PartStatistics.fit(distances)
    np.testing.assert_allclose(parts.location, distances.mean(0))
    np.testing.assert_allclose(parts.spread, distances.std(0), atol=1e-11)
    expected = ((distances - distances.mean(0))[:, :2] / distances.std(0)[:2]).sum(1)
    np.testing.assert_allclose(parts.total(distances), expected, rtol=1e-6)


def test_the_least_spots_and_distance_are_those_of_the_settings():
    rng = np.random.default_rng(11)
    reference, held_out, left_out = rng.gamma(3, size=(3, 120, 2))
    donors = LeftOutDonors(left_out, np.repeat([4, 7, 9], [60, 55, 5]))
    parts = PartStatistics.fit(reference)
    for min_spots, n_slides in ((5, 3), (6, 2), (60, 1), (61, 1)):
        settings = CalibrationSettings(min_spots=min_spots)
        assert ScoreCalibration.fit(parts, parts, held_out, donors, settings).slides.shape == (n_slides, 2)
    np.testing.assert_allclose(parts.log_ratio(np.array([-1e6, 0.0]), 0.02), [np.log(0.02), 0])
