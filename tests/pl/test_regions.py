"""Outlines of regions on the tissue, and the bar that tells how large they are."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
import shapely
from anndata import AnnData, read_h5ad
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from PIL import Image

from omib_spatial._colours import ANOMALOUS, HEALTHY
from omib_spatial.pl import regions
from omib_spatial.pl._figure import scale_bar


@pytest.fixture(autouse=True)
def paper():
    with matplotlib.rc_context({"interactive": False}):
        plt.switch_backend("agg")
        yield
        plt.close("all")


RING = shapely.box(10, 10, 50, 50) - shapely.box(25, 25, 35, 35)
TWO = shapely.MultiPolygon([shapely.box(10, 10, 20, 20), shapely.box(20, 20, 50, 50)])


@pytest.fixture
def adata() -> AnnData:
    """Slices ``a`` with an image, a scale and two regions, ``b`` with one region alone, ``c`` with nothing."""
    n = 108
    obs = pd.DataFrame({"slice": ["b", "a", "c"] * (n // 3)}, index=[f"s{i}" for i in range(n)])
    adata = AnnData(np.ones((n, 1), np.float32), obs=obs)
    adata.obsm["spatial"] = np.repeat(np.argwhere(np.ones((6, 6))) * 10.0 + 15, 3, axis=0)
    table = {
        "slice": ["a", "a", "b"], "n_spots": [15, 4, 10], "area": [1.5e6, 4e5, 1000.0], "unit": ["um", "um", "px"],
        "um_per_pixel": [20.0, 20.0, np.nan], "pvalue": [0.012, 0.4, np.nan],
        "outline": [RING.wkt, shapely.box(50, 50, 70, 70).wkt, TWO.wkt],
    }  # fmt: skip
    adata.uns["omib_regions"] = pd.DataFrame(table, ["a:1", "a:2", "b:1"])
    names = np.where((obs["slice"] == "b") & (np.arange(n) < 30), "b:1", None)
    adata.obs["omib_region"] = pd.Categorical(names, ["a:1", "a:2", "b:1"])
    picture = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    factors = {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": 6.0}
    adata.uns["spatial"] = {"a": {"images": {"hires": picture}, "scalefactors": factors}}
    return adata


def bars(ax) -> list[str]:
    return [artist.txt_label.get_text() for artist in ax.artists if isinstance(artist, AnchoredSizeBar)]


def dashed(lines) -> bool:
    return bool(lines.get_linestyle()[0][1])


def test_each_slice_has_its_outlines_on_its_image(adata):
    a, b, c = regions(adata, library_key="slice")
    assert [ax.get_ylabel() for ax in (a, b, c)] == ["a", "b", "c"]
    assert [len(ax.images) for ax in (a, b, c)] == [1, 0, 0]
    ring, square = a.collections
    segments = ring.get_segments()
    assert len(segments) == 2, "the hole has a border, too"
    np.testing.assert_allclose(segments[0], np.asarray(RING.exterior.coords))
    np.testing.assert_allclose(segments[1], np.asarray(RING.interiors[0].coords))
    assert [text.get_text() for text in a.texts] == ["1", "2"]
    for text, shape in zip(a.texts, (RING, shapely.box(50, 50, 70, 70)), strict=True):
        assert shape.contains(shapely.Point(text.get_position()))
    assert not dashed(ring) and dashed(square)


def test_without_an_image_spots_in_regions_have_a_colour(adata):
    _, b, c = regions(adata, library_key="slice")
    spots, lines = b.collections
    own = adata[(adata.obs["slice"] == "b").to_numpy()]
    expected = [to_rgba(HEALTHY if missing else ANOMALOUS) for missing in own.obs["omib_region"].isna()]
    np.testing.assert_allclose(spots.get_facecolors(), expected)
    assert len(lines.get_segments()) == 2 and dashed(lines)
    assert [text.get_text() for text in b.texts] == ["1"]
    assert shapely.box(20, 20, 50, 50).contains(shapely.Point(b.texts[0].get_position()))
    assert len(c.collections) == 1 and not c.texts and c.get_xlabel() == "no region"


def test_numbers_stand_below_and_what_lines_mean_beside(adata):
    a, b, _ = regions(adata, library_key="slice")
    assert a.get_xlabel() == "1: 15 spots, 1.5 mm², p = 0.012\n2: 4 spots, 0.4 mm², p = 0.4"
    assert b.get_xlabel() == "1: 10 spots"
    assert [text.get_text() for text in a.get_legend().get_texts()] == ["p ≤ 0.05", "larger p, or none"]
    only = regions(adata, library_key="slice", library_id="a", alpha=0.01)
    assert all(dashed(lines) for lines in only.collections)
    many = adata.uns["omib_regions"].loc[["a:1"] * 6]
    adata.uns["omib_regions"] = many.set_axis([f"a:{i}" for i in range(1, 7)])
    assert regions(adata, library_key="slice", library_id="a").get_xlabel().endswith("and 2 more")


def test_a_bar_is_drawn_where_the_scale_is_known(adata):
    assert [bars(ax) for ax in regions(adata, library_key="slice")] == [["200 µm"], [], []]
    adata.uns["spatial"]["c"] = {"scalefactors": {"microns_per_pixel": 100.0}}
    assert [bars(ax) for ax in regions(adata, library_key="slice")] == [["200 µm"], [], ["1 mm"]]


@settings(max_examples=40)
@given(width=st.floats(1, 1e5), scale=st.floats(1e-3, 1e3), flipped=st.booleans())
def test_a_bar_is_round_and_a_tenth_to_a_quarter_of_the_width(width, scale, flipped):
    figure, ax = plt.subplots()
    ax.set(xlim=(0, width), ylim=(width, 0) if flipped else (0, width))
    scale_bar(ax, scale, np.array([[0.1 * width, 0.1 * width]]))
    (bar,) = ax.artists
    length = bar.size_bar.get_children()[0].get_width()
    number, unit = bar.txt_label.get_text().split()
    assert float(number) * {"µm": 1, "mm": 1000}[unit] == pytest.approx(length * scale)
    assert 0.1 * width <= length * (1 + 1e-9) and length <= 0.25 * width * (1 + 1e-9)
    assert f"{length * scale:.0e}"[0] in "125"
    plt.close(figure)


@pytest.mark.parametrize(("corner", "loc"), [((0, 0), 1), ((1, 1), 3), ((0, 1), 1), ((1, 0), 2)])
def test_a_bar_keeps_clear_of_the_tissue(corner, loc):
    ax = plt.subplots()[1]
    ax.set(xlim=(0, 1), ylim=(0, 1))
    others = [(x, y) for x, y in ((0, 0), (1, 0), (0, 1), (1, 1))]
    free = {1: (1, 1), 2: (0, 1), 3: (0, 0)}[loc]
    scale_bar(ax, 100, np.array([place for place in others if place != free] + [corner]))
    assert ax.artists[0].loc == loc


def test_a_region_of_a_nameless_slice_is_drawn(adata):
    own = adata[(adata.obs["slice"] == "b").to_numpy()].copy()
    own.uns["spatial"] = {}
    own.uns["omib_regions"] = adata.uns["omib_regions"].loc[["b:1"]].set_axis(["1"]).assign(slice="")
    ax = regions(own)
    assert [text.get_text() for text in ax.texts] == ["1"] and ax.get_xlabel() == "1: 10 spots"


def test_it_draws_from_a_file_into_given_axes_and_writes_nothing(adata, tmp_path, content, monkeypatch):
    adata.write_h5ad(tmp_path / "regions.h5ad")
    back = read_h5ad(tmp_path / "regions.h5ad")
    before = content(back)
    own = plt.subplots()[1]
    assert regions(back, library_key="slice", library_id="a", ax=own, title="mine") is own
    assert own.get_title() == "mine"
    regions(back, library_key="slice", title="all", save=tmp_path / "new" / "map.png")
    assert content(back) == before
    with Image.open(tmp_path / "new" / "map.png") as picture:
        assert picture.height > 1000
    monkeypatch.chdir(tmp_path)
    regions(back, library_key="slice", save=True)
    assert (tmp_path / "omib_regions.png").is_file()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"key_added": "other"}, KeyError, "tl.regions first"),
        ({"spatial_key": "other"}, KeyError, "spatial_key="),
        ({"library_id": "d"}, ValueError, r"\['d'\] has no spots"),
        ({"library_key": "other"}, KeyError, "library_key="),
    ],
)
def test_what_is_missing_is_named(adata, options, error, says):
    with pytest.raises(error, match=says):
        regions(adata, **({"library_key": "slice"} | options))


def test_axes_hold_one_slice(adata):
    with pytest.raises(ValueError, match="library_id="):
        regions(adata, library_key="slice", ax=plt.subplots()[1])
