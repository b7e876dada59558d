import warnings
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from hypothesis import given, settings
from hypothesis import strategies as st

import omib_spatial as omib
from omib_spatial._keys import ABNORMAL, CALL_COLOURS, NOT_CALLED, Written
from omib_spatial.tl import call
from omib_spatial.tl._call import verdict_line, write_calls

QUICK = {
    "config": replace(omib.tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1),
    "max_epochs": 4,
    "enable_progress_bar": False,
    "library_key": "library_id",
    "reference_key": "healthy",
}


@pytest.fixture(scope="module")
def fitted():
    """Three healthy slides and two with anomalies, of which one has spots without an image."""
    adata = omib.datasets.simulate_tissue(5, n_healthy=3, n_spots=200, n_genes=200, seed=1)
    adata.X[3] = 0
    adata.X.eliminate_zeros()
    model = omib.tl.fit(adata, modalities=["gene", "image"], **QUICK)
    return adata, model


def synthetic(score: np.ndarray, *, pvalue: float = 0.01, share: float = 0.3, **record) -> ad.AnnData:
    """One slide as `score` leaves it."""
    adata = ad.AnnData(np.ones((len(score), 1)))
    adata.obs["omib_score"] = score
    adata.obs["omib_modalities"] = pd.Categorical(np.where(np.isfinite(score), "gene", None))
    group = {
        "slice": "",
        "modalities": "gene",
        "n_spots": int(np.isfinite(score).sum()),
        "healthy_mean": -2.0,
        "abnormal_mean": 2.0,
        "abnormal_sd": 1.0,
        "abnormal_share": share,
        "separation": 0.99,
        "pvalue": pvalue,
        "n_slides": 8,
        "location_pvalue": 0.5,
        "smallest_pvalue": 0.01,
    } | record
    adata.uns["omib"] = {"params": {"library_key": ""}, "groups": {k: np.array([v]) for k, v in group.items()}}
    return adata


@settings(max_examples=60)
@given(
    st.lists(st.floats(-8, 8) | st.just(np.nan), min_size=31, max_size=60),
    st.sampled_from(["any", "part"]),
    st.sampled_from([None, 0.0, 0.05, 0.3, 1.0]),
    st.sampled_from([0.001, 0.2]),
)
def test_score_call_and_verdict_agree(score, question, fdr, pvalue):
    """What is printed agrees with itself: no spot on the healthy side of the border is called, ever."""
    score = np.array(score)
    adata = synthetic(score, pvalue=pvalue)
    call(adata, question=question, fdr=fdr)
    called, scored = (adata.obs["omib_call"] == ABNORMAL).to_numpy(), np.isfinite(score)
    assert not called[~scored].any() and adata.obs["omib_call"].isna().to_numpy()[~scored].all()
    assert (score[called] > 0).all()
    np.testing.assert_array_equal(adata.obs["omib_anomaly"], called)
    slide = adata.uns["omib_slides"].iloc[0]
    assert slide["n_called"] == called.sum() and slide["n_spots"] == scored.sum()
    if question == "any":
        assert not called.any() or slide["verdict"] == "abnormal"
        assert scored.sum() < 30 or slide["expected_false_share"] <= (0.1 if fdr is None else fdr) + 1e-9
    elif fdr is None:
        np.testing.assert_array_equal(called, np.nan_to_num(score, nan=-1) > 0)
    if called.any():
        assert score[called].min() >= np.max(score[scored & ~called], initial=-np.inf)


def test_on_a_real_fit_called_spots_have_small_pvalues(fitted):
    adata, model = fitted
    found = call(adata, question="part", copy=True)
    called = (found.obs["omib_call"] == ABNORMAL).to_numpy()
    assert called.any() and (found.obs["omib_score"][called] > 0).all()
    assert (found.obs["omib_slice_pvalue"][called] < 0.16).all()
    for _, own in found.obs[called].groupby("omib_modalities", observed=True):
        order = own["omib_score"].argsort()
        assert (np.diff(own["omib_pvalue"].iloc[order]) <= 1e-12).all()


def test_fit_and_score_ask_whether_there_is_anything(fitted):
    adata, model = fitted
    asked = call(adata, question="any", copy=True)
    pd.testing.assert_frame_equal(asked.uns["omib_slides"], adata.uns["omib_slides"])
    np.testing.assert_array_equal(asked.obs["omib_call"], adata.obs["omib_call"])
    assert set(adata.uns["omib_slides"]["question"]) == {"any"}
    assert (adata.uns["omib_slides"].loc[["slide1", "slide2", "slide3"], "n_called"] == 0).all()


def test_what_is_not_asked_for_is_as_the_run_was(fitted):
    """The level of the model and the rate of `fit`: calls that are made again are those that were made."""
    adata = synthetic(np.linspace(-5, 5, 60), pvalue=0.07)
    call(adata)
    assert adata.uns["omib_slides"]["verdict"].iloc[0] == "abnormal"
    usual = adata.uns["omib_slides"]["n_called"].iloc[0]
    adata.uns["omib"]["params"] |= {"verdict_level": 0.05}
    call(adata)
    assert adata.uns["omib_slides"]["verdict"].iloc[0] == "nothing found"
    adata.uns["omib"]["params"] |= {"verdict_level": 0.08, "fdr": 0.01}
    call(adata)
    assert 0 < adata.uns["omib_slides"]["n_called"].iloc[0] < usual
    adata.uns["omib"]["params"] |= {"fdr": 0.0}
    call(adata)
    assert adata.uns["omib_slides"]["n_called"].iloc[0] == 0
    call(adata, fdr=0.1)
    assert adata.uns["omib_slides"]["n_called"].iloc[0] == usual
    strict = fitted[0].copy()
    omib.tl.score(strict, replace(fitted[1], calibration=replace(fitted[1].calibration, verdict_level=0.001)))
    written = strict.uns["omib_slides"].copy()
    call(strict)
    pd.testing.assert_frame_equal(strict.uns["omib_slides"], written)


def in_two(sizes, pvalues, score=None) -> ad.AnnData:
    """A slide some of whose spots were judged by genes alone, the others by the image, too."""
    adata = synthetic(np.linspace(-5, 5, sum(sizes)) if score is None else score)
    judged = np.repeat(["gene", "gene+image"], sizes)
    adata.obs["omib_modalities"] = pd.Categorical(judged)
    groups = {key: np.repeat(value, 2) for key, value in adata.uns["omib"]["groups"].items()}
    groups |= {"modalities": np.unique(judged), "n_spots": np.array(sizes), "pvalue": np.array(pvalues)}
    adata.uns["omib"]["groups"] = groups
    return adata


@pytest.mark.parametrize("sizes", [(120, 180), (180, 120), (150, 150)])
def test_all_spots_of_a_slide_have_a_say_in_its_verdict_whatever_they_were_judged_by(sizes):
    adata = in_two(sizes, (0.01, 0.25))
    call(adata)
    slide = adata.uns["omib_slides"].iloc[0]
    # In closed form: the mean of tangents, each as heavy as it has spots.
    tangents = np.tan((0.5 - np.array([0.01, 0.25])) * np.pi)
    assert slide["pvalue"] == pytest.approx(0.5 - np.arctan(np.average(tangents, weights=sizes)) / np.pi)
    assert slide["verdict"] == "abnormal" and slide["pvalue"] < 0.05
    swapped = in_two(sizes[::-1], (0.25, 0.01))
    call(swapped)
    assert swapped.uns["omib_slides"]["pvalue"].iloc[0] == pytest.approx(slide["pvalue"])


def test_a_few_spots_that_were_judged_otherwise_have_no_say_and_many_few_make_no_verdict():
    adata = in_two((200, 20), (0.3, 1e-6))
    call(adata)
    assert adata.uns["omib_slides"]["pvalue"].iloc[0] == 0.3
    adata = in_two((16, 15), (0.3, 0.3))
    call(adata)
    slide = adata.uns["omib_slides"].iloc[0]
    assert (
        slide["verdict"] == "cannot tell" and "At most 16 spots were judged by the same modalities" in slide["reason"]
    )


def test_where_the_reference_was_found_on_the_slide_the_part_is_asked_for():
    adata = synthetic(np.linspace(-5, 5, 40))
    adata.uns["omib"]["params"]["reference_key"] = "omib_reference"
    call(adata)
    slide = adata.uns["omib_slides"].iloc[0]
    assert (slide["question"], slide["verdict"], slide["n_called"]) == ("part", "cannot tell", 20)
    assert "found on slides of which it is assumed" in slide["reason"]
    # So a share to miss can be given without the question.
    call(adata, miss=0.001)
    assert adata.uns["omib_slides"].iloc[0]["n_called"] > 20


def test_calls_can_be_made_again_without_the_model_and_after_a_file(fitted, tmp_path):
    adata, _ = fitted
    for name in ("a.h5ad", "a.zarr"):
        path = tmp_path / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adata.write_h5ad(path) if name.endswith("h5ad") else adata.write_zarr(path)
            back = ad.read_h5ad(path) if name.endswith("h5ad") else ad.read_zarr(path)
        pd.testing.assert_frame_equal(
            back.uns["omib_slides"], adata.uns["omib_slides"], check_index_type=False, check_dtype=False
        )
        for question in ("part", "any"):
            mine, theirs = (call(some, question=question, copy=True) for some in (adata, back))
            np.testing.assert_array_equal(mine.obs["omib_call"].astype(str), theirs.obs["omib_call"].astype(str))


def test_a_slide_is_called_whatever_other_slides_are_there(fitted):
    adata, _ = fitted
    alone = adata[adata.obs["library_id"] == "slide4"].copy()
    call(alone, question="part")
    both = call(adata, question="part", copy=True)
    np.testing.assert_array_equal(alone.obs["omib_call"], both.obs["omib_call"][alone.obs_names])
    assert list(alone.uns["omib_slides"].index) == ["slide4"]


def test_calls_are_categories_that_other_tools_take(fitted):
    adata, _ = fitted
    found = call(adata, question="part", copy=True)
    assert list(found.obs["omib_call"].cat.categories) == [NOT_CALLED, ABNORMAL]
    assert list(found.uns["omib_call_colors"]) == list(CALL_COLOURS.values())
    scored = found[found.obs["omib_call"].notna()].copy()
    sc.pp.log1p(scored)
    sc.tl.rank_genes_groups(scored, "omib_call")
    assert set(scored.uns["rank_genes_groups"]["names"].dtype.names) == {NOT_CALLED, ABNORMAL}


def test_is_there_anything_expects_at_most_a_tenth_of_false_calls():
    """On groups that overlap so much that the border alone would allow more."""
    adata = synthetic(np.linspace(-4, 4, 400), share=0.5, healthy_mean=-1.5, abnormal_mean=1.5, abnormal_sd=1.0)
    call(adata, question="any", fdr=1.0)
    loose = adata.uns["omib_slides"].iloc[0]
    call(adata, question="any")
    usual = adata.uns["omib_slides"].iloc[0]
    assert loose["expected_false_share"] > 0.12 and loose["n_called"] == 200
    assert 0.09 < usual["expected_false_share"] <= 0.1 and 0 < usual["n_called"] < 200


def test_a_slide_of_which_no_set_of_spots_is_sure_enough_says_what_to_ask():
    adata = synthetic(np.linspace(-2, 2, 400), share=0.5, healthy_mean=-1.0, abnormal_mean=1.0, abnormal_sd=1.0)
    call(adata, question="any")
    slide = adata.uns["omib_slides"].iloc[0]
    assert slide["verdict"] == "abnormal" and slide["n_called"] == 0
    assert "more than 0.1 of any calls would be expected to be false" in slide["reason"]
    assert "question='part'" in slide["reason"]
    call(adata, question="part")
    assert adata.uns["omib_slides"].iloc[0]["n_called"] == 200


def test_with_miss_as_few_spots_are_called_as_find_that_share():
    adata = synthetic(np.linspace(-5, 5, 200))
    call(adata, question="part")
    usual = adata.uns["omib_slides"].iloc[0]
    call(adata, question="part", miss=0.001)
    more = adata.uns["omib_slides"].iloc[0]
    assert more["n_called"] > usual["n_called"] and more["expected_missed_share"] <= 0.001
    assert adata.obs["omib_score"][adata.obs["omib_anomaly"]].min() > -2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"question": "all"}, "'any'.*'part'"),
        ({"fdr": 2}, "fdr is 2"),
        ({"level": -1}, "level is -1"),
        ({"level": float("nan")}, "level is nan"),
        ({"question": "any", "miss": 0.1}, "miss= goes with"),
        ({"question": "part", "miss": 0.1, "fdr": 0.1}, "miss= goes with"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_written(wrong, said):
    adata = synthetic(np.linspace(-5, 5, 40))
    before = list(adata.obs)
    with pytest.raises(ValueError, match=said):
        call(adata, **wrong)
    assert list(adata.obs) == before and list(adata.uns) == ["omib"]


def test_what_was_not_scored_is_refused():
    with pytest.raises(KeyError, match="omib_spatial.tl.score"):
        call(ad.AnnData(np.ones((3, 1))))
    adata = synthetic(np.linspace(-5, 5, 40))
    adata.uns["omib"]["params"]["library_key"] = "sample"
    with pytest.raises(KeyError, match="sample.*score again"):
        call(adata)


def test_a_slide_that_is_unlike_the_reference_cannot_be_judged_and_nothing_is_called():
    adata = synthetic(np.linspace(-5, 5, 40))
    adata.uns["omib"]["shifts"] = {
        "slice": np.array([""]),
        "statistic": np.array(["counts per spot"]),
        "value": np.array([12.0]),
        "usual": np.array([900.0]),
        "beyond": np.array([True]),
    }
    write_calls(adata, Written())
    slide = adata.uns["omib_slides"].iloc[0]
    assert slide["verdict"] == "cannot tell" and "counts per spot 12" in slide["reason"]
    assert slide["n_called"] == 0


@pytest.mark.parametrize("wrong", [{"fdr": "0.1"}, {"level": "0.1"}, {"fdr": np.array([0.1])}, {"fdr": True}])
def test_numbers_that_are_none_are_named(wrong):
    with pytest.raises(TypeError, match=next(iter(wrong))):
        call(synthetic(np.linspace(-5, 5, 40)), **wrong)
    with pytest.raises(TypeError, match="pass an AnnData"):
        call(3)
    with pytest.raises(ValueError, match="question is"):
        call(synthetic(np.linspace(-5, 5, 40)), question=np.array(["any", "part"]))
    call(synthetic(np.linspace(-5, 5, 40)), fdr=np.float32(0.2), level=np.float64(0.05))


def test_slides_that_were_not_scored_together_are_refused_and_stay_as_they_were(fitted):
    adata, _ = fitted
    renamed = adata.copy()
    renamed.obs["library_id"] = renamed.obs["library_id"].cat.rename_categories({"slide5": "tumour1"})
    with pytest.raises(ValueError, match="slice 'tumour1'.*score again"):
        call(renamed, question="part")
    np.testing.assert_array_equal(renamed.obs["omib_call"], adata.obs["omib_call"])
    one, two = (synthetic(np.linspace(-5, 5, 40)) for _ in range(2))
    joined = ad.concat([one, two], index_unique="-", uns_merge="first")
    with pytest.raises(ValueError, match="80 spots.*knows of 40"):
        call(joined)
    half = one[:15].copy()
    call(half)
    slide = half.uns["omib_slides"].iloc[0]
    assert slide[["n_spots", "verdict"]].tolist() == [15, "abnormal"]
    # Of so few spots nothing is expected.
    assert slide[["separation", "expected_false_share", "expected_missed_share"]].isna().all()


def test_regions_and_clones_of_earlier_calls_are_removed(fitted):
    adata, _ = fitted
    found = call(adata, question="part", copy=True)
    omib.tl.regions(found, min_spots=2)
    assert "omib_region" in found.obs and "omib_regions" in found.uns
    call(found, question="any")
    assert not [key for key in (*found.obs, *found.uns) if "region" in key and key != "region"]


def test_where_nothing_can_be_called_the_reason_says_so():
    adata = synthetic(np.linspace(-5, -1, 40))
    call(adata)
    assert (
        adata.uns["omib_slides"].iloc[0]["reason"].endswith("No spot is called: two kinds cannot be told apart here.")
    )


@pytest.mark.parametrize(("fdr", "error"), [(2, ValueError), (float("nan"), ValueError), ("0.1", TypeError)])
def test_a_wrong_rate_is_told_before_anything_is_learned(fdr, error):
    adata = omib.datasets.simulate_tissue(2, n_healthy=1, n_spots=80, n_genes=60, image=False)
    before = list(adata.obs)
    with pytest.raises(error, match="fdr is"):
        omib.tl.fit(adata, fdr=fdr, **QUICK)
    assert list(adata.obs) == before and "omib" not in adata.uns


def test_who_asked_for_the_part_is_not_told_to_ask_for_it():
    adata = synthetic(np.linspace(-4, 4, 40), pvalue=0.5, n_slides=1)
    reasons = {}
    for question in ("any", "part"):
        call(adata, question=question)
        reasons[question] = adata.uns["omib_slides"]["reason"].iloc[0]
    assert reasons["any"].endswith("question='part'.") and "it can tell" in reasons["part"]
    assert "question=" not in reasons["part"]


@pytest.mark.parametrize(
    ("question", "line"),
    [
        ("any", "nothing found. Spots are alike. 0 of 9 spots called."),
        (
            "part",
            "0 of 9 spots called as the abnormal part, if there is one. Is there one? nothing found. Spots are alike.",
        ),
    ],
)
def test_what_was_asked_is_answered_first(question, line):
    assert verdict_line("nothing found", "Spots are alike.", 0, 9, question) == line
