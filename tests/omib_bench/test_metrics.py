import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omib_bench.metrics import rating_scores, sentiment_scores

# Worked by hand:         clip+round: 3/3 yes, -1/-1 yes, 0/0 yes, 0/-1 no, 2/2 yes (2.5 to even), -3/-2 no
TARGET = np.array([3.0, -1.2, 0.0, 0.4, 2.4, -2.8])
PREDICTION = np.array([4.6, -0.8, -0.2, -1.0, 2.5, -1.6])


def test_acc7_clips_and_rounds_all_samples():
    assert sentiment_scores(TARGET, PREDICTION)["acc7"] == pytest.approx(4 / 6)
    assert sentiment_scores([0.5, 1.5, 2.5, -2.6, 0.0], [0.0, 2.0, 2.0, -9.0, 0.51])["acc7"] == pytest.approx(4 / 5)


def test_without_suffix_zero_labels_are_left_out():
    scores = sentiment_scores(TARGET, PREDICTION)
    # Left: + - + + - against + - - + -. Positive: precision 1, recall 2/3; negative: precision 2/3, recall 1.
    assert scores["acc2"] == pytest.approx(4 / 5)
    assert scores["f1"] == pytest.approx((3 * 0.8 + 2 * 0.8) / 5)
    assert scores["mae"] == pytest.approx((1.6 + 0.4 + 1.4 + 0.1 + 1.2) / 5)
    true, found = np.delete(TARGET, 2), np.delete(PREDICTION, 2)
    by_hand = ((true - true.mean()) * (found - found.mean())).sum()
    by_hand /= np.sqrt(((true - true.mean()) ** 2).sum() * ((found - found.mean()) ** 2).sum())
    assert scores["corr"] == pytest.approx(by_hand)


def test_with_suffix_zero_is_not_negative():
    scores = sentiment_scores(TARGET, PREDICTION)
    # + - + + + - against + - - - + -. Positive: precision 1, recall 1/2, F1 2/3; negative: 1/2, 1, 2/3.
    assert scores["acc2_has_zero"] == pytest.approx(4 / 6)
    assert scores["f1_has_zero"] == pytest.approx(2 / 3)
    assert scores["mae_has_zero"] == pytest.approx((1.6 + 0.4 + 0.2 + 1.4 + 0.1 + 1.2) / 6)
    assert scores["corr_has_zero"] == pytest.approx(np.corrcoef(TARGET, PREDICTION)[0, 1])


def test_a_prediction_of_zero_is_positive_only_where_zero_counts():
    scores = sentiment_scores([1.0, -1.0, 0.0], [0.0, -1.0, 0.0])
    assert scores["acc2"] == pytest.approx(1 / 2)
    assert scores["acc2_has_zero"] == 1.0


def test_f1_weighs_classes_by_their_size():
    # Three positive, one negative; everything is called positive: F1 6/7 and 0.
    assert sentiment_scores([1.0, 1, 1, -1], [1.0, 2, 3, 1])["f1"] == pytest.approx(3 / 4 * 6 / 7)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=30))
def test_a_perfect_prediction_is_perfect(values):
    scores = sentiment_scores(values, values)
    assert scores["acc7"] == scores["acc2_has_zero"] == scores["f1_has_zero"] == 1 and scores["mae_has_zero"] == 0
    assert np.isnan(scores["corr_has_zero"]) or scores["corr_has_zero"] == pytest.approx(1)


def test_ratings_one_by_one():
    target = np.array([[1.0, 5.0, 2.0], [2.0, 6.0, 2.0], [3.0, 7.0, 2.0]])
    scores = rating_scores(target, target[::-1] * [1, 2, 1])
    np.testing.assert_allclose(scores["mae"], [4 / 3, (9 + 6 + 3) / 3, 0])
    np.testing.assert_allclose(scores["corr"], [-1, -1, np.nan])


def test_what_is_not_defined_is_nan_and_what_is_wrong_is_named():
    nothing_left = sentiment_scores([0.0, 0.0], [1.0, -1.0])
    assert all(np.isnan(nothing_left[key]) for key in ("acc2", "f1", "mae", "corr"))
    assert nothing_left["acc2_has_zero"] == 0.5
    with pytest.raises(ValueError, match=r"target is \(2,\), prediction \(3,\)"):
        sentiment_scores([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match=r"prediction is not finite in rows \[1\]"):
        sentiment_scores([1, 2], [1, np.nan])
    with pytest.raises(ValueError, match=r"one value per sample, \(N,\), not \(2, 1\)"):
        sentiment_scores([[1], [2]], [[1], [2]])
    with pytest.raises(ValueError, match=r"\(N, ratings\), not \(2,\)"):
        rating_scores([1, 2], [1, 2])
