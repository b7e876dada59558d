import re
import warnings

import anndata as ad
import dask.array as da
import numpy as np
import pytest
from PIL import Image as Picture

import omib_spatial as omib
from omib_spatial.modalities import Image
from omib_spatial.modalities.image_notices import _better_scale, warn_of_resolution
from omib_spatial.modalities.patches import Side, slides
from omib_spatial.slides import Layout, Tissue


@pytest.fixture
def tissue():
    return omib.datasets.simulate_tissue(1, n_spots=160, n_genes=60, n_healthy=1)


def entry_of(adata):
    (entry,) = adata.uns["spatial"].values()
    return entry


def told(adata, **options) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        omib.pp.check(adata, **options)
    return [str(w.message) for w in caught if issubclass(w.category, UserWarning)]


TRANSPARENT = "100% of the spots of slice 'slide1': its fourth channel .* if it is CMYK, convert it to RGB"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda i: np.full_like(i, 255), "100% of the spots of slice 'slide1': it is white all over"),
        (lambda i: np.zeros_like(i), "100% of the spots of slice 'slide1': it is black all over"),
        (lambda i: np.full_like(i, 99), r"100% .* of one colour \(\[99, 99, 99\]\) all over"),
        (lambda i: np.asarray(Picture.fromarray(i).convert("CMYK")), TRANSPARENT),
        (lambda i: np.dstack([i, np.zeros(i.shape[:2], np.uint8)]), TRANSPARENT),
        (lambda i: np.dstack([i, np.zeros(i.shape[:2], np.uint8)]) / 255, TRANSPARENT),
    ],
)
def test_an_image_that_shows_nothing_is_told_with_the_share_and_the_reason(tissue, change, said):
    images = entry_of(tissue)["images"]
    images["hires"] = change(images["hires"])
    message, consequence = told(tissue)
    assert message.startswith("The image shows no tissue under")
    assert consequence.startswith("A fit leaves the image out")
    assert re.search(said, message), message


@pytest.mark.parametrize(
    "change",
    [
        lambda i: i,
        lambda i: i / 255,
        lambda i: da.from_array(i / 255),
        lambda i: Picture.fromarray(i).convert("CMYK"),
        lambda i: Picture.fromarray(i).convert("L"),
        lambda i: i.mean(2).astype(np.uint8),
    ],
)
def test_nothing_is_said_of_an_image_that_shows_tissue(tissue, change):
    images = entry_of(tissue)["images"]
    images["hires"] = change(images["hires"])
    assert told(tissue) == []


def test_lazily_read_floats_up_to_255_are_an_error_in_words(tissue):
    images = entry_of(tissue)["images"]
    images["hires"] = da.from_array(images["hires"].astype(float))
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]; it reaches from .* divide by the largest"):
        omib.pp.check(tissue)


def in_the_middle(adata, margin: int) -> None:
    """Glass all around, so that wrong places have none of the tissue."""
    entry = entry_of(adata)
    image, scale = entry["images"]["hires"], entry["scalefactors"]["tissue_hires_scalef"]
    entry["images"]["hires"] = np.pad(image, ((margin, 0), (margin, 0), (0, 0)), mode="edge")
    adata.obsm["spatial"] = adata.obsm["spatial"] + margin / scale


def test_coordinates_in_pixels_of_the_image_are_recognised(tissue):
    in_the_middle(tissue, 300)
    tissue.obsm["spatial"] *= entry_of(tissue)["scalefactors"]["tissue_hires_scalef"]
    message, *_ = told(tissue)
    assert re.search(r"about \S+ in place of .* \(1 if coordinates are pixels of this image already\)", message), (
        message
    )


@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_halved_and_a_doubled_scale_factor_are_recognised(tissue, factor):
    in_the_middle(tissue, 700 if factor < 1 else 0)
    entry = entry_of(tissue)
    scale = entry["scalefactors"]["tissue_hires_scalef"]
    if factor > 1:
        size = np.array(entry["images"]["hires"].shape[:2])
        entry["images"]["hires"] = np.pad(entry["images"]["hires"], [(0, n) for n in size] + [(0, 0)], mode="edge")
    entry["scalefactors"]["tissue_hires_scalef"] = scale * factor
    assert f"with tissue_hires_scalef of about {scale:.3g} in place of {scale * factor:.3g}" in told(tissue)[0]


@pytest.mark.parametrize("factor", [0.2, 0.35, 0.5, 0.7])
def test_spots_that_cover_little_of_the_tissue_are_told_with_the_scale_that_covers_it(tissue, factor):
    """Images are full of tissue, so that spots at wrong places may well lie on some."""
    factors = entry_of(tissue)["scalefactors"]
    scale = factors["tissue_hires_scalef"]
    factors["tissue_hires_scalef"] = scale * factor
    message = " ".join(told(tissue))
    covered, better, named = re.search(
        r"cover (\d+)% .* (\d+)% with tissue_hires_scalef of about ([\d.]+)", message
    ).groups()
    assert int(covered) < 70 and int(better) > 90 and float(named) == pytest.approx(scale, rel=0.1)


@pytest.mark.parametrize("kept", [slice(0, 80), slice(80, 160), slice(0, 160, 3)])
def test_nothing_is_said_of_spots_that_were_left_out(tissue, kept):
    order = np.argsort(tissue.obsm["spatial"][:, 0])
    messages = told(tissue[np.sort(order[kept])].copy())
    # That they were left out is said of the neighbours, not of the image.
    assert not [message for message in messages if not message.startswith("Spots are missing")]


def drawn(tissue: list[tuple[slice, slice]], low: int, high: int) -> ad.AnnData:
    """Squares of tissue on glass, 800 pixels wide, and 30 x 30 spots from ``low`` to ``high`` along both axes."""
    image = np.full((800, 800, 3), 245, np.uint8)
    for part in tissue:
        image[part] = [200, 120, 180]
    places = np.linspace(low, high, 30)
    adata = ad.AnnData(np.ones((900, 3), np.float32))
    adata.obsm["spatial"] = np.stack([axis.ravel() for axis in np.meshgrid(places, places)], 1)
    factors = {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": 5.0}
    adata.uns["spatial"] = {"a": {"images": {"hires": image}, "scalefactors": factors}}
    return adata


@pytest.mark.parametrize(
    ("tissue", "low", "high"),
    [
        # Of two sections one was measured: at no scale do as many spots lie on tissue.
        ([(slice(50, 250), slice(50, 250)), (slice(330, 780), slice(330, 780))], 55, 245),
        # Tissue reaches beyond the spots, and at no scale do these cover clearly more of it.
        ([(slice(20, 780), slice(20, 400)), (slice(20, 780), slice(440, 780))], 220, 690),
    ],
)
def test_nothing_is_said_of_tissue_that_was_not_measured(tissue, low, high):
    (slide,) = slides(Tissue(drawn(tissue, low, high), Layout()))
    assert _better_scale(slide, Side(2.0)) is None


def slide_of(adata, width: float, key: str = "hires") -> list:
    """The slide, as if a spot were ``width / 2`` pixels wide."""
    factors = entry_of(adata)["scalefactors"]
    factors["spot_diameter_fullres"] = width / 2 / factors["tissue_hires_scalef"]
    return slides(Tissue(adata, Layout(image_key=key)))


@pytest.mark.parametrize(
    ("width", "reference", "coarse", "unlike"),
    [
        (40, None, False, False),
        (40, 144, False, False),
        (8, None, True, False),
        (8, 8, True, False),
        (8, 40, True, True),
        (40, 8, False, True),
    ],
)
def test_few_pixels_and_another_resolution_than_the_reference_are_told_in_pixels(
    tissue, width, reference, coarse, unlike
):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_resolution(slide_of(tissue, width), Side(2.0), reference)
    text = " ".join(str(w.message) for w in caught)
    assert len(caught) == (coarse or unlike)
    assert (f"The square around a spot is {width} pixels wide on 'slide1'" in text) == coarse
    assert (
        f"{width} pixels across the square around a spot on 'slide1' and {reference} on the finest" in text
    ) == unlike


def test_a_model_remembers_the_resolution_of_its_reference(tissue):
    image = Image()
    fine = Tissue(tissue, Layout())
    image.fit(fine, np.ones(tissue.n_obs, bool))
    again = Image.from_state(*image.state())
    coarse = tissue.copy()
    (entry,) = coarse.uns["spatial"].values()
    picture = Picture.fromarray(entry["images"]["hires"])
    entry["images"]["hires"] = np.asarray(picture.reduce(6))
    entry["scalefactors"]["tissue_hires_scalef"] /= 6
    with pytest.warns(UserWarning, match=f"and {image.width:.2g} on the finest image"):
        again.check(Tissue(coarse, Layout()), required=False)
    config, tensors = image.state()
    del config["width"]  # as models of before have it
    assert Image.from_state(config, tensors).width is None
