import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omib_spatial.modalities.stain import STANDARD, Stain, optical_density


def tissue(stain: Stain, seed: int = 0, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 3) uint8 of nuclei and stroma dyed with ``stain``, and their amounts (n, 2)."""
    rng = np.random.default_rng(seed)
    nucleus = rng.random(n) < 0.4
    amounts = np.stack([np.where(nucleus, rng.uniform(0.3, 1, n), 0), np.where(nucleus, 0, rng.uniform(0.3, 1, n))], 1)
    amounts[: n // 10] = rng.uniform(0, 1, (n // 10, 2))
    light = stain.glass * np.exp(-(amounts * stain.strength) @ stain.vectors)
    return np.rint(light).astype(np.uint8), amounts


def dyed(rng: np.random.Generator) -> Stain:
    vectors = np.abs(STANDARD.vectors + rng.normal(0, 0.04, (2, 3)))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Stain(rng.uniform(200, 255, 3).round(), vectors, STANDARD.strength * rng.uniform(0.7, 1.2, 2))


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_planted_stains_are_found(seed):
    true = dyed(np.random.default_rng(seed))
    pixels, _ = tissue(true, seed)
    found = Stain.fit(pixels, true.glass, STANDARD)
    assert np.arccos((found.vectors * true.vectors).sum(1).clip(-1, 1)).max() < 0.06
    np.testing.assert_allclose(found.strength, true.strength, rtol=0.12)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_same_tissue_in_two_stains_comes_out_the_same(seed):
    rng = np.random.default_rng(seed)
    one, two = dyed(rng), dyed(rng)
    found = []
    for stain in (one, two):
        pixels, amounts = tissue(stain, 3)
        own = Stain.fit(pixels, stain.glass, STANDARD)
        found.append(own.separate(pixels.T[None, :, None])[0, :, 0].T)
        assert np.abs(found[-1] - amounts).mean() < 0.06
    assert np.abs(found[0] - found[1]).mean() < 0.05
    raw = [tissue(stain, 3)[0].astype(float) for stain in (one, two)]
    rendered = [STANDARD.render(amounts.T[None, :, None]).astype(float) for amounts in found]
    assert np.abs(rendered[0] - rendered[1]).mean() < max(4.0, np.abs(raw[0] - raw[1]).mean() / 2)


def test_more_tumour_does_not_come_out_paler():
    """Twice as many nuclei of the same kind: amounts per nucleus stay, where centring by the mean would move them."""
    stain = dyed(np.random.default_rng(0))
    pixels, amounts = tissue(stain, 1)
    dark = amounts[:, 0] > 0.3
    crowded = np.concatenate([pixels, pixels[dark], pixels[dark]])
    one, two = (
        Stain.fit(p, stain.glass, STANDARD).separate(pixels.T[None, :, None])[0, 0, 0] for p in (pixels, crowded)
    )
    assert abs(one[dark].mean() / two[dark].mean() - 1) < 0.05


def test_separate_and_render_are_inverse():
    rng = np.random.default_rng(0)
    stain = dyed(rng)
    amounts = rng.uniform(0, 0.8, (3, 2, 8, 8)).astype(np.float32)
    light = stain.render(amounts)
    assert light.dtype == np.uint8
    assert light.shape == (3, 3, 8, 8)
    np.testing.assert_allclose(stain.separate(light), amounts, atol=0.03)
    assert not stain.separate(np.broadcast_to(stain.glass[:, None, None], (1, 3, 4, 4)).astype(np.uint8)).any()


def test_density_is_beer_and_lambert():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3), dtype=np.uint8)
    glass = np.array([240.0, 200.0, 220.0])
    expected = np.maximum(-np.log(np.maximum(pixels, 1) / glass), 0)
    np.testing.assert_allclose(optical_density(pixels, glass), expected, rtol=1e-6)


@pytest.mark.parametrize("what", ["glass", "too little", "one colour", "nothing"])
def test_without_two_stains_the_default_is_taken(what):
    glass = np.array([240.0, 230.0, 235.0])
    stained = tissue(Stain(glass, STANDARD.vectors, STANDARD.strength))[0]
    pixels = {
        "glass": np.full((50_000, 3), 240, np.uint8),
        "too little": stained[:100],
        "one colour": np.full((50_000, 3), (120, 60, 150), np.uint8),
        "nothing": np.empty((0, 3), np.uint8),
    }[what]
    found = Stain.fit(pixels, glass, STANDARD)
    assert found.vectors is STANDARD.vectors
    assert found.strength is STANDARD.strength
    assert found.glass is glass


def test_median_of_slides_is_in_the_middle_and_of_unit_length():
    stains = [dyed(np.random.default_rng(seed)) for seed in range(3)]
    middle = Stain.median(stains)
    np.testing.assert_allclose(np.linalg.norm(middle.vectors, axis=1), 1)
    np.testing.assert_array_equal(middle.strength, np.sort([s.strength for s in stains], 0)[1])
    np.testing.assert_array_equal(middle.glass, np.sort([s.glass for s in stains], 0)[1])
