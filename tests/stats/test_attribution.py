import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from omib_spatial.stats.attribution import PartPooling, leading_axes, log_slope
from omib_spatial.stats.smooth import project_on_axes, walk


@given(st.floats(0.01, 50), st.floats(0.01, 50))
def test_the_slope_of_the_logarithm_leads_from_the_origin_to_the_value(value, origin):
    slope = log_slope(np.array([value]), origin)[0]
    assert np.log(origin) + slope * (value - origin) == pytest.approx(np.log(value), abs=1e-9)
    assert log_slope(np.array([origin]), origin)[0] == pytest.approx(1 / origin)


@pytest.fixture
def line():
    """Twelve spots in a row."""
    ones = np.ones(11)
    return sparse.csr_matrix(sparse.diags_array([ones, ones], offsets=[-1, 1]), dtype=np.float32)


@pytest.mark.parametrize("n_axes", [None, 2, 20])
def test_the_linear_map_of_a_part_gives_its_pooled_distances(line, n_axes):
    rng = np.random.default_rng(0)
    distance, features, weights = rng.gamma(4, size=12), rng.normal(size=(12, 5)), rng.normal(size=(12, 3))
    step, healthy = walk(line, 1), np.repeat([0.2, 0], [5, 7])
    around = step @ (step @ distance)
    pooled, axes = around, None
    if n_axes:
        logs = project_on_axes(step @ (step @ np.log(around)), features, n_axes)
        pooled, axes = np.exp(logs), leading_axes(features, n_axes)
    back = PartPooling(step, 2, healthy, axes, around, pooled).adjoint(weights)
    np.testing.assert_allclose(back.T @ distance, weights.T @ (pooled - healthy @ pooled), rtol=1e-5)


def test_axes_are_those_that_values_are_projected_on():
    rng = np.random.default_rng(1)
    features, values = rng.normal(size=(40, 6)), rng.normal(size=40)
    axes = leading_axes(features, 3)
    np.testing.assert_allclose(axes @ (axes.T @ values), project_on_axes(values, features, 3), atol=1e-9)
    np.testing.assert_allclose(leading_axes(np.zeros((9, 2)), 2), np.full((9, 1), 1 / 3))
