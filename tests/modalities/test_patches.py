import os
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from omib_spatial.modalities.glass import background, border_pixels
from omib_spatial.modalities.patches import Side, extract_patches, slides
from omib_spatial.slides import Tissue

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[2] / "../shared/data"))
GLASS = np.array([240, 230, 235])


def render(xy: np.ndarray, colours: np.ndarray, radius: float, scale: float, extent: tuple[float, float]) -> np.ndarray:
    """Discs on glass at ``scale`` image pixels per full-resolution pixel; sub-pixel exact along the disc's radius."""
    height, width = (round(side * scale) for side in extent)
    y, x = np.mgrid[:height, :width] + 0.5
    image = np.broadcast_to(GLASS, (height, width, 3)).astype(float)
    for (cx, cy), colour in zip(xy * scale, colours, strict=True):
        cover = np.clip(radius * scale - np.hypot(x - cx, y - cy) + 0.5, 0, 1)[..., None]
        image = image * (1 - cover) + colour * cover
    return np.rint(image).astype(np.uint8)


def slide(
    xy: np.ndarray, image: np.ndarray | str | None, scale: float, diameter: float, name: str = "one", key: str = "hires"
) -> ad.AnnData:
    obs = pd.DataFrame({"slice": name}, index=[f"{name}{i}" for i in range(len(xy))])
    factors = {f"tissue_{key}_scalef": scale, "spot_diameter_fullres": diameter}
    images = {} if image is None else {key: image}
    uns = {"spatial": {name: {"images": images, "scalefactors": factors}}}
    return ad.AnnData(obs=obs, obsm={"spatial": np.asarray(xy, dtype=float)}, uns=uns)


def scene(seed: int, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Distinct colours at places that are no whole pixels, far enough from each other and from the border."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid([150.0, 400, 650], [150.0, 400]), -1).reshape(-1, 2)[:n]
    return grid + rng.uniform(-40, 40, grid.shape), rng.integers(0, 180, (n, 3))


def centroid(patch: np.ndarray) -> np.ndarray:
    """Centre (x, y) of what is not glass, in patch pixels from the outer corner."""
    weight = np.abs(patch.astype(float) - GLASS[:, None, None]).sum(axis=0)
    y, x = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


@settings(max_examples=20)
@given(scale=st.floats(0.1, 1.0), size=st.sampled_from([16, 31, 32]), seed=st.integers(0, 2**32 - 1))
def test_discs_are_found_at_the_centre_of_their_patch_with_their_colour_and_size(scale, size, seed):
    xy, colours = scene(seed)
    image = render(xy, colours, 40, scale, (560, 800))
    patches = extract_patches(slide(xy, image, scale, 80), patch_diameter=2, patch_size=size)
    assert patches.present.all()
    assert patches.pixels.shape == (6, 3, size, size)
    assert patches.pixels.dtype == np.uint8
    for patch, colour in zip(patches.pixels, colours, strict=True):
        assert np.abs(centroid(patch) - size / 2).max() < size / 80
        assert np.abs(patch[:, size // 2, size // 2].astype(int) - colour).max() <= 1
        covered = np.abs(patch.astype(float) - GLASS[:, None, None]).sum() / np.abs(colour - GLASS).sum()
        assert covered / size**2 == pytest.approx(np.pi / 16, rel=0.06)


def test_a_wrong_scale_factor_misses_the_discs():
    xy, colours = scene(0)
    adata = slide(xy, render(xy, colours, 40, 0.5, (560, 800)), 0.35, 80)
    middles = extract_patches(adata, patch_diameter=2).pixels[:, :, 16, 16]
    assert np.abs(middles.astype(int) - colours).max(axis=1).min() > 20


@settings(max_examples=10)
@given(scale=st.floats(0.25, 0.5), seed=st.integers(0, 2**32 - 1))
def test_the_same_tissue_at_twice_the_resolution_gives_the_same_patches(scale, seed):
    xy, colours = scene(seed)
    coarse = np.asarray(
        Image.fromarray(render(xy, colours, 40, 1, (560, 800))).resize((2 * round(400 * scale), 2 * round(280 * scale)))
    )
    scale = coarse.shape[1] / 800
    xy = xy * [1, coarse.shape[0] / 560 / scale]
    fine = coarse.repeat(2, axis=0).repeat(2, axis=1)
    a = extract_patches(slide(xy, coarse, scale, 80), patch_diameter=2, patch_size=16).pixels.astype(int)
    b = extract_patches(slide(xy, fine, 2 * scale, 80), patch_diameter=2, patch_size=16).pixels.astype(int)
    assert np.abs(a - b).mean() < 1.5
    assert np.abs(a - b).max() < 25


def test_whole_pixels_come_through_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    patches = extract_patches(slide(np.array([[20, 15], [44, 32]]), image, 1, 16), patch_size=16).pixels
    assert np.array_equal(patches[0], image[7:23, 12:28].transpose(2, 0, 1))
    assert np.array_equal(patches[1], image[24:40, 36:52].transpose(2, 0, 1))


def test_beyond_the_border_is_background():
    image = np.broadcast_to(GLASS, (40, 40, 3)).astype(np.uint8)
    image[:12, :12] = 20
    adata = slide(np.array([[0, 0], [40, 40], [-4, 20]]), image, 1, 8)
    patches = extract_patches(adata, patch_diameter=2, patch_size=16).pixels
    assert (patches[0, :, 8:, 8:] == 20).all()
    assert (patches[0, :, :7] == GLASS[:, None, None]).all()
    assert (patches[0, :, :, :7] == GLASS[:, None, None]).all()
    assert (patches[1:] == GLASS[:, None, None]).all()


def test_only_the_pixels_around_are_read_and_they_are_enough():
    """The same numbers as from resampling the whole image with the same box."""
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    xy = np.random.default_rng(1).integers(35 * 256, 55 * 256, (5, 2)) / 256
    for diameter, size in ((40.25, 8), (13.75, 32)):
        patches = extract_patches(slide(xy, image, 1, diameter), patch_size=size).pixels
        for (x, y), patch in zip(xy, patches, strict=True):
            box = (x - diameter / 2, y - diameter / 2, x + diameter / 2, y + diameter / 2)
            whole = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
            assert np.abs(patch.transpose(1, 2, 0).astype(int) - np.asarray(whole)).max() <= 1


@pytest.mark.parametrize("turn", [np.rot90, np.fliplr, np.flipud])
def test_a_turned_slide_has_the_same_patches_to_the_last_pixel(turn):
    rng = np.random.default_rng(0)
    image, xy = rng.integers(0, 256, (180, 240, 3), dtype=np.uint8), rng.uniform(20, 150, (40, 2))
    x, y = xy.T
    places = {np.rot90: (y, 240 - x), np.fliplr: (240 - x, y), np.flipud: (x, 180 - y)}[turn]
    before, after = (
        extract_patches(slide(some, pixels, 1, 27.3), patch_size=64).pixels
        for some, pixels in ((xy, image), (np.stack(places, 1), np.ascontiguousarray(turn(image))))
    )
    assert np.array_equal(after, [[turn(channel) for channel in patch] for patch in before])


def test_background_ignores_tissue_on_most_of_the_border():
    image = np.broadcast_to(GLASS, (50, 50, 3)).astype(np.uint8)
    image[:35] = np.random.default_rng(0).integers(20, 120, (35, 50, 3))
    image[35:49, 10:40] = 0
    assert np.array_equal(background(border_pixels(image)), GLASS)


@pytest.mark.parametrize("convert", [lambda i: i / 255, lambda i: (i / 255).astype(np.float32)])
def test_float_equals_uint8(convert):
    xy, colours = scene(1)
    image = render(xy, colours, 40, 0.3, (560, 800))
    rgba = np.concatenate([image, np.random.default_rng(0).integers(0, 256, (*image.shape[:2], 1), np.uint8)], axis=2)
    for pixels in (image, rgba):
        expected = extract_patches(slide(xy, pixels, 0.3, 80)).pixels
        assert np.array_equal(extract_patches(slide(xy, convert(pixels), 0.3, 80)).pixels, expected)


def test_transparency_shows_white():
    xy, colours = scene(2)
    image = render(xy, colours, 40, 0.3, (560, 800))
    opaque = np.concatenate([image, np.full((*image.shape[:2], 1), 255, np.uint8)], axis=2)
    expected = extract_patches(slide(xy, image, 0.3, 80)).pixels
    assert np.array_equal(extract_patches(slide(xy, opaque, 0.3, 80)).pixels, expected)
    opaque[..., 3] = 0
    assert (extract_patches(slide(xy, opaque, 0.3, 80)).pixels == 255).all()
    opaque[..., :3], opaque[..., 3] = 100, 51
    assert (extract_patches(slide(xy, opaque, 0.3, 80)).pixels == 224).all()


def test_interleaved_slices_keep_their_rows_and_slices_without_image_are_absent():
    parts, expected = {}, {}
    for name, scale in (("a", 0.3), ("b", 0.7), ("c", 1.0)):
        xy, colours = scene(ord(name))
        image = None if name == "c" else render(xy, colours, 40, scale, (560, 800))
        parts[name] = slide(xy, image, scale, 80, name)
        if image is not None:
            expected |= zip(parts[name].obs_names, extract_patches(parts[name]).pixels, strict=True)
    adata = ad.concat(parts.values(), uns_merge="unique")
    adata = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    patches = extract_patches(adata, library_key="slice")
    assert np.array_equal(patches.present, adata.obs["slice"] != "c")
    assert not patches.pixels[~patches.present].any()
    for name, patch in zip(adata.obs_names[patches.present], patches.pixels[patches.present], strict=True):
        assert np.array_equal(patch, expected[name])


def test_no_image_at_all_and_another_image_key():
    xy, colours = scene(3)
    none = extract_patches(slide(xy, None, 1, 80))
    assert not none.present.any()
    assert not none.pixels.any()
    image = render(xy, colours, 40, 0.2, (560, 800))
    low = extract_patches(slide(xy, image, 0.2, 80, key="lowres"), image_key="lowres")
    assert np.array_equal(low.pixels, extract_patches(slide(xy, image, 0.2, 80)).pixels)


def test_image_stays_as_it_was_and_bad_settings_are_refused():
    xy, colours = scene(3)
    adata = slide(xy, render(xy, colours, 40, 0.2, (560, 800)), 0.2, 80)
    before = adata.uns["spatial"]["one"]["images"]["hires"].copy()
    extract_patches(adata)
    assert np.array_equal(adata.uns["spatial"]["one"]["images"]["hires"], before)
    for bad in ({"patch_diameter": 0}, {"patch_diameter": np.nan}, {"patch_size": 0}):
        with pytest.raises(ValueError, match="must be positive"):
            extract_patches(adata, **bad)
    adata.uns["spatial"]["one"]["scalefactors"]["tissue_hires_scalef"] = 1.0
    with pytest.raises(ValueError, match="puts spots off image"):
        extract_patches(adata)


def test_a_side_in_micrometres_is_that_many_pixels():
    xy, colours = scene(4)
    adata = slide(xy, render(xy, colours, 40, 0.5, (560, 800)), 0.5, 80)
    with pytest.raises(KeyError, match="microns_per_pixel"):
        extract_patches(adata, patch_um=100)
    adata.uns["spatial"]["one"]["scalefactors"]["microns_per_pixel"] = 0.625
    expected = extract_patches(adata, patch_diameter=2).pixels
    assert np.array_equal(extract_patches(adata, patch_um=100).pixels, expected)
    assert not np.array_equal(extract_patches(adata, patch_um=50).pixels, expected)
    for bad in (0, -1.0, np.nan):
        with pytest.raises(ValueError, match="positive"):
            extract_patches(adata, patch_um=bad)


def test_spots_without_tissue_under_them_have_no_image():
    xy, colours = scene(5)
    image = render(xy[:4], colours[:4], 40, 0.5, (560, 800))
    image = np.clip(image + np.random.default_rng(0).normal(0, 3, image.shape), 0, 255).astype(np.uint8)
    patches = extract_patches(slide(xy, image, 0.5, 80), patch_diameter=2)
    assert patches.present.tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize("mask", [0, 12, 255])
def test_a_masked_background_is_taken_for_glass(mask):
    xy, colours = scene(6)
    image = render(xy, colours.clip(40, 180), 40, 0.5, (560, 800))
    row, column = np.mgrid[: image.shape[0], : image.shape[1]]
    near = np.min([np.hypot(column - x, row - y) for x, y in xy * 0.5], axis=0) < 32
    masked = np.where(near[..., None], image, mask).astype(np.uint8)
    whole, cut = (slides(Tissue(slide(xy, pixels, 0.5, 80)))[0] for pixels in (image, masked))
    assert np.array_equal(whole.glass, GLASS)
    assert not whole.masked
    assert cut.masked == (mask < 255)
    assert np.array_equal(cut.glass, GLASS if mask < 255 else [255, 255, 255])
    if mask < 255:
        rows = np.arange(6)
        expected, found = (s.cut(rows, Side(3), 48).astype(int) for s in (whole, cut))
        assert np.abs(expected - found).max() <= 1
    elsewhere = slide(np.vstack([xy, [[20, 540]]]), masked, 0.5, 80)
    assert extract_patches(elsewhere).present.tolist() == [True] * 6 + [False]


def _framed(image: np.ndarray, width: int, colour: int) -> np.ndarray:
    framed = np.full_like(image, colour)
    framed[width:-width, width:-width] = image[width:-width, width:-width]
    return framed


@pytest.mark.parametrize(("width", "colour"), [(1, 0), (2, 60), (2, 110), (14, 0), (14, 90), (14, 255)])
@pytest.mark.parametrize("paler", [0, 60])
def test_a_rim_or_a_frame_is_not_taken_for_glass(width, colour, paler):
    xy, colours = scene(9)
    image = render(xy, colours.clip(100, 150), 40, 0.5, (560, 800))
    noise = np.random.default_rng(0).normal(0, 1, image.shape)
    image = np.clip(image.astype(float) - paler + noise, 0, 255).astype(np.uint8)
    everywhere = np.vstack([xy, [[275, 275], [525, 275]]])
    (plain,) = slides(Tissue(slide(everywhere, image, 0.5, 40)))
    (framed,) = slides(Tissue(slide(everywhere, _framed(image, width, colour), 0.5, 40)))
    assert np.abs(plain.glass - (GLASS - paler)).max() <= 2
    assert np.abs(framed.glass.astype(int) - plain.glass).max() <= 1
    for found in (plain, framed):
        assert found.tissue(found.cut(np.arange(8), Side(1), 32)).tolist() == [True] * 6 + [False] * 2


@pytest.mark.parametrize("sides", [np.s_[:, :20], np.s_[:20], np.s_[-20:], np.s_[[*range(20), *range(-20, 0)]]])
@pytest.mark.parametrize("colour", [255, 230])
def test_padding_on_some_sides_is_not_taken_for_glass(sides, colour):
    xy, colours = scene(11)
    dark = GLASS - 70
    image = render(xy, np.minimum(colours, 100), 40, 0.5, (560, 800)).astype(float) - (GLASS - dark)
    image = np.clip(image + np.random.default_rng(0).normal(0, 2, image.shape), 0, 255).astype(np.uint8)
    image = np.pad(image, ((20, 20), (20, 20), (0, 0)), mode="reflect")
    image[sides] = colour
    (found,) = slides(Tissue(slide(np.vstack([xy, [[275, 275]]]) + 40, image, 0.5, 40)))
    assert np.abs(found.glass.astype(int) - dark).max() <= 3
    assert found.tissue(found.cut(np.arange(7), Side(1), 32)).tolist() == [True] * 6 + [False]


def test_fiducials_on_the_border_are_not_taken_for_glass():
    xy, colours = scene(10)
    image = render(xy, colours, 40, 0.5, (560, 800))
    for start in range(0, 400, 12):
        image[:6, start : start + 6] = image[-6:, start : start + 6] = 10
        image[start : start + 6, :6] = image[start : start + 6, -6:] = 10
    assert np.array_equal(slides(Tissue(slide(xy, image, 0.5, 80)))[0].glass, GLASS)


@pytest.mark.parametrize("axes", ["YXS", "SYX"])
@settings(max_examples=5)
@given(scale=st.floats(0.2, 1.0), seed=st.integers(0, 2**32 - 1))
def test_a_tiff_gives_the_pixels_that_the_array_gives(axes, scale, seed):
    xy, colours = scene(seed)
    image = render(xy, colours, 40, scale, (560, 800))
    expected = extract_patches(slide(xy, image, scale, 80), patch_diameter=2).pixels
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        if axes == "YXS":
            tifffile.imwrite(path, image, photometric="rgb", tile=(64, 64))
        else:
            tifffile.imwrite(path, image.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", tile=(64, 64))
        found = extract_patches(slide(xy, str(path), scale, 80), patch_diameter=2).pixels
    assert np.array_equal(found, expected)


def test_full_resolution_needs_no_scale_factor_and_is_found_where_space_ranger_names_it(tmp_path):
    xy, colours = scene(7)
    image = render(xy, colours, 40, 1, (560, 800))
    tifffile.imwrite(tmp_path / "slide.ome.tif", image, photometric="rgb", tile=(128, 128), metadata={"axes": "YXS"})
    expected = extract_patches(slide(xy, image, 1, 80), patch_diameter=2)
    adata = slide(xy, None, 1, 80)
    adata.uns["spatial"]["one"]["metadata"] = {"source_image_path": str(tmp_path / "slide.ome.tif")}
    found = extract_patches(adata, image_key="fullres", patch_diameter=2)
    assert found.present.all()
    assert np.array_equal(found.pixels, expected.pixels)
    for patch, colour in zip(found.pixels, colours, strict=True):
        assert np.array_equal(patch[:, 16, 16], colour)


def test_the_sample_is_the_same_whatever_the_order_of_rows():
    xy = np.random.default_rng(0).uniform(50, 350, (700, 2))
    image = np.random.default_rng(1).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    adata = slide(xy, image, 1, 8)
    one = slides(Tissue(adata))[0].sample(Side(1), 4)
    two = slides(Tissue(adata[np.random.default_rng(2).permutation(700)].copy()))[0].sample(Side(1), 4)
    assert len(one) <= 256
    assert np.array_equal(one, two)


@pytest.mark.skipif(not (DATA / "her2st").is_dir(), reason=f"no her2st sections in {DATA}; set OMIB_DATA")
@pytest.mark.parametrize("name", ["B4", "C2", "C3"])
def test_real_tissue_is_darker_than_its_slide_at_full_and_half_resolution(name):
    adata = ad.read_h5ad(DATA / "her2st" / f"{name}.h5ad")
    slot = adata.uns["spatial"][name]
    full = Image.open(DATA / "her2st" / f"{name}.jpg")
    slot["images"]["hires"] = np.asarray(full)
    fine = extract_patches(adata)
    assert fine.present.all()
    glass = background(border_pixels(np.asarray(full))).mean()
    assert glass > 200
    assert (fine.pixels.mean(axis=(1, 2, 3)) < glass - 10).mean() > 0.9

    slot["images"]["hires"] = np.asarray(full.reduce(2))
    slot["scalefactors"]["tissue_hires_scalef"] = 0.5
    coarse = extract_patches(adata)
    assert np.abs(coarse.pixels.astype(int) - fine.pixels).mean() < 5


@pytest.mark.skipif(not (DATA / "visium_mini").is_dir(), reason=f"no visium_mini folder in {DATA}; set OMIB_DATA")
def test_space_ranger_folder_has_patches_from_both_images():
    import scanpy as sc

    adata = sc.read_visium(DATA / "visium_mini")
    for key, least, most in (("hires", 0, 0), ("lowres", 0.8, 1)):  # the high-resolution image is wholly transparent
        patches = extract_patches(adata, image_key=key)
        assert least <= patches.present.mean() <= most
        assert patches.pixels.shape == (100, 3, 32, 32)


@pytest.mark.skipif(not (DATA / "her2st").is_dir(), reason=f"no her2st sections in {DATA}; set OMIB_DATA")
def test_a_real_masked_slide_has_bright_glass_and_no_black():
    adata = ad.read_h5ad(DATA / "her2st" / "A1.h5ad")
    adata.uns["spatial"]["A1"]["images"]["hires"] = np.asarray(Image.open(DATA / "her2st" / "A1.jpg"))
    (found,) = slides(Tissue(adata))
    assert found.masked
    assert found.glass.min() > 190
    patches = found.cut(found.rows, Side(2), 64)
    assert found.tissue(patches).all()
    assert (patches.max(1) <= 30).mean() < 0.001
