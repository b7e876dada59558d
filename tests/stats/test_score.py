import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.covariance import LedoitWolf

from omib_spatial.stats.score import Distance, Strangers, Surprise, Usual, pattern_name, variance_lines


def test_without_noise_it_is_mahalanobis_under_ledoit_wolf():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5))
    reference /= reference.std(0)
    other = rng.normal(size=(20, 5))
    expected = np.sqrt(LedoitWolf().fit(reference).mahalanobis(other))
    np.testing.assert_allclose(Distance.fit(reference, np.zeros(300))(other, np.zeros(20)), expected, rtol=1e-4)


def test_distance_does_not_depend_on_the_units_of_a_column():
    rng = np.random.default_rng(1)
    reference, other, units = rng.normal(size=(200, 3)), rng.normal(size=(9, 3)), np.array([1.0, 100.0, 0.01])
    noise, of_others = rng.gamma(2, size=200), rng.gamma(2, size=9)
    np.testing.assert_allclose(
        Distance.fit(reference, noise)(other, of_others),
        Distance.fit(reference * units, noise)(other * units, of_others),
        rtol=1e-3,
    )


@pytest.mark.parametrize("rotate", [True, False])
def test_noisy_spots_are_not_further_away(rotate):
    """Healthy spots whose spread grows with the noise keep one distance; others stand out."""
    rng = np.random.default_rng(2)
    noise = rng.gamma(1, size=6000)
    slope, start, drift = np.array([0.0, 1.0, 4.0, 9.0]), np.array([1.0, 1.0, 0.5, 0.1]), np.array([0, 1, -2, 0.5])
    healthy = noise[:, None] * drift + rng.normal(size=(6000, 4)) * np.sqrt(start + noise[:, None] * slope)
    distance = Distance.fit(healthy[:3000], noise[:3000], rotate=rotate)
    found, of = distance(healthy[3000:], noise[3000:]), noise[3000:]
    assert abs(spearmanr(found, of)[0]) < 0.05
    assert np.square(found).mean() == pytest.approx(4, rel=0.1)
    moved = distance(healthy[3000:] + [3, 0, 0, 0], of)
    assert (moved[of < 0.5].mean(), moved[of > 2].mean()) > (found[of < 0.5].mean() + 1, found[of > 2].mean() + 1)


def test_beyond_the_reference_noise_counts_as_the_edge():
    rng = np.random.default_rng(3)
    noise, other = rng.uniform(1, 2, 400), rng.normal(size=(5, 3))
    distance = Distance.fit(rng.normal(size=(400, 3)) * noise[:, None], noise, rotate=False)
    np.testing.assert_array_equal(distance(other, np.full(5, 99.0)), distance(other, np.full(5, noise.max())))


def test_variance_lines_find_start_and_slope_and_are_never_negative():
    rng = np.random.default_rng(4)
    noise = rng.gamma(1, size=20_000)
    truth = np.array([[1.0, 0.0, 2.0, 1.0], [0.0, 3.0, 0.5, -0.2]])
    spread = np.maximum(truth[0] + noise[:, None] * truth[1], 0.05)
    lines = variance_lines(np.square(rng.normal(size=(20_000, 4)) * np.sqrt(spread)), noise)
    np.testing.assert_allclose(lines[:, :3], truth[:, :3], atol=0.15)
    assert (lines >= 0).all()


NOBODY = Strangers(np.empty((0, 2)), np.empty(0, int))


def fit(reference: np.ndarray, learned: np.ndarray, held_out: np.ndarray, strangers=NOBODY) -> Surprise:
    usual, twin = ({str(i): Usual.of(column) for i, column in enumerate(some.T)} for some in (reference, learned))
    return Surprise.fit(usual, twin, held_out, strangers)


def test_score_is_standardised_by_the_held_out_spots():
    rng = np.random.default_rng(2)
    parts = rng.gamma(3, size=(3, 500, 2)) * [1, 50] + [0, 7]
    surprise = fit(*parts)
    assert surprise.calibration.mean() == pytest.approx(0, abs=1e-9)
    assert surprise.calibration.std() == pytest.approx(1, abs=1e-9)
    scores = fit(parts[1], *parts[1:]).score(parts[2])
    assert scores.mean() == pytest.approx(0, abs=1e-9) and scores.std() == pytest.approx(1, abs=1e-9)
    assert surprise.pvalue(surprise.calibration).min() == pytest.approx(2 / 501)  # the highest spot itself counts
    assert surprise.pvalue(surprise.calibration.max(keepdims=True) + 1) == pytest.approx(1 / 501)


@pytest.mark.parametrize("part", [0, 1])
def test_a_greater_distance_in_any_part_scores_higher(part):
    held_out = np.random.default_rng(3).gamma(3, size=(100, 2))
    surprise, step = fit(held_out, held_out, held_out), np.eye(2)[part]
    assert (surprise.score(held_out + step) > surprise.score(held_out)).all()


def test_parts_of_very_different_scale_count_alike():
    held_out = np.random.default_rng(4).normal(size=(400, 2)) * [1, 1000]
    surprise = fit(held_out, held_out, held_out)
    origin = surprise.score(np.zeros((1, 2)))
    one, other = (surprise.score(held_out.std(0) * e[None]) - origin for e in np.eye(2))
    np.testing.assert_allclose(one, other)


def test_log_distance_is_that_of_the_sum_in_units_of_what_is_usual():
    """Each distance counts by its spread in the reference."""
    rng = np.random.default_rng(5)
    reference, held_out, new = rng.gamma(3, size=(3, 300, 2)) * [1, 9]
    location, spread = reference.mean(0), reference.std(0)
    expected = np.log((new / spread).sum(1) / (location / spread).sum())
    surprise = fit(reference, rng.gamma(4, size=(300, 2)), held_out)
    np.testing.assert_allclose(surprise.log_distance(surprise.score(new)), expected)


def test_slides_are_those_of_strangers_that_have_enough_spots():
    rng = np.random.default_rng(6)
    reference, held_out, strangers = rng.gamma(3, size=(3, 120, 2))
    codes = np.repeat([4, 7, 9], [60, 55, 5])
    surprise = fit(reference, reference, held_out, Strangers(strangers, codes))
    logs = surprise.log_distance(surprise.score(strangers))
    expected = [(logs[codes == code].mean(), logs[codes == code].std()) for code in (4, 7)]
    np.testing.assert_allclose(surprise.slides, expected)


def test_without_strangers_held_out_spots_stand_for_one_slide_as_their_own_model_sees_them():
    rng = np.random.default_rng(7)
    reference, learned, held_out = rng.gamma(3, size=(3, 200, 2))
    alone = fit(learned, learned, held_out)
    logs = alone.log_distance(alone.score(held_out))
    np.testing.assert_allclose(fit(reference, learned, held_out).slides, [[logs.mean(), logs.std()]])


def test_pvalues_are_small_on_spots_far_beyond_their_own_slice():
    rng = np.random.default_rng(8)
    reference = rng.gamma(30, size=(200, 2))
    surprise = fit(reference, reference, rng.gamma(30, size=(200, 2)))
    distances, codes = rng.gamma(30, size=(400, 2)) * np.repeat([1, 1.3], 200)[:, None], np.repeat([0, 1], 200)
    distances[:10] *= 3
    pvalues = surprise.slice_pvalue(surprise.score(distances), codes)
    assert (pvalues[:10] < 1e-3).all() and np.median(pvalues[200:]) == pytest.approx(0.5, abs=0.1)


def test_nothing_is_closer_than_nothing():
    reference = np.random.default_rng(9).gamma(3, size=(100, 2))
    surprise = fit(reference, reference, reference)
    assert np.isfinite(surprise.log_distance(surprise.score(-np.ones((1, 2))))).all()


def test_pattern_names_what_is_present():
    assert pattern_name(["gene", "image", "genome"], np.array([True, False, True])) == "gene+genome"
