import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from omib_spatial import get, tl


@pytest.fixture(scope="module")
def explained(kinds):
    adata, model = kinds()
    tl.explain(adata, model, groupby="kind", n_spot_genes=4)
    return adata, model


def test_contributions_are_written_and_sum_to_the_score(explained):
    adata, _ = explained
    table = adata.obsm["omib_contributions"]
    assert list(table) == ["gene", "X_extra", "noise"]
    origin = get.explanation(adata, "slices").set_index("slice")["origin"]
    expected = adata.obs["omib_score"] - adata.obs["library_id"].astype(str).map(origin)
    np.testing.assert_allclose(table.sum(axis=1), expected, atol=1e-6)
    assert np.isfinite(adata.obsm["X_omib_deviation"]).all()


def test_planted_genes_come_first(explained):
    adata, _ = explained
    for kind, planted in adata.uns["planted"].items():
        genes = get.explanation(adata, "genes", group=kind)
        assert np.isin(genes.index[:12], planted).mean() > 0.7
        top = genes[genes.index.isin(planted)]
        assert (top["change"] > 0).all() and genes["contribution"].is_monotonic_decreasing
        shares = get.explanation(adata, group=kind)["share"]
        assert shares["gene"] > 0.7 and shares.sum() == pytest.approx(1)


def test_a_planted_modality_comes_first(kinds):
    adata, model = kinds(1, "extra")
    tl.explain(adata, model, groupby="kind")
    assert get.explanation(adata, group="1")["share"]["X_extra"] > 0.6
    features = get.explanation(adata, "features", group="1")
    assert features["contribution"].idxmax() == "feature 1"


def test_removing_the_genes_that_come_first_lowers_scores_more_than_removing_others(explained):
    """The genes' counts are drawn anew, at their rate on the healthy side, and the model scores what is left."""
    adata, model = explained
    genes = get.explanation(adata, "genes", group="called").index
    counts, depth = adata.X.toarray(), np.asarray(adata.X.sum(1)).ravel()
    called = (adata.obs["omib_call"] == "abnormal").to_numpy()

    def beyond(removed) -> float:
        columns = adata.var_names.get_indexer(removed)
        rate = counts[~called][:, columns].sum(0) / depth[~called].sum()
        changed = adata.copy()
        new = counts.copy()
        new[:, columns] = np.random.default_rng(0).poisson(np.outer(depth, rate))
        changed.X = new
        tl.score(changed, model)
        score, abnormal = changed.obs["omib_score"], adata.obs["kind"].to_numpy() > 0
        return float(score[abnormal].mean() - score[~abnormal].mean())

    others = np.random.default_rng(1).permutation(genes[24:])[:24]
    assert beyond(genes[:24]) < beyond(others) - 1


def test_genes_of_single_spots(explained):
    adata, _ = explained
    layer = adata.layers["omib_contributions"]
    called = (adata.obs["omib_call"] == "abnormal").to_numpy()
    np.testing.assert_array_equal(layer.getnnz(1), np.where(called, 4, 0))
    kind = (adata.obs["kind"] == 1).to_numpy() & called
    found = adata.var_names[np.argsort(-np.asarray(layer[kind].sum(0)).ravel())[:6]]
    assert np.isin(found, adata.uns["planted"]["1"]).all()


def test_genes_of_a_single_spot_are_those_that_speak_for_its_call(kinds):
    """Ranked as the table of its group ranks them: from the largest, and none that speaks against."""
    adata, model = kinds()
    spot = adata.obs_names[(adata.obs["omib_call"] == "abnormal") & (adata.obs["kind"] == 2)][0]
    adata.obs["alone"] = np.where(adata.obs_names == spot, "it", None)
    tl.explain(adata, model, groupby="alone", n_spot_genes=adata.n_vars)
    table = get.explanation(adata, "genes", group="it")["contribution"]
    layer = adata[spot].layers["omib_contributions"].toarray()[0]
    expected = table[table.astype(np.float32) > 0]
    assert 0 < len(expected) < len(table)
    np.testing.assert_allclose(layer[adata.var_names.get_indexer(expected.index)], expected, rtol=1e-3, atol=1e-6)
    assert set(adata.var_names[layer != 0]) == set(expected.index)


def test_what_was_said_is_checked(explained):
    adata, _ = explained
    table = get.explanation(adata, "check").set_index("modality")
    assert list(table.index) == ["gene", "X_extra"] and (table["relative_error"] < 0.3).all()
    assert table.loc["gene", "said"] > 3 * table.loc["X_extra", "said"]


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_tables_survive_files(explained, tmp_path, suffix):
    adata, _ = explained
    write = {"h5ad": adata.write_h5ad, "zarr": adata.write_zarr}[suffix]
    write(tmp_path / f"a.{suffix}")
    read = {"h5ad": ad.read_h5ad, "zarr": ad.read_zarr}[suffix](tmp_path / f"a.{suffix}")
    for name in ("modalities", "genes", "features", "check", "slices"):
        back, table = (get.explanation(a, name).astype(str).reset_index(drop=True) for a in (read, adata))
        assert back.equals(table)
    assert list(get.explanation(read, "genes", group="called").index) == list(
        get.explanation(adata, "genes", group="called").index
    )
    np.testing.assert_allclose(read.obsm["omib_contributions"], adata.obsm["omib_contributions"])


def test_what_was_explained_goes_with_the_call_and_with_the_score(explained):
    adata, model = explained[0].copy(), explained[1]
    tl.call(adata, question="any")
    assert "omib_explain" not in adata.uns and "omib_contributions" in adata.obsm
    tl.score(adata, model)
    assert not {"omib_contributions", "X_omib_deviation"} & {*adata.obsm} and "omib_contributions" not in adata.layers


def test_scanpy_takes_over(explained):
    """The line of docs/explaining.md."""
    adata = explained[0].copy()
    adata.obs["omib_call"] = adata.obs["omib_call"].where(adata.obs["kind"] > 0, "not called")
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.tl.rank_genes_groups(adata, "omib_call", groups=["abnormal"], reference="not called")
    names = sc.get.rank_genes_groups_df(adata, "abnormal")["names"]
    assert np.isin(names[:12], sum(adata.uns["planted"].values(), [])).mean() > 0.7


def test_errors_name_the_way_on_and_leave_adata_as_it_was(kinds, content):
    adata, model = kinds()
    before = content(adata)
    with pytest.raises(TypeError, match=r"obs\['omib_score'\] holds measured numbers, and groupby= needs groups"):
        tl.explain(adata, model, groupby="omib_score")
    with pytest.raises(KeyError, match="groupby is one of"):
        tl.explain(adata, model, groupby="nothing")
    with pytest.raises(KeyError, match=r"tl\.score first"):
        tl.explain(adata, model, key_added="other")
    with pytest.raises(ValueError, match="n_steps"):
        tl.explain(adata, model, n_steps=0)
    with pytest.raises(TypeError, match=r"pass models\[donor\]"):
        tl.explain(adata, {"A": model})
    assert content(adata) == before
    adata.obs["omib_score"] += 1
    with pytest.raises(ValueError, match="Score again"):
        tl.explain(adata, model)


def test_a_copy_without_any_call(kinds):
    adata, model = kinds()
    adata.obs["omib_call"] = adata.obs["omib_call"].where(adata.obs["omib_call"] != "abnormal", "not called")
    copied = tl.explain(adata, model, copy=True)
    assert "omib_explain" not in adata.uns and "omib_contributions" in copied.obsm
    assert set(copied.uns["omib_explain"]) == {"slices", "params"}


@pytest.mark.filterwarnings("ignore")
def test_called_spots_that_lie_at_the_origin_are_explained_by_nothing(kinds):
    """As where a slide has two spots, both of which are called."""
    adata, model = kinds()
    few = adata[:2].copy()
    tl.score(few, model)
    few.obs["omib_call"] = pd.Categorical(["abnormal"] * 2, ["not called", "abnormal"])
    tl.explain(few, model)
    check = get.explanation(few, "check")
    assert np.isfinite(check["error"]).all() and len(check) == 2
