"""One row per slide and patient, and every number counted again by hand."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import omib_spatial as omib


@pytest.fixture(scope="module")
def fitted() -> ad.AnnData:
    adata = omib.datasets.simulate_tissue(2, n_spots=120, n_genes=60, n_healthy=1, image=False)
    adata.obs["donor"] = np.where(adata.obs["library_id"] == "slide1", "P1", "P2")
    omib.tl.fit(adata, modalities=["gene"], reference_key="healthy", library_key="library_id", max_epochs=6)
    # Whatever so short a training found: the highest scores of each slide.
    high = adata.obs["omib_score"] > adata.obs.groupby("library_id", observed=True)["omib_score"].transform(
        "quantile", 0.8
    )
    adata.obs["omib_call"] = pd.Categorical(np.where(high, "abnormal", "not called"), ["not called", "abnormal"])
    return adata


@pytest.fixture
def scored(fitted) -> ad.AnnData:
    return fitted.copy()


def test_numbers_are_those_of_the_slide(scored, content):
    omib.tl.regions(scored, n_fields=9, min_spots=1, spot_diameter_um=55)
    before = content(scored)
    table = omib.tl.summarise(scored, patient_key="donor")
    assert content(scored) == before
    assert table["slide"].tolist() == ["slide1", "slide2"] and table["patient"].tolist() == ["P1", "P2"]
    regions = scored.uns["omib_regions"]
    for row in table.itertuples():
        own = scored[scored.obs["library_id"] == row.slide]
        found = regions[regions["slice"] == row.slide]
        called = (own.obs["omib_call"] == "abnormal").sum()
        assert (row.n_spots, row.n_scored, row.n_called) == (120, 120, called)
        assert row.share_called == pytest.approx(called / 120)
        assert row.median_counts == np.median(np.asarray(own.X.sum(1)))
        assert (row.n_regions, row.region_spots) == (len(found), called)
        assert row.largest_region_spots == found["n_spots"].max()
        assert row.region_mm2 == pytest.approx(found["area"].sum() / 1e6)
        assert row.largest_region_mm2 == pytest.approx(found["area"].max() / 1e6)
        assert row.verdict == scored.uns["omib_slides"].loc[row.slide, "verdict"]
        assert row.modalities == "gene"
    assert table["n_clones"].isna().all() and table["n_subtypes"].isna().all()
    own, called = scored.obs["library_id"] == "slide2", scored.obs["omib_call"] == "abnormal"
    scored.obs["omib_subtype"] = np.where(called, np.where(own, "kind 1", "kind 2"), None)
    scored.obs.loc[scored.obs_names[own & called][:3], "omib_subtype"] = "kind 2"
    assert omib.tl.summarise(scored)["n_subtypes"].tolist() == [1, 2]


def test_several_patients_of_a_slide_have_a_row_each(scored):
    scored.obs["donor"] = [f"P{i % 3}" for i in range(scored.n_obs)]
    table = omib.tl.summarise(scored, patient_key="donor")
    assert len(table) == 6 and table.groupby("slide")["n_spots"].sum().tolist() == [120, 120]
    called = (scored.obs["omib_call"] == "abnormal").groupby(scored.obs["donor"]).sum()
    assert table.groupby("patient")["n_called"].sum().to_dict() == called.to_dict()


def test_what_was_not_run_is_missing_and_unknown_scales_are_nan(scored):
    assert omib.tl.summarise(scored)[["n_regions", "region_spots", "n_clones"]].isna().all(axis=None)
    scored.uns["spatial"] = {}
    omib.tl.regions(scored, n_fields=9, min_spots=1)
    table = omib.tl.summarise(scored)
    assert (table["n_regions"] > 0).all() and table["region_mm2"].isna().all()
    assert table["warnings"].str.contains("micrometres per pixel are not known").all()


def test_warnings_are_sentences(scored):
    scored.obs.iloc[:7, scored.obs.columns.get_loc("omib_score")] = np.nan
    scored.uns["omib"]["modalities"]["share"] = np.array([[0.25], [1.0]])
    shifts = pd.DataFrame(scored.uns["omib"]["shifts"])
    shifts["beyond"] = (shifts["slice"] == "slide2") & (shifts["statistic"] == shifts["statistic"].iloc[0])
    scored.uns["omib"]["shifts"] = {key: shifts[key].to_numpy() for key in shifts}
    first, second = omib.tl.summarise(scored)["warnings"]
    assert "7 spots could not be scored." in first and "the modality 'gene'" in first
    assert second.startswith("Unlike the healthy reference:") and "could not" not in second
    scored.uns["omib"]["modalities"]["share"] = np.array([[0.0], [1.0]])
    assert "No spot was judged by the modality 'gene'." in omib.tl.summarise(scored)["warnings"][0]


def test_files_of_both_kinds_and_memory_give_the_same(scored, tmp_path):
    scored.write_h5ad(tmp_path / "a.h5ad")
    scored.write_zarr(tmp_path / "a.zarr")
    table = omib.tl.summarise([scored, tmp_path / "a.h5ad", str(tmp_path / "a.zarr")])
    assert table["file"].tolist() == ["", ""] + [str(tmp_path / "a.h5ad")] * 2 + [str(tmp_path / "a.zarr")] * 2
    parts = [table.iloc[i : i + 2].drop(columns="file").reset_index(drop=True) for i in (0, 2, 4)]
    pd.testing.assert_frame_equal(parts[0], parts[1])
    pd.testing.assert_frame_equal(parts[0], parts[2])
    table.to_csv(tmp_path / "t.csv", index=False)
    assert pd.read_csv(tmp_path / "t.csv")["n_called"].tolist() == table["n_called"].tolist()


def test_what_is_not_scored_or_not_there_is_named(scored, tmp_path):
    omib.datasets.simulate_tissue(1, n_spots=80, n_genes=60, n_healthy=1, image=False).write_h5ad(tmp_path / "raw.h5ad")
    with pytest.raises(KeyError, match=r"raw\.h5ad: .*tl\.score first"):
        omib.tl.summarise([scored, tmp_path / "raw.h5ad"])
    with pytest.raises(FileNotFoundError, match=r"no\.h5ad does not exist"):
        omib.tl.summarise(tmp_path / "no.h5ad")
    with pytest.raises(KeyError, match="patient_key="):
        omib.tl.summarise(scored, patient_key="nobody")


def test_a_part_of_a_scored_slide_says_that_the_rest_is_missing(scored):
    omib.tl.regions(scored, n_fields=9, min_spots=1, spot_diameter_um=55)
    assert not omib.tl.summarise(scored)["warnings"].str.contains("of which").any()
    own = (scored.obs["library_id"] == "slide2").to_numpy()
    table = omib.tl.summarise(scored[own].copy())
    assert not table["warnings"].str.contains("of which").any(), "a whole slide of several"
    called = np.flatnonzero(own & (scored.obs["omib_call"] == "abnormal").to_numpy())
    table = omib.tl.summarise(scored[called[:5]].copy())
    (said,) = table["warnings"]
    assert "The verdict is of 120 scored spots, of which 5 are here." in said
    assert f"Regions are of {len(called)} spots, of which 5 are here: run omib_spatial.tl.regions again." in said
