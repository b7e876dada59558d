"""Results as shapes."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import omib_spatial as omib

OUTLINES = ["POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0), (1 1, 1 2, 2 2, 2 1, 1 1))", "POLYGON ((5 5, 6 5, 6 6, 5 6, 5 5))"]


@pytest.fixture
def adata() -> AnnData:
    table = pd.DataFrame({"slice": ["A", "B"], "area": [60.0, 4.0], "outline": OUTLINES}, ["A:1", "B:1"])
    return AnnData(np.ones((1, 1), np.float32), uns={"omib_regions": table, "mine_regions": table.iloc[:0]})


def test_outlines_become_polygons_with_holes(adata):
    found = omib.get.regions(adata)
    assert isinstance(found, gpd.GeoDataFrame) and found.index.tolist() == ["A:1", "B:1"]
    assert found.columns.tolist() == ["slice", "area", "geometry"]
    assert found.geometry.area.tolist() == [15, 1] and len(found.geometry.iloc[0].interiors) == 1
    assert found["area"].tolist() == [60, 4], "the column is in the unit of the table, not in pixels"
    assert "outline" in adata.uns["omib_regions"]


def test_no_regions_are_an_empty_table_and_not_yet_any_an_error(adata):
    found = omib.get.regions(adata, "mine")
    assert isinstance(found, gpd.GeoDataFrame) and len(found) == 0
    with pytest.raises(KeyError, match="run omib_spatial.tl.regions first"):
        omib.get.regions(adata, "other")


def test_shapes_are_written_for_other_programs(adata, tmp_path):
    found = omib.get.regions(adata)
    found.to_file(tmp_path / "regions.gpkg")
    back = gpd.read_file(tmp_path / "regions.gpkg")
    assert [one.equals(other) for one, other in zip(back.geometry, found.geometry, strict=True)] == [True, True]


def test_tables_of_an_explanation_by_group():
    adata = AnnData(np.ones((2, 1), np.float32))
    genes = pd.DataFrame({"group": ["called", "r"], "gene": ["A", "B"], "rank": [1, 1]})
    adata.uns["omib_explain"] = {"genes": genes, "slices": pd.DataFrame({"slice": ["a"]}), "params": {}}
    assert omib.get.explanation(adata, "genes").equals(genes) and omib.get.explanation(adata, "genes") is not genes
    assert omib.get.explanation(adata, "genes", group="r")["rank"].to_dict() == {"B": 1}
    for options, words in (
        ({"table": "arms"}, "genes"),
        ({"table": "genes", "group": "x"}, "called"),
        ({"table": "slices", "group": "r"}, "no groups"),
        ({"table": "genes", "key_added": "o"}, r"tl\.explain first"),
    ):
        with pytest.raises(KeyError, match=words):
            omib.get.explanation(adata, **options)
