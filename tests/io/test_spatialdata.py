"""A SpatialData has everything in its place, survives the disk, and is read back by ourselves."""

import numpy as np
import pandas as pd
import pytest
from spatialdata import get_element_annotators, read_zarr
from spatialdata.transformations import get_transformation

import omib_spatial as omib


def test_elements_lie_where_they_are_and_tables_annotate_them(two, tmp_path, content):
    before = content(two)
    sdata = omib.io.to_spatialdata(two)
    assert content(two) == before
    assert set(sdata.shapes) == {"A_spots", "B_spots", "A_regions", "B_regions"} and set(sdata.images) == {"A_image"}
    assert sorted(sdata.coordinate_systems) == ["A", "B"]
    sdata.write(tmp_path / "s.zarr")
    for each in (sdata, read_zarr(tmp_path / "s.zarr")):
        table, regions = each.tables["table"], each.tables["regions"]
        for name, diameter in (("A", 55), ("B", 50)):
            rows = (two.obs["section"] == name).to_numpy()
            circles = each.shapes[f"{name}_spots"].loc[table.obs.loc[rows, "instance_id"]]
            np.testing.assert_array_equal(
                np.stack([circles.geometry.x, circles.geometry.y], 1), two.obsm["spatial"][rows]
            )
            assert (circles["radius"] == diameter / 2).all()
            assert (table.obs.loc[rows, "region"] == f"{name}_spots").all()
        found = two.uns["omib_regions"]
        pd.testing.assert_frame_equal(
            regions.obs[["n_spots", "area", "pvalue"]], found[["n_spots", "area", "pvalue"]], check_names=False
        )
        shapes = omib.get.regions(two)
        for name, row in regions.obs.iterrows():
            assert each.shapes[row["region"]].geometry[row["instance_id"]].equals(shapes.geometry[name])
        matrix = get_transformation(each.images["A_image"], "A").to_affine_matrix(("x", "y"), ("x", "y"))
        np.testing.assert_allclose(matrix, np.diag([10, 10, 1]))
        assert get_element_annotators(each, "A_regions") == {"regions"}


def test_regions_are_found_again_in_it(two):
    sdata = omib.io.to_spatialdata(two)
    before = two.uns["omib_regions"]
    # Without the image, whose pixels outlines are else given in.
    del sdata.images["A_image"]
    omib.tl.regions(sdata, library_key="region", spot_diameter_um=55, n_fields=19)
    after = sdata.tables["table"].uns["omib_regions"]
    assert after["n_spots"].tolist() == before["n_spots"].tolist()
    assert after["slice"].tolist() == [f"{name}_spots" for name in before["slice"]]


def test_columns_that_link_spots_do_not_lose_the_user_s(two):
    two.obs["region"] = "mine"
    assert (omib.io.to_spatialdata(two).tables["table"].obs["region_of_adata"] == "mine").all()


def test_one_slide_without_regions_or_image(two):
    own = two[two.obs["section"] == "B"].copy()
    del own.uns["omib_regions"], own.uns["spatial"], own.uns["omib"]
    sdata = omib.io.to_spatialdata(own)
    assert set(sdata.tables) == {"table"} and not len(sdata.images) and sdata.coordinate_systems == ["global"]
    assert sdata.shapes["slide_spots"]["radius"].iloc[0] == pytest.approx(np.sqrt(2) * 25, rel=0.01)
