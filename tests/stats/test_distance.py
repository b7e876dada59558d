import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.covariance import LedoitWolf

from omib_spatial.stats.distance import Distance, variance_lines


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


def test_euclidean_is_the_length_whatever_the_noise():
    values = np.random.default_rng(5).normal(size=(7, 3))
    found = Distance.euclidean(3)(values, np.linspace(-9, 9, 7))
    np.testing.assert_allclose(found, np.linalg.norm(values, axis=1))


def test_the_gradient_is_that_of_the_distance_and_whitened_values_are_as_long_as_it():
    rng = np.random.default_rng(3)
    values, noise = rng.normal(size=(200, 4)), rng.gamma(2, size=200)
    distance = Distance.fit(values @ rng.normal(size=(4, 4)), noise)
    some, e, step = rng.normal(size=(5, 4)), noise[:5], 1e-6
    slope = [(distance(some + step * axis, e) - distance(some - step * axis, e)) / (2 * step) for axis in np.eye(4)]
    np.testing.assert_allclose(distance.gradient(some, e), np.stack(slope, 1), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(distance.whitened(some, e), axis=1), distance(some, e))
    at_the_mean = distance.gradient(distance.mean[:1] + e[:1, None] * distance.mean[1:], e[:1])
    # Rounding leaves a distance of some 1e-17, of which a direction is made.
    np.testing.assert_allclose(at_the_mean, 0, atol=1e-3)


def test_a_column_that_never_varies_has_a_distance_all_the_same():
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.normal(size=100), np.full(100, 3.0)])
    distance = Distance.fit(values, rng.random(100), rotate=False)
    assert np.isfinite(distance(values, rng.random(100))).all()
