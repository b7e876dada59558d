import os
import subprocess
import sys
import warnings
from pathlib import Path

import anndata as ad
import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.collections import EllipseCollection
from matplotlib.colors import to_hex, to_rgba_array

from omib_spatial._colours import ANOMALOUS, HEALTHY, PALETTE, UNKNOWN
from omib_spatial.pl import anomaly_map
from omib_spatial.pl._slices import Slice

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[2] / "../shared/data"))
PITCH, DIAMETER, SCALE = 10.0, 4.0, 0.5


@pytest.fixture(autouse=True)
def paper():
    with matplotlib.rc_context({"interactive": False}):
        plt.switch_backend("agg")
        yield
        plt.close("all")


def scored(slices: int = 2, *, image: bool = True, key: str = "omib", library_key: str = "slice") -> ad.AnnData:
    """Slices of 6 x 8 spots on a grid, out of order, second slice scored higher, two spots without score."""
    rng = np.random.default_rng(0)
    n = 48 * slices
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(6)), axis=-1).reshape(-1, 2) * PITCH + 30
    order = rng.permutation(n)
    library = np.repeat(np.arange(slices), 48)[order]
    obs = pd.DataFrame({"slice": pd.Categorical([f"L{i}" for i in library])}, index=[f"s{i}" for i in range(n)])
    score = rng.normal(size=n) + 4 * library
    score[[3, 11]] = np.nan
    obs[f"{key}_score"], obs[f"{key}_anomaly"] = score, score > 4
    adata = ad.AnnData(rng.poisson(1, (n, 3)), obs=obs, obsm={"spatial": np.tile(grid, (slices, 1))[order]})
    params = {"library_key": library_key, "spatial_key": "spatial", "image_key": "hires", "fdr": 0.1}
    factors = {"tissue_hires_scalef": SCALE, "spot_diameter_fullres": DIAMETER}
    picture = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    adata.uns[key] = {"version": "0", "params": params}
    adata.uns["spatial"] = {
        f"L{i}": {"scalefactors": dict(factors)} | ({"images": {"hires": picture.copy()}} if image else {})
        for i in range(slices)
    }
    return adata


def spots(ax) -> EllipseCollection:
    (collection,) = ax.collections
    return collection


def rows(adata, name):
    return np.flatnonzero(adata.obs["slice"] == name)


def legend(ax) -> dict[str, str]:
    return {
        text.get_text(): to_hex(handle.get_color())
        for text, handle in zip(ax.get_legend().get_texts(), ax.get_legend().legend_handles, strict=True)
    }


def test_a_row_per_slice_and_a_column_per_panel():
    axes = anomaly_map(scored(), truth="slice")
    assert [ax.get_title() for ax in axes[:4]] == ["H&E", "Truth: slice", "Score", "Call"]
    assert [ax.get_ylabel() for ax in axes[::4]] == ["L0", "L1"]
    assert len(axes) == 8
    assert [len(ax.images) for ax in axes] == [1, 1, 1, 1] * 2
    chosen = anomaly_map(scored(3), library_id=["L2", "L0"], color=["anomaly", "truth"], truth="slice", title="Both")
    assert [ax.get_ylabel() for ax in chosen[::2]] == ["L2", "L0"]
    assert [ax.get_title() for ax in chosen[:2]] == ["Call", "Truth: slice"]
    assert chosen[0].figure.get_suptitle() == "Both"
    assert anomaly_map(scored(), library_id="L1", color="score", title="One").get_title() == "One"


def test_spots_are_where_the_coordinates_say_y_down():
    adata = scored()
    for ax, name in zip(anomaly_map(adata, color="anomaly"), ("L0", "L1"), strict=True):
        assert np.array_equal(spots(ax).get_offsets(), adata.obsm["spatial"][rows(adata, name)])
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        assert left < 30 < 100 < right
        assert top < 30 < 80 < bottom
        assert ax.get_aspect() == 1


@pytest.mark.parametrize(
    ("image", "color", "width"),
    [(True, "anomaly", DIAMETER), (True, "score", DIAMETER), (False, "anomaly", 0.95 * PITCH)],
)
def test_spots_have_their_true_size_on_the_image_and_nearly_touch_elsewhere(image, color, width):
    ax = anomaly_map(scored(1, image=image), color=color)
    assert np.allclose(spots(ax).get_widths(), width)
    assert np.allclose(spots(anomaly_map(scored(1, image=image), color=color, size=0.5)).get_widths(), width / 2)


def test_spots_that_would_not_be_seen_are_larger_than_they_are():
    adata = scored(1)
    adata.uns["spatial"]["L0"]["scalefactors"]["spot_diameter_fullres"] = 0.01
    ax = anomaly_map(adata, color="score")
    assert np.allclose(spots(ax).get_widths(), np.diff(ax.get_xlim())[0] / 250)


def test_a_spot_fills_its_diameter_on_the_paper():
    adata = scored(1, image=False)
    adata.obs["omib_anomaly"] = False
    adata.obs.loc["s0", "omib_anomaly"] = True
    ax = anomaly_map(adata, color="anomaly")
    ax.get_legend().remove()
    ax.figure.canvas.draw()
    red = np.abs(np.asarray(ax.figure.canvas.buffer_rgba())[::-1] - 255.0 * to_rgba_array(ANOMALOUS)).max(axis=2) < 60
    y, x = np.nonzero(red)
    (left, low), (right, high) = ax.transData.transform(adata.obsm["spatial"][0] + 4.75 * np.array([[-1, 1], [1, -1]]))
    assert np.allclose([x.min(), y.min(), x.max() + 1, y.max() + 1], [left, low, right, high], atol=1.5)


@settings(max_examples=60)
@given(
    scale=st.floats(0.05, 3),
    size=st.tuples(st.integers(5, 90), st.integers(5, 90)),
    corner=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    probe=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_the_cropped_picture_keeps_every_pixel_at_its_place(scale, size, corner, probe):
    height, width = size
    image = np.arange(height * width * 3).reshape(height, width, 3)
    xy = np.array([corner, probe]) * [width, height] / scale
    item = Slice("", np.arange(2), xy, image=image, scale=scale)
    part, (left, right, bottom, top) = item.picture()
    x, y = np.minimum(xy[1] * scale, [width - 1e-6, height - 1e-6])
    column = (x / scale - left) / (right - left) * part.shape[1]
    row = (y / scale - top) / (bottom - top) * part.shape[0]
    if min(abs(x - np.rint(x)), abs(y - np.rint(y))) > 1e-6:
        assert np.array_equal(part[int(row), int(column)], image[int(y), int(x)])


def test_a_large_picture_is_thinned_out_without_a_shift():
    image = np.broadcast_to(np.arange(5000)[:, None, None], (5000, 4000, 3))
    xy = np.array([[500.0, 301.0], [3500.0, 4700.0]])
    part, (_, _, bottom, top) = Slice("", np.arange(2), xy, image=image).picture()
    assert max(part.shape) <= 1500
    assert np.allclose(part[:, 0, 0], top + np.arange(len(part)) / len(part) * (bottom - top), atol=1e-6)


def test_scores_share_one_robust_scale_over_all_slices_even_those_not_drawn():
    adata = scored()
    score = adata.obs["omib_score"].to_numpy()
    low, high = np.percentile(score[~np.isnan(score)], [1, 99])
    expected = plt.get_cmap("magma")(np.clip((score - low) / (high - low), 0, 1))
    expected[np.isnan(score)] = to_rgba_array(UNKNOWN)
    expected[:, 3] = 0.6
    axes = anomaly_map(adata, color="score", alpha=0.6)
    for ax, name in zip(axes, ("L0", "L1"), strict=True):
        assert np.allclose(spots(ax).get_facecolor(), expected[rows(adata, name)], atol=0.01)
    alone = anomaly_map(adata, color="score", library_id="L1", alpha=0.6)
    assert np.array_equal(spots(alone).get_facecolor(), spots(axes[1]).get_facecolor())
    bar = next(ax for ax in axes[0].figure.axes if ax not in axes)
    assert "standard deviations of the slide's healthy spots beyond its border" in " ".join(bar.get_ylabel().split())
    assert np.allclose(bar.get_ylim(), [low, high])


def test_limits_and_colour_map_are_taken():
    adata = scored(1)
    ax = anomaly_map(adata, color="score", vmin=-1, vmax=3, cmap="viridis")
    assert ax.figure.axes[1].get_ylim() == (-1, 3)
    row = int(np.nanargmax(adata.obs["omib_score"].clip(upper=0.5)))
    expected = plt.get_cmap("viridis")((adata.obs["omib_score"].iloc[row] + 1) / 4)
    assert np.allclose(spots(ax).get_facecolor()[row][:3], expected[:3], atol=0.01)


@pytest.mark.parametrize("value", [np.nan, 1.5])
def test_scores_that_are_all_missing_or_all_equal_draw_without_a_warning(value):
    adata = scored(1)
    adata.obs["omib_score"] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = anomaly_map(adata, color="score")
        ax.figure.canvas.draw()
    assert len(np.unique(spots(ax).get_facecolor(), axis=0)) == 1


@pytest.mark.parametrize("dtype", [bool, "boolean"])
def test_the_call_tells_healthy_from_anomalous_from_not_scored(dtype):
    adata = scored(1)
    adata.obs["omib_anomaly"] = (adata.obs["omib_score"] > 0).astype(dtype)
    called = adata.obs["omib_score"] > 0
    expected = np.where(adata.obs["omib_score"].isna(), UNKNOWN, np.where(called, ANOMALOUS, HEALTHY))
    ax = anomaly_map(adata, color="anomaly")
    assert np.allclose(spots(ax).get_facecolor(), to_rgba_array(expected))
    assert legend(ax) == {
        "not called": HEALTHY.lower(),
        "abnormal": ANOMALOUS.lower(),
        "not scored": UNKNOWN.lower(),
    }
    adata.obs["omib_score"] = adata.obs["omib_score"].fillna(0)
    adata.uns["omib_anomaly_colors"] = np.array(["#00ff00", "#ff0000"])
    assert legend(anomaly_map(adata, color="anomaly")) == {"not called": "#00ff00", "abnormal": "#ff0000"}


@pytest.mark.parametrize("dtype", [bool, "boolean"])
def test_boolean_truth_looks_like_the_call(dtype):
    adata = scored(1)
    truth = np.arange(48) % 3 == 0
    adata.obs["tumour"] = pd.array(truth, dtype=dtype)
    ax = anomaly_map(adata, color="truth", truth="tumour")
    assert np.allclose(spots(ax).get_facecolor(), to_rgba_array(np.where(truth, ANOMALOUS, HEALTHY)))
    assert list(legend(ax)) == ["not tumour", "tumour"]


def test_categorical_truth_takes_its_stored_colours_and_knows_missing_labels():
    adata = scored(1)
    values = np.array(["b", "healthy", "a", None], dtype=object)[np.arange(48) % 4]
    adata.obs["kind"] = pd.Categorical(values, categories=["healthy", "a", "b"])
    ax = anomaly_map(adata, color="truth", truth="kind")
    colours = {"healthy": HEALTHY, "a": ANOMALOUS, "b": PALETTE[0], None: UNKNOWN}
    assert np.allclose(spots(ax).get_facecolor(), to_rgba_array([colours[value] for value in values]))
    assert list(legend(ax)) == ["healthy", "a", "b", "not labelled"]
    adata.uns["kind_colors"] = ["#111111", "#222222", "#333333"]
    stored = legend(anomaly_map(adata, color="truth", truth="kind"))
    assert list(stored.values()) == ["#111111", "#222222", "#333333", UNKNOWN.lower()]
    adata.uns["kind_colors"] = ["#111111"]
    assert legend(anomaly_map(adata, color="truth", truth="kind"))["a"] == ANOMALOUS.lower()


@pytest.mark.parametrize("n", [2, 8, 9, 20, 30])
def test_any_number_of_categories_gets_as_many_colours(n):
    adata = scored(1)
    adata.obs["region"] = [f"r{i % n:02d}" for i in range(48)]
    shown = legend(anomaly_map(adata, color="truth", truth="region"))
    assert list(shown) == [f"r{i:02d}" for i in range(n)]
    assert len(set(shown.values())) == n


def test_slice_coordinates_and_image_are_those_of_the_run_unless_told():
    adata = scored()
    adata.obsm["moved"] = adata.obsm["spatial"] + 100
    adata.uns["omib"]["params"] |= {"spatial_key": "moved"}
    assert spots(anomaly_map(adata, color="score")[0]).get_offsets().min() == 130
    assert spots(anomaly_map(adata, color="score", spatial_key="spatial")[0]).get_offsets().min() == 30
    adata.obs["half"] = np.where(adata.obs["slice"] == "L0", "u", "v")
    assert [ax.get_ylabel() for ax in anomaly_map(adata, color="score", library_key="half")] == ["u", "v"]
    assert len(anomaly_map(adata, image_key="lowres")) == 4
    one = scored(1, library_key="")
    assert anomaly_map(one, color="score").get_ylabel() == "L0"
    del one.uns["spatial"], one.uns["omib"]
    assert anomaly_map(one, color="score").get_ylabel() == ""


def test_without_images_their_panel_is_left_out_and_where_one_is_missing_it_says_so():
    assert [ax.get_title() for ax in anomaly_map(scored(1, image=False))] == ["Score", "Call"]
    adata = scored()
    del adata.uns["spatial"]["L0"]["images"]
    first, *_, third, _, _ = anomaly_map(adata)
    assert [text.get_text() for text in first.texts] == ["no image"]
    assert not third.texts
    with pytest.raises(KeyError, match="image_key="):
        anomaly_map(scored(image=False), color="image")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"key_added": "other"}, KeyError, r"'other_score'.*tl\.fit or omib_spatial\.tl\.score first"),
        ({"library_id": ["L0", "L9"]}, ValueError, r"\['L9'\].*\['L0', 'L1'\]"),
        ({"library_key": "no"}, KeyError, r"library_key= one of \['slice'"),
        ({"spatial_key": "no"}, KeyError, r"spatial_key= one of \['spatial'\]"),
        ({"color": "pvalue"}, KeyError, r"'omib_pvalue'.*tl\.score first"),
        ({"color": "scroe"}, ValueError, "did you mean 'score'"),
        ({"color": "slice"}, ValueError, "A column of your own is drawn beside them by truth='slice'"),
        ({"color": 3}, TypeError, "color is 3: it is a name, or a list of names"),
        ({"color": ["score", 3]}, TypeError, r"color is \['score', 3\]: it is a name, or a list"),
        ({"library_id": 3}, TypeError, "library_id is 3: it is a name, or a list of names"),
        ({"size": "large"}, TypeError, "size is 'large': it is a number above 0"),
        ({"size": np.int64(0)}, ValueError, r"size is .*0.*: it is a number above 0"),
        ({"vmin": "low"}, TypeError, "vmin is 'low': it is a finite number"),
        ({"colour": "score"}, TypeError, r"anomaly_map\(\) has no argument colour=. Did you mean color="),
        ({"color": "truth"}, ValueError, "truth="),
        ({"truth": "no"}, KeyError, "truth= one of"),
        ({"truth": "omib_score"}, TypeError, "boolean or categorical"),
    ],
)
def test_what_is_missing_is_named_with_the_next_step(arguments, error, message):
    adata = scored()
    if "key_added" in arguments:
        arguments |= {"library_key": "slice"}
    with pytest.raises(error, match=message):
        anomaly_map(adata, **arguments)


def test_a_slice_that_cannot_be_told_or_placed():
    adata = scored()
    del adata.uns["spatial"]["L1"]["scalefactors"]["tissue_hires_scalef"]
    with pytest.raises(KeyError, match=r"\['L1'\]\['scalefactors'\]\['tissue_hires_scalef'\] is missing: set"):
        anomaly_map(adata)
    adata.uns["omib"]["params"]["library_key"] = ""
    with pytest.raises(ValueError, match=r"'L0', 'L1'\): tell with library_key="):
        anomaly_map(adata)
    adata.obsm["spatial"][:] = np.nan
    with pytest.raises(ValueError, match="places no spot"):
        anomaly_map(adata, library_key="slice")


def test_the_legend_of_regions_has_those_of_the_slices_that_are_drawn():
    adata = scored()
    first = (adata.obs["slice"] == "L0").to_numpy()
    adata.obs["omib_region"] = pd.Categorical(np.where(first, "L0:1", "L1:1"))

    def legends(**arguments):
        axes = np.atleast_1d(anomaly_map(adata, color="region", **arguments))
        return [[text.get_text() for text in ax.get_legend().get_texts()] for ax in axes if ax.get_legend()]

    assert legends(library_id="L1") == [["L1:1"]] and legends() == [["L0:1", "L1:1"]]


def test_slices_without_spots_are_no_slices():
    adata = scored()
    adata.obs["slice"] = adata.obs["slice"].cat.add_categories("empty")
    adata.obsm["spatial"] = adata.obsm["spatial"].astype(float)
    adata.obsm["spatial"][rows(adata, "L0")] = np.nan
    assert anomaly_map(adata, color="score").get_ylabel() == "L1"
    for name in ("empty", "L0"):
        with pytest.raises(ValueError, match=rf"\['{name}'\] has no spots: pass some of \['L1'\]"):
            anomaly_map(adata, library_id=name)


def test_own_axes_hold_one_panel_only():
    figure, ax = plt.subplots()
    assert anomaly_map(scored(), ax=ax, color="anomaly", library_id="L0") is ax
    assert len(ax.collections) == 1
    for arguments in ({"color": "score"}, {"library_id": "L0"}):
        with pytest.raises(ValueError, match=r"one panel of one slice.*color= and library_id="):
            anomaly_map(scored(), ax=ax, **arguments)
    inner = figure.add_subfigure(figure.add_gridspec(1, 2)[1]).subplots()
    assert anomaly_map(scored(1), ax=inner, color="score") is inner


@pytest.mark.parametrize("image", [True, False])
def test_nothing_is_written_into_the_table(image, tmp_path):
    adata = scored(image=image)
    before = adata.copy()
    anomaly_map(adata, truth="slice", save=tmp_path / "a.png")
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    np.testing.assert_equal(dict(adata.uns), dict(before.uns))
    np.testing.assert_equal(dict(adata.obsm), dict(before.obsm))
    assert np.array_equal(adata.X, before.X)


def test_a_table_from_disk_draws_the_same(tmp_path):
    adata = scored()
    adata.write_h5ad(tmp_path / "a.h5ad")
    for again in (ad.read_h5ad(tmp_path / "a.h5ad"), ad.read_h5ad(tmp_path / "a.h5ad", backed="r"), adata[:]):
        for one, two in zip(anomaly_map(adata), anomaly_map(again), strict=True):
            assert all(
                np.array_equal(a.get_facecolor(), b.get_facecolor())
                for a, b in zip(one.collections, two.collections, strict=True)
            )


def test_save_and_show_as_in_scanpy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(1))
    draw = {"color": "score", "library_id": "L0"}
    anomaly_map(scored(), **draw)
    assert not shown
    with matplotlib.rc_context({"interactive": True}):
        anomaly_map(scored(), **draw, save="new/folder/map.pdf")
        anomaly_map(scored(), **draw, ax=plt.figure().subplots())
        anomaly_map(scored(), **draw, show=False)
        assert not shown
        anomaly_map(scored(), **draw)
    anomaly_map(scored(), **draw, show=True, save=True)
    assert len(shown) == 2
    assert Path("new/folder/map.pdf").stat().st_size > 0
    assert Path("omib_anomaly_map.png").stat().st_size > 0


def test_plots_do_not_load_torch():
    code = "import sys, omib_spatial.pl as pl; pl.anomaly_map, pl.training; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.skipif(not (DATA / "her2st").is_dir(), reason=f"no her2st sections in {DATA}; set OMIB_DATA")
def test_a_real_section_is_drawn():
    from PIL import Image

    adata = ad.read_h5ad(DATA / "her2st" / "B4.h5ad")
    adata.uns["spatial"]["B4"]["images"]["hires"] = np.asarray(Image.open(DATA / "her2st" / "B4.jpg"))
    adata.obs["omib_score"] = np.log1p(adata.X.sum(axis=1).A1 if hasattr(adata.X, "A1") else np.ravel(adata.X.sum(1)))
    adata.obs["omib_anomaly"] = adata.obs["omib_score"] > adata.obs["omib_score"].median()
    axes = anomaly_map(adata, truth="anomaly", library_key="section")
    axes[0].figure.canvas.draw()
    assert [ax.get_title() for ax in axes] == ["H&E", "Truth: anomaly", "Score", "Call"]
    assert set(legend(axes[1])) == {str(value) for value in adata.obs["anomaly"].unique()}
