import anndata as ad
import numpy as np
import pandas as pd
import pytest

from omib_spatial import tl


@pytest.fixture(scope="module")
def divided(kinds):
    adata, model = kinds(2, "extra")
    # Of what is called: the discs, and not what lies beside them.
    adata.obs["omib_call"] = adata.obs["omib_call"].where(adata.obs["kind"] > 0, "not called")
    tl.explain(adata, model)
    # Four discs are too few for the test against one kind: what is looked at is which spots go together.
    tl.subtypes(adata, max_subtypes=2, level=0.999)
    return adata


def test_two_kinds_are_found_and_shared_by_both_slides(divided):
    known = divided.obs["omib_subtype"].notna() & (divided.obs["kind"] > 0)
    both = pd.crosstab(divided.obs["kind"][known], divided.obs["omib_subtype"][known])
    assert both.shape == (2, 2) and both.max(axis=1).sum() > 0.95 * both.to_numpy().sum()
    table = divided.uns["omib_subtypes"]["kinds"]
    own = table[table["slice"].isin(["slide3", "slide4"])]
    assert (own.groupby("subtype")["slice"].nunique() == 2).all()
    called = divided.obs["omib_call"] == "abnormal"
    np.testing.assert_array_equal(divided.obs["omib_subtype"].notna(), called)
    assert len(divided.uns["omib_subtype_colors"]) == 2 and table["n_spots"].sum() == called.sum()


def test_one_kind_is_an_answer(kinds):
    adata, model = kinds(1)
    # Of what is called: the discs, and not the specks beside them.
    adata.obs["omib_call"] = adata.obs["omib_call"].where(adata.obs["kind"] > 0, "not called")
    tl.explain(adata, model)
    copied = tl.subtypes(adata, copy=True)
    assert list(copied.obs["omib_subtype"].cat.categories) == ["kind 1"] and "omib_subtype" not in adata.obs
    assert copied.uns["omib_subtypes"]["params"]["pvalue"] > 0.05
    assert not copied.uns["omib_subtypes"]["choice"]["chosen"].any()


def test_kinds_survive_files_and_go_with_the_call(divided, tmp_path):
    divided.write_h5ad(tmp_path / "a.h5ad")
    read = ad.read_h5ad(tmp_path / "a.h5ad")
    for name in ("kinds", "choice"):
        back, table = (a.uns["omib_subtypes"][name].astype(str).reset_index(drop=True) for a in (read, divided))
        assert back.equals(table)
    tl.call(read, question="any")
    assert "omib_subtype" not in read.obs and "omib_subtypes" not in read.uns


def test_errors_name_the_way_on(divided, content):
    adata = divided.copy()
    before = content(adata)
    for options, error, words in (
        ({"use_rep": "X_none"}, KeyError, "use_rep is one of"),
        ({"key_added": "other"}, KeyError, r"tl\.call"),
        ({"max_subtypes": 0}, ValueError, "max_subtypes"),
        ({"n_null": 5}, ValueError, "n_null"),
    ):
        with pytest.raises(error, match=words):
            tl.subtypes(adata, **options)
    assert content(adata) == before
    adata.obs["omib_call"] = "not called"
    with pytest.raises(ValueError, match="No spot is called"):
        tl.subtypes(adata)
    del adata.obsm["X_omib_deviation"]
    with pytest.raises(KeyError, match=r"tl\.explain first"):
        tl.subtypes(adata)
