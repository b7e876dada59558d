import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from omib_spatial.slides.slides import (
    SlideImage,
    coordinates,
    library_codes,
    real_numbers,
    slide_image,
    um_per_pixel,
)


def table(slices: int = 2) -> ad.AnnData:
    """Spots of several slices, 100 x 80 full-resolution pixels each, in an image of half that resolution."""
    obs = pd.DataFrame({"slice": [f"L{i % slices}" for i in range(60)], "quality": 1.0}, [f"s{i}" for i in range(60)])
    adata = ad.AnnData(obs=obs, obsm={"spatial": np.random.default_rng(1).uniform(0, 1, (60, 2)) * [100, 80]})
    adata.uns["spatial"] = {
        f"L{i}": {
            "images": {"hires": np.full((40, 50, 3), 200, np.uint8)},
            "scalefactors": {"tissue_hires_scalef": 0.5, "spot_diameter_fullres": 8.0},
        }
        for i in range(slices)
    }
    return adata


# ----------------------------------------------------------------------------------------------------------- slices


def test_one_slice_without_a_key():
    adata = table(slices=1)
    codes, names = library_codes(adata)
    assert names == ["L0"]
    assert codes.tolist() == [0] * adata.n_obs
    adata.uns["spatial"]["is_single"] = True
    assert library_codes(adata)[1] == ["L0"]
    del adata.uns["spatial"]
    assert library_codes(adata)[1] == [""]


def test_several_slices_without_a_key_name_the_column_that_has_them():
    adata = table()
    with pytest.raises(ValueError, match=r"several slices \('L0', 'L1'\).*library_key=.*\['slice'\]"):
        library_codes(adata)
    adata.obs["slice"] = "other"
    with pytest.raises(ValueError, match="no obs column holds"):
        library_codes(adata)


@settings(max_examples=30)
@given(values=st.lists(st.sampled_from("cab"), min_size=1, max_size=20), categorical=st.booleans())
def test_codes_lead_back_to_the_column_in_a_fixed_order(values, categorical):
    adata = ad.AnnData(obs=pd.DataFrame({"l": values}, index=[str(i) for i in range(len(values))]))
    if categorical:
        adata.obs["l"] = pd.Categorical(values, categories=["b", "unused", "c", "a"])
    codes, names = library_codes(adata, "l")
    assert [names[code] for code in codes] == values
    assert names == sorted(set(values), key="bca".index if categorical else None)
    assert codes.dtype == np.int64


def test_numbers_as_slices_and_columns_that_are_no_use():
    adata = table()
    adata.obs["number"] = np.arange(60) % 11
    assert library_codes(adata, "number")[1] == [str(i) for i in range(11)]
    with pytest.raises(KeyError, match=r"library_key= one of \['slice'"):
        library_codes(adata, "absent")
    adata.obs["slice"] = adata.obs["slice"].astype(object)
    adata.obs.iloc[[3, 7], 0] = None
    with pytest.raises(ValueError, match=r"'s3', 's7': fill"):
        library_codes(adata, "slice")


# ------------------------------------------------------------------------------------------------------ coordinates


def test_coordinates_are_the_numbers_of_an_array_or_a_frame():
    adata = table()
    adata.obsm["frame"] = pd.DataFrame(np.c_[adata.obsm["spatial"], np.zeros(60)], index=adata.obs_names)
    assert np.array_equal(coordinates(adata), adata.obsm["spatial"])
    assert np.array_equal(coordinates(adata, "frame")[:, :2], adata.obsm["spatial"])
    adata.obsm["pixels"] = adata.obsm["spatial"].astype(np.int32)
    assert coordinates(adata, "pixels").dtype == np.float64


@pytest.mark.parametrize(
    "odd",
    [
        np.ones((2, 2), complex),
        np.ones((2, 2), "datetime64[D]"),
        np.array([["1", "2"], ["3", "4"]]),
        np.array([[1, "2"], [3, 4]], object),
        pd.DataFrame({"x": [1, 2], "y": pd.Timestamp("2020")}),
        pd.DataFrame({"x": [1, 2], "y": pd.Categorical(["1", "2"])}),
    ],
    ids=["complex", "dates", "text", "some text", "column of dates", "categories of text"],
)
def test_what_numpy_would_make_numbers_of_is_refused(odd):
    with pytest.raises(TypeError, match=r"^obsm\['x'\] must be a dense array or DataFrame of real numbers only"):
        real_numbers(odd, "obsm['x']")


def test_masked_and_missing_values_are_nan():
    masked = np.ma.masked_array([[1, 2]], mask=[[True, False]])
    frame = pd.DataFrame({"a": pd.array([None], "Int64"), "b": [2]})
    for odd in (masked, frame, np.array([[None, 2]], object)):
        np.testing.assert_array_equal(real_numbers(odd, "it"), [[np.nan, 2]])


def test_slices_of_dates_have_the_names_that_the_column_has_as_text():
    adata = table(slices=2)
    adata.obs["day"] = pd.to_datetime("2020-01-01") + pd.to_timedelta(np.arange(adata.n_obs) % 2, "D")
    codes, names = library_codes(adata, "day")
    assert np.array_equal(np.array(names)[codes], adata.obs["day"].astype(str))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_without_a_place_are_named(value):
    adata = table()
    adata.obsm["spatial"][[2, *range(10, 16)], 1] = value
    with pytest.raises(ValueError, match=r"'s2', 's10', 's11', 's12', 's13' and 2 more"):
        coordinates(adata)


def test_missing_or_misshapen_coordinates():
    adata = table(slices=1)
    with pytest.raises(KeyError, match=r"obsm\['xy'\].*one of \['spatial'\]"):
        coordinates(adata, "xy")
    adata.obsm["xy"] = np.zeros((60, 1))
    with pytest.raises(ValueError, match=r"\(60, 1\)"):
        coordinates(adata, "xy")
    adata.obsm["words"] = pd.DataFrame({"x": "a", "y": "b"}, index=adata.obs_names)
    with pytest.raises(TypeError, match="numbers only"):
        coordinates(adata, "words")


# ----------------------------------------------------------------------------------------------------------- images


def test_an_image_comes_with_its_numbers_or_not_at_all():
    adata = table()
    image = slide_image(adata, "L1")
    assert image is not None
    assert image.pixels is adata.uns["spatial"]["L1"]["images"]["hires"]
    assert (image.scale, image.diameter) == (0.5, 8.0)
    assert slide_image(adata, "L1", "lowres") is None
    assert slide_image(adata, "L2") is None
    del adata.uns["spatial"]
    assert slide_image(adata, "L1") is None


def test_outside_is_more_than_half_a_spot_off():
    image = SlideImage(np.zeros((40, 50, 3)), 0.5, 8.0)
    edge = np.array([[-4, 0], [0, -4], [104, 0], [0, 84], [50, 40]])
    assert not image.outside(edge).any()
    assert image.outside(edge + [[-0.1, 0], [0, -0.1], [0.1, 0], [0, 0.1], [0, 0]]).tolist() == [True] * 4 + [False]
    assert not image.outside(np.c_[edge, np.full(5, -1e9)]).any()


@pytest.mark.parametrize("key", ["tissue_hires_scalef", "spot_diameter_fullres"])
def test_image_without_its_numbers(key):
    adata = table()
    factors = adata.uns["spatial"]["L0"]["scalefactors"]
    for value in (0, -1.0, np.nan):
        factors[key] = value
        with pytest.raises(ValueError, match=rf"'L0'.*{key}.*positive"):
            slide_image(adata, "L0")
    del factors[key]
    with pytest.raises(KeyError, match=rf"uns\['spatial'\]\['L0'\]\['scalefactors'\]\['{key}'\] is missing: set it"):
        slide_image(adata, "L0")


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((3, 40, 50), np.uint8), ValueError, "channels last"),
        (np.zeros((40, 50, 3), np.uint16), TypeError, "uint16"),
        (np.full((40, 50, 3), 255.0), ValueError, "from 255 to 255"),
        (da.full((40, 50, 3), 255.0), ValueError, "from 255 to 255"),
        (np.zeros((40, 50, 5), np.uint8), ValueError, "channels last"),
        (np.full((40, 50, 3), -0.1), ValueError, r"\[0, 1\]"),
        (np.full((40, 50, 3), np.nan), ValueError, "NaN"),
    ],
)
def test_images_of_a_wrong_kind(image, error, message):
    adata = table()
    adata.uns["spatial"]["L0"]["images"]["hires"] = image
    with pytest.raises(error, match=message):
        slide_image(adata, "L0")


@pytest.mark.parametrize("grey", [lambda i: i, lambda i: i[..., None], lambda i: Image.fromarray(i)])
def test_a_grey_image_has_three_equal_channels(grey):
    values = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    adata = table()
    adata.uns["spatial"]["L0"]["images"]["hires"] = grey(values)
    np.testing.assert_array_equal(slide_image(adata, "L0").pixels, np.stack([values] * 3, 2))


def test_without_a_key_the_best_image_that_is_there_is_taken(tmp_path):
    adata = table()
    entry = adata.uns["spatial"]["L0"]
    sizes = {"hires": 40, "lowres": 30, "other": 20, "fullres": 10}
    shown = {key: np.zeros((size, size, 3), np.uint8) for key, size in sizes.items()}
    Image.fromarray(shown.pop("fullres")).save(tmp_path / "full.png")
    entry["metadata"] = {"source_image_path": str(tmp_path / "full.png")}
    entry["images"] = dict(reversed(shown.items()))
    entry["scalefactors"] |= {f"tissue_{key}_scalef": 0.5 for key in shown}
    for key in sizes:
        expected = 1.0 if key == "fullres" else 0.5
        found = slide_image(adata, "L0", None)
        assert (found.pixels.shape[0], found.scale) == (sizes[key], expected)
        entry["images"].pop(key, None)
    (tmp_path / "full.png").unlink()
    assert slide_image(adata, "L0", None) is None


# ------------------------------------------------------------------------------------------------------------ scale


def test_the_scale_is_what_is_written_else_that_of_the_given_diameter_else_unknown():
    adata = table(slices=2)
    factors = adata.uns["spatial"]["L0"]["scalefactors"]
    assert um_per_pixel(adata, "L0") is None and um_per_pixel(adata, "nowhere") is None
    assert um_per_pixel(adata, "L0", 55) == pytest.approx(55 / 8)
    factors["microns_per_pixel"] = 0.25
    assert um_per_pixel(adata, "L0") == um_per_pixel(adata, "L0", 55) == 0.25
    assert slide_image(adata, "L0").um_per_pixel == 0.25 and slide_image(adata, "L1").um_per_pixel is None


@pytest.mark.parametrize("wrong", [0, -1, np.nan, np.inf])
def test_a_scale_that_is_no_positive_number_is_refused(wrong):
    adata = table(slices=1)
    with pytest.raises(ValueError, match="spot_diameter_um is .*: set it to the diameter of a spot in micrometres"):
        um_per_pixel(adata, "L0", wrong)
    adata.uns["spatial"]["L0"]["scalefactors"]["microns_per_pixel"] = wrong
    with pytest.raises(ValueError, match="'microns_per_pixel'"):
        um_per_pixel(adata, "L0")


def test_without_a_diameter_in_pixels_a_given_one_tells_nothing():
    assert um_per_pixel(table(), "nowhere", 55) is None


def test_slices_whose_names_read_alike_or_that_have_none_are_refused():
    adata = table(slices=2)
    adata.obs["odd"] = pd.Series([1, "1"] * 30, index=adata.obs_names, dtype=object)
    with pytest.raises(ValueError, match=r"obs\['odd'\] has values that read alike \('1'\)"):
        library_codes(adata, "odd")
    adata.obs["odd"] = pd.Series([[1]] * 60, index=adata.obs_names)
    with pytest.raises(TypeError, match=r"obs\['odd'\] must hold a name for each spot: unhashable"):
        library_codes(adata, "odd")


@pytest.mark.parametrize("odd", [None, 3, "x", [1], np.ones(3)])
@pytest.mark.parametrize("key", ["hires", "fullres", None])
def test_images_and_metadata_of_another_kind_are_no_images(odd, key):
    adata = table(slices=1)
    adata.uns["spatial"]["L0"] |= {"images": odd, "metadata": odd}
    assert slide_image(adata, "L0", key) is None
