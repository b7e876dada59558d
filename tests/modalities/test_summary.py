import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from omib_spatial.modalities import Summary
from omib_spatial.modalities.base import DenseRows


def correlated(n: int = 400, p: int = 12, rank: int = 6, seed: int = 0) -> np.ndarray:
    """(n, p) float32 of the given rank, with columns of different mean and spread."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, p))
    return (values * np.exp(rng.normal(size=p)) + rng.normal(scale=10, size=p)).astype(np.float32)


def fitted(features: np.ndarray, n_components: int = 20) -> Summary:
    summary = Summary(n_components)
    summary.fit(features)
    return summary


@pytest.mark.parametrize("n_components", [3, 20])
def test_components_are_white_where_they_were_learned(n_components):
    features = correlated()
    summary = fitted(features, n_components)
    values = summary(features)
    assert values.dtype == torch.float32
    assert values.shape == (400, summary.width) == (400, min(n_components, 6))
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(values.T), np.eye(summary.width), atol=1e-3)


def test_equals_whitened_components_of_standardised_features():
    features = correlated(rank=12)
    standard = (features - features.mean(0)) / (features.std(0) + 1e-3)
    pca = PCA(5, whiten=True, svd_solver="full").fit(standard)
    other = correlated(50, rank=12, seed=1)
    values = fitted(features, 5)(other).numpy()
    oracle = pca.transform((other - features.mean(0)) / (features.std(0) + 1e-3))
    sign = np.sign((values * oracle).sum(0))
    np.testing.assert_allclose(values * sign, oracle, atol=1e-3 * np.abs(oracle).max())


def test_units_hardly_matter():
    features = correlated(rank=12)
    one, other = fitted(features, 4)(features).numpy(), fitted(features * 1000 + 5, 4)(features * 1000 + 5).numpy()
    assert (np.abs((one * other).mean(0)) > 0.99).all()


def test_features_far_from_zero_are_as_white():
    features = (np.random.default_rng(0).normal(size=(20_000, 3)) + [5000, 0, -3000]).astype(np.float32)
    summary = fitted(features)
    np.testing.assert_allclose(np.cov(summary(features).T), np.eye(3), atol=1e-3)
    np.testing.assert_allclose(summary.mean, features.mean(0, dtype=np.float64), atol=1e-3)
    np.testing.assert_allclose(summary.scale, 1 + 1e-3, atol=0.02)


@pytest.mark.parametrize("rank", [1, 3])
def test_no_more_components_than_rank(rank):
    assert fitted(correlated(rank=rank)).width == rank


def test_no_more_components_than_rows_allow():
    features = correlated(5, rank=12)
    summary = fitted(features)
    assert summary.width == 4
    assert torch.isfinite(summary(features)).all()


def test_faint_components_are_left_out():
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(500, 1))
    features = np.concatenate([wide + 0.001 * rng.normal(size=(500, 3)), rng.normal(size=(500, 1))], 1)
    assert fitted(features.astype(np.float32)).width == 2


def test_constant_columns_change_nothing():
    features = correlated(rank=12)
    constant = np.full((400, 2), 7, np.float32)
    one = fitted(features, 4)(features)
    other = fitted(np.concatenate([constant, features], 1), 4)(np.concatenate([constant, features], 1))
    assert torch.isfinite(other).all()
    torch.testing.assert_close(one.abs(), other.abs(), atol=1e-3, rtol=1e-3)
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert fitted(constant).width == 0


def test_features_are_not_written_to():
    features = correlated()
    before = features.copy()
    fitted(features)(features)
    assert np.array_equal(features, before)


def test_state_round_trip():
    features = correlated()
    summary, again = fitted(features), Summary()
    again.load_state({key: value.clone() for key, value in summary.state().items()})
    assert torch.equal(again(features), summary(features))
    assert again.width == summary.width
    assert all(value.is_contiguous() and value.dtype == torch.float32 for value in summary.state().values())


def test_components_of_rows_are_those_of_their_features():
    features = correlated()
    summary, rows = fitted(features), np.array([5, 3, 200])
    data = DenseRows(features, torch.zeros(12), torch.ones(12))
    torch.testing.assert_close(summary.of(data, rows), summary(features[rows]), rtol=1e-4, atol=1e-4)


def test_components_come_beside_the_input():
    features = correlated()
    summary, rows = fitted(features), np.array([5, 3, 200])
    data = DenseRows(features, torch.ones(12), torch.full((12,), 2.0))
    batch, components = summary.batch_with_summary(data, rows)
    assert torch.equal(batch, data.batch(rows))
    assert torch.equal(components, summary.of(data, rows))
