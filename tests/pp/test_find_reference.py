"""What is marked as healthy on slides of which nobody has said it, and how sure that is."""

import logging

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from omib_spatial.modalities.contrast import Contrast
from omib_spatial.pp import find_reference
from omib_spatial.pp._find_reference import reference_of, write_reference
from omib_spatial.slides import Layout, Tissue
from omib_spatial.stats.contrast import SlideContrast

RECORD = ["slices", "answered", "agreement", "contiguity", "contiguity_by_chance", "reason"]


@pytest.fixture(scope="module", autouse=True)
def fewer_replicas():
    """A third of them tell as much of such clear slides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("omib_spatial.stats.contrast.REPLICAS", 8)
        yield


@pytest.fixture(scope="module")
def marked(planted) -> ad.AnnData:
    adata = planted()
    assert find_reference(adata) is None
    return adata


@pytest.fixture(scope="module")
def pair(planted) -> ad.AnnData:
    """Of two slides, ``b`` tells; spots are interleaved."""
    both = ad.concat({"b": planted(), "a": planted(share=0.0, seed=1)}, label="slide", index_unique="-", merge="same")
    both = both[np.random.default_rng(0).permutation(both.n_obs)].copy()
    find_reference(both, library_key="slide")
    return both


def said(adata: ad.AnnData) -> dict:
    return adata.uns["omib_reference"]


def test_a_clone_is_left_out_of_the_reference(marked):
    reference, score = marked.obs["omib_reference"], marked.obs["omib_reference_score"]
    assert reference.dtype == bool and 40 <= reference.sum() < marked.n_obs / 2
    assert not (reference & marked.obs["clone"]).any()
    assert score.mean() == pytest.approx(0, abs=1e-9) and score.std(ddof=0) == pytest.approx(1)
    assert score[reference].max() < score[marked.obs["clone"]].median()


def test_it_writes_what_it_says_and_nothing_else(planted, marked, content):
    stripped = marked.copy()
    for name in ("omib_reference", "omib_reference_score"):
        del stripped.obs[name]
    assert list(stripped.uns.pop("omib_reference")) == RECORD
    assert content(stripped) == content(planted())


def test_how_sure_each_slide_is_is_kept(marked, pair):
    assert said(marked)["answered"].tolist() == [True]
    record = said(pair)
    assert record["slices"].tolist() == ["b", "a"] and record["answered"].tolist() == [True, False]
    assert record["agreement"][0] >= 0.9 and (record["contiguity"] > record["contiguity_by_chance"])[0]
    assert "taken as healthy" in record["reason"][0] and record["reason"][1].startswith("cannot tell")
    assert all(len(record[name]) == 2 for name in RECORD)


def test_each_slide_is_judged_by_itself(marked, pair):
    on_a = pair.obs["slide"] == "a"
    assert not pair.obs.loc[on_a, "omib_reference"].any() and pair.obs.loc[on_a, "omib_reference_score"].notna().all()
    on_b = pair[(~on_a).to_numpy()].obs
    alone = marked.obs.loc[on_b.index.str.removesuffix("-b")]
    np.testing.assert_array_equal(on_b["omib_reference"], alone["omib_reference"])
    np.testing.assert_allclose(on_b["omib_reference_score"], alone["omib_reference_score"], atol=0.1)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_it_survives_a_file(pair, tmp_path, suffix):
    path = tmp_path / f"marked.{suffix}"
    getattr(pair, f"write_{suffix}")(path)
    back = getattr(ad, f"read_{suffix}")(path)
    np.testing.assert_array_equal(back.obs["omib_reference"], pair.obs["omib_reference"])
    assert back.obs["omib_reference"].dtype == bool
    for name in RECORD:
        np.testing.assert_array_equal(said(back)[name], said(pair)[name])


def test_a_second_call_replaces_the_first_and_another_name_leaves_it(planted, marked):
    adata = marked.copy()
    adata.obs["omib_reference"] = False
    adata.uns["omib_reference"] = {"old": 1}
    find_reference(adata)
    np.testing.assert_array_equal(adata.obs["omib_reference"], marked.obs["omib_reference"])
    assert list(said(adata)) == RECORD
    find_reference(adata, signatures=None, key_added="other")
    assert not adata.obs["other"].any() and adata.obs["other_score"].isna().all()
    assert not adata.uns["other"]["answered"].any() and adata.obs["omib_reference"].any()


def test_without_signatures_it_refuses_unless_most_is_declared_healthy(planted, marked, caplog):
    adata = planted()
    with caplog.at_level(logging.INFO, "omib_spatial"):
        find_reference(adata, signatures=None)
    assert not adata.obs["omib_reference"].any() and adata.obs["omib_reference_score"].isna().all()
    assert "no signature has enough of its genes" in caplog.text and "(0 of 400 spots)" in caplog.text
    find_reference(adata, signatures=None, mostly_healthy=True)
    assert adata.obs["omib_reference"].any() and not (adata.obs["omib_reference"] & adata.obs["clone"]).any()
    assert np.corrcoef(adata.obs["omib_reference_score"], marked.obs["omib_reference_score"])[0, 1] > 0.95


def test_signatures_of_the_user_are_taken(planted):
    """The weight's sign says which kind is meant."""
    adata = planted()
    names = ["MKI67", "TOP2A", "PCNA", "TYMS", "CDK1", "CCNB1", "UBE2C", "HMGB2"]
    find_reference(adata, signatures={"mine": (-1, names)})
    assert adata.obs["clone"][adata.obs["omib_reference"]].mean() > 0.9


def test_layer_coordinates_graph_and_slices_are_read_where_the_user_has_them(planted, marked):
    adata = planted()
    adata.layers["counts"], adata.X = adata.X, sp.csr_matrix(adata.X * 0.5)
    adata.obsm["places"] = adata.obsm.pop("spatial")
    adata.obsp["near"] = Tissue(planted()).graph
    adata.obs["slide"] = "only"
    find_reference(adata, layer="counts", spatial_key="places", library_key="slide", neighbors_key="near")
    assert said(adata)["slices"].tolist() == ["only"]
    np.testing.assert_array_equal(adata.obs["omib_reference"], marked.obs["omib_reference"])


def test_counts_on_disk_give_the_same(planted, marked, tmp_path):
    planted().write_h5ad(tmp_path / "raw.h5ad")
    for opened in (
        ad.read_h5ad(tmp_path / "raw.h5ad", backed="r"),
        ad.experimental.read_lazy(tmp_path / "raw.h5ad"),
    ):
        find_reference(opened)
        np.testing.assert_array_equal(opened.obs["omib_reference"], marked.obs["omib_reference"])


@pytest.mark.parametrize(
    ("spoil", "options", "error", "says"),
    [
        (lambda a: a.obsm.pop("spatial"), {}, KeyError, "spatial"),
        (lambda a: setattr(a, "X", sp.csr_matrix(a.X * 0.5)), {}, ValueError, "Raw counts are needed"),
        (lambda a: a.obsm["spatial"].__setitem__(0, a.obsm["spatial"][1]), {}, ValueError, "at one place"),
        (lambda a: None, {"library_key": "nothing"}, KeyError, "nothing"),
        (lambda a: None, {"layer": "counts"}, KeyError, "counts"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(planted, content, spoil, options, error, says):
    adata = planted()
    spoil(adata)
    before = content(adata)
    with pytest.raises(error, match=says):
        find_reference(adata, **options)
    assert content(adata) == before


def test_a_view_is_refused(planted):
    with pytest.raises(ValueError, match="view of another AnnData"):
        find_reference(planted()[:200])


def test_reference_of_puts_slides_back_into_their_rows(pair, monkeypatch):
    """Written and handed out are the same, whatever the order of rows."""
    tissue = Tissue(pair.copy(), Layout(library_key="slide"))
    told = {
        "a": SlideContrast(np.zeros(400, bool), np.full(400, np.nan), np.nan, "no"),
        "b": SlideContrast(np.arange(400) % 4 == 0, np.arange(400.0), 0.95, "yes", (3.0, 2.0)),
    }
    contrast = Contrast()
    monkeypatch.setattr(contrast, "found", lambda asked: told)
    reference, score = reference_of(tissue, contrast)
    on_b = tissue.codes == 0
    assert not reference[~on_b].any() and np.isnan(score[~on_b]).all()
    np.testing.assert_array_equal(reference[on_b], told["b"].reference)
    np.testing.assert_array_equal(score[on_b], told["b"].score)
    write_reference(tissue.adata, tissue, contrast, "mine")
    np.testing.assert_array_equal(tissue.adata.obs["mine"], reference)
    np.testing.assert_array_equal(tissue.adata.obs["mine_score"], score)
    record = tissue.adata.uns["mine"]
    assert (
        record["reason"].tolist() == ["yes", "no"] and record["contiguity"][0] == 3 and np.isnan(record["agreement"][1])
    )
