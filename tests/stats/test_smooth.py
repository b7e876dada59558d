"""Evidence is smoothed over neighbours, and along the axes that a slice's own profiles have."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

from omib_spatial.slides.graph import average_around
from omib_spatial.stats.smooth import POOLING, along_axes, smooth_logs


def chain(n: int) -> sp.csr_matrix:
    """A row of spots, each the neighbour of the next."""
    return sp.csr_matrix(sp.diags_array([np.ones(n - 1), np.ones(n - 1)], offsets=[-1, 1]), dtype=np.float32)


def test_what_follows_the_leading_axes_is_kept_and_the_rest_is_not():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(300, 2))
    features = (hidden * [9, 5]) @ rng.normal(size=(2, 40)) + 0.01 * rng.normal(size=(300, 40))
    smooth, noise = hidden @ [1.0, -2.0] + 7, rng.normal(size=300)
    np.testing.assert_allclose(along_axes(smooth, features, 2), smooth, atol=0.05)
    left = along_axes(smooth + noise, features, 2) - smooth
    assert left.std() < 0.15 * noise.std()
    # A projection: done twice it changes nothing, and the units of the features do not matter.
    once = along_axes(smooth + noise, features, 2)
    np.testing.assert_allclose(along_axes(once, features, 2), once, atol=1e-6)
    np.testing.assert_allclose(along_axes(smooth + noise, 3 * features + 1, 2), once, atol=1e-6)
    few = np.arange(5.0)
    assert along_axes(few, features[:5], 8) is few


@pytest.mark.parametrize("n_axes", [0, 3])
def test_each_slice_has_axes_of_its_own_and_other_rows_play_no_part(n_axes):
    rng = np.random.default_rng(1)
    features, distance = rng.normal(size=(60, 10)), rng.uniform(1, 5, 50)
    rows, codes = np.arange(5, 55), np.repeat([0, 1], 30)
    graph = sp.csr_matrix(sp.block_diag([chain(30), chain(30)]), dtype=np.float32)
    prepared = SimpleNamespace(features=lambda some: features[some])
    found = smooth_logs(distance, prepared, graph, rows, codes, n_axes)
    logs = average_around(np.log(distance), graph, rows, POOLING)
    for own in (codes[rows] == 0, codes[rows] == 1):
        expected = along_axes(logs[own], features[rows[own]], n_axes) if n_axes else logs[own]
        np.testing.assert_allclose(found[own], expected, rtol=1e-5)
        alone = smooth_logs(distance[own], prepared, graph, rows[own], codes, n_axes)
        np.testing.assert_allclose(found[own], alone, rtol=1e-5)
