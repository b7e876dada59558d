import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from omib_bench._bootstrap import DRAWS, Ranking, _spots, interval_records


def ranking(section: str, patient: str, shift: float, n: int = 80, seed: int = 0) -> Ranking:
    rng = np.random.default_rng([seed, ord(section[0])])
    truth = rng.integers(0, 2, n)
    score = rng.normal(size=n) + shift * truth
    truth[:3], score[3] = -1, np.nan
    return Ranking(section, patient, "method", "setting", 0, truth, score)


def values(rankings) -> dict[str, float]:
    return {r.metric: r.value for r in interval_records("bench", rankings)}


def test_mean_and_intervals():
    found = [ranking("a1", "a", 1), ranking("b1", "b", 2), ranking("c1", "c", 0)]
    result = values(found)
    assert result["mean_auroc"] == pytest.approx(np.mean([r.auroc for r in found])) and result["sections"] == 3
    assert result["spots_low"] < result["mean_auroc"] < result["spots_high"]
    assert result["patients_low"] < result["mean_auroc"] < result["patients_high"]
    # Patients differ by much more than the draw of spots.
    assert result["patients_high"] - result["patients_low"] > result["spots_high"] - result["spots_low"]


def test_more_spots_narrow_the_interval():
    width = [(lambda v: v["spots_high"] - v["spots_low"])(values([ranking("a1", "a", 1, n)])) for n in (60, 600)]
    assert width[1] < width[0] / 2


def test_a_draw_is_the_auroc_of_the_drawn_spots():
    rng = np.random.default_rng(0)
    y, score = rng.integers(0, 2, 40) == 1, rng.integers(0, 9, 40).astype(float)
    found = _spots(y, score, np.random.default_rng(1))
    again, expected = np.random.default_rng(1), []
    high, low = (part[again.integers(len(part), size=(DRAWS, len(part)))] for part in (score[y], score[~y]))
    for h, lo in zip(high, low, strict=True):
        expected.append(roc_auc_score(np.r_[np.ones(len(h)), np.zeros(len(lo))], np.r_[h, lo]))
    np.testing.assert_allclose(found, expected)


def test_sections_with_one_class_only_do_not_count():
    alone = Ranking("z1", "z", "method", "setting", 0, np.ones(5, int), np.arange(5.0))
    assert np.isnan(alone.auroc) and values([alone]) == {}
    assert values([alone, ranking("a1", "a", 1)]) == values([ranking("a1", "a", 1)])
