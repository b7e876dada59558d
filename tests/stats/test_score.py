from dataclasses import replace

import numpy as np
import pytest

from omib_spatial.stats.null import SlicePrior
from omib_spatial.stats.score import LeftOutSpots, PartStatistics, ScoreCalibration
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.stats.slide_test import spread, spread_pvalue
from omib_spatial.stats.two_groups import TwoGroups

SETTINGS = CalibrationSettings()
LEAST = SETTINGS.min_relative_distance


def spots(distances: np.ndarray, codes=None) -> LeftOutSpots:
    codes = np.zeros(len(distances), int) if codes is None else codes
    return LeftOutSpots(distances, codes, np.full(len(distances), 1 / 15))


NOBODY = spots(np.empty((0, 2)))


def fit(reference, learned, held_out, donors=NOBODY, clonal=None) -> ScoreCalibration:
    own, other = PartStatistics.fit(reference), PartStatistics.fit(learned)
    if slices := donors.slices(SETTINGS.min_spots):
        return ScoreCalibration.fit(own, own, donors, slices, SETTINGS, clonal)
    return ScoreCalibration.fit(own, other, spots(held_out), [np.arange(len(held_out))], SETTINGS, clonal)


def test_log_distance_is_that_of_the_sum_in_units_of_what_is_usual():
    """Each distance counts by its spread in the reference."""
    rng = np.random.default_rng(5)
    reference, held_out, new = rng.gamma(3, size=(3, 300, 2)) * [1, 9]
    location, spread = reference.mean(0), reference.std(0)
    expected = np.log((new / spread).sum(1) / (location / spread).sum())
    calibrated = fit(reference, rng.gamma(4, size=(300, 2)), held_out)
    np.testing.assert_allclose(calibrated.log_distance(new, SETTINGS), expected)


@pytest.mark.parametrize("part", [0, 1])
def test_a_greater_distance_in_any_part_is_farther(part):
    held_out = np.random.default_rng(3).gamma(3, size=(100, 2))
    calibrated, step = fit(held_out, held_out, held_out), np.eye(2)[part]
    near, far = (calibrated.log_distance(distances, SETTINGS) for distances in (held_out, held_out + step))
    assert (far > near).all()


def test_parts_of_very_different_scale_count_alike():
    held_out = np.random.default_rng(4).gamma(9, size=(400, 2)) * [1, 1000]
    calibrated = fit(held_out, held_out, held_out)
    middle = held_out.mean(0)
    one, other = (calibrated.log_distance((middle + held_out.std(0) * e)[None], SETTINGS) for e in np.eye(2))
    np.testing.assert_allclose(one, other)


def test_slides_are_those_of_left_out_donors_that_have_enough_spots():
    rng = np.random.default_rng(6)
    reference, held_out, left_out = rng.gamma(3, size=(3, 120, 2))
    codes = np.repeat([4, 7, 9], [60, 55, 5])
    calibrated = fit(reference, reference, held_out, spots(left_out, codes), clonal=1)
    logs = calibrated.log_distance(left_out, SETTINGS)
    expected = [
        (
            logs[own].mean(),
            logs[own].std(),
            *(spread(some, 4.0) for some in (np.exp(logs[own]), left_out[own, 1])),
            own.sum() / 15,
        )
        for own in (codes == 4, codes == 7)
    ]
    np.testing.assert_allclose(calibrated.slides, expected)
    assert len(calibrated.calibration) == 115


def test_healthy_spots_are_scored_as_on_a_slide_that_the_others_know_nothing_of():
    rng = np.random.default_rng(7)
    reference, held_out, left_out = rng.gamma(9, size=(3, 120, 2))
    codes = np.repeat([4, 7], 60)
    calibrated = fit(reference, reference, held_out, spots(left_out, codes))
    logs, expected = calibrated.log_distance(left_out, SETTINGS), []
    for own, other in ((codes == 4, codes == 7), (codes == 7, codes == 4)):
        prior = SlicePrior.fit(np.array([[logs[other].mean(), logs[other].std()]]), SETTINGS)
        expected.append(TwoGroups.fit(logs[own], 4.0, prior, SETTINGS).score(logs[own]))
    np.testing.assert_allclose(calibrated.calibration, np.sort(np.concatenate(expected)))
    assert calibrated.pvalue(calibrated.calibration.max(keepdims=True) + 1) == pytest.approx(1 / 121)


def test_without_left_out_donors_held_out_spots_stand_for_one_slide_as_their_own_model_sees_them():
    rng = np.random.default_rng(7)
    reference, learned, held_out = rng.gamma(3, size=(3, 200, 2))
    alone = fit(learned, learned, held_out)
    logs = alone.log_distance(held_out, SETTINGS)
    expected = [[logs.mean(), logs.std(), spread(np.exp(logs), 4.0), np.nan, 200 / 15]]
    np.testing.assert_allclose(fit(reference, learned, held_out).slides, expected)


def test_how_mixed_a_slide_is_is_judged_by_all_distances_and_by_the_clonal_ones():
    rng = np.random.default_rng(8)
    reference, left_out = rng.gamma(9, size=(2, 180, 2))
    calibrated = fit(reference, reference, reference, spots(left_out, np.repeat([1, 2, 3], 60)), clonal=0)
    new = rng.gamma(9, size=(80, 2)) * np.repeat([1, 3], 40)[:, None]
    logs, sd, slides = calibrated.log_distance(new, SETTINGS), SETTINGS.between_slice_sd[1], calibrated.slides
    expected = spread_pvalue(spread(np.exp(logs), 4.0), 5.0, slides[:, 2], slides[:, 4], sd, 4.0)
    assert calibrated.spread_pvalue(logs, 5.0, SETTINGS) == expected
    expected = spread_pvalue(spread(new[:, 0], 4.0), 5.0, slides[:, 3], slides[:, 4], sd, 4.0)
    assert calibrated.clonal_pvalue(new[:, 0], 5.0, SETTINGS) == pytest.approx(expected)
    assert np.isnan(fit(reference, reference, reference).clonal_pvalue(new[:, 0], 5.0, SETTINGS))


def test_models_of_before_judge_slides_by_the_standard_deviation_of_log_distances():
    before, rng = replace(SETTINGS, tail_power=None), np.random.default_rng(8)
    reference, left_out = rng.gamma(9, size=(2, 180, 2))
    statistics, slides = PartStatistics.fit(reference), [np.arange(90), np.arange(90, 180)]
    known = spots(left_out, np.repeat([1, 2], 90))
    calibrated = ScoreCalibration.fit(statistics, statistics, known, slides, before, clonal=1)
    np.testing.assert_array_equal(calibrated.slides[:, 2], calibrated.slides[:, 1])
    np.testing.assert_allclose(calibrated.slides[:, 3], [np.log(left_out[rows, 1]).std() for rows in slides])
    logs, sd = calibrated.log_distance(reference, before), before.between_slice_sd[1]
    expected = spread_pvalue(logs.std(), 9.0, calibrated.slides[:, 1], calibrated.slides[:, 4], sd)
    assert calibrated.spread_pvalue(logs, 9.0, before) == expected


def test_nothing_is_closer_than_nothing():
    reference = np.random.default_rng(9).gamma(3, size=(100, 2))
    calibrated = fit(reference, reference, reference)
    assert calibrated.log_distance(-np.ones((1, 2)), SETTINGS) == np.log(LEAST)


def test_statistics_are_mean_and_spread_of_each_part_and_a_part_that_never_varies_counts_nothing():
    distances = np.random.default_rng(10).gamma(3, size=(50, 3)) * [1, 7, 0] + [0, 0, 2]
    parts = PartStatistics.fit(distances)
    np.testing.assert_allclose(parts.location, distances.mean(0))
    np.testing.assert_allclose(parts.spread, distances.std(0), atol=1e-11)


def test_the_least_spots_are_those_of_the_settings():
    donors = spots(np.ones((120, 2)), np.repeat([4, 7, 9], [60, 55, 5]))
    for min_spots, n_slides in ((5, 3), (6, 2), (60, 1), (61, 0)):
        slices = donors.slices(min_spots)
        assert len(slices) == n_slides
        assert all(len(np.unique(donors.codes[rows])) == 1 and len(rows) >= min_spots for rows in slices)
