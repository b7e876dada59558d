"""What QuPath is given: checked by the written schema, and read back by other libraries."""

import json
from importlib.resources import files

import geopandas as gpd
import jsonschema
import numpy as np
import pytest
import shapely

import omib_spatial as omib
from omib_spatial.io._qupath import feature

SCHEMA = json.loads(files("omib_spatial.io").joinpath("qupath.schema.json").read_text())


def read(path) -> dict:
    content = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(content, SCHEMA, jsonschema.Draft202012Validator)
    return content


def rings(geometry: dict) -> list:
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return [ring for part in parts for ring in part]


def test_the_schema_is_one_and_refuses_what_qupath_refuses():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    good = feature(shapely.box(0, 0, 2, 2), "annotation", "abnormal", "#D55E00", {"a": 1}, "1")
    check = jsonschema.Draft202012Validator(SCHEMA).is_valid

    def collection(change):
        item = json.loads(json.dumps(good))
        change(item)
        return {"type": "FeatureCollection", "features": [item]}

    assert check(collection(lambda item: None))
    for change in (
        lambda item: item.update(id="A1:1"),
        lambda item: item["properties"]["classification"].pop("color"),
        lambda item: item["properties"].update(classification="abnormal"),
        lambda item: item["properties"].pop("objectType"),
        lambda item: item["properties"]["measurements"].update(b=[1]),
        lambda item: item["geometry"].update(type="MultiPolygon", coordinates=[item["geometry"]["coordinates"]]),
    ):
        assert not check(collection(change))


def test_each_slide_has_a_file_of_its_regions(two, tmp_path, content):
    before = content(two)
    paths = omib.io.to_qupath(two, tmp_path / "new" / "regions.geojson")
    assert content(two) == before
    assert [path.name for path in paths] == ["regions-A.geojson", "regions-B.geojson"]
    shapes, table = omib.get.regions(two), two.uns["omib_regions"]
    for path, names in zip(paths, (["A:1"], ["B:1", "B:2"]), strict=True):
        items = read(path)["features"]
        assert [item["properties"]["name"] for item in items] == names
        for item in items:
            row, properties = table.loc[item["properties"]["name"]], item["properties"]
            assert properties["objectType"] == "annotation"
            assert properties["classification"] == {"name": "abnormal", "color": [0xD5, 0x5E, 0]}
            assert properties["measurements"]["Spots"] == row["n_spots"]
            assert properties["measurements"]["Area um^2"] == pytest.approx(row["area"])
            assert all(ring[0] == ring[-1] for ring in rings(item["geometry"]))
            assert shapely.geometry.shape(item["geometry"]).equals_exact(shapes.geometry[properties["name"]], 0.02) or (
                shapely.geometry.shape(item["geometry"]).symmetric_difference(shapes.geometry[properties["name"]]).area
                < 1e-3 * row["n_spots"] * 100**2
            )
        again = gpd.read_file(path).set_crs(None, allow_override=True)
        assert len(again) == len(names) and again.geometry.is_valid.all()
        np.testing.assert_allclose(again.geometry.area.sum(), shapes.loc[names].geometry.area.sum(), rtol=1e-3)


def test_ids_are_of_their_own_and_the_same_each_time(two, tmp_path):
    def ids(name, **options):
        paths = omib.io.to_qupath(two, tmp_path / name, spots=True, **options)
        return [item["id"] for path in paths for item in read(path)["features"]]

    first = ids("a.geojson")
    assert len(set(first)) == len(first) == 3 + two.n_obs - 1 and ids("b.geojson") == first
    assert ids("c.geojson", library_id="A") == first[: 1 + 143]
    assert (tmp_path / "c.geojson").exists()


def test_spots_are_circles_with_their_call_and_no_nan(two, tmp_path):
    two.obs.loc[two.obs["section"] == "A", "omib_pvalue"] = np.nan
    two.obs.loc[two.obs["section"] == "B", "omib_pvalue"] = 0.25
    del two.uns["omib_regions"]
    for path in omib.io.to_qupath(two, tmp_path / "spots.geojson", spots=True):
        text = path.read_text(encoding="utf-8")
        assert "NaN" not in text and "null" not in text
        for item in read(path)["features"]:
            spot, properties = two.obs.loc[item["properties"]["name"]], item["properties"]
            assert properties["objectType"] == "detection" and properties["classification"]["name"] == spot["omib_call"]
            assert properties["measurements"]["Score"] == spot["omib_score"]
            assert ("p-value, healthy slides" in properties["measurements"]) == (spot["section"] == "B")
            circle = shapely.geometry.shape(item["geometry"])
            centre = two.obsm["spatial"][two.obs_names.get_loc(spot.name)]
            radius = 27.5 if spot["section"] == "A" else 25
            np.testing.assert_allclose(circle.bounds, [*(centre - radius), *(centre + radius)], atol=0.01)
            assert item["geometry"]["isEllipse"] is True


def test_one_part_is_a_polygon_and_holes_stay():
    ring = shapely.box(0, 0, 9, 9) - shapely.box(3, 3, 6, 6)
    options = ("annotation", "Tumeur épithéliale", "#D55E00", {"p": np.nan, "n": np.int64(3)}, "1")
    one = feature(shapely.MultiPolygon([ring]), *options)
    assert one["geometry"]["type"] == "Polygon" and len(one["geometry"]["coordinates"]) == 2
    assert one["properties"]["measurements"] == {"n": 3.0}
    two = feature(shapely.MultiPolygon([ring, shapely.box(20, 20, 30, 30)]), *options)
    assert two["geometry"]["type"] == "MultiPolygon"
    for item in (one, two):
        jsonschema.validate({"type": "FeatureCollection", "features": [item]}, SCHEMA)
    with pytest.raises(ValueError, match="no area"):
        feature(shapely.Polygon(), *options)


def test_names_are_written_in_utf8(two, tmp_path):
    two.obs_names = [f"é{name}" for name in two.obs_names]
    (path,) = omib.io.to_qupath(two, tmp_path / "é.geojson", spots=True, library_id="A")
    assert "éA_" in path.read_bytes().decode("utf-8")


def test_nothing_found_is_an_empty_collection(two, tmp_path):
    two.uns["omib_regions"] = two.uns["omib_regions"].iloc[:0]
    (path,) = omib.io.to_qupath(two, tmp_path / "none.geojson", library_id="B")
    assert read(path)["features"] == []


def test_what_is_missing_is_told_before_anything_is_written(two, tmp_path):
    bare = two.copy()
    del bare.uns["omib_regions"]
    with pytest.raises(KeyError, match=r"run omib_spatial\.tl\.regions first"):
        omib.io.to_qupath(bare, tmp_path / "r.geojson")
    del bare.obs["omib_call"]
    with pytest.raises(KeyError, match="omib_call"):
        omib.io.to_qupath(bare, tmp_path / "r.geojson", spots=True)
    with pytest.raises(ValueError, match=r"\['C'\] has no spots"):
        omib.io.to_qupath(two, tmp_path / "r.geojson", library_id="C")
    two.obs["section"] = two.obs["section"].cat.rename_categories({"A": "x/1", "B": "x 1"})
    two.uns["omib_regions"]["slice"] = "x/1"
    two.uns["spatial"] = {}
    with pytest.raises(ValueError, match="Two slides would be written"):
        omib.io.to_qupath(two, tmp_path / "r.geojson")
    assert not list(tmp_path.iterdir())
