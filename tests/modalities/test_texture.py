import numpy as np
import pytest
from scipy import ndimage

from omib_spatial.modalities.texture import OCTAVES, TEXTURES, texture_statistics, tissue_statistics

AREA, DENSITY, GLASS, RATIO = slice(0, 3), 3, 4, 5


def discs(n: int, radius: float, amount: float, side: int = 64, eosin: float = 0.3, seed: int = 0) -> np.ndarray:
    """(1, 2, side, side): ``n`` discs of haematoxylin on a grid, radius in 64ths of the patch, on even eosin."""
    k = int(np.ceil(np.sqrt(n)))
    # Off the corners of pixels, where four of them would share the maximum.
    centres = (np.stack(np.meshgrid(np.arange(k), np.arange(k)), -1).reshape(-1, 2)[:n] + 0.508) * side / k
    y, x = np.mgrid[:side, :side] + 0.5
    cover = np.zeros((side, side))
    for cx, cy in centres:
        cover = np.maximum(cover, np.clip(radius * side / 64 - np.hypot(x - cx, y - cy) + 0.5, 0, 1))
    return np.stack([amount * cover, np.full((side, side), eosin)])[None].astype(np.float32)


def test_nuclei_are_counted_and_their_area_measured():
    for n in (4, 9, 16):
        values = tissue_statistics(discs(n, 2.5, 1.0))[0]
        assert values[DENSITY] == pytest.approx(n / 40.96, rel=1e-5)
        assert values[1] == pytest.approx(n * np.pi * 2.5**2 / 4096, rel=0.3)
        assert values[0] > values[1] > values[2]


def test_faint_nuclei_do_not_count():
    assert not tissue_statistics(discs(9, 4, 0.25))[0, [0, 1, 2, DENSITY]].any()


@pytest.mark.parametrize("side", [128, 224])
def test_the_same_tissue_at_another_resolution_has_the_same_statistics(side):
    coarse, fine = (tissue_statistics(discs(16, 2.5, 1.0, size))[0] for size in (64, side))
    np.testing.assert_allclose(fine, coarse, atol=0.02)


def test_glass_and_the_ratio_of_stains():
    half = discs(1, 1, 0.0)
    half[..., :32] = 0
    assert tissue_statistics(half)[0, GLASS] == 0.5
    even = np.broadcast_to(np.array([0.4, 0.1], np.float32)[:, None, None], (1, 2, 64, 64))
    assert tissue_statistics(even)[0, RATIO] == pytest.approx(np.log(0.42 / 0.12), rel=1e-5)


def test_patches_do_not_mind_each_other_and_the_smoothing_is_gaussian():
    amounts = np.random.default_rng(0).random((5, 2, 64, 64), dtype=np.float32)
    together = tissue_statistics(amounts)
    assert together.shape == (5, 6)
    assert together.dtype == np.float32
    for n in range(5):
        np.testing.assert_array_equal(tissue_statistics(amounts[n : n + 1])[0], together[n])
        smooth = ndimage.gaussian_filter(amounts[n, 0], 1, truncate=3)
        np.testing.assert_allclose(together[n, AREA], [(smooth > level).mean() for level in (0.3, 0.5, 0.7)], atol=1e-6)


DARK, LIGHT = slice(0, 6, 2), slice(1, 6, 2)


def test_energies_are_those_of_scipys_laplacian():
    amounts = np.random.default_rng(1).random((3, 2, 64, 64), dtype=np.float32)
    found = texture_statistics(amounts)
    assert found.shape == (3, len(TEXTURES)) and found.dtype == np.float32
    for patch, values in zip(amounts, found, strict=True):
        for k, octave in enumerate(OCTAVES):
            answer = octave**2 * ndimage.gaussian_laplace(patch[0].astype(float), octave)
            energies = [
                np.log(np.square(part).mean() + 1e-3) for part in (np.minimum(answer, 0), np.maximum(answer, 0))
            ]
            np.testing.assert_allclose(values[2 * k : 2 * k + 2], energies, atol=1e-4)
        assert values[-1] == pytest.approx(np.log((patch[0].mean() + 0.02) / (patch[1].mean() + 0.02)), rel=1e-4)


@pytest.mark.parametrize("k", range(3))
def test_a_disc_is_answered_most_at_its_own_size(k):
    radius = np.sqrt(2) * OCTAVES[k]
    values = texture_statistics(discs(4, radius, 1.0))[0, DARK]
    # What the middle of a disc answers is largest at this octave: of the other ones, less of the same size.
    amounts = discs(1, radius, 1.0)[0, 0].astype(float)
    middles = [-(octave**2) * ndimage.gaussian_laplace(amounts, octave)[32, 32] for octave in OCTAVES]
    assert int(np.argmax(middles)) == k
    assert values[k] > texture_statistics(discs(4, radius / 2, 1.0))[0, DARK][k]


def test_even_patches_have_no_detail_whatever_their_shade():
    for shade in (0.0, 0.4, 2.0):
        even = np.broadcast_to(np.array([shade, 0.1], np.float32)[:, None, None], (1, 2, 64, 64))
        np.testing.assert_allclose(texture_statistics(even)[0, :6], np.log(1e-3), atol=1e-2)


def test_light_holes_in_dark_tissue_are_gaps():
    nuclei = discs(9, 3, 1.0)
    holes = nuclei.copy()
    holes[:, 0] = 1 - nuclei[:, 0]
    dark, light = texture_statistics(nuclei)[0], texture_statistics(holes)[0]
    np.testing.assert_allclose(dark[DARK], light[LIGHT], atol=0.05)
    np.testing.assert_allclose(dark[LIGHT], light[DARK], atol=0.05)


def test_darker_nuclei_raise_every_energy_and_a_turned_patch_none():
    faint, dark = (texture_statistics(discs(16, 2.5, amount))[0] for amount in (0.5, 1.0))
    assert (dark > faint).all()
    amounts = np.random.default_rng(2).random((1, 2, 64, 64), dtype=np.float32)
    turned = texture_statistics(np.rot90(amounts, axes=(2, 3)))
    np.testing.assert_allclose(turned, texture_statistics(amounts), atol=1e-5)


@pytest.mark.parametrize("side", [128, 224])
def test_the_same_tissue_at_another_resolution_has_the_same_texture(side):
    coarse, fine = (texture_statistics(discs(16, 4, 1.0, size))[0] for size in (64, side))
    np.testing.assert_allclose(fine, coarse, atol=0.15)
