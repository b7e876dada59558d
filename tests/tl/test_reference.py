"""Which spots a fit takes for healthy: marked, of a healthy class, declared, or found in the slides."""

import logging
import os
import warnings
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from sklearn.metrics import roc_auc_score

from omib_spatial import load, pp, tl
from omib_spatial.modalities import NAMED, Contrast, choose_modalities
from omib_spatial.modalities.signatures import PROLIFERATION
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides.labels import read_labels
from omib_spatial.tl._reference import WAYS_ON, choose_reference

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[2] / "../shared/data"))
QUICK = {
    "config": replace(tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05),
    "max_epochs": 2,
    "enable_progress_bar": False,
}
NOTHING = {"reference_key": None, "all_healthy": False, "labels": None, "healthy": [], "modalities": [Contrast()]}


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (DATA / name).exists(), reason=f"no {name} in {DATA}; set OMIB_DATA")


@pytest.fixture(scope="module", autouse=True)
def fewer_replicas():
    """A third of them tell as much of such clear slides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("omib_spatial.stats.contrast.REPLICAS", 8)
        yield


@pytest.fixture
def nobody_asks(monkeypatch):
    def asked(*tissue, **options):
        raise AssertionError("slides were asked for their own reference")

    monkeypatch.setattr("omib_spatial.modalities.contrast.slide_contrasts", asked)


@pytest.fixture(scope="module")
def alone(planted):
    """One slide, and nothing said."""
    adata = planted()
    return adata, tl.fit(adata, **QUICK)


def slides(**parts: ad.AnnData) -> ad.AnnData:
    return ad.concat(parts, label="slide", index_unique="-", merge="same")


# One slide.


def test_a_slide_that_nobody_marked_is_scored_the_right_way_round(alone):
    adata, model = alone
    assert roc_auc_score(adata.obs["clone"], adata.obs["omib_score"]) > 0.95
    assert model.params["n_reference"] == adata.obs["omib_reference"].sum()
    assert (
        model.params["modalities"] == ["gene", "genome", "contrast"]
        and model.params["reference_key"] == "omib_reference"
    )


def test_what_is_written_is_what_find_reference_writes(planted, alone):
    adata, other = alone[0], planted()
    pp.find_reference(other)
    np.testing.assert_array_equal(adata.obs["omib_reference"], other.obs["omib_reference"])
    np.testing.assert_array_equal(adata.obs["omib_reference_score"], other.obs["omib_reference_score"])
    assert adata.uns["omib_reference"].keys() == other.uns["omib_reference"].keys()
    for name, value in other.uns["omib_reference"].items():
        np.testing.assert_array_equal(adata.uns["omib_reference"][name], value)


def test_a_second_fit_is_as_the_first(alone):
    adata = alone[0].copy()
    tl.fit(adata, **QUICK)
    for name in ("omib_reference", "omib_reference_score", "omib_score", "omib_anomaly"):
        np.testing.assert_array_equal(adata.obs[name], alone[0].obs[name])


def test_one_line_says_what_was_found(planted, caplog):
    with caplog.at_level(logging.INFO, "omib_spatial"):
        choose_reference(Tissue(planted()), **NOTHING)
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Slide")]
    assert "spots taken as healthy" in line and "replicas agree" in line


def test_modalities_of_the_user_are_not_added_to(planted):
    adata = planted()
    model = tl.fit(adata, modalities=["genome"], **QUICK)
    assert model.params["modalities"] == ["genome"] and "omib_reference" in adata.obs
    assert roc_auc_score(adata.obs["clone"], adata.obs["omib_score"]) > 0.9


def test_the_code_has_a_part_only_where_the_reference_was_not_found_or_the_user_says_so(planted, alone):
    assert alone[1].params["objective"] == "summaries"
    assert all(None not in parts for parts in alone[1].distances.values())
    options = QUICK | {"modalities": ["genome"]}
    asked = tl.fit(planted(), objective="reconstruction", **options)
    marked = tl.fit(alone[0].copy(), reference_key="omib_reference", **options)
    for model in (asked, marked):
        assert model.params["objective"] == "reconstruction" and list(model.distances["genome",]) == [None, "genome"]


def test_the_image_has_a_part_in_the_evidence_where_the_fit_has_it(planted, monkeypatch):
    seen = []
    found = Contrast.found
    monkeypatch.setattr(Contrast, "found", lambda self, tissue: seen.append(self.image) or found(self, tissue))
    tl.fit(planted(), modalities=["genome"], **QUICK)
    assert set(seen) == {False}


def test_a_saved_model_scores_another_slide_by_its_own_contrast(planted, alone, tmp_path):
    alone[1].save(tmp_path / "model")
    model = load(tmp_path / "model")
    one, other = planted(seed=3), planted(seed=3)
    for adata, fitted in ((one, alone[1]), (other, model)):
        tl.score(adata, fitted)
    np.testing.assert_array_equal(one.obs["omib_score"], other.obs["omib_score"])
    assert roc_auc_score(one.obs["clone"], one.obs["omib_score"]) > 0.9
    assert "omib_reference" not in one.obs


def test_a_slide_of_one_tissue_is_an_error_that_names_three_ways_on(planted, content):
    adata = planted(share=0.0, seed=1)
    before = content(adata)
    with pytest.raises(ValueError, match="Nothing says which spots are healthy, and no slide tells") as error:
        tl.fit(adata, **QUICK)
    said = str(error.value)
    assert said.endswith(WAYS_ON) and "cannot tell" in said
    assert all(way in said for way in ("reference_key=", "fit on healthy slides", "all_healthy=True"))
    assert content(adata) == before


def test_unknown_genes_are_refused_and_never_taken_for_healthy(planted, content):
    adata = planted()
    adata.var_names = [f"g{i}" for i in range(adata.n_vars)]
    before = content(adata)
    with pytest.raises(ValueError, match="0 genes have a place.*Ways on"):
        tl.fit(adata, **QUICK)
    assert content(adata) == before


# What the user says is believed.


def test_all_healthy_takes_every_spot(planted, nobody_asks):
    adata = planted(share=0.0)
    model = tl.fit(adata, all_healthy=True, **QUICK)
    assert model.params["n_reference"] == adata.n_obs and model.params["modalities"] == ["gene", "genome"]
    assert "omib_reference" not in adata.obs and "omib_reference" not in adata.uns


@pytest.mark.parametrize(
    ("options", "says"),
    [({"reference_key": "healthy"}, "reference_key="), ({"labels_key": "tissue"}, "labels_key=")],
)
def test_all_healthy_and_some_healthy_contradict(planted, content, options, says):
    adata = planted()
    adata.obs["healthy"] = ~adata.obs["clone"]
    adata.obs["tissue"] = np.where(adata.obs["clone"], "tumour", "healthy")
    before = content(adata)
    with pytest.raises(ValueError, match=f"all_healthy=True.*{says}.*leave out one"):
        tl.fit(adata, all_healthy=True, **options, **QUICK)
    assert content(adata) == before


def test_with_a_reference_no_slide_is_asked(planted, nobody_asks):
    """A reference slide and patients' slides without marks."""
    adata = slides(healthy=planted(share=0.0, seed=1), one=planted(), two=planted(seed=3))
    adata.obs["reference"] = (adata.obs["slide"] == "healthy").to_numpy()
    model = tl.fit(adata, reference_key="reference", library_key="slide", **QUICK)
    assert model.params["n_reference"] == 400 and model.params["modalities"] == ["gene", "genome"]
    assert adata.obs["omib_score"].notna().all() and "omib_reference" not in adata.obs
    for name in ("one", "two"):
        own = adata.obs[adata.obs["slide"] == name]
        assert roc_auc_score(own["clone"], own["omib_score"]) > 0.9


def test_what_was_found_can_be_passed_on(alone, nobody_asks):
    adata = alone[0].copy()
    model = tl.fit(adata, reference_key="omib_reference", **QUICK)
    assert model.params["n_reference"] == alone[1].params["n_reference"]
    assert model.params["modalities"] == ["gene", "genome"]


def test_labels_with_a_healthy_class_are_the_reference(planted, nobody_asks):
    adata = planted()
    adata.obs["tissue"] = np.where(adata.obs["clone"], "tumour", "healthy")
    adata.obs.iloc[::5, adata.obs.columns.get_loc("tissue")] = "unlabelled"
    reference, contrast = choose_reference(
        Tissue(adata), **(NOTHING | {"labels": read_labels(adata, "tissue"), "healthy": ["healthy"]})
    )
    np.testing.assert_array_equal(reference.spots, adata.obs["tissue"] == "healthy")
    np.testing.assert_array_equal(reference.labels >= 0, adata.obs["tissue"] != "unlabelled")
    assert contrast is None and not reference.found and reference.healthy_classes.sum() == 1


def test_labels_without_a_healthy_class_need_one(planted, content):
    """Annotated tumours of two kinds: the error asks for the healthy class, before slides are."""
    adata = planted()
    adata.obs["tissue"] = np.where(np.arange(400) % 2, "invasive", "in situ")
    before = content(adata)
    with pytest.raises(ValueError, match="pass healthy_label=.*or a boolean reference_key="):
        tl.fit(adata, labels_key="tissue", **{**QUICK, "config": None})
    assert content(adata) == before


def test_labels_without_a_healthy_class_leave_the_slide_to_tell(planted):
    adata = planted()
    adata.obs["tissue"] = np.where(np.arange(400) % 2, "invasive", "in situ")
    labels = read_labels(adata, "tissue")
    reference, contrast = choose_reference(Tissue(adata), **(NOTHING | {"labels": labels}))
    assert contrast is not None and reference.found and not reference.healthy_classes.any()
    assert reference.spots.any() and not (reference.spots & adata.obs["clone"].to_numpy()).any()
    adata.obs["mine"] = np.arange(400) < 100
    marked, contrast = choose_reference(Tissue(adata), **(NOTHING | {"labels": labels, "reference_key": "mine"}))
    assert contrast is None and marked.spots.sum() == 100 and not marked.found


# Several slides.


def test_of_several_slides_those_that_tell_give_the_reference_and_all_are_scored(planted):
    adata = slides(flat=planted(share=0.0, seed=1), told=planted())
    with pytest.warns(UserWarning, match="flat.*'contrast'"):
        model = tl.fit(adata, library_key="slide", **QUICK)
    told = (adata.obs["slide"] == "told").to_numpy()
    reference = adata.obs["omib_reference"].to_numpy()
    assert reference[told].any() and not reference[~told].any() and not (reference & adata.obs["clone"]).any()
    assert adata.uns["omib_reference"]["answered"].tolist() == [False, True]
    assert adata.obs["omib_score"].notna().all() and model.params["modalities"][-1] == "contrast"
    own = adata.obs[told]
    assert roc_auc_score(own["clone"], own["omib_score"]) > 0.95
    # The healthy slide lies nearer to what is healthy than the clone does.
    assert adata.obs["omib_score"][~told].median() < own["omib_score"][own["clone"]].median()


def test_slides_none_of_which_tells_are_each_named(planted):
    adata = slides(one=planted(share=0.0, seed=1), two=planted(share=0.0, seed=2))
    with pytest.raises(ValueError, match=r"Slide 'one': cannot tell.*Slide 'two': cannot tell.*Ways on"):
        choose_reference(Tissue(adata, Layout(library_key="slide")), **NOTHING)


# Real tissue.


@needs("her2st/B4.h5ad")
def test_a_real_section_alone(monkeypatch):
    monkeypatch.setattr("omib_spatial.stats.contrast.REPLICAS", 25)
    adata = ad.read_h5ad(DATA / "her2st" / "B4.h5ad")
    tl.fit(adata, max_epochs=3, enable_progress_bar=False)
    known = adata.obs["anomaly"] >= 0
    truth = adata.obs["anomaly"][known] == 1
    assert roc_auc_score(truth, adata.obs["omib_score"][known]) > 0.9
    marked = adata.obs["anomaly"][adata.obs["omib_reference"] & known]
    assert (marked == 0).mean() > 0.9


def real(name: str) -> ad.AnnData:
    if name == "crc16_outs":
        adata = sc.read_10x_h5(DATA / name / "filtered_feature_bc_matrix.h5")
    else:
        adata = ad.read_h5ad(DATA / name)
    adata.var_names_make_unique()
    return adata


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=needs(name))
        for name in ("crc16_outs", "visium/msti_breast.h5ad", "visium/mouse_section.h5ad")
        + ("prostate/prostate_cancer_ffpe.h5ad", "prostate/prostate_normal_ffpe.h5ad")
    ],
)
@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_the_genome_of_real_slides_is_taken_without_columns(name, caplog):
    adata = real(name)
    adata.var = adata.var.drop(columns=["chromosome", "start", "end"], errors="ignore")
    with warnings.catch_warnings(), caplog.at_level(logging.INFO, "omib_spatial"):
        warnings.simplefilter("ignore", UserWarning)
        tissue = Tissue(adata)
        assert NAMED["genome"].offered(tissue)
        assert "genome" in choose_modalities(tissue)
    assert "Expression along the genome is used" in caplog.text and "shipped table" in caplog.text


def test_marks_that_differ_from_what_the_slides_tell_are_not_replaced(planted):
    adata = planted()
    adata.obs["omib_reference"] = np.arange(adata.n_obs) % 2 == 0
    before = adata.obs["omib_reference"].copy()
    with pytest.raises(ValueError, match="pass reference_key='omib_reference' to use it, or delete it"):
        tl.fit(adata, **QUICK)
    assert adata.obs["omib_reference"].equals(before) and "omib" not in adata.uns
    assert tl.fit(adata, reference_key="omib_reference", **QUICK).params["n_reference"] == before.sum()


def test_a_contrast_that_the_user_made_finds_the_reference(planted):
    adata = planted()
    backwards = Contrast({"rest": (-1.0, PROLIFERATION)})
    model = tl.fit(adata, modalities={"gene": NAMED["gene"](), "contrast": backwards}, **QUICK)
    assert list(model.modalities) == ["gene", "contrast"]
    assert roc_auc_score(adata.obs["clone"], adata.obs["omib_reference_score"]) < 0.05


@pytest.mark.parametrize("other", [{"reference_key": "clone"}, {"labels_key": "clone"}])
def test_all_healthy_and_another_word_on_it_contradict(planted, other):
    with pytest.raises(ValueError, match=f"all_healthy=True .* {next(iter(other))}= that some are"):
        tl.fit(planted(), all_healthy=True, **other, **QUICK)
    with pytest.raises(TypeError, match="all_healthy is True or False, not 'no'"):
        tl.fit(planted(), all_healthy="no", **QUICK)
