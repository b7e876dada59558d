import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omib_spatial.stats.verdict import ABNORMAL, CANNOT_TELL, NOTHING, conclude, rounded

USUAL = {"n_spots": 300, "n_slides": 8, "location_pvalue": 0.5}


@pytest.mark.parametrize(
    ("pvalue", "change", "verdict", "said"),
    [
        (0.01, {}, ABNORMAL, "p = 0.01"),
        (0.4, {}, NOTHING, "p = 0.4"),
        (0.01, {"unlike": "pinkness 0, where the reference has 2"}, CANNOT_TELL, "pinkness 0"),
        (0.01, {"n_spots": 12}, CANNOT_TELL, "12 scored spots"),
        (0.4, {"location_pvalue": 0.02}, CANNOT_TELL, "All of the slide"),
        (0.01, {"location_pvalue": 0.02}, ABNORMAL, "p = 0.01"),
        (0.4, {"n_slides": 1}, CANNOT_TELL, "1 healthy slide to compare"),
        (0.01, {"n_slides": 2}, ABNORMAL, "p = 0.01"),
        (float("nan"), {}, CANNOT_TELL, "healthy slides"),
    ],
)
def test_verdicts_and_their_reasons(pvalue, change, verdict, said):
    found = conclude(pvalue, 0.05, **(USUAL | change))
    assert found.verdict == verdict and said in found.reason and found.reason.endswith(".")


@given(st.floats(0, 1), st.floats(1e-6, 1))
def test_a_pvalue_that_is_told_lies_on_the_side_of_the_level_that_it_has(pvalue, level):
    assert (float(rounded(pvalue, level)) <= level) == (pvalue <= level)
    assert rounded(0.1003, 0.1) == "0.1003" and rounded(0.0213, 0.1) == "0.021" and rounded(np.nan, 0.1) == "nan"
