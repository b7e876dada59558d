"""Parts of patches: linear networks have contributions in closed form, and a planted square comes out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import omib_spatial as omib
from omib_spatial.detector.explaining import Explainer
from omib_spatial.detector.patch_terms import PatchDistance, parts_of, patch_terms, shapley_values
from omib_spatial.modalities import Gene, Image
from omib_spatial.modalities.patches import slides
from omib_spatial.slides import Tissue


class Linear(torch.nn.Module):
    """Mean colours, which are linear in the pixels: nothing to train, nothing to load."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean((2, 3))


def test_parts_are_squares_of_the_widest_side():
    both = parts_of([2.0, 4.0], 4, 2)
    quarters = np.repeat(np.repeat([[0, 1], [2, 3]], 2, 0), 2, 1)
    assert both.shape == (6, 4, 4)
    np.testing.assert_array_equal(both[3:], np.broadcast_to(quarters, (3, 4, 4)))
    np.testing.assert_array_equal(both[0], quarters)
    # Of four parts along the wide side, the narrow one shows the two in the middle.
    assert set(parts_of([2.0, 4.0], 8, 4)[0].ravel()) == {5, 6, 9, 10}
    assert set(parts_of([3.0], 7, 7).ravel()) == set(range(49))


@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 4))
@settings(max_examples=15)
def test_of_a_linear_score_parts_are_weight_times_difference(seed, n, k):
    rng = np.random.default_rng(seed)
    mask = parts_of([2.0, 4.0], 8, k)
    patch, others = (rng.integers(0, 256, (m, 6, 8, 8)).astype(np.uint8) for m in (1, n))
    weight = torch.from_numpy(rng.normal(size=(6, 8, 8)))
    found = shapley_values(lambda x: (x.double() * weight).sum((1, 2, 3)), patch, others, mask, seed)
    products = weight.numpy() * (patch.astype(float) - others)
    expected = np.stack([products[:, mask == part].sum(1) for part in range(k * k)], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=0.05)


def test_of_any_score_parts_sum_to_the_whole_and_chance_is_the_seed_alone():
    rng, mask = np.random.default_rng(0), parts_of([1.0], 8, 3)
    patch, others = (rng.integers(0, 256, (m, 3, 8, 8)).astype(np.uint8) for m in (1, 5))

    def score(x: torch.Tensor) -> torch.Tensor:
        return x.double().amax((1, 2, 3)) + x.double().var((1, 2, 3)).sqrt()

    before = torch.random.get_rng_state()
    found = shapley_values(score, patch, others, mask, 0)
    assert torch.equal(before, torch.random.get_rng_state())
    whole = (score(torch.from_numpy(patch)) - score(torch.from_numpy(others))).numpy()
    np.testing.assert_allclose(found.sum(1), whole, atol=1e-4)
    np.testing.assert_array_equal(found, shapley_values(score, patch, others, mask, 0))
    assert not np.array_equal(found, shapley_values(score, patch, others, mask, 1))


PLANTED = 150
"""Row of the spot whose patch gets a dark square."""
ENCODERS = {
    "own module": lambda: Image(Linear(), patch_size=16, patch_diameter=2.0),
    "statistics": lambda: Image(patch_size=32),
    "trained": lambda: Image("small", patch_size=16),
}


@pytest.fixture(scope="module", params=ENCODERS)
def scored(request):
    adata = omib.datasets.simulate_tissue(3, n_healthy=2, n_spots=60, n_genes=60, effect=0.0)
    config = replace(omib.tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05)
    model = omib.tl.fit(
        adata, reference_key="healthy", modalities={"gene": Gene(), "image": ENCODERS[request.param]()},
        config=config, max_epochs=2, enable_progress_bar=False, library_key="library_id", accelerator="cpu",
    )  # fmt: skip
    entry = adata.uns["spatial"]["slide3"]
    scale, width = entry["scalefactors"]["tissue_hires_scalef"], entry["scalefactors"]["spot_diameter_fullres"]
    side = max(each.value for each in model.modalities["image"].sides) * width * scale
    x, y = adata.obsm["spatial"][PLANTED] * scale
    # The upper right of four by four parts that touch the middle.
    image = entry["images"]["hires"] = entry["images"]["hires"].copy()
    image[round(y - side / 4) : round(y), round(x) : round(x + side / 4)] = (60, 30, 90)
    omib.tl.score(adata, model)
    return adata, model


def explainer_of(adata, model) -> Explainer:
    tissue = Tissue(adata, model.layout)
    return Explainer(model, tissue, model.prepare(tissue), n_steps=1, device="cpu")


def test_a_patch_has_the_distances_that_its_spot_was_judged_by(scored):
    adata, model = scored
    explainer = explainer_of(adata, model)
    (judged,) = [one for one in explainer.slices if PLANTED in one.rows]
    (slide,) = [one for one in slides(explainer.tissue) if PLANTED in one.rows]
    image, at = model.modalities["image"], np.flatnonzero(judged.rows == PLANTED)
    score = PatchDistance(explainer, judged, PLANTED, "image", image.stain_of(slide))
    patch = torch.from_numpy(image.cut(slide, np.array([PLANTED, PLANTED])).astype(np.float32))
    own = [column for column, part in enumerate(judged.parts) if part is None or "image" in part]
    expected = judged.per_unit[at] * (judged.found[at][:, own] @ judged.unit[own])
    np.testing.assert_allclose(score(patch).numpy(), np.repeat(expected, 2), rtol=1e-4)


def test_a_planted_square_is_hottest_and_parts_sum_to_the_patch(scored):
    adata, model = scored
    explainer = explainer_of(adata, model)
    rows = np.array([PLANTED, 20])
    found = patch_terms(explainer, "image", rows, n_parts=4, n_samples=6, seed=0)
    assert found.values.shape == found.error.shape == (2, 4, 4) and (found.side > 0).all()
    assert np.unravel_index(found.values[0].argmax(), (4, 4)) == (1, 2)
    assert found.values[0].max() > 3 * np.abs(found.values[1]).max()
    (judged,) = [one for one in explainer.slices if PLANTED in one.rows]
    (slide,) = [one for one in slides(explainer.tissue) if PLANTED in one.rows]
    image = model.modalities["image"]
    score = PatchDistance(explainer, judged, PLANTED, "image", image.stain_of(slide))
    drawn = np.random.default_rng(0).choice(judged.rows[judged.healthy > 0], 6)
    whole, healthy = (score(torch.from_numpy(image.cut(slide, some).astype(np.float32))) for some in (rows[:1], drawn))
    assert found.values[0].sum() == pytest.approx(float(whole[0] - healthy.mean()), rel=1e-3, abs=1e-4)
