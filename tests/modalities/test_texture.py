import numpy as np
import pytest
from scipy import ndimage

from omib_spatial.modalities.texture import tissue_statistics

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
