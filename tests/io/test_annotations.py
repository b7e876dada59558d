"""Polygons as classes of spots: the share of a spot's area decides."""

import json

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import mapping

import omib_spatial as omib

RADIUS = 25.0  # of the spots of slide B


def item(shape, name, kind="annotation", **geometry):
    classification = {"name": name, "color": [1, 2, 3]} if name else None
    properties = {"objectType": kind, "classification": classification}
    return {"type": "Feature", "geometry": {**mapping(shape), **geometry}, "properties": properties}


def write(path, *items):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}), encoding="utf-8")
    return path


@pytest.fixture
def one(two):
    """Slide B alone."""
    own = two[two.obs["section"] == "B"].copy()
    own.uns["spatial"] = {"B": own.uns["spatial"]["B"]}
    return own


def chord(inside: float) -> float:
    """Share of a circle of radius 1 that lies left of the line at ``inside``, from -1 to 1."""
    x = np.clip(inside, -1, 1)
    return 1 - (np.arccos(x) - x * np.sqrt(1 - x * x)) / np.pi


@settings(max_examples=25)
@given(edge=st.floats(-1.2, 1.2), least=st.floats(0.05, 0.95))
def test_the_share_of_the_area_decides(edge, least):
    from omib_spatial.io._annotations import _classes_of
    from omib_spatial.slides.scored import ScoredSlide

    if abs(chord(edge) - least) < 0.01:
        return  # A polygon of 64 corners stands for the circle.
    spot = ScoredSlide("", np.arange(2), np.array([[0.0, 0.0], [-500.0, 0.0]]), 2.0)
    left = shapely.box(-1000, -1000, edge, 1000)
    found = _classes_of(spot, {"left": left}, least, "f", [])
    assert found.tolist() == ["left" if chord(edge) > least else None, "left"]


def test_spots_get_the_class_they_lie_in_and_the_others_stay_missing(one, tmp_path, content):
    ring = shapely.box(150, 150, 650, 650) - shapely.box(350, 350, 450, 450)
    path = write(tmp_path / "a.geojson", item(ring, "Tumor"), item(shapely.box(950, 150, 1050, 1350), "Stroma: dense"))
    before = content(one)
    copied = omib.io.annotate(one, path, key_added="drawn", copy=True)
    assert content(one) == before
    column, xy = copied.obs["drawn"], one.obsm["spatial"]
    assert column.cat.categories.tolist() == ["Tumor", "Stroma: dense"]
    hole = (xy == 400).all(1)
    expected = np.where((xy < 650).all(1) & ~hole, "Tumor", np.where(xy[:, 0] == 1000, "Stroma: dense", None))
    assert column.astype(object).where(column.notna(), None).tolist() == expected.tolist()
    assert hole.sum() == 1 and column[hole].isna().all()


def test_an_ellipse_is_its_bounding_box_s_ellipse(one, tmp_path):
    # QuPath writes an ellipse as a polygon of few corners and says so.
    corners = shapely.Polygon([(150, 650), (650, 150), (1150, 650), (650, 1150)])
    drawn = omib.io.annotate(one, write(tmp_path / "p.geojson", item(corners, "a")), copy=True).obs["annotation"]
    round_ = write(tmp_path / "e.geojson", item(corners, "a", isEllipse=True))
    smooth = omib.io.annotate(one, round_, copy=True).obs["annotation"]
    distance = np.hypot(*(one.obsm["spatial"] - 650).T)
    assert (smooth.notna() == (distance < 500)).all() and drawn.notna().sum() < smooth.notna().sum()


def test_of_a_class_within_another_the_smaller_is_taken(one, tmp_path):
    tissue, tumour = item(shapely.box(0, 0, 2000, 2000), "Tissue"), item(shapely.box(150, 150, 450, 450), "Tumor")
    for order in ((tissue, tumour), (tumour, tissue)):
        omib.io.annotate(one, write(tmp_path / "a.geojson", *order))
        assert one.obs["annotation"].value_counts().to_dict() == {"Tissue": 144 - 9, "Tumor": 9}


def test_two_polygons_of_one_class_share_a_spot(one, tmp_path):
    halves = [item(shapely.box(150, 150, 200, 250), "a"), item(shapely.box(200, 150, 250, 250), "a")]
    omib.io.annotate(one, write(tmp_path / "a.geojson", *halves), min_share=0.99)
    assert one.obs["annotation"].notna().sum() == 1


def test_several_planes_are_refused_in_words(one, tmp_path, content):
    box, before = shapely.box(150, 150, 450, 450), content(one)
    path = write(tmp_path / "a.geojson", item(box, "a"), item(box, "a", plane={"c": -1, "z": 2, "t": 0}))
    with pytest.raises(ValueError, match=r"2 planes or time points \(z and t: \[\(0, 0\), \(2, 0\)\]\)"):
        omib.io.annotate(one, path)
    assert content(one) == before
    omib.io.annotate(one, write(path, item(box, "a", plane={"c": -1, "z": 2, "t": 0})))
    assert one.obs["annotation"].notna().sum() == 9


def test_what_is_left_out_is_said_once(one, tmp_path):
    box, bow = shapely.box(150, 150, 450, 450), shapely.Polygon([(150, 150), (450, 450), (450, 150), (150, 450)])
    items = [item(box, "a"), item(box, None), item(box, "Ignore*"), item(shapely.Point(1, 1), "a"), item(bow, "b")]
    items += [item(box, "cell", kind="detection"), {"type": "Feature", "geometry": None, "properties": None}]
    with pytest.warns(UserWarning) as warned:
        omib.io.annotate(one, write(tmp_path / "a.geojson", *items))
    (said,) = [str(w.message) for w in warned if issubclass(w.category, UserWarning)]
    for part in (
        "2 objects were left out: no class",
        "1 objects were left out: no area",
        "ignored",
        "1 outlines cross",
    ):
        assert part in said
    assert set(one.obs["annotation"].cat.categories) == {"a", "b"}


@pytest.mark.parametrize(
    ("classification", "name"),
    [
        ({"name": "Tumor", "colorRGB": -3670016}, "Tumor"),
        ({"names": ["Tumor", "Positive"], "color": [1, 2, 3]}, "Tumor: Positive"),
        ("Tumor", "Tumor"),
    ],
)
def test_older_and_newer_spellings_are_read(one, tmp_path, classification, name):
    feature = item(shapely.box(150, 150, 450, 450), None)
    feature["properties"] = {"classification": classification}
    feature["id"] = "PathAnnotationObject"
    for content in (feature, [feature], {"type": "FeatureCollection", "features": [feature]}):
        (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8-sig")
        omib.io.annotate(one, tmp_path / "a.json")
        assert one.obs["annotation"].dropna().unique().tolist() == [name]


def test_a_slide_of_several_is_annotated_and_the_others_are_kept(two, tmp_path):
    a = write(tmp_path / "a.geojson", item(shapely.box(150, 150, 450, 450), "a"))
    with pytest.raises(ValueError, match="2 slides .*library_id="):
        omib.io.annotate(two, a)
    omib.io.annotate(two, a, library_id="A")
    omib.io.annotate(two, write(tmp_path / "b.geojson", item(shapely.box(150, 150, 250, 250), "b")), library_id="B")
    assert pd.crosstab(two.obs["section"], two.obs["annotation"]).loc[["A", "B"], ["a", "b"]].to_numpy().tolist() == [
        [9, 0],
        [0, 1],
    ]


def test_export_and_import_give_the_same_calls(two, tmp_path):
    for name in ("A", "B"):
        (path,) = omib.io.to_qupath(two, tmp_path / f"{name}.geojson", spots=True, library_id=name)
        omib.io.annotate(two, path, key_added="again", objects="detection", library_id=name)
        omib.io.annotate(two, path, key_added="region", library_id=name)
    again = two.obs["again"].astype(object)
    assert (again.isna() == two.obs["omib_call"].isna()).all() and again.isna().sum() == 1
    known = again.notna()
    assert (again[known] == two.obs["omib_call"].astype(object)[known]).all()
    assert (two.obs["region"].notna() == two.obs["omib_region"].notna()).all()


def test_an_annotation_serves_as_labels_and_reference(tmp_path):
    adata = omib.datasets.simulate_tissue(1, n_spots=200, n_genes=60, n_healthy=0, image=False)
    middle = float(np.median(adata.obsm["spatial"][:, 0]))
    sides = [item(shapely.box(-1e5, -1e5, middle, 1e5), "Normal"), item(shapely.box(middle, -1e5, 1e5, 1e5), "Tumor")]
    omib.io.annotate(adata, write(tmp_path / "a.geojson", *sides))
    adata.obs["healthy"] = (adata.obs["annotation"] == "Normal").to_numpy(bool)
    assert 80 < adata.obs["healthy"].sum() < 120
    model = omib.tl.fit(adata, modalities=["gene"], reference_key="healthy", max_epochs=6)
    assert model.params["reference_key"] == "healthy"
    omib.tl.fit(adata, modalities=["gene"], labels_key="annotation", max_epochs=6)
    assert sorted(adata.uns["omib"]["classes"]) == ["Normal", "Tumor"]


def test_errors_name_the_next_step(one, tmp_path):
    with pytest.raises(FileNotFoundError):
        omib.io.annotate(one, tmp_path / "no.geojson")
    for text in ("no JSON", "[1, 2]", '{"type": "Topology"}'):
        (tmp_path / "x.geojson").write_text(text)
        with pytest.raises(ValueError, match="export the objects from QuPath as GeoJSON"):
            omib.io.annotate(one, tmp_path / "x.geojson")
    box = shapely.box(150, 150, 450, 450)
    with pytest.raises(ValueError, match="give each one a class"):
        omib.io.annotate(one, write(tmp_path / "x.geojson", item(box, None)))
    far = write(tmp_path / "x.geojson", item(shapely.box(5000, 5000, 6000, 6000), "a"))
    with pytest.raises(
        ValueError, match=r"spots reach from \(200, 200\) to \(1300, 1300\), polygons from \(5000, 5000\)"
    ):
        omib.io.annotate(one, far)
    with pytest.raises(ValueError, match="min_share"):
        omib.io.annotate(one, far, min_share=0)
    with pytest.raises(ValueError, match="objects"):
        omib.io.annotate(one, far, objects="cells")
    broken = item(box, "a")
    broken["geometry"]["coordinates"] = "nothing"
    with pytest.raises(ValueError, match="cannot be read"):
        omib.io.annotate(one, write(tmp_path / "x.geojson", broken))
    assert "annotation" not in one.obs


def test_an_unknown_diameter_is_guessed_aloud(one, tmp_path):
    del one.uns["spatial"]
    path = write(tmp_path / "a.geojson", item(shapely.box(150, 150, 450, 450), "a"))
    with pytest.warns(UserWarning, match="half of their distance was taken"):
        omib.io.annotate(one, path)
    assert one.obs["annotation"].notna().sum() == 9
