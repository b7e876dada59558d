"""Many slides are pages; files are as small as they are said to be; bars, names and checks are those of all maps."""

import logging
import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib import pyplot as plt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from PIL import Image

from omib_spatial import pl
from omib_spatial._settings import settings
from omib_spatial.pl import _figure
from omib_spatial.pl._panels import ScoreLayer


@pytest.fixture(autouse=True)
def paper():
    with matplotlib.rc_context({"interactive": False}):
        plt.switch_backend("agg")
        yield
        plt.close("all")


def scored(n_slices: int, *, pixels: int = 0) -> AnnData:
    """Slices of 3 x 4 spots 10 pixels apart, of which the upper scores are called; noise as image where asked for."""
    rng, xy = np.random.default_rng(0), np.argwhere(np.ones((3, 4))) * 10.0 + 10
    n = 12 * n_slices
    names = [f"s{i}" for i in range(n_slices)]
    obs = pd.DataFrame({"slice": np.repeat(names, 12), "omib_score": rng.normal(size=n)}, [f"x{i}" for i in range(n)])
    obs["omib_call"] = pd.Categorical.from_codes((obs["omib_score"] > 0).astype(int), ["not called", "abnormal"])
    obs["omib_reference"] = obs["omib_score"] < 0
    adata = AnnData(obs=obs, obsm={"spatial": np.tile(xy, (n_slices, 1))})
    adata.obsm["omib_contributions"] = pd.DataFrame(rng.normal(size=(n, 2)), obs.index, ["gene", "image"])
    table = {"slice": [], "n_spots": [], "area": [], "unit": [], "um_per_pixel": [], "pvalue": [], "outline": []}
    adata.uns["omib_regions"] = pd.DataFrame(table)
    adata.obs["omib_region"] = pd.Categorical([None] * n)
    adata.uns["omib"] = {"params": {"library_key": "slice"}}
    factors = {"spot_diameter_fullres": 5.5, "tissue_hires_scalef": pixels / 60}
    adata.uns["spatial"] = {name: {"scalefactors": dict(factors)} for name in names}
    if pixels:
        for entry in adata.uns["spatial"].values():
            entry["images"] = {"hires": rng.integers(0, 256, (pixels, pixels, 3), dtype=np.uint8)}
    return adata


MAPS = [pl.anomaly_map, pl.reference, pl.regions, pl.contributions]


def bars(axes) -> list[str]:
    axes = axes if isinstance(axes, list) else [axes]
    return [artist.txt_label.get_text() for ax in axes for artist in ax.artists if hasattr(artist, "size_bar")]


@pytest.mark.parametrize("plot", MAPS)
def test_six_slices_fill_a_page_and_the_seventh_begins_another(plot, tmp_path):
    adata = scored(7)
    axes = plot(adata, save=tmp_path / "map.pdf")
    assert (
        len(re.findall(rb"/Type /Page\b", (tmp_path / "map.pdf").read_bytes())) == len({ax.figure for ax in axes}) == 2
    )
    assert [ax.get_ylabel() for ax in axes if ax.get_ylabel()] == [f"s{i}" for i in range(7)]
    plot(adata, save=tmp_path / "map.png", library_id=[f"s{i}" for i in range(6)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.pdf", "map.png"]


def test_pages_of_pictures_are_numbered_files_and_what_was_written_is_logged(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "omib_spatial"):
        pl.anomaly_map(scored(13), color="score", save=tmp_path / "map.png")
    names = [f"map_{i}.png" for i in (1, 2, 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all(name in caplog.text for name in names) and "3 pages" in caplog.text
    with pytest.raises(ValueError, match=r"'.*map.doc', which ends with no kind of picture: pass one of png, pdf"):
        pl.anomaly_map(scored(1), save=tmp_path / "map.doc")
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_a_file_that_would_be_large_has_coarser_pictures_and_those_shown_stay(kind, tmp_path, monkeypatch):
    adata, limit = scored(2, pixels=300), 150_000
    pl.anomaly_map(adata, save=tmp_path / f"free.{kind}")
    assert (tmp_path / f"free.{kind}").stat().st_size > limit
    monkeypatch.setattr(_figure, "_LARGEST", limit)
    before = pl.anomaly_map(adata)[0].images[0].get_array()
    axes = pl.anomaly_map(adata, save=tmp_path / f"map.{kind}")
    assert (tmp_path / f"map.{kind}").stat().st_size <= limit
    assert np.array_equal(axes[0].images[0].get_array(), before)


def test_the_resolution_that_a_user_sets_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(_figure, "_LARGEST", 1000)
    monkeypatch.setattr(settings, "figure_dpi", 60)
    figure = pl.anomaly_map(scored(1), color="score", figsize=(4, 4), save=tmp_path / "map.png").figure
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.info["dpi"][0] == pytest.approx(60, abs=1) and figure is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "figure_format", "pdf")
    pl.anomaly_map(scored(1), save=True)
    assert (tmp_path / "omib_anomaly_map.pdf").is_file()


@pytest.mark.parametrize("plot", MAPS)
def test_every_map_has_a_bar_where_the_scale_is_known(plot):
    adata = scored(2)
    assert bars(plot(adata)) == []
    # 5.5 pixels are 55 um, and a map is 54 pixels wide.
    assert bars(plot(adata, spot_diameter_um=55)) == ["100 µm"] * 2
    adata.uns["spatial"]["s1"]["scalefactors"]["microns_per_pixel"] = 1.0
    assert bars(plot(adata)) == ["10 µm"]


def test_what_regions_were_given_is_known_to_all_maps_and_patches():
    adata = scored(2, pixels=60)
    row = {"slice": "s0", "n_spots": 5, "area": 1.0, "unit": "um", "um_per_pixel": 10.0, "pvalue": 0.1}
    adata.uns["omib_regions"] = pd.DataFrame([row | {"outline": "POLYGON ((10 10, 20 10, 20 20, 10 10))"}], ["s0:1"])
    assert bars(pl.anomaly_map(adata)) == bars(pl.reference(adata)) == ["100 µm"] * 2
    assert bars(pl.patches(adata, n=2, rows=1)) == ["50 µm"] * 2


def test_short_and_full_names_are_the_same_panel_and_misspelt_ones_get_a_suggestion():
    adata = scored(1)
    adata.obs["omib_clone"] = pd.Categorical(["clone 1", "clone 2", None] * 4)
    adata.uns["omib_clone_colors"] = ["#111111", "#222222"]
    for short, title in (("call", "Call"), ("clone", "Clone"), ("score", "Score")):
        one, other = (pl.anomaly_map(adata, color=name) for name in (short, f"omib_{short}"))
        assert one.get_title() == other.get_title() == title
        faces = [ax.collections[0].get_facecolor() for ax in (one, other)]
        np.testing.assert_array_equal(*faces)
    assert len(pl.patches(scored(1, pixels=60), "score", n=np.int64(1), rows=1)) == 2
    with pytest.raises(ValueError, match="did you mean 'clone'"):
        pl.anomaly_map(adata, color="clones")
    with pytest.raises(KeyError, match=r"'omib_subtype'.*tl\.subtypes first"):
        pl.anomaly_map(adata, color="subtype")
    with pytest.raises(KeyError, match="did you mean 'gene'"):
        pl.contributions(adata, modalities=["genes"])
    with pytest.raises(TypeError, match="n is 'many'"):
        pl.patches(adata, n="many")


@pytest.mark.parametrize("plot", [*MAPS, pl.patches])
def test_two_slides_drawn_as_one_are_refused_or_told(plot):
    adata = scored(2, pixels=60)
    adata.uns["omib"]["params"]["library_key"] = ""
    adata.uns["spatial"] = {"s0": adata.uns["spatial"]["s0"]}
    with pytest.warns(UserWarning, match="12 spots of slice 's0' lie where another"):
        plot(adata)
    barcodes = ["".join("ACGT"[i // 4**k % 4] for k in range(16)) + "-1" for i in range(12)]
    adata.obs_names = [*barcodes, *(name.replace("-1", "-2") for name in barcodes)]
    with pytest.raises(ValueError, match="looks like several slides put together"):
        plot(adata)


@pytest.mark.parametrize(("mark", "alignment"), [(0.3, ["top", "bottom"]), (3.0, ["center_baseline"] * 2)])
def test_words_of_marks_that_lie_close_on_the_bar_stand_apart(mark, alignment):
    figure, axes = plt.subplots(1, 2)
    values = np.ma.masked_invalid(np.linspace(-4, 4, 9))
    layer = ScoreLayer(values, ScalarMappable(Normalize(-4, 4)), marks={mark: "calls begin", 0.0: "border"})
    layer.explain(figure, axes)
    labels = {label.get_text(): label for label in figure.axes[-1].get_yticklabels()}
    found = [labels["0: border"], labels[f"{mark:g}: calls begin"]]
    assert [label.get_verticalalignment() for label in found] == alignment
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in found]
    assert not boxes[0].overlaps(boxes[1])
