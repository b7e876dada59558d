"""Kinds of anomaly of a cohort are those of its slides in one AnnData, and never outlive what they rested on."""

import anndata as ad
import pandas as pd
import pytest

from omib_spatial import tl
from omib_spatial.cli.kinds import seek_kinds


@pytest.fixture(scope="module")
def cohort(kinds, tmp_path_factory):
    """Four slides of one model, explained, a file each; and all of them with their kinds."""
    adata, model = kinds()
    tl.explain(adata, model)
    root, files = tmp_path_factory.mktemp("cohort"), {}
    for name, rows in adata.obs.groupby("library_id", observed=True).groups.items():
        files[str(name)] = root / f"{name}.h5ad"
        own = adata[rows].copy()
        own.obs_names = own.obs_names.str.replace(f"{name}", "spot")
        own.write_h5ad(files[str(name)])
    tl.subtypes(adata)
    return adata, files


def test_kinds_are_those_of_all_slides_together_and_written_once(cohort, tmp_path):
    adata, files = cohort
    told = []
    assert seek_kinds(files, tmp_path, shared=True, write_report=lambda name, _: told.append(name)) == ""
    assert told == list(files)
    for name, path in files.items():
        own = ad.read_h5ad(path)
        expected = adata.obs["omib_subtype"][adata.obs["library_id"] == name]
        assert own.obs["omib_subtype"].astype(str).tolist() == expected.astype(str).tolist()
        assert own.obs["omib_subtype"].cat.categories.equals(expected.cat.categories)
    table = pd.read_csv(tmp_path / "subtypes.csv")
    assert table["n_spots"].sum() == adata.obs["omib_subtype"].notna().sum()
    assert set(table["slice"]) == set(adata.obs["library_id"][adata.obs["omib_subtype"].notna()])
    told.clear()
    seek_kinds(files, tmp_path, shared=True, write_report=lambda name, _: told.append(name))
    assert told == []


def test_kinds_go_where_they_cannot_be_told(cohort, tmp_path):
    _, files = cohort
    seek_kinds(files, tmp_path, shared=True, write_report=lambda *_: None)
    some = {name: files[name] for name in ("slide1", "slide3")}
    table = pd.read_csv(tmp_path / "subtypes.csv")
    assert {"slide3", "slide4"} <= set(table["slice"])
    for name in some:
        own = ad.read_h5ad(files[name])
        if name == "slide1":
            own.obs["omib_call"] = "not called"
        own.write_h5ad(files[name])
    assert "fewer than two" in seek_kinds(some, tmp_path, shared=True, write_report=lambda *_: None)
    assert not (tmp_path / "subtypes.csv").exists()
    assert "omib_subtype" not in ad.read_h5ad(files["slide3"]).obs
    assert "do not compare" in seek_kinds(files, tmp_path, shared=False, write_report=lambda *_: None)
    assert not any("omib_subtypes" in ad.read_h5ad(path).uns for path in files.values())
