import numpy as np
import pytest
from skimage.color import hed2rgb, rgb2hed

from omib_spatial.data.stain import stain_statistics

MEAN, STD, Q10, Q50, Q90, EDGES, BLOCKS = range(7)


def stained(haematoxylin: np.ndarray, eosin: np.ndarray) -> np.ndarray:
    """Patches (n, 3, H, W) uint8 of tissue that holds as much of each stain, both (n, H, W)."""
    hed = np.stack([haematoxylin, eosin, np.zeros_like(eosin)], -1)
    return (hed2rgb(hed) * 255).round().astype(np.uint8).transpose(0, 3, 1, 2)


def statistics(pixels: np.ndarray) -> np.ndarray:
    """(n, 7 statistics, 2 stains)."""
    return stain_statistics(pixels).reshape(len(pixels), 7, 2)


def uniform(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.broadcast_to(np.array(colours, np.uint8)[:, :, None, None], (len(colours), 3, 16, 16))


def test_uniform_patches_have_their_stain_and_no_spread():
    colours = [(110, 60, 150), (220, 150, 190), (255, 255, 255)]
    result = statistics(uniform(*colours))
    expected = rgb2hed(np.array(colours, np.uint8)[:, None])[:, 0, :2]
    for which in (MEAN, Q10, Q50, Q90):
        np.testing.assert_allclose(result[:, which], expected, atol=1e-6)
    assert np.abs(result[:, [STD, EDGES, BLOCKS]]).max() < 1e-6
    assert (expected[:2] > 0.01).any(1).all()
    assert not expected[2].any()


@pytest.mark.parametrize("stain", [0, 1])
def test_more_of_a_stain_raises_its_own_mean(stain):
    amounts = np.linspace(0.02, 0.25, 6)[:, None, None] * np.ones((1, 8, 8))
    other = np.full_like(amounts, 0.05)
    result = statistics(stained(amounts, other) if stain == 0 else stained(other, amounts))[:, MEAN]
    assert (np.diff(result[:, stain]) > 0.03).all()
    np.testing.assert_allclose(result[:, stain], amounts[:, 0, 0], atol=0.01)
    np.testing.assert_allclose(result[:, 1 - stain], 0.05, atol=0.01)


def test_shape_dtype_and_order_are_as_documented():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 12), dtype=np.uint8)
    result = stain_statistics(pixels)
    assert result.shape == (5, 14)
    assert result.dtype == np.float32
    for n, patch in enumerate(pixels):
        for s in range(2):
            grey = rgb2hed(patch.transpose(1, 2, 0))[..., s]
            blocks = [grey[i : i + 4, j : j + 4].mean() for i in range(0, 16, 4) for j in range(0, 12, 4)]
            rough = np.mean(np.abs(grey[1:] - grey[:-1])) + np.mean(np.abs(grey[:, 1:] - grey[:, :-1]))
            expected = [grey.mean(), grey.std(), *np.quantile(grey, [0.1, 0.5, 0.9]), rough, np.std(blocks)]
            np.testing.assert_allclose(result[n, s::2], expected, atol=1e-5)


def test_patches_do_not_mind_each_other():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    np.testing.assert_allclose(stain_statistics(pixels)[[4, 1]], stain_statistics(pixels[[4, 1]]), atol=1e-6)


def test_fine_and_coarse_texture_differ_in_roughness_and_blocks():
    row, column = np.indices((16, 16))
    boards = np.stack([(row + column) % 2, (row // 4 + column // 4) % 2])
    fine, coarse = statistics(stained(0.05 + 0.15 * boards, np.full_like(boards, 0.05, dtype=float)))[:, :, 0]
    np.testing.assert_allclose(fine[[MEAN, STD]], coarse[[MEAN, STD]], atol=0.005)
    assert fine[EDGES] > 4 * coarse[EDGES]
    assert coarse[BLOCKS] > 0.05 > 0.001 > fine[BLOCKS]
