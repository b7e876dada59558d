"""Regions are read from calls, written at the end, and survive files."""

from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import shapely
from scipy.sparse import csr_matrix
from spatialdata import SpatialData, read_zarr
from spatialdata.models import ShapesModel, TableModel
from spatialdata.transformations import Scale

import omib_spatial as omib
from omib_spatial.slides.graph import spatial_graph
from omib_spatial.stats.regions import region_pvalues
from omib_spatial.stats.smooth import average_around

SIDE, PITCH = 12, 100.0
CALLS = ["abnormal", "not called"]


def slide(name: str, blocks: list[tuple[slice, slice]], seed: int = 0) -> ad.AnnData:
    """A square grid with blocks of called spots that score higher."""
    called = np.zeros((SIDE, SIDE), bool)
    for block in blocks:
        called[block] = True
    n = SIDE**2
    obs = pd.DataFrame({"section": pd.Categorical([name] * n)}, index=[f"{name}_{i}" for i in range(n)])
    adata = ad.AnnData(np.ones((n, 1), np.float32), obs=obs, obsm={"spatial": np.argwhere(called | True) * PITCH + 200})
    noise = average_around(np.random.default_rng(seed).normal(size=n), spatial_graph(adata), np.arange(n), 2)
    adata.obs["omib_score"] = noise + 5 * called.ravel()
    adata.obs["omib_call"] = pd.Categorical(np.where(called.ravel(), *CALLS), CALLS)
    return adata


@pytest.fixture
def two() -> ad.AnnData:
    """A has a block of 5 x 5 with a hole in it and a speck of two, B a block of 3 x 4 and one of 6; rows are mixed."""
    a, b = slide("A", [np.s_[2:7, 2:7], np.s_[9:11, 9]]), slide("B", [np.s_[1:4, 1:5], np.s_[8:10, 6:9]], seed=1)
    inner = 4 * SIDE + 4
    a.obs.loc[f"A_{inner}", ["omib_score", "omib_call"]] = [-1.0, "not called"]
    both = ad.concat([a, b])
    both.obs["section"] = both.obs["section"].astype("category")
    both.uns["spatial"] = {
        "A": {"scalefactors": {"microns_per_pixel": 0.5, "spot_diameter_fullres": 55.0}},
        "B": {"scalefactors": {"spot_diameter_fullres": 50.0}},
    }
    return both[np.random.default_rng(2).permutation(both.n_obs)].copy()


def pvalues(adata: ad.AnnData, name: str, n_fields: int) -> np.ndarray:
    """What `region_pvalues` says of the regions of one slice."""
    own = adata[adata.obs["section"] == name]
    graph = spatial_graph(own, library_key="section")
    smooth = partial(average_around, graph=graph, rows=np.arange(own.n_obs), hops=2)
    apart = np.abs(own.obsm["spatial"][:, None] - own.obsm["spatial"]).max(2)
    beside = csr_matrix((apart > 0) & (apart <= PITCH))
    labels, called = own.obs["omib_region"].cat.remove_unused_categories().cat.codes, own.obs["omib_call"] == "abnormal"
    return region_pvalues(
        own.obs["omib_score"].to_numpy(), labels.to_numpy(), called.to_numpy(), beside, smooth, n_fields
    )


def test_regions_zones_and_table_are_written(two):
    with pytest.warns(UserWarning, match="on slices 'B' are in pixels, .* pass spot_diameter_um="):
        assert omib.tl.regions(two, library_key="section", n_fields=99) is None
    table = two.uns["omib_regions"]
    assert table.index.tolist() == ["A:1", "B:1", "B:2"] and table["slice"].tolist() == ["A", "B", "B"]
    assert table["n_spots"].tolist() == [25, 12, 6] and table["n_called"].tolist() == [24, 12, 6]
    np.testing.assert_allclose(table["area"], [25 * 50**2, 12 * 100**2, 6 * 100**2])
    np.testing.assert_allclose(table["perimeter"], [20 * 50, 14 * 100, 10 * 100])
    assert table["unit"].tolist() == ["um", "px", "px"]
    np.testing.assert_array_equal(table["um_per_pixel"], [0.5, np.nan, np.nan])
    np.testing.assert_allclose(table[["centroid_x", "centroid_y"]].loc["A:1"], [600, 600])
    for name in ("A", "B"):
        np.testing.assert_array_equal(table["pvalue"][table["slice"] == name], pvalues(two, name, 99))
    obs = two.obs
    assert obs["omib_region"].cat.categories.tolist() == table.index.tolist()
    for name, row in table.iterrows():
        own = obs[obs["omib_region"] == name]
        assert len(own) == row["n_spots"] and set(own["section"]) == {row["slice"]}
        np.testing.assert_allclose(row[["mean_score", "max_score"]].tolist(), own["omib_score"].agg(["mean", "max"]))
        shape = shapely.from_wkt(row["outline"])
        there = two.obsm["spatial"][(obs["section"] == row["slice"]).to_numpy()]
        inside = shapely.contains_xy(shape, *there.T)
        assert inside.sum() == row["n_spots"]
    # Of 5 x 5 the inner 3 x 3 are core, around it lie 7 x 7; the speck is in no region and in no zone.
    zone = obs.loc[obs["section"] == "A", "omib_region_zone"]
    assert zone.cat.categories.tolist() == ["core", "edge", "ring"]
    assert zone.value_counts().to_dict() == {"core": 9, "edge": 16, "ring": 24}
    speck = ["A_117", "A_129"]
    assert (obs.loc[speck, "omib_call"] == "abnormal").all()
    assert obs.loc[speck, ["omib_region", "omib_region_zone"]].isna().all(axis=None)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize("empty", [False, True])
def test_what_is_written_survives_files_unchanged(two, tmp_path, suffix, empty):
    if empty:
        two.obs["omib_call"] = pd.Categorical(["not called"] * two.n_obs, CALLS)
    omib.tl.regions(two, library_key="section", spot_diameter_um=55, n_fields=19)
    getattr(two, f"write_{suffix}")(tmp_path / f"two.{suffix}")
    back = getattr(ad, f"read_{suffix}")(tmp_path / f"two.{suffix}")
    pd.testing.assert_frame_equal(back.uns["omib_regions"], two.uns["omib_regions"])
    pd.testing.assert_frame_equal(back.obs, two.obs)
    assert len(back.uns["omib_regions"]) == (0 if empty else 3)
    assert back.obs["omib_region"].isna().all() == empty
    assert omib.get.regions(back).equals(omib.get.regions(two))


def test_the_run_that_gave_the_score_says_where_things_are(two):
    omib.tl.regions(two, library_key="section", spot_diameter_um=55, n_fields=19)
    other = two.copy()
    other.obsm["xy"] = other.obsm.pop("spatial")
    for key in ("score", "call"):
        other.obs[f"mine_{key}"] = other.obs.pop(f"omib_{key}")
    other.obsp["near"] = spatial_graph(other, spatial_key="xy", library_key="section")
    params = {"library_key": "section", "spatial_key": "xy", "neighbors_key": "near", "n_neighbors": 3}
    other.uns["mine"] = {"params": params}
    omib.tl.regions(other, key_added="mine", spot_diameter_um=55, n_fields=19)
    pd.testing.assert_frame_equal(other.uns["mine_regions"], two.uns["omib_regions"])
    assert other.obs["mine_region"].equals(two.obs["omib_region"])
    assert other.obs["mine_region_zone"].equals(two.obs["omib_region_zone"])


def test_a_slice_by_itself_gives_the_same_and_needs_no_name(two):
    omib.tl.regions(two, library_key="section", spot_diameter_um=55, n_fields=49)
    alone = two[two.obs["section"] == "B"].copy()
    alone.uns["spatial"] = {"B": two.uns["spatial"]["B"]}
    omib.tl.regions(alone, spot_diameter_um=55, n_fields=49)
    expected = two.uns["omib_regions"].loc[["B:1", "B:2"]]
    assert alone.uns["omib_regions"].index.tolist() == ["1", "2"]
    pd.testing.assert_frame_equal(alone.uns["omib_regions"].reset_index(drop=True), expected.reset_index(drop=True))
    nameless = alone.copy()
    del nameless.uns["spatial"]
    with pytest.warns(UserWarning, match="on this slice are in pixels"):
        omib.tl.regions(nameless, n_fields=49)
    assert nameless.uns["omib_regions"]["slice"].tolist() == ["", ""]


def test_the_given_diameter_gives_the_scale_and_what_is_written_down_goes_first(two, recwarn):
    omib.tl.regions(two, library_key="section", spot_diameter_um=100, n_fields=9)
    assert two.uns["omib_regions"]["um_per_pixel"].tolist() == [0.5, 2, 2]
    assert two.uns["omib_regions"]["area"].tolist() == pytest.approx([25 * 50**2, 12 * 200**2, 6 * 200**2])
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]
    del two.uns["spatial"]["B"]["scalefactors"]["spot_diameter_fullres"]
    with pytest.warns(UserWarning, match=r"on slices 'B' are in pixels.*= alone does not give them; set 'spot_diam"):
        omib.tl.regions(two, library_key="section", spot_diameter_um=100, n_fields=9)
    assert two.uns["omib_regions"]["unit"].tolist() == ["um", "px", "px"]


def test_sizes_of_regions_and_holes_can_be_chosen(two):
    omib.tl.regions(two, library_key="section", min_spots=2, min_hole_spots=1, spot_diameter_um=55, n_fields=9)
    table = two.uns["omib_regions"]
    assert table["n_spots"].tolist() == [24, 2, 12, 6]
    assert len(omib.get.regions(two).geometry.iloc[0].interiors) == 1
    omib.tl.regions(two, library_key="section", min_spots=13, spot_diameter_um=55, n_fields=9)
    assert two.uns["omib_regions"].index.tolist() == ["A:1"]


def test_spots_without_a_call_are_in_no_hole_and_no_ring(two):
    for spot in ("A_52", "A_13"):
        two.obs.loc[spot, ["omib_score", "omib_call"]] = [np.nan, None]
    omib.tl.regions(two, library_key="section", spot_diameter_um=55, n_fields=9)
    assert two.obs.loc[["A_52", "A_13"], ["omib_region", "omib_region_zone"]].isna().all(axis=None)
    assert two.uns["omib_regions"].loc["A:1", "n_spots"] == 24
    assert two.obs.loc["A_14", "omib_region_zone"] == "ring"


def test_a_copy_has_the_regions_and_adata_none(two, content):
    before = content(two)
    copied = omib.tl.regions(two, library_key="section", spot_diameter_um=55, n_fields=9, copy=True)
    assert content(two) == before and len(copied.uns["omib_regions"]) == 3


def test_a_slide_that_is_all_called_has_a_region_without_pvalue():
    adata = slide("A", [np.s_[:, :]])
    with pytest.warns(UserWarning, match="Regions '1' have no p-value"):
        omib.tl.regions(adata)
    assert np.isnan(adata.uns["omib_regions"]["pvalue"]).all()
    assert adata.uns["omib_regions"]["n_spots"].tolist() == [SIDE**2]
    assert (adata.obs["omib_region_zone"] == "edge").sum() == 4 * (SIDE - 1)


def test_the_same_seed_gives_the_same_and_averaging_counts(two):
    two.obs["omib_score"] -= 4.8 * (two.obs["omib_call"] == "abnormal")

    def found(**options):
        omib.tl.regions(two, library_key="section", spot_diameter_um=55, n_fields=199, **options)
        return two.uns["omib_regions"]

    first = found(seed=1)
    pd.testing.assert_frame_equal(found(seed=1), first)
    assert (found(seed=2)["pvalue"] != first["pvalue"]).any()
    rough = found(pooling_hops=0)["pvalue"]
    assert (rough <= first["pvalue"]).all() and rough["A:1"] < first["pvalue"]["A:1"], (
        "smoothed noise has larger regions"
    )
    # What the run has recorded is taken where nothing is asked for.
    two.uns["omib"] = {"params": {"pooling_hops": 0}}
    pd.testing.assert_series_equal(found()["pvalue"], rough)


@pytest.mark.parametrize(
    ("change", "options", "error", "says"),
    [
        (lambda a: a.obs.pop("omib_call"), {}, KeyError, r"obs\['omib_call'\] .* run omib_spatial.tl.score"),
        (lambda a: a.obs.pop("omib_score"), {}, KeyError, r"obs\['omib_score'\]"),
        (lambda a: a.obs.__setitem__("omib_call", a.obs["omib_call"] == "abnormal"), {}, ValueError, "False', 'True"),
        (lambda a: a.obs.__setitem__("omib_score", np.nan), {}, ValueError, "missing for called spots"),
        (lambda a: a.obsm.pop("spatial"), {}, KeyError, "spatial_key="),
        (lambda a: None, {"library_key": "patient"}, KeyError, "library_key="),
        (lambda a: None, {"library_key": None}, ValueError, "library_key="),
        (lambda a: None, {"min_spots": 0}, ValueError, "min_spots"),
        (lambda a: None, {"n_fields": 0}, ValueError, "n_fields"),
        (lambda a: None, {"spot_diameter_um": -1}, ValueError, "spot_diameter_um"),
        (lambda a: None, {"key_added": "other"}, KeyError, "key_added="),
    ],
)
def test_nothing_is_written_when_it_fails(two, content, change, options, error, says):
    change(two)
    before = content(two)
    with pytest.raises(error, match=says):
        omib.tl.regions(two, **({"library_key": "section", "n_fields": 9} | options))
    assert content(two) == before


def test_a_view_is_refused(two):
    with pytest.raises(ValueError, match="view"):
        omib.tl.regions(two[:50], library_key="section")


def test_a_spatialdata_gets_its_regions_and_survives_a_file(two, tmp_path):
    omib.tl.regions(two, library_key="section", spot_diameter_um=55, n_fields=19)
    shapes, pieces = {}, []
    for name in ("A", "B"):
        own = two[two.obs["section"] == name].copy()
        to_pixels = {name: Scale([4, 4], axes=("x", "y"))}
        shapes[name] = ShapesModel.parse(own.obsm["spatial"] / 4, geometry=0, radius=6.25, transformations=to_pixels)
        own.obs["spot"] = np.arange(own.n_obs)
        pieces.append(own)
    table = ad.concat(pieces)
    table.obs["section"] = table.obs["section"].astype("category")
    del table.obsm["spatial"]
    for key in ("omib_region", "omib_region_zone"):
        del table.obs[key]
    table = TableModel.parse(table, region=["A", "B"], region_key="section", instance_key="spot")
    sdata = SpatialData(shapes=shapes, tables={"spots": table})
    before = set(sdata.tables["spots"].obs)
    omib.tl.regions(sdata, table_key="spots", spot_diameter_um=100, n_fields=19)
    found = sdata.tables["spots"]
    assert set(found.obs) - before == {"omib_region", "omib_region_zone"} and "spatial" not in found.uns
    # Spots are 50 pixels wide there and true pixels of both slices are alike.
    same = ["n_spots", "n_called", "mean_score", "max_score", "centroid_x", "centroid_y"]
    pd.testing.assert_frame_equal(found.uns["omib_regions"][same], two.uns["omib_regions"][same])
    np.testing.assert_allclose(found.uns["omib_regions"]["um_per_pixel"], 2)
    sdata.write(tmp_path / "two.zarr")
    back = read_zarr(tmp_path / "two.zarr")
    pd.testing.assert_frame_equal(back.tables["spots"].uns["omib_regions"], found.uns["omib_regions"])
    assert omib.get.regions(back, table_key="spots").equals(omib.get.regions(found))
    with pytest.raises(ValueError, match="copy the SpatialData yourself"):
        omib.tl.regions(sdata, table_key="spots", copy=True)
