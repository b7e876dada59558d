import numpy as np
import pytest
from scipy import sparse

from omib_spatial.stats.noise import MIN_COLUMNS, MIN_ROWS, is_noise, morans_deviations

SIDE = 20
N = SIDE**2
PLACES = np.argwhere(np.ones((SIDE, SIDE)))
GRAPH = sparse.csr_matrix((np.abs(PLACES[:, None] - PLACES).sum(2) == 1).astype(np.float32))


def noise(kind: str, p: int, seed: int, n: int = N) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return {
        "normal": rng.normal(size=(n, p)),
        "heavy-tailed": rng.standard_t(2, size=(n, p)),
        "counts": rng.poisson(0.5, size=(n, p)),
    }[kind].astype(np.float32)


@pytest.mark.parametrize("kind", ["normal", "heavy-tailed", "counts"])
def test_noise_is_known_nine_times_in_ten(kind):
    assert sum(is_noise(noise(kind, 20, seed), GRAPH) for seed in range(10)) >= 9


def test_of_many_columns_some_are_looked_at():
    assert is_noise(noise("normal", 3000, 0), GRAPH)


def test_one_column_that_is_smooth_over_the_tissue_is_enough():
    values = noise("normal", 50, 0)
    assert is_noise(values, GRAPH)
    values[:, 7] += 2 * np.sin(PLACES[:, 0] / 3)
    assert not is_noise(values, GRAPH)


def test_columns_that_vary_together_are_no_noise_though_neighbours_are_not_alike():
    values = noise("normal", 50, 0)
    assert not is_noise(values + 0.5 * np.random.default_rng(1).normal(size=(N, 1)), GRAPH)


def test_of_few_rows_few_columns_few_values_or_no_neighbours_nothing_is_said():
    values = noise("normal", 50, 0)
    assert not is_noise(values[: MIN_ROWS - 1], GRAPH[: MIN_ROWS - 1][:, : MIN_ROWS - 1])
    assert not is_noise(values[:, : MIN_COLUMNS - 1], GRAPH)
    assert not is_noise((values > 1.5).astype(float), GRAPH)
    assert not is_noise(values, sparse.csr_matrix((N, N)))


def test_deviations_of_noise_have_mean_0_and_spread_1_and_the_numerator_is_moran_s():
    values = noise("normal", 2000, 3)
    found = morans_deviations(values.astype(float), GRAPH)
    assert abs(found.mean()) < 0.1 and found.std() == pytest.approx(1, abs=0.06)
    x = values[:, 0] - values[:, 0].mean()
    moran = N / GRAPH.sum() * sum(x[i] * x[j] for i, j in zip(*GRAPH.nonzero(), strict=True)) / (x @ x)
    other = N / GRAPH.sum() * (x @ (GRAPH @ x)) / (x @ x)
    assert moran == pytest.approx(other, rel=1e-4)
    slope = (morans_deviations(PLACES.astype(float)[:, :1], GRAPH)[0], found[0])
    assert slope[0] > 20 > abs(slope[1])
