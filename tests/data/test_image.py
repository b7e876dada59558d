import json

import anndata as ad
import numpy as np
import pytest
import torch

from omib_spatial.data import Image, Layout
from omib_spatial.data.image import PatchRows
from omib_spatial.data.stain import stain_statistics

LAYOUT = Layout(library_key="slice")
SIDE = 8
"""Pixels of a patch: a spot is 4 pixels wide and a patch two spots, so patches at whole pixels are plain crops."""


def entry(image: np.ndarray, scale: float = 1.0, image_key: str = "hires") -> dict:
    factors = {f"tissue_{image_key}_scalef": scale, "spot_diameter_fullres": SIDE / 2}
    return {"images": {image_key: image}, "scalefactors": factors}


def make_tissue() -> ad.AnnData:
    """Slices a, b of noise of different colour, and c without an image; rows are interleaved."""
    rng = np.random.default_rng(0)
    xy = SIDE + SIDE * np.argwhere(np.ones((5, 4))).astype(float)
    adata = ad.AnnData(obsm={"spatial": np.repeat(xy, 3, axis=0)})
    adata.obs["slice"] = np.tile(["a", "b", "c"], 20)
    adata.obs["reference"] = (adata.obs["slice"] != "b").to_numpy() & (np.arange(60) % 4 > 0)
    colours = {"a": ([100, 30, 160], [200, 90, 220]), "b": ([10, 10, 10], [250, 80, 90])}
    images = {name: rng.integers(*colour, size=(48, 56, 3), dtype=np.uint8) for name, colour in colours.items()}
    adata.uns["spatial"] = {name: entry(image) for name, image in images.items()}
    return adata


def crop(adata: ad.AnnData, row: int) -> np.ndarray:
    """(3, SIDE, SIDE) of what a spot's image shows, in [0, 1]."""
    x, y = (adata.obsm["spatial"][row] - SIDE / 2).astype(int)
    image = adata.uns["spatial"][adata.obs["slice"].iloc[row]]["images"]["hires"]
    return image[y : y + SIDE, x : x + SIDE].transpose(2, 0, 1).astype(np.float64) / 255


def reference(adata: ad.AnnData) -> np.ndarray:
    return adata.obs["reference"].to_numpy()


def fitted(adata: ad.AnnData, layout: Layout = LAYOUT) -> Image:
    image = Image(patch_size=SIDE)
    image.fit(adata, reference(adata), layout)
    return image


@pytest.fixture(scope="module")
def tissue() -> ad.AnnData:
    return make_tissue()


@pytest.fixture(scope="module")
def image(tissue) -> Image:
    return fitted(tissue)


@pytest.fixture(scope="module")
def rows(tissue, image) -> PatchRows:
    return image.prepare(tissue, LAYOUT)


def test_channels_are_measured_on_reference_patches_only(tissue, image):
    seen = np.flatnonzero(reference(tissue) & (tissue.obs["slice"] == "a").to_numpy())
    pixels = np.stack([crop(tissue, row) for row in seen])
    np.testing.assert_allclose(image.mean, pixels.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(image.scale, pixels.std((0, 2, 3)) + 1e-3, rtol=1e-5)
    assert image.mean.dtype == image.scale.dtype == torch.float32


def test_other_spots_teach_nothing(tissue, image):
    changed = make_tissue()
    changed.uns["spatial"]["b"]["images"]["hires"][:] = 255
    outside = changed.obsm["spatial"][~reference(tissue) & (tissue.obs["slice"] == "a").to_numpy()].astype(int)
    for x, y in outside:
        changed.uns["spatial"]["a"]["images"]["hires"][y - 4 : y + 4, x - 4 : x + 4] = 0
    again = fitted(changed)
    assert torch.equal(again.mean, image.mean)
    assert torch.equal(again.scale, image.scale)


def test_batch_is_the_crop_scaled_by_channel(tissue, image, rows):
    some = np.array([31, 0, 4, 1])
    batch = rows.batch(some)
    expected = np.stack([crop(tissue, row) for row in some])
    expected = (expected - image.mean.numpy()[:, None, None]) / image.scale.numpy()[:, None, None]
    assert batch.dtype == torch.float32
    np.testing.assert_allclose(batch, expected, atol=1e-4)


def test_reference_has_zero_mean_and_unit_spread(tissue, rows):
    batch = rows.batch(np.flatnonzero(reference(tissue) & rows.present))
    assert batch.mean((0, 2, 3)).abs().max() < 1e-4
    assert (batch.std((0, 2, 3)) - 1).abs().max() < 0.02


def smooth_slide(factor: int) -> ad.AnnData:
    """The same smooth scene, at ``factor`` pixels per full-resolution pixel."""
    y, x = (np.arange(n * factor)[:, None] / factor + 0.5 / factor for n in (48, 56))
    scene = [np.sin(x.T / 5) + np.cos(y / 7), np.sin(y / 4) * np.cos(x.T / 6), np.cos((x.T + y) / 8)]
    adata = make_tissue()
    adata = adata[adata.obs["slice"] == "a"].copy()
    adata.uns["spatial"] = {"a": entry((120 + 50 * np.stack(scene, -1)).astype(np.uint8), factor)}
    return adata


def test_slides_of_another_resolution_show_the_same():
    coarse, fine = smooth_slide(1), smooth_slide(2)
    image = fitted(coarse)
    one, two = (image.prepare(slide, LAYOUT).batch(np.arange(20)) for slide in (coarse, fine))
    assert one.shape == two.shape == (20, 3, SIDE, SIDE)
    assert (one - two).abs().max() < 0.06  # two grey values of a spread of 35
    unlike = image.prepare(coarse, LAYOUT).batch(np.roll(np.arange(20), 1))
    assert (one - unlike).abs().mean() > 1


def test_the_named_image_is_read(tissue, rows):
    renamed = make_tissue()
    for name in "ab":
        shown = renamed.uns["spatial"][name]["images"]["hires"]
        renamed.uns["spatial"][name] = entry(shown, image_key="lowres")
    layout = Layout(library_key="slice", image_key="lowres")
    assert torch.equal(fitted(renamed, layout).prepare(renamed, layout).batch(np.array([0])), rows.batch(np.array([0])))


def test_slices_without_an_image_are_absent(tissue, image, rows):
    assert np.array_equal(rows.present, tissue.obs["slice"] != "c")
    bare = tissue.copy()
    bare.uns = {}
    assert not image.prepare(bare, LAYOUT).present.any()


def test_reference_without_an_image_is_an_error(tissue):
    image = Image(patch_size=SIDE)
    with pytest.raises(ValueError, match="No reference spot has an image"):
        image.fit(tissue, (tissue.obs["slice"] == "c").to_numpy(), LAYOUT)


def test_features_are_stain_statistics_of_the_patches(tissue, rows):
    some = np.array([30, 1, 0])
    pixels = np.stack([(crop(tissue, row) * 255).round().astype(np.uint8) for row in some])
    features = rows.features(some)
    assert features.shape == (3, 14)
    assert np.array_equal(features, stain_statistics(pixels))


def test_only_hides_spots_and_shares_pixels(rows):
    some = rows.only(np.arange(60) < 30)
    assert np.array_equal(some.present, rows.present & (np.arange(60) < 30))
    assert some.pixels is rows.pixels
    assert rows.present.sum() == 40


def test_nothing_is_written(tissue, image, rows):
    fresh = make_tissue()
    for name in "ab":
        shown = tissue.uns["spatial"][name]["images"]["hires"]
        assert np.array_equal(shown, fresh.uns["spatial"][name]["images"]["hires"])
    assert tissue.obs.equals(fresh.obs)
    assert list(tissue.obsm) == list(fresh.obsm)
    assert tissue.uns.keys() == fresh.uns.keys()


def test_state_survives_json(tissue):
    image = Image("resnet18", patch_diameter=1.5, patch_size=12)
    image.fit(tissue, reference(tissue), LAYOUT)
    config, tensors = image.state()
    again = Image.from_state(json.loads(json.dumps(config)), {k: v.clone() for k, v in tensors.items()})
    assert again.state()[0] == config == {"size": "resnet18", "patch_diameter": 1.5, "patch_size": 12}
    some = np.array([0, 1, 3])
    assert torch.equal(
        again.prepare(tissue, LAYOUT).batch(some),
        image.prepare(tissue, LAYOUT).batch(some),
    )


def test_the_encoder_is_of_the_size_asked_for():
    small = Image().encoder()
    assert small.backbone.config.hidden_sizes == [16, 32, 64, 128]
    assert Image("resnet18").encoder().backbone.config.hidden_sizes == [64, 128, 256, 512]
    assert small(torch.zeros(2, 3, SIDE, SIDE)).shape == (2, small.out_features)
