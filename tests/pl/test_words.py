"""Titles, thresholds and captions say what the tables hold."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st

from omib_spatial.pl._slices import slices
from omib_spatial.pl._words import call_threshold, captions, map_title, score_marks


@pytest.fixture
def adata() -> AnnData:
    """Slices ``a`` and ``b`` of ten spots each; on ``b`` nothing is called."""
    score = np.tile(np.arange(10) - 4.5, 2)
    call = pd.Categorical.from_codes(((score > 1) & (np.arange(20) < 10)).astype(int), ["not called", "abnormal"])
    obs = pd.DataFrame({"slice": ["a"] * 10 + ["b"] * 10, "omib_score": score, "omib_call": call})
    obs.index = obs.index.astype(str)
    adata = AnnData(obs=obs, obsm={"spatial": np.tile(np.argwhere(np.ones((2, 5))) * 10.0, (2, 1))})
    adata.uns["omib"] = {"params": {"library_key": "slice"}}
    table = {"slice": ["a", "b"], "verdict": ["abnormal", "nothing found"], "question": "any"}
    adata.uns["omib_slides"] = pd.DataFrame(table, ["a", "b"])
    return adata


def test_a_title_says_slide_question_verdict_and_called_spots(adata):
    both = slices(adata)
    assert map_title(adata, "omib", both[:1]) == ("a · Is there anything? · verdict: abnormal · 4 of 10 spots called")
    assert map_title(adata, "omib", both) == (
        "2 slides · Is there anything? · 1 × abnormal, 1 × nothing found · 4 of 20 spots called"
    )
    assert captions(adata, "omib", both) == {
        "a": "abnormal: 4 of 10 spots called", "b": "nothing found: 0 of 10 spots called",
    }  # fmt: skip
    del adata.uns["omib_slides"]
    assert map_title(adata, "omib", both[:1]) == "a · 4 of 10 spots called"
    assert captions(adata, "omib", both)["b"] == "0 of 10 spots called"


def test_calls_begin_where_the_lowest_called_spot_lies_or_at_the_border(adata):
    score, both = adata.obs["omib_score"].to_numpy(), slices(adata)
    called = (adata.obs["omib_call"] == "abnormal").to_numpy()
    assert score_marks(score, called, both) == {1.5: "calls begin", 0.0: "border"}
    assert score_marks(score, score > 0, both) == {0.0: "border,\ncalls begin"}
    assert score_marks(score, np.zeros(20, bool), both) == {0.0: "border"}
    differ = called | ((score > 3) & (np.arange(20) >= 10))
    assert score_marks(score, differ, both) == {1.5: "calls begin\n(by slice, up to 3.5)", 0.0: "border"}


@settings(max_examples=60)
@given(st.lists(st.floats(-5, 5) | st.just(np.nan), min_size=1, max_size=30), st.floats(-2, 4))
def test_a_threshold_separates_called_spots_from_others(scores, cut):
    score = np.array(scores)
    called = score > cut
    threshold = call_threshold(score, called)
    if not called.any():
        assert threshold is None
    else:
        assert (score[called] >= threshold).all()
        assert (score[~called & np.isfinite(score)] <= threshold).all()
