import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from omib_spatial.stats.shift import (
    FALSE_ALARMS,
    PRIOR_SLIDES,
    ReferenceInterval,
    Statistic,
    comparable,
    correlation,
    coverage,
    distance,
    left_out_comparison,
    natural,
)

BOTH = Statistic("a", 0.5, "", logarithmic=True)
LOW = Statistic("b", 0.1, "", strange="low")
HIGH = Statistic("c", 0.2, "", strange="high")
ALIKE = Statistic("d", 0.06, "", strange="low", compare=correlation)
ALL = (BOTH, LOW, HIGH)


def fit(values, statistics=ALL, donors=None, profiles=None) -> ReferenceInterval:
    values = np.asarray(values, float)
    donors = np.arange(len(values)) if donors is None else np.asarray(donors)
    profiles = np.empty((len(values), 0)) if profiles is None else profiles
    return ReferenceInterval.fit(values, profiles, donors, statistics)


def slides(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([np.exp(rng.normal(8, 0.5, n)), rng.normal(0.9, 0.1, n), rng.normal(1, 0.2, n)], 1)


def test_limits_are_those_of_one_more_slide():
    """Per statistic, by hand: Student's t with the prior as so many slides."""
    values = slides(4)
    found = fit(values)
    for column, statistic in enumerate(ALL):
        x = np.log(values[:, column]) if statistic.logarithmic else values[:, column]
        freedom = PRIOR_SLIDES + 3
        variance = (PRIOR_SLIDES * statistic.spread**2 + np.square(x - x.mean()).sum()) / freedom
        spread = np.sqrt(variance * (1 + 1 / 4))
        one_side = FALSE_ALARMS / len(ALL) / (2 if statistic.strange == "both" else 1)
        reach = spread * t.ppf(1 - one_side, freedom)
        assert found.location[column] == pytest.approx(x.mean())
        assert found.spread[column] == pytest.approx(spread)
        assert found.low[column] == (-np.inf if statistic.strange == "high" else pytest.approx(x.mean() - reach))
        assert found.high[column] == (np.inf if statistic.strange == "low" else pytest.approx(x.mean() + reach))


def test_at_most_the_stated_share_of_healthy_slides_lies_beyond():
    rng, beyond = np.random.default_rng(1), []
    for _ in range(3000):
        values = np.column_stack([np.exp(rng.normal(8, 0.5, 5)), rng.normal(0.9, 0.1, 5), rng.normal(1, 0.2, 5)])
        beyond.append((fit(values[:4]).excess(comparable(values[4], ALL)) > 1).any())
    # The prior is right here; with other spreads it is the data's to say, see below.
    assert 0.02 < np.mean(beyond) < FALSE_ALARMS + 0.01


def test_many_slides_outweigh_the_prior():
    rng = np.random.default_rng(0)
    wide = fit(rng.normal(0, 3.0, (400, 1)), (LOW,))
    assert wide.spread[0] == pytest.approx(3.0, rel=0.1)


def test_excess_is_one_at_the_limits_and_never_counts_the_harmless_side():
    found = fit(slides(5))
    np.testing.assert_allclose(found.excess(found.location), 0, atol=1e-12)
    for limits, strange in ((found.low, [0, 1]), (found.high, [0, 2])):
        at = np.where(np.isfinite(limits), limits, found.location)
        np.testing.assert_allclose(found.excess(at), np.isin(range(3), strange), atol=1e-12)
    assert found.excess(found.location + [0, 1e6, 0])[1] == 0
    assert found.excess(found.location - [0, 0, 1e6])[2] == 0


@settings(max_examples=25)
@given(copies=st.integers(1, 4), donor=st.integers(0, 2), seed=st.integers(0, 100))
def test_a_donor_weighs_the_same_however_many_slides_it_has(copies, donor, seed):
    values = slides(3, seed)
    again = np.concatenate([values, np.repeat(values[[donor]], copies, 0)])
    one, other = fit(values), fit(again, donors=[0, 1, 2, *[donor] * copies])
    for name in ("location", "spread", "low", "high"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name))


@settings(max_examples=25)
@given(factor=st.floats(0.01, 100))
def test_a_logarithmic_statistic_knows_no_unit(factor):
    values = slides(4)[:, :1]
    one, other = fit(values, (BOTH,)), fit(values * factor, (BOTH,))
    np.testing.assert_allclose(natural(other.low, (BOTH,)), factor * natural(one.low, (BOTH,)))
    np.testing.assert_allclose(other.spread, one.spread)


def test_one_donor_leaves_the_spread_to_the_prior():
    values = np.array([[0.9], [0.9]])
    found = fit(values, (LOW,), donors=[7, 7])
    assert found.spread[0] == pytest.approx(LOW.spread * np.sqrt(2))
    assert found.low[0] == pytest.approx(0.9 - found.spread[0] * t.isf(FALSE_ALARMS, PRIOR_SLIDES))


def test_profiles_are_compared_with_those_of_other_donors():
    rng = np.random.default_rng(3)
    profiles, donors = rng.normal(size=(5, 40)) + np.arange(40), np.array([0, 0, 1, 2, 2])
    found = fit(np.full((5, 1), np.nan), (ALIKE,), donors, profiles)
    means = np.stack([profiles[donors == d].mean(0) for d in range(3)])
    np.testing.assert_allclose(found.profile, means.mean(0))
    r = [
        np.corrcoef(profile, means[np.arange(3) != d].mean(0))[0, 1]
        for profile, d in zip(profiles, donors, strict=True)
    ]
    assert found.location[0] == pytest.approx((np.mean(r[:2]) + r[2] + np.mean(r[3:])) / 3)


def test_slides_of_a_single_donor_are_compared_with_each_other():
    profiles = np.random.default_rng(3).normal(size=(3, 40))
    weights, fold = np.full(3, 1 / 3), np.arange(3)
    r = left_out_comparison(profiles, weights, fold, correlation)
    found = fit(np.full((3, 1), np.nan), (ALIKE,), [0, 0, 0], profiles)
    assert found.location[0] == pytest.approx(r.mean())
    assert r[0] == pytest.approx(np.corrcoef(profiles[0], profiles[1:].mean(0))[0, 1])


def test_what_was_not_measured_is_left_out_of_comparisons():
    rng = np.random.default_rng(0)
    one, other = rng.random(50), rng.random(50)
    gap = one.copy()
    gap[:10] = np.nan
    assert correlation(one, other) == pytest.approx(np.corrcoef(one, other)[0, 1])
    assert correlation(gap, other) == pytest.approx(np.corrcoef(one[10:], other[10:])[0, 1])
    assert distance(gap, other) == pytest.approx(np.sqrt(np.square(one[10:] - other[10:]).mean()))
    expression = np.expm1(other)
    assert coverage(gap, other) == pytest.approx(expression[10:].sum() / expression.sum())


@pytest.mark.parametrize("nothing", [np.full(5, np.nan), np.zeros(5)])
def test_a_slide_without_anything_is_like_nothing(nothing):
    reference = np.arange(5.0)
    assert correlation(nothing, reference) == 0 and coverage(nothing, reference) == 0


def test_natural_undoes_comparable():
    values = slides(3)
    np.testing.assert_allclose(natural(comparable(values, ALL), ALL), values)
