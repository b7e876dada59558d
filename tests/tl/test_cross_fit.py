"""Slides of every donor scored by a model of the other donors."""

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import omib_spatial as omib
from omib_spatial._warn import OmibWarning, ScoredWarning

QUICK = {
    "config": replace(omib.tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.01),
    "max_epochs": 3,
    "enable_progress_bar": False,
    "library_key": "library_id",
}
KEYS = ["omib_score", "omib_pvalue", "omib_slice_pvalue", "omib_modalities", "omib_call", "omib_anomaly"]


@pytest.fixture(scope="module")
def cohort() -> ad.AnnData:
    """Four slides of three donors, spots in disorder, one slide without a picture."""
    adata = omib.datasets.simulate_tissue(4, n_healthy=2, n_spots=90, n_genes=80, seed=2)
    adata.obs["donor"] = adata.obs["library_id"].map(
        dict(zip(sorted(set(adata.obs["library_id"])), "abca", strict=True))
    )
    adata.obs["reference"] = (adata.obs["anomaly"] == 0).to_numpy()
    del adata.uns["spatial"]["slide2"]["images"]
    return adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()


@pytest.fixture(scope="module")
def scored(cohort) -> tuple[ad.AnnData, dict[str, omib.tl.AnomalyModel]]:
    adata = cohort.copy()
    omib.tl.fit(adata, modalities=["gene"], reference_key="reference", **QUICK)
    omib.tl.call(adata, question="part")
    omib.tl.regions(adata, spot_diameter_um=55)
    return adata, omib.tl.cross_fit(adata, donor_key="donor", reference_key="reference", **QUICK)


def test_each_donor_is_scored_as_by_hand(cohort, scored):
    adata, models = scored
    assert set(models) == set("abc")
    for donor in "abc":
        own = (cohort.obs["donor"] == donor).to_numpy()
        others, target = cohort[~own].copy(), cohort[own].copy()
        model = omib.tl.fit(others, donor_key="donor", reference_key="reference", **QUICK)
        omib.tl.score(target, model)
        for key in KEYS:
            pd.testing.assert_series_equal(
                adata.obs[key][own].astype(object), target.obs[key].astype(object), check_names=False, rtol=1e-5
            )
        rows = target.uns["omib_slides"]
        pd.testing.assert_frame_equal(adata.uns["omib_slides"].loc[rows.index], rows, rtol=1e-5)
        assert models[donor].params["n_reference"] == model.params["n_reference"]


def test_what_is_written_can_be_called_again_joined_and_kept(cohort, scored, tmp_path):
    adata = scored[0].copy()
    assert "X_omib" not in adata.obsm, "one model's space among those of others"
    assert "omib_region" not in adata.obs and "omib_regions" not in adata.uns, "of earlier calls"
    assert adata.uns["omib"]["params"]["modalities"].tolist() == ["gene", "image", "genome"]
    omib.tl.call(adata, question="part")
    omib.tl.regions(adata, spot_diameter_um=55)
    assert omib.tl.summarise(adata)["slide"].tolist() == list(dict.fromkeys(cohort.obs["library_id"]))
    params = adata.uns["omib"]["params"]
    assert sorted(params["cross_fit"]) == ["a", "b", "c"] and "n_reference" not in params and params["max_epochs"] == 3
    shares = adata.uns["omib"]["modalities"]
    table = pd.DataFrame(shares["share"], shares["slice"], shares["modality"])
    assert table.loc["slide2", "image"] == 0 and (table["gene"] == 1).all() and len(table) == 4
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    omib.tl.call(again, question="part")
    assert (again.obs["omib_call"] == adata.obs["omib_call"]).all()


def test_probabilities_of_classes(cohort):
    adata = cohort.copy()
    adata.obs["kind"] = np.where(adata.obs["anomaly"] == 0, "healthy", "tumour")
    adata.obs.loc[adata.obs_names[::7], "kind"] = None
    models = omib.tl.cross_fit(adata, labels_key="kind", donor_key="donor", modalities=["gene"], **QUICK)
    assert adata.obsm["omib_probability"].shape == (adata.n_obs, 2) and len(models) == 3
    np.testing.assert_allclose(adata.obsm["omib_probability"].sum(1), 1, rtol=1e-5)
    assert adata.uns["omib"]["classes"].tolist() == ["healthy", "tumour"]
    likely = adata.obsm["omib_probability"].argmax(1) == 1
    assert ((adata.obs["omib_label"] == "tumour").to_numpy() == likely).all()


def test_slides_are_asked_where_nothing_says_what_is_healthy(planted, caplog):
    caplog.set_level(20, logger="omib_spatial")
    slides = {name: planted(0.3, seed) for seed, name in enumerate("ab")}
    adata = ad.concat(slides, label="slide", index_unique="-", merge="same")
    options = {**QUICK, "library_key": "slide"}
    models = omib.tl.cross_fit(adata, **options)
    assert all("contrast" in model.modalities for model in models.values())
    assert "omib_spatial.tl.cross_fit" not in caplog.text
    alone = adata.copy()
    omib.tl.fit(alone, **options)
    assert "The slides of 2 donors were scored by a model that learned from them" in caplog.text
    omib.pp.find_reference(alone, library_key="slide")
    assert (adata.obs["omib_reference"] == alone.obs["omib_reference"]).all() and adata.obs["omib_reference"].any()
    table = adata.uns["omib_slides"]
    assert (table["question"] == "part").all()
    assert table["pvalue"].isna().all() and (table["n_healthy_slides"] == 0).all(), "none of these slides is healthy"


def test_marks_that_the_user_names_stay(cohort):
    adata = cohort.copy()
    adata.obs["omib_reference"] = adata.obs["reference"]
    options = QUICK | {"modalities": ["gene"], "reference_key": "omib_reference"}
    omib.tl.cross_fit(adata, donor_key="donor", **options)
    assert adata.obs["omib_reference"].equals(adata.obs["reference"].rename("omib_reference"))
    assert "omib_reference_score" not in adata.obs and "omib_reference" not in adata.uns


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"donor_key": "one"}, ValueError, "the one donor 'x'"),
        ({"donor_key": "gaps"}, ValueError, "obs\\['gaps'\\] is missing for spots"),
        ({"donor_key": "cut"}, ValueError, "has several donors on slice"),
        ({"donor_key": "nothing"}, KeyError, "obs\\['nothing'\\] does not exist"),
        ({"library_key": None}, ValueError, "Nothing tells donors apart"),
        ({"resume": "folder"}, TypeError, "takes no resume="),
        ({"all_healthy": True}, TypeError, "takes no all_healthy="),
        ({"max_epochs": -1}, ValueError, "Without donor '.*': .*max_epochs"),
        ({"key_added": "spatial"}, ValueError, "key_added"),
        ({"referense_key": "reference"}, TypeError, "reference_key"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(cohort, content, change, error, words):
    adata = cohort.copy()
    adata.obs["one"], adata.obs["gaps"] = "x", pd.array(["x", None] * (adata.n_obs // 2), dtype="object")
    adata.obs["cut"] = np.where(np.arange(adata.n_obs) % 2, "x", "y")
    before = content(adata)
    with pytest.raises(error, match=words):
        omib.tl.cross_fit(adata, **({"reference_key": "reference"} | QUICK | change))
    assert content(adata) == before


def test_a_donor_whose_others_give_nothing_is_named(cohort, content):
    adata = cohort.copy()
    first = adata.obs["library_id"].iloc[0]
    adata.obs["reference"] = False
    before = content(adata)
    with pytest.raises(ValueError, match=f"Without donor '{first}': "):
        omib.tl.cross_fit(adata, reference_key="reference", **QUICK)
    assert content(adata) == before


def test_what_is_wrong_with_one_slide_is_told_before_any_training(cohort, content, monkeypatch):
    adata = cohort.copy()
    adata.X = adata.X.astype(np.float32)
    own = np.flatnonzero(adata.obs["library_id"] == "slide3")
    adata.X[own] = adata.X[own] * 0.5
    before = content(adata)
    monkeypatch.setattr("omib_spatial.tl._cross_fit.fit", pytest.fail)
    with pytest.raises(ValueError, match="values that are no integers") as error:
        omib.tl.cross_fit(adata, donor_key="donor", reference_key="reference", **QUICK)
    assert "Without donor" not in str(error.value) and content(adata) == before


def test_a_donor_whose_others_give_nothing_does_not_stop_the_others(cohort, tmp_path):
    adata = cohort.copy()
    adata.obs["reference"] = adata.obs["reference"] & (adata.obs["donor"] == "a")
    first = adata.obs["library_id"][(adata.obs["donor"] == "a").to_numpy()].iloc[0]
    with pytest.warns(ScoredWarning, match="Not scored: Without donor 'a': ") as told:
        models = omib.tl.cross_fit(adata, donor_key="donor", reference_key="reference", **QUICK)
    assert sorted(models) == ["b", "c"] and sum("Not scored" in str(each.message) for each in told) == 1
    own = (adata.obs["donor"] == "a").to_numpy()
    for key in ("omib_score", "omib_pvalue", "omib_call", "omib_modalities"):
        np.testing.assert_array_equal(adata.obs[key].isna().to_numpy(), own)
    assert adata.obs["omib_anomaly"].dtype == bool and not adata.obs["omib_anomaly"][own].any()
    alone = cohort[(cohort.obs["donor"] == "b").to_numpy()].copy()
    omib.tl.score(alone, models["b"])
    np.testing.assert_allclose(alone.obs["omib_score"], adata.obs["omib_score"][alone.obs_names], atol=1e-5)
    table = adata.uns["omib_slides"]
    assert set(table.index) == set(adata.obs["library_id"])
    assert table.loc[first, "verdict"] == "cannot tell" and table.loc[first, "reason"].startswith("Without donor 'a': ")
    omib.tl.call(adata, question="part")
    assert adata.uns["omib_slides"].loc[first, "reason"] == table.loc[first, "reason"], "calling again keeps it"
    assert list(adata.uns["omib_slides"].index) == list(dict.fromkeys(adata.obs["library_id"]))
    unscored = omib.tl.summarise(adata).set_index("slide")["n_scored"] == 0
    assert set(unscored[unscored].index) == set(adata.obs["library_id"][own])
    adata.write_h5ad(tmp_path / "scored.h5ad")


def test_features_of_images_that_were_joined_without_their_record_are_made_again(cohort):
    adata = cohort.copy()
    adata.obsm["X_image"] = np.zeros((adata.n_obs, 2))
    # Too few of the others have a picture; slides that have one are not said to lack it.
    with pytest.warns(ScoredWarning, match=r"'slide2' without 'image'; slices .* judged without its 'image'"):
        models = omib.tl.cross_fit(adata, donor_key="donor", reference_key="reference", **QUICK)
    assert all("image" in model.modalities for model in models.values())
    assert not adata.obsm["X_image"].any() and "X_image" not in adata.uns


def test_an_image_that_only_the_donor_left_out_has_is_told(cohort):
    adata = cohort.copy()
    for name in ("slide1", "slide4"):
        del adata.uns["spatial"][name]["images"]
    with pytest.warns(UserWarning) as found:
        models = omib.tl.cross_fit(adata, donor_key="donor", reference_key="reference", **QUICK)
    told = [str(warning.message) for warning in found if issubclass(warning.category, OmibWarning)]
    assert sum(line.startswith("Not used: images of donors 'c', since too few spots of the") for line in told) == 1
    own = set(adata.obs["library_id"][adata.obs["donor"] == "c"])
    (less,) = [line for line in told if line.startswith("Scored on less than")]
    assert not [name for name in own if name in less], "it was said why already"
    assert ["image" in models[name].modalities for name in "abc"] == [True, True, False]
    shares = adata.uns["omib"]["modalities"]
    table = pd.DataFrame(shares["share"], shares["slice"], shares["modality"])
    assert (table["image"] == 0).all(), "the others have none, and the model of the one that has one knows none"
