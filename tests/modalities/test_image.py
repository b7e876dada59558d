import copy
import json
import os
from collections import OrderedDict
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
from PIL import Image as Picture
from torch import nn

import omib_spatial as omib
from omib_spatial.encoders import ResNet
from omib_spatial.modalities import Image, image_rows
from omib_spatial.modalities.image_rows import ImageRows, PatchRows
from omib_spatial.modalities.patches import slides
from omib_spatial.modalities.stain import STANDARD
from omib_spatial.modalities.texture import tissue_statistics
from omib_spatial.slides import Layout, Tissue

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[2] / "../shared/data"))
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
    for image in images.values():
        image[[0, -1]] = image[:, [0, -1]] = 250  # glass
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
    image = Image("small", patch_size=SIDE, stain=None)
    image.fit(Tissue(adata, layout), reference(adata))
    return image


@pytest.fixture(scope="module")
def tissue() -> ad.AnnData:
    return make_tissue()


@pytest.fixture(scope="module")
def image(tissue) -> Image:
    return fitted(tissue)


@pytest.fixture(scope="module")
def rows(tissue, image) -> PatchRows:
    return image.prepare(Tissue(tissue, LAYOUT))


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
    one, two = (image.prepare(Tissue(slide, LAYOUT)).batch(np.arange(20)) for slide in (coarse, fine))
    assert one.shape == two.shape == (20, 3, SIDE, SIDE)
    assert (one - two).abs().max() < 0.06  # two grey values of a spread of 35
    unlike = image.prepare(Tissue(coarse, LAYOUT)).batch(np.roll(np.arange(20), 1))
    assert (one - unlike).abs().mean() > 1


def test_the_named_image_is_read(tissue, rows):
    renamed = make_tissue()
    for name in "ab":
        shown = renamed.uns["spatial"][name]["images"]["hires"]
        renamed.uns["spatial"][name] = entry(shown, image_key="lowres")
    layout = Layout(library_key="slice", image_key="lowres")
    assert torch.equal(
        fitted(renamed, layout).prepare(Tissue(renamed, layout)).batch(np.array([0])), rows.batch(np.array([0]))
    )


def test_slices_without_an_image_are_absent(tissue, image, rows):
    assert np.array_equal(rows.present, tissue.obs["slice"] != "c")
    bare = tissue.copy()
    bare.uns = {}
    assert not image.prepare(Tissue(bare, LAYOUT)).present.any()


def test_reference_without_an_image_is_an_error(tissue):
    for image in (Image("small", patch_size=SIDE), Image(patch_size=SIDE)):
        with pytest.raises(ValueError, match="No reference spot has an image"):
            image.fit(Tissue(tissue, LAYOUT), (tissue.obs["slice"] == "c").to_numpy())


def test_features_of_patches_are_their_statistics(tissue, rows):
    some = np.array([30, 1, 0])
    pixels = np.stack([(crop(tissue, row) * 255).round().astype(np.uint8) for row in some])
    assert np.array_equal(rows.features(some), tissue_statistics(STANDARD.separate(pixels)))


def test_masked_hides_spots_and_shares_pixels(rows):
    some = rows.masked(np.arange(60) < 30)
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


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": "resnet18", "patch_diameter": [1.5], "patch_size": 12, "stain": "macenko", "augment": 0.1},
        {"encoder": "small", "patch_diameter": [1.0, 2.0], "patch_size": 16, "stain": None, "augment": 0.0},
        {"encoder": "stain", "patch_diameter": [2.0, 4.0], "patch_size": 64, "stain": "macenko", "augment": 0.0},
    ],
)
def test_state_survives_json(tissue, settings):
    image = Image(**settings)
    image.fit(Tissue(tissue, LAYOUT), reference(tissue))
    config, tensors = image.state()
    again = Image.from_state(json.loads(json.dumps(config)), {k: v.clone() for k, v in tensors.items()})
    assert again.state()[0] == config == settings | {"weights": "", "width": image.width}
    assert image.width > 0
    some = np.array([0, 1, 3])
    np.testing.assert_array_equal(
        again.prepare(Tissue(tissue, LAYOUT)).batch(some), image.prepare(Tissue(tissue, LAYOUT)).batch(some)
    )
    assert [p.shape for p in again.encoder().parameters()] == [p.shape for p in image.encoder().parameters()]


def test_the_encoder_is_of_the_size_asked_for(tissue):
    small, large, wide = (Image(**s).encoder() for s in ({"encoder": "small"}, {"encoder": "resnet18"}, WIDE))
    assert small.backbone.config.hidden_sizes == [16, 32, 64, 128]
    assert large.backbone.config.hidden_sizes == [64, 128, 256, 512]
    assert small(torch.zeros(2, 3, SIDE, SIDE)).shape == (2, small.out_features)
    assert wide(torch.zeros(2, 6, SIDE, SIDE)).shape == (2, wide.out_features)


WIDE = {"encoder": "small", "patch_diameter": (2, 4)}


def test_several_scales_are_stacked(tissue, rows):
    image = Image("small", patch_diameter=(2, 1), patch_size=SIDE, stain=None)
    image.fit(Tissue(tissue, LAYOUT), reference(tissue))
    both = image.prepare(Tissue(tissue, LAYOUT))
    assert both.pixels.shape == (60, 6, SIDE, SIDE)
    assert np.array_equal(both.pixels[:, :3], rows.pixels)
    assert both.features(np.array([0, 1])).shape == (2, 12)
    assert image.encoder()(both.batch(np.array([0, 1]))).shape == (2, 256)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "vgg"}, "'vgg' is not known: pass one of"),
        ({"stain": "reinhard"}, "stain is 'reinhard': it is 'macenko' or None"),
        ({"patch_diameter": 1, "patch_um": 50}, "not both"),
        ({"patch_diameter": (2, 0)}, r"patch_diameter is \(2, 0\): it is a number above 0, or several"),
        ({"patch_size": -1}, "patch_size is -1"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        Image(**settings)


# --------------------------------------------------------------------------------------------- stain


def dyed(seed: int) -> ad.AnnData:
    """Two simulated slides of the same tissue; a second stain is given to the second."""
    adata = omib.datasets.simulate_tissue(n_slides=1, n_healthy=1, n_spots=120, n_genes=50, seed=seed)
    twin = adata.copy()
    entry = adata.uns["spatial"]["slide1"]
    other = copy.deepcopy(entry)
    light = other["images"]["hires"] / 255
    # Another dye lot: the optical density of every channel by its own factor, on yellower glass.
    other["images"]["hires"] = np.rint(255 * light ** [1.25, 0.85, 1.1] * [0.97, 0.95, 0.9]).astype(np.uint8)
    both = ad.concat({"one": adata, "two": twin}, label="slice", index_unique="-")
    both.uns["spatial"] = {"one": entry, "two": other}
    return both


def test_another_stain_of_the_same_tissue_gives_the_same_features():
    both = dyed(0)
    one = (both.obs["slice"] == "one").to_numpy()
    shift = {}
    for stain in (None, "macenko"):
        image = Image(stain=stain)
        image.fit(Tissue(both, LAYOUT), one)
        values = image.prepare(Tissue(both, LAYOUT)).values
        spread = values[one].std(0)
        shift[stain] = np.abs((values[one] - values[~one]).mean(0)) / spread
    assert np.median(shift["macenko"]) < 0.15
    assert np.median(shift["macenko"]) < 0.2 * np.median(shift[None])


def test_recoloured_patches_look_alike_too():
    both = dyed(1)
    one = (both.obs["slice"] == "one").to_numpy()
    apart = {}
    for stain in (None, "macenko"):
        image = Image("small", stain=stain)
        image.fit(Tissue(both, LAYOUT), one)
        pixels = image.prepare(Tissue(both, LAYOUT)).pixels.astype(float)
        apart[stain] = np.abs(pixels[one] - pixels[~one]).mean()
    assert apart["macenko"] < 0.35 * apart[None]


def test_a_slide_is_normalised_by_itself():
    both = dyed(2)
    image = Image()
    image.fit(Tissue(both, LAYOUT), np.ones(both.n_obs, bool))
    together = image.prepare(Tissue(both, LAYOUT)).values
    for name in ("one", "two"):
        rows = (both.obs["slice"] == name).to_numpy()
        alone = both[rows].copy()
        alone.uns["spatial"] = {name: both.uns["spatial"][name]}
        image._kept = {}
        np.testing.assert_array_equal(image.prepare(Tissue(alone, LAYOUT)).values, together[rows])


# ------------------------------------------------------------------------------ features that are kept


class Counting(nn.Module):
    """Mean and spread of each channel by a fixed linear map, and how many patches it has seen."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.map = nn.Linear(6, 5)
        self.seen = 0

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        assert 0 <= patches.min() and patches.max() <= 1
        self.seen += len(patches)
        return self.map(torch.cat([patches.mean((2, 3)), patches.std((2, 3))], 1))


def own(network: nn.Module, **settings) -> Image:
    return Image(network, **{"patch_size": 16, "stain": None} | settings)


def test_an_own_module_is_frozen_runs_once_and_is_kept(tissue):
    adata, network = tissue.copy(), Counting()
    image = own(network)
    image.fit(Tissue(adata, LAYOUT), reference(adata))
    rows = image.prepare(Tissue(adata, LAYOUT))
    assert isinstance(rows, ImageRows)
    assert network.seen == 40  # fit and prepare together see every spot with an image once
    assert rows.values.shape == (60, 5)
    assert np.array_equal(rows.present, adata.obs["slice"] != "c")
    assert not any(p.requires_grad and p.grad is not None for p in network.parameters())
    rows.keep(adata)
    assert np.array_equal(adata.obsm["X_image"], rows.values, equal_nan=True)

    for change, expected in ((lambda a: None, 0), (lambda a: a.obsm["spatial"].__setitem__((0, 0), 12.0), 20)):
        other, again = adata.copy(), Counting()
        change(other)
        image = own(again)
        image.fit(Tissue(other, LAYOUT), reference(other))
        found = image.prepare(Tissue(other, LAYOUT))
        assert again.seen == expected
        if expected == 0:
            assert np.array_equal(found.values, rows.values, equal_nan=True)


def test_what_is_kept_survives_a_file_and_serves_some_of_the_slices(tissue, tmp_path):
    adata = tissue.copy()
    image = own(Counting())
    image.fit(Tissue(adata, LAYOUT), reference(adata))
    image.prepare(Tissue(adata, LAYOUT)).keep(adata)
    adata.write_h5ad(tmp_path / "kept.h5ad")
    back = ad.read_h5ad(tmp_path / "kept.h5ad")
    part = back[back.obs["slice"] == "b"].copy()
    part.uns["spatial"] = {"b": part.uns["spatial"]["b"]}
    network = Counting()
    again = own(network)
    again.fit(Tissue(part, LAYOUT), np.ones(20, bool))
    values = again.prepare(Tissue(part, LAYOUT)).values
    assert network.seen == 0
    assert np.array_equal(values, adata.obsm["X_image"][(adata.obs["slice"] == "b").to_numpy()])


@pytest.mark.parametrize("what", ["weights", "patch", "size", "image", "scale", "stain"])
def test_whatever_matters_makes_features_be_computed_again(tissue, what):
    adata = make_tissue()
    image = own(Counting())
    image.fit(Tissue(adata, LAYOUT), reference(adata))
    image.prepare(Tissue(adata, LAYOUT)).keep(adata)
    network = Counting(seed=int(what == "weights"))
    settings = {"patch": {"patch_diameter": 1.5}, "size": {"patch_size": 12}, "stain": {"stain": "macenko"}}
    if what == "image":
        adata.uns["spatial"]["a"]["images"]["hires"][0, 0] += 1
    if what == "scale":
        adata.uns["spatial"]["a"]["scalefactors"]["spot_diameter_fullres"] = 4.5
    again = own(network, **settings.get(what, {}))
    again.fit(Tissue(adata, LAYOUT), reference(adata))
    assert network.seen == (20 if what in ("image", "scale") else 40)


def test_a_matrix_of_the_users_own_under_that_key_is_left_alone(tissue):
    adata = tissue.copy()
    adata.obsm["X_image"] = np.ones((60, 3))
    image = Image()
    image.fit(Tissue(adata, LAYOUT), reference(adata))
    image.prepare(Tissue(adata, LAYOUT)).keep(adata)
    assert np.array_equal(adata.obsm["X_image"], np.ones((60, 3)))
    assert "X_image" not in adata.uns


def test_a_loaded_model_asks_for_the_same_module(tissue):
    network = Counting()
    image = own(network)
    image.fit(Tissue(tissue, LAYOUT), reference(tissue))
    again = Image.from_state(*image.state())
    with pytest.raises(ValueError, match=r"\.use\(module\)"):
        again.prepare(Tissue(tissue, LAYOUT))
    with pytest.raises(ValueError, match="not those that the model was fitted with"):
        again.use(Counting(seed=1))
    again.use(network)
    expected = image.prepare(Tissue(tissue, LAYOUT)).values
    assert np.array_equal(again.prepare(Tissue(tissue, LAYOUT)).values, expected, equal_nan=True)


def test_spots_without_tissue_are_missing(tissue):
    adata = tissue.copy()
    adata.uns["spatial"]["a"]["images"]["hires"][:22] = 250
    adata.uns["spatial"]["a"]["images"]["hires"][[0, -1]] = 250
    off = (adata.obs["slice"] == "a").to_numpy() & (adata.obsm["spatial"][:, 1] < 20)
    for image in (Image(patch_diameter=2), Image("small", patch_size=SIDE), own(Counting())):
        image.fit(Tissue(adata, LAYOUT), reference(adata))
        assert np.array_equal(
            image.prepare(Tissue(adata, LAYOUT)).present, (adata.obs["slice"] != "c").to_numpy() & ~off
        )


def test_augmentation_is_in_training_only(tissue):
    image = Image("small", patch_size=SIDE, augment=0.2)
    image.fit(Tissue(tissue, LAYOUT), reference(tissue))
    batch = image.prepare(Tissue(tissue, LAYOUT)).batch(np.arange(4))
    jitter = image.encoder()[0]
    assert torch.equal(jitter.eval()(batch), batch)
    assert (jitter.train()(batch) - batch).abs().mean() > 0.01
    assert isinstance(Image("small").encoder(), ResNet)


@pytest.mark.skipif(not (DATA / "her2st").is_dir(), reason=f"no her2st sections in {DATA}; set OMIB_DATA")
def test_half_the_resolution_of_real_tissue_gives_the_same_features():
    adata = ad.read_h5ad(DATA / "her2st" / "C2.h5ad")
    entry = adata.uns["spatial"]["C2"]
    full = Picture.open(DATA / "her2st" / "C2.jpg")
    found = []
    for picture, scale in ((full, 1.0), (full.reduce(2), 0.5)):
        entry["images"] = {"hires": np.asarray(picture)}
        entry["scalefactors"]["tissue_hires_scalef"] = scale
        image = Image()
        image.fit(Tissue(adata, Layout()), np.ones(adata.n_obs, bool))
        found.append(image.prepare(Tissue(adata, Layout())).values)
    spread = found[0].std(0)
    assert (np.abs(found[0] - found[1]).mean(0) / spread).max() < 0.2
    assert min(np.corrcoef(*columns)[0, 1] for columns in zip(*(f.T for f in found), strict=True)) > 0.97


@pytest.mark.parametrize("turn", [np.rot90, np.fliplr])
def test_a_turned_or_mirrored_slide_has_the_same_features_and_stains(turn):
    adata = omib.datasets.simulate_tissue(1, n_spots=600, n_genes=50, n_healthy=1)
    new = adata.copy()
    (name,) = adata.uns["spatial"]
    entry = new.uns["spatial"][name]
    width = entry["images"]["hires"].shape[1] / entry["scalefactors"]["tissue_hires_scalef"]
    x, y = adata.obsm["spatial"].T
    new.obsm["spatial"] = np.stack([y, width - x] if turn is np.rot90 else [width - x, y], 1)
    entry["images"]["hires"] = turn(entry["images"]["hires"])
    layout, image = Layout(library_key="library_id"), Image()
    image.fit(Tissue(adata, layout), np.ones(600, bool))
    before, after = (image.prepare(Tissue(a, layout)).features(np.arange(600)) for a in (adata, new))
    # In standard deviations of the reference.
    assert np.abs(after - before).max() < 0.02 and np.abs(after - before).mean() < 1e-3
    (one,), (other,) = (slides(Tissue(a, layout)) for a in (adata, new))
    assert len(one._spread()) < 300 and set(one._spread()) == set(other._spread())
    for old, found in zip(vars(image.stain_of(one)).values(), vars(image.stain_of(other)).values(), strict=True):
        np.testing.assert_allclose(found, old, rtol=1e-3)


def test_statistics_are_remembered_up_to_a_bound_and_the_oldest_are_forgotten(monkeypatch):
    monkeypatch.setattr(image_rows, "_recent", OrderedDict())
    monkeypatch.setattr(image_rows, "_RECENT", 100)
    for name in "abc":
        image_rows.remember(name, np.zeros((5, 2), np.float32))
    assert list(image_rows._recent) == ["b", "c"]
    assert image_rows.stored(ad.AnnData(np.zeros((5, 1))), None, "b") is image_rows._recent["b"]
    # What was asked for last stays, though it was the first to come.
    image_rows.remember("d", np.zeros((5, 2), np.float32))
    assert list(image_rows._recent) == ["b", "d"]
    assert image_rows.stored(ad.AnnData(np.zeros((5, 1))), None, "a") is None
