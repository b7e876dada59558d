import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture

from omib_spatial.stats.null import SlicePrior
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.stats.two_groups import FEWEST_SD, MOST_SD, TEMPERATURE, TwoGroups

SETTINGS = CalibrationSettings()
PRIOR = SlicePrior(location=0.0, spread=0.1, location_sd=0.4, log_spread_sd=0.4, degrees_of_freedom=6)
VAGUE = PRIOR._replace(location_sd=1e3, log_spread_sd=1e3)
groups = st.builds(
    TwoGroups,
    st.floats(-1, 1),
    st.floats(0.05, 0.5),
    st.floats(0, 2),
    st.floats(0.05, 0.5),
    st.floats(0.02, 0.98),
).map(lambda g: g._replace(abnormal_location=g.healthy_location + g.abnormal_location))


def draw(share: float, *, n: int = 400, gap: float = 0.6, location: float = 0.2, seed: int = 0):
    """Log distances of a slide whose last ``share`` of spots is abnormal, and which are."""
    rng, abnormal = np.random.default_rng(seed), np.arange(n) >= n - round(share * n)
    return rng.normal(location, 0.1, n) + abnormal * rng.normal(gap, 0.1, n), abnormal


def fit(values: np.ndarray, prior: SlicePrior = PRIOR, n_independent: float | None = None) -> TwoGroups:
    return TwoGroups.fit(values, len(values) / 15 if n_independent is None else n_independent, prior, SETTINGS)


def test_without_expectations_it_is_the_mixture_of_most_likelihood():
    values = np.sort(draw(0.4)[0])
    found = fit(values, VAGUE, n_independent=1e6)
    start = {"means_init": [[0.2], [0.8]], "weights_init": [0.6, 0.4]}
    theirs = GaussianMixture(2, tol=1e-9, max_iter=5000, reg_covar=0, random_state=0, **start).fit(values[:, None])
    np.testing.assert_allclose(found[:4:2], theirs.means_.ravel(), atol=1e-3)
    np.testing.assert_allclose(found[1:4:2], np.sqrt(theirs.covariances_.ravel()), atol=1e-3)
    assert found.share == pytest.approx(theirs.weights_[1], abs=1e-3)


def log_posterior(groups: TwoGroups, values: np.ndarray, n_independent: float) -> float:
    """Written down again from docs/detection.md."""
    healthy, spread, abnormal, wide, share = groups
    each = (1 - share) * norm.pdf(values, healthy, spread) + share * norm.pdf(values, abnormal, wide)
    spots = SETTINGS.spread_prior_weight / (2 * PRIOR.log_spread_sd**2)
    prior = norm.logpdf(healthy, PRIOR.location, PRIOR.location_sd)
    prior -= spots / 2 * (np.log(spread**2) + PRIOR.spread**2 / spread**2)
    prior -= 0.5 / 2 * (np.log(wide**2) + 0.5 * values.var() / wide**2)
    return float(n_independent / len(values) * np.log(each).sum() + prior + 0.5 * np.log(share * (1 - share)))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_the_fit_is_the_mode_of_the_posterior(share):
    values = draw(share, n=120)[0]
    found = fit(values, n_independent=9.0)
    best = log_posterior(found, values, 9.0)
    for name in found._fields:
        for step in (-0.01, 0.01):
            moved = found._replace(**{name: getattr(found, name) + step})
            assert log_posterior(moved, values, 9.0) < best


def test_the_border_is_held_near_the_healthy_spots():
    """Where most spots are abnormal, and where hardly any is."""
    many, few = TwoGroups(0.0, 0.1, 0.12, 0.1, 0.95), TwoGroups(0.0, 0.1, 0.05, 0.1, 0.02)
    assert many.border == pytest.approx(FEWEST_SD * 0.1) and few.border == pytest.approx(MOST_SD * 0.1)


@pytest.mark.parametrize("share", [0.15, 0.4, 0.75])
def test_separated_groups_are_found_at_any_share(share):
    values, abnormal = draw(share)
    found = fit(values)
    assert found.share == pytest.approx(share, abs=0.06)
    called = found.score(values) > 0
    assert called[abnormal].mean() > 0.95 and abnormal[called].mean() > 0.95
    assert found.separation == pytest.approx(roc_auc_score(abnormal, values), abs=0.02)


def test_few_spots_are_believed_less_than_what_healthy_slides_show():
    values = np.random.default_rng(1).normal(0.3, 0.1, 60)
    few, many = fit(values, n_independent=1.0), fit(values, n_independent=600.0)
    assert abs(few.healthy_location) < abs(many.healthy_location)
    wide = fit(np.random.default_rng(1).normal(0, 0.5, 20), n_independent=1.0)
    assert wide.healthy_spread == pytest.approx(PRIOR.spread, rel=0.5)


@given(st.floats(-3, 3), st.integers(0, 20))
def test_only_the_difference_to_the_prior_matters(shift, seed):
    values = draw(0.3, seed=seed)[0]
    moved = fit(values + shift, PRIOR._replace(location=PRIOR.location + shift))
    np.testing.assert_allclose(moved.score(values + shift), fit(values).score(values), atol=1e-4)


@given(groups, st.lists(st.floats(-5, 5), min_size=2, max_size=40).map(np.array))
def test_score_and_probability_rise_together_and_meet_at_the_border(found, values):
    values = np.sort(values)
    posterior, score = found.posterior(values), found.score(values)
    assert (np.diff(posterior) >= -1e-9).all() and (np.diff(score) >= 0).all()
    assert not posterior[values <= found.healthy_location].any()
    distance = (found.border - found.healthy_location) / found.healthy_spread
    assert FEWEST_SD - 1e-9 <= distance <= MOST_SD + 1e-9
    if FEWEST_SD + 1e-6 < distance < MOST_SD - 1e-6:
        assert found.posterior(np.array([found.border]))[0] == pytest.approx(0.5, abs=1e-6)


def test_odds_in_favour_are_tempered_and_odds_against_are_not():
    found = TwoGroups(0.0, 1.0, 3.0, 1.0, 0.2)  # spread alike, so that no group takes over again
    values = np.linspace(0.1, 8, 40)
    densities = norm.pdf(values, 3, 1) * 0.2, norm.pdf(values, 0, 1) * 0.8
    plain, tempered = np.log(densities[0] / densities[1]), logit(found.posterior(values))
    assert (plain > 0).any() and (plain < 0).any()
    np.testing.assert_allclose(tempered[plain < 0], plain[plain < 0], atol=1e-9)
    np.testing.assert_allclose(tempered[plain > 0], plain[plain > 0] / TEMPERATURE, atol=1e-9)


@given(groups, st.lists(st.floats(-5, 5), min_size=1, max_size=20).map(np.array))
def test_the_groups_are_the_same_on_the_scale_of_the_score(found, values):
    scaled = found.in_scores()
    values = values[np.abs(values - found.healthy_location) > 1e-6]
    np.testing.assert_allclose(scaled.posterior(found.score(values)), found.posterior(values), atol=1e-6)
    assert scaled.separation == pytest.approx(found.separation) and scaled.healthy_spread == 1
    assert norm.sf(-scaled.healthy_location) <= norm.sf(FEWEST_SD) + 1e-9


def test_many_spots_are_taken_by_their_quantiles_and_order_plays_no_part():
    values = draw(0.3, n=5000)[0]
    np.testing.assert_allclose(fit(values)[:5], fit(np.random.default_rng(0).permutation(values))[:5])
    fine = TwoGroups.fit(values, 300.0, PRIOR, CalibrationSettings(n_quantiles=10_000))
    np.testing.assert_allclose(fit(values, n_independent=300.0), fine, atol=0.01)


def test_one_spot_and_equal_spots_have_a_score():
    for values in (np.array([0.3]), np.full(50, 0.3)):
        assert np.isfinite(fit(values).score(values)).all() and np.isfinite(fit(values)).all()
