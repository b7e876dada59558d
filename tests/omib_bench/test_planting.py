import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist, pdist, squareform

from omib_bench._planting import Region, blend, dense_counts, draw_region, mix, plant, plant_arms
from omib_spatial.datasets import simulate_tissue

GRID = np.stack(np.meshgrid(np.arange(10.0), np.arange(10.0)), -1).reshape(-1, 2)
STRENGTHS = st.floats(0, 1)


@pytest.fixture(scope="module")
def slide():
    tissue = simulate_tissue(1, n_spots=120, n_genes=60, n_healthy=1)
    name = "slide1"
    factors = tissue.uns["spatial"][name]["scalefactors"]
    assert factors["tissue_hires_scalef"] != 1  # or a forgotten scale factor would not be seen
    return tissue


@pytest.fixture(scope="module")
def region(slide) -> Region:
    return draw_region(slide.obsm["spatial"], dense_counts(slide), 15, np.random.default_rng(1))


def two_halves() -> np.ndarray:
    """Counts of a grid whose right half has other genes, and more of them."""
    counts = np.zeros((100, 4), np.int64)
    right = GRID[:, 0] >= 5
    counts[~right], counts[right] = [30, 10, 0, 0], [0, 0, 100, 60]
    return counts


def test_a_region_is_a_spot_and_its_nearest_and_the_donor_lies_apart(slide, region):
    distance = squareform(pdist(slide.obsm["spatial"]))
    for rows in region:
        assert any(set(np.argsort(distance[middle])[:15]) == set(rows) for middle in rows)
    assert not set(region.host) & set(region.donor)


def test_the_donor_is_the_region_least_like_the_host():
    counts, rng = two_halves(), np.random.default_rng(0)
    around = cKDTree(GRID).query(GRID, 9)[1]

    def hellinger(a: np.ndarray, b: np.ndarray) -> float:
        p, q = (counts[rows].sum(0) / counts[rows].sum() for rows in (a, b))
        return np.sqrt(2 - 2 * np.sqrt(p * q).sum())

    for _ in range(10):
        host, donor = draw_region(GRID, counts, 9, rng)
        most = max(hellinger(host, rows) for rows in around if not set(rows) & set(host))
        assert hellinger(host, donor) == pytest.approx(most, abs=1e-7)


def test_depth_does_not_choose_the_donor():
    counts = two_halves()
    deeper = counts * np.where(GRID[:, :1] == 7, 50, 1).astype(np.int64)
    picked = [draw_region(GRID, c, 9, np.random.default_rng(3)) for c in (counts, deeper)]
    np.testing.assert_array_equal(picked[0].host, picked[1].host)
    np.testing.assert_array_equal(np.sort(picked[0].donor), np.sort(picked[1].donor))


def test_spots_are_paired_by_their_place_in_the_region():
    region = draw_region(GRID, two_halves(), 9, np.random.default_rng(0))
    if all(pdist(GRID[rows]).max() == pytest.approx(np.sqrt(8)) for rows in region):  # both are whole 3 x 3 squares
        shift = GRID[region.donor] - GRID[region.host]
        np.testing.assert_allclose(shift - shift[0], 0)
    cost = cdist(GRID[region.host] - GRID[region.host].mean(0), GRID[region.donor] - GRID[region.donor].mean(0))
    paired = (np.diag(cost) ** 2).sum()
    assert all(paired <= (cost[np.arange(9), np.random.default_rng(s).permutation(9)] ** 2).sum() for s in range(200))


@pytest.mark.parametrize("n_spots", [0, 51, 45])
def test_regions_that_do_not_fit_are_refused(n_spots):
    with pytest.raises(ValueError, match="n_spots"):
        for seed in range(20):
            draw_region(GRID, two_halves(), n_spots, np.random.default_rng(seed))


@given(STRENGTHS, st.integers(0, 1000))
@settings(max_examples=25)
def test_mixing_keeps_every_depth_and_every_other_spot(strength, seed):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(1, 5, (100, 12))).astype(np.int64) + 1
    region = draw_region(GRID, counts, 9, rng)
    mixed = mix(counts, GRID, region, strength, rng)
    np.testing.assert_array_equal(mixed.sum(1), counts.sum(1))
    rest = np.delete(np.arange(100), region.host)
    np.testing.assert_array_equal(mixed[rest], counts[rest])
    assert (mixed >= 0).all()


def test_no_strength_changes_nothing_and_full_strength_leaves_nothing_of_the_host():
    counts = two_halves()
    region = Region(np.flatnonzero(GRID[:, 0] < 2), np.flatnonzero(GRID[:, 0] >= 8))
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(mix(counts, GRID, region, 0.0, rng), counts)
    mixed = mix(counts, GRID, region, 1.0, rng)[region.host]
    assert (mixed[:, :2] == 0).all() and (mixed.sum(1) == 40).all()
    assert mixed[:, 2].sum() / mixed.sum() == pytest.approx(100 / 160, abs=0.05)


def test_the_share_of_foreign_molecules_is_the_strength():
    counts = two_halves() * 50
    region = Region(np.flatnonzero(GRID[:, 0] < 2), np.flatnonzero(GRID[:, 0] >= 8))
    mixed = mix(counts, GRID, region, 0.25, np.random.default_rng(0))[region.host]
    assert mixed[:, 2:].sum() / mixed.sum() == pytest.approx(0.25, abs=0.01)


def test_molecules_are_drawn_without_replacement_and_lent_by_the_nearest():
    """A donor as deep as the host gives all it has; a shallow one is joined by its neighbour, not by all."""
    counts = np.zeros((100, 5), np.int64)
    counts[[0, 1]] = [10, 0, 0, 0, 0]
    counts[[7, 8, 9]] = [0, 10, 0, 0, 0], [0, 0, 10, 0, 0], [0, 0, 0, 6, 0]
    host, donor = np.array([0, 1, 2]), np.array([7, 9, 8])
    mixed = mix(counts, GRID, Region(host, donor), 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(mixed[0], [0, 10, 0, 0, 0])
    assert mixed[1, 1] == 0 and 0 <= mixed[1, 3] <= 6 and mixed[1].sum() == 10 and mixed[1, 2] >= 4


def test_too_few_molecules_are_refused():
    counts = np.zeros((100, 3), np.int64)
    counts[0] = 10
    with pytest.raises(ValueError, match="enlarge n_spots"):
        mix(counts, GRID, Region(np.array([0]), np.array([50])), 0.5, np.random.default_rng(0))


def test_patches_are_those_of_the_donor():
    rng, centres = np.random.default_rng(0), GRID * 8 + 12
    pixels = rng.integers(0, 256, (100, 100, 3), np.uint8)
    host = np.flatnonzero((GRID[:, 0] < 2) & (GRID[:, 1] < 2))
    donor = np.flatnonzero((GRID[:, 0] >= 7) & (GRID[:, 0] < 9) & (GRID[:, 1] >= 5) & (GRID[:, 1] < 7))
    copied = blend(pixels, centres, Region(host, donor), 1.0)
    for h, d in zip(host, donor, strict=True):
        (x, y), (u, v) = centres[h].astype(int), centres[d].astype(int)
        np.testing.assert_array_equal(copied[y - 3 : y + 3, x - 3 : x + 3], pixels[v - 3 : v + 3, u - 3 : u + 3])
    changed = (copied != pixels).any(2)
    rows, columns = np.nonzero(changed)
    nearest = cKDTree(centres).query(np.stack([columns, rows], 1) + 0.5)[1]
    assert set(nearest) == set(host)
    # The four spots' squares, and no more than a distance between spots beyond the rim of the tissue.
    assert changed[8:24, 8:24].mean() > 0.95 and not changed[24:].any() and not changed[:, 24:].any()
    assert changed[4:8, 10:14].all() and not changed[4:6, 4:6].any()


def test_no_strength_leaves_the_image_and_half_is_the_mean():
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    before, region = pixels.copy(), Region(np.array([11, 12]), np.array([77, 78]))
    nothing, half, all_of_it = (blend(pixels, GRID * 8 + 12, region, strength) for strength in (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(nothing, pixels)
    np.testing.assert_allclose(half, (pixels.astype(float) + all_of_it) / 2, atol=0.5)
    np.testing.assert_array_equal(pixels, before)


def test_spots_at_the_border_of_the_image_are_possible():
    pixels = np.random.default_rng(0).integers(0, 256, (81, 81, 3), np.uint8)
    copied = blend(pixels, GRID * 9, Region(np.array([0]), np.array([99])), 1.0)
    np.testing.assert_array_equal(copied[0, 0], pixels[-1, -1])


@pytest.mark.parametrize("modalities", [{"gene"}, {"image"}, {"gene", "image"}])
def test_what_is_planted_is_there_and_nothing_else_is(slide, region, modalities):
    before, image = dense_counts(slide), slide.uns["spatial"]["slide1"]["images"]["hires"].copy()
    planted = plant(slide, region, frozenset(modalities), 1.0, seed=0)
    pixels = planted.uns["spatial"]["slide1"]["images"]["hires"]
    assert set(np.flatnonzero(planted.obs["anomaly"])) == set(region.host)
    changed = set(np.flatnonzero((dense_counts(planted) != before).any(1)))
    assert changed == (set(region.host) if "gene" in modalities else set())
    assert (pixels != image).any() == ("image" in modalities)
    np.testing.assert_array_equal(dense_counts(slide), before)
    np.testing.assert_array_equal(slide.uns["spatial"]["slide1"]["images"]["hires"], image)
    scale = slide.uns["spatial"]["slide1"]["scalefactors"]["tissue_hires_scalef"]
    rows, columns = np.nonzero((pixels != image).any(2))
    nearest = cKDTree(slide.obsm["spatial"] * scale).query(np.stack([columns, rows], 1) + 0.5)[1]
    assert set(nearest) <= set(region.host)


def test_arms_are_planted_by_losing_molecules_alone():
    rng = np.random.default_rng(0)
    arm, spots = np.repeat(["1p", "1q", "2p"], 400), np.arange(5)
    counts = rng.poisson(20, size=(12, 1200))
    planted = plant_arms(counts, arm, spots, {"1q": 1.5, "2p": 0.6, "9q": 0.1}, rng)
    assert (planted <= counts).all() and (planted[5:] == counts[5:]).all() and (counts >= 0).all()
    kept = planted[spots].sum(0) / counts[spots].sum(0)
    ratio = [kept[arm == name].mean() for name in ("1p", "1q", "2p")]
    np.testing.assert_allclose(ratio, [1 / 1.5, 1, 0.6 / 1.5], atol=0.01)
    # What is left of Poisson counts is Poisson: the variance is the mean.
    left = planted[spots][:, arm == "2p"]
    np.testing.assert_allclose(left.var() / left.mean(), 1, atol=0.1)


def test_lost_arms_alone_and_no_arms_leave_the_others():
    counts = np.full((3, 4), 50)
    arm = np.array(["1p", "1p", "1q", "1q"])
    lost = plant_arms(counts, arm, np.arange(3), {"1q": 0.5}, np.random.default_rng(0))
    assert (lost[:, :2] == 50).all() and (lost[:, 2:] < 50).all()
    assert (plant_arms(counts, arm, np.arange(3), {}, np.random.default_rng(0)) == counts).all()
